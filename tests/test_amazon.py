"""Raw Amazon dumps of both releases, made by hand so that the right answer is known."""

import gzip
import json

import pytest

from studylib.data import amazon, atomic
from studylib.errors import StudyError

# Three items bought by three users in full; dora and item D fall to the 3-core, but only in a second round.
ROWS = [
    ("ann", "A", 30), ("ann", "B", 10), ("ann", "C", 20), ("ann", "B", 5),
    ("bob", "A", 1), ("bob", "B", 2), ("bob", "C", 3), ("bob", "D", 4),
    ("cat", "C", 9), ("cat", "A", 9), ("cat", "B", 9), ("cat", "D", 8),
    ("dora", "A", 1), ("dora", "D", 2), ("dora", "E", 3),
]  # fmt: skip
TITLES = {name: f"Thing {name} &amp; co" for name in "ABCDE"}


def dump(tmp_path, year: int, rows=ROWS, titles=TITLES, packed=True):
    if year == 2018:
        reviews = [{"reviewerID": user, "asin": item, "unixReviewTime": time} for user, item, time in rows]
        metadata = [
            {"asin": item, "title": title, "brand": "K", "category": ["Tools", "Bolts"], "description": ["5 mm"]}
            for item, title in titles.items()
        ]
    else:
        reviews = [{"user_id": user, "parent_asin": item, "timestamp": time * 1000} for user, item, time in rows]
        metadata = [
            {
                "parent_asin": item, "title": title, "store": "K", "categories": ["Tools", "Bolts"],
                "description": ["5 mm"], "features": [], "details": {},
            }
            for item, title in titles.items()
        ]  # fmt: skip
    files = []
    for name, table in (("reviews", reviews), ("meta", metadata)):
        content = "".join(json.dumps(row) + "\n" for row in table).encode()
        file = tmp_path / (f"{name}.jsonl.gz" if packed else f"{name}.json")
        file.write_bytes(gzip.compress(content) if packed else content)
        files.append(file)
    return files


@pytest.mark.parametrize("year", [2018, 2023])
@pytest.mark.parametrize("packed", [True, False])
def test_the_known_answer(tmp_path, year, packed, capsys):
    data = amazon.read(*dump(tmp_path, year, packed=packed), name="X", core=3)
    assert data.keys == ("B", "C", "A")
    assert [sequence.tolist() for sequence in data.sequences] == [[0, 1, 2], [2, 0, 1], [1, 2, 0]]
    assert data.items[0] == {"title": "Thing B & co", "brand": "K", "categories": "Tools,Bolts", "description": "5 mm"}
    said = capsys.readouterr().out
    assert "dropped 1 duplicates" in said
    assert "3 users, 3 items, 9 interactions" in said


def test_the_core_needs_more_than_one_round(tmp_path, capsys):
    amazon.read(*dump(tmp_path, 2018), name="X", core=3)
    rounds = int(capsys.readouterr().out.split("3-core in ")[1].split()[0])
    assert rounds >= 2


def test_items_without_a_title_are_dropped_and_counted(tmp_path, capsys):
    titles = {name: title for name, title in TITLES.items() if name != "C"}
    rows = [row for user in ("ann", "bob", "cat") for row in ((user, item, time) for time, item in enumerate("ABCF"))]
    data = amazon.read(*dump(tmp_path, 2018, rows, titles | {"F": "Thing F"}), name="X", core=3)
    assert data.keys == ("A", "B", "F")
    assert "1 items without a title (first: C)" in capsys.readouterr().out


def test_converted_and_read_again(tmp_path):
    files = dump(tmp_path, 2023)
    data = amazon.convert(*files, tmp_path / "Mine", core=3)
    assert data.name == "Mine"
    assert atomic.read(tmp_path / "Mine").fingerprint == data.fingerprint
    with pytest.raises(StudyError, match=r"Mine"):
        amazon.convert(*files, tmp_path / "Mine", core=3)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"{not json}\n", "line 16: not JSON"),
        (b"[1]\n", "line 16: holds a list"),
        (b'{"reviewerID": "x"}\n', "line 16"),
        (b'{"reviewerID": "x", "asin": "A", "unixReviewTime": "yesterday"}\n', "line 16"),
        (b'{"reviewerID": "caf\xe9"}\n', "line 16: not UTF-8"),
    ],
)
def test_bad_lines_are_named_and_nothing_is_left_behind(tmp_path, line, complaint):
    reviews, metadata = dump(tmp_path, 2018, packed=False)
    reviews.write_bytes(reviews.read_bytes() + line)
    with pytest.raises(StudyError) as error:
        amazon.convert(reviews, metadata, tmp_path / "Mine", core=3)
    assert str(reviews) in str(error.value)
    assert complaint in str(error.value)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["meta.json", "reviews.json"]


def test_other_columns_truncated_files_and_empty_cores(tmp_path):
    reviews, metadata = dump(tmp_path, 2018)
    with pytest.raises(StudyError, match=r"line 1: columns .*asin.*wanted reviewerID"):
        amazon.read(metadata, reviews, "X", core=3)
    with pytest.raises(StudyError, match=r"no user and item with 9 interactions"):
        amazon.read(reviews, metadata, "X", core=9)
    reviews.write_bytes(reviews.read_bytes()[:-30])
    with pytest.raises(StudyError, match="fetch the file again"):
        amazon.read(reviews, metadata, "X", core=3)
    with pytest.raises(StudyError, match="no such file"):
        amazon.read(tmp_path / "nothing.json.gz", metadata, "X")
