"""Raw Amazon dumps of both releases, made by hand so that the right answer is known."""

import gzip
import json

import numpy as np
import pytest

from studylib.data import amazon, atomic, cleaning, json_lines
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
        (b'{"reviewerID": "x", "reviewerID": "y"}\n', "line 16: 'reviewerID' stands twice"),
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


def packed_lines(tmp_path, name: str, *rows: dict):
    file = tmp_path / name
    file.write_bytes(gzip.compress(b"".join(json.dumps(row).encode() + b"\n" for row in rows)))
    return file


def by_brute_force(users, items, core):
    """One user or item at a time, until nothing changes."""
    rows = list(zip(users.tolist(), items.tolist(), strict=True))
    while True:
        weak = {("u", u) for u, _ in rows if sum(row[0] == u for row in rows) < core}
        weak |= {("i", i) for _, i in rows if sum(row[1] == i for row in rows) < core}
        if not weak:
            return set(rows)
        place, number = min(weak)
        rows = [row for row in rows if row["ui".index(place)] != number]


@pytest.mark.parametrize("seed", range(5))
def test_the_core_is_that_of_brute_force(seed):
    pairs = np.unique(np.random.default_rng(seed).integers(0, 14, (70, 2)), axis=0)
    inside, _ = cleaning.k_core(*pairs.T, core=4)
    assert {tuple(pair) for pair in pairs[inside].tolist()} == by_brute_force(*pairs.T, core=4)


def test_a_chain_falls_link_by_link():
    """Item 4 falls first, then user 4 with it and item 3 with user 4, then users 3 and 5."""
    full = [(user, item) for user in range(3) for item in range(3)]
    chain = [(3, 0), (3, 1), (3, 3), (4, 3), (4, 0), (4, 4), (5, 4), (5, 1), (5, 3)]
    users, items = np.array(full + chain).T
    inside, rounds = cleaning.k_core(users, items, core=3)
    assert inside.tolist() == [True] * 9 + [False] * 9
    assert rounds == 3


def test_of_two_reviews_the_first_in_time_is_kept_whatever_the_order_of_the_file():
    table = amazon.Reviews(amazon.RELEASES[0], *np.array([[0, 0, 0], [5, 5, 6], [9, 2, 4]]), asins=())
    assert amazon.first_in_time(table).tolist() == [1, 2]
    tied = amazon.Reviews(amazon.RELEASES[0], *np.array([[0, 0, 0], [6, 5, 6], [4, 4, 4]]), asins=())
    assert amazon.first_in_time(tied).tolist() == [0, 1]


def test_text_of_2018(tmp_path):
    row = {
        "asin": "A", "title": "Bolt &amp;quot;M4&amp;quot;", "brand": "by\n    \n    K&amp;R",
        "category": ["Tools", "Bolts", "</span></span>", "not a category"], "description": ["<p>5 mm,", "A2</p>"],
    }  # fmt: skip
    file = packed_lines(tmp_path, "meta.json.gz", {"asin": "Z"}, row, row | {"title": "a second line of A"})
    texts = amazon.read_metadata(file, amazon.RELEASES[0], {"A", "Z"})
    assert texts == {
        "A": {"title": 'Bolt "M4"', "brand": "K&R", "categories": "Tools,Bolts", "description": "5 mm, A2"}
    }


def test_scripts_in_the_place_of_a_title_are_no_title(tmp_path):
    file = packed_lines(tmp_path, "meta.json.gz", {"asin": "A", "title": "var t = (new Date()).getTime();"})
    assert amazon.read_metadata(file, amazon.RELEASES[0], {"A"}) == {}


@pytest.mark.parametrize("quoted", [False, True])
def test_text_of_2023(tmp_path, quoted):
    details = {"Size": "M4 x 16", "Rank": {"Tools": 7}}
    row = {
        "parent_asin": "A", "title": "Bolt", "store": None, "categories": [], "description": [],
        "features": ["strong", "rustproof"], "details": json.dumps(details) if quoted else details,
    }  # fmt: skip
    texts = amazon.read_metadata(packed_lines(tmp_path, "meta.jsonl.gz", row), amazon.RELEASES[1], {"A"})
    assert texts["A"]["brand"] == texts["A"]["categories"] == texts["A"]["description"] == ""
    assert texts["A"]["features"] == "strong rustproof"
    assert texts["A"]["details"] == 'Size: M4 x 16; Rank: {"Tools": 7};'


def test_half_a_surrogate_pair_in_a_text_is_replaced_and_can_be_written(tmp_path):
    titles = {name: f"Thing {name} \ud800" for name in "ABCDE"}
    data = amazon.convert(*dump(tmp_path, 2023, titles=titles), tmp_path / "Mine", core=3)
    assert data.title(0) == "Thing B ?"


def test_numbers_of_characters_that_no_text_has():
    assert cleaning.clean("a&#" + "9" * 5000 + ";b") == "a\ufffdb"
    assert cleaning.clean("a&amp;#" + "9" * 5000 + ";b") == "a\ufffdb"


@pytest.mark.parametrize("depth", [10, 300, 600, 900, 920, 940, 960, 980, 1000])
def test_details_nested_almost_too_deeply_to_be_written_again(tmp_path, depth):
    """Whether a depth can be read depends on what called the reader; that it can be written, on a little more."""
    file = tmp_path / "meta.json"
    details = f'{{"Size": {"[" * depth}{"]" * depth}}}'
    file.write_text('{"parent_asin": "A", "title": "Bolt", "details": ' + details + "}\n")
    try:
        assert amazon.read_metadata(file, amazon.RELEASES[1], {"A"})["A"]["details"] == f"Size: {details[9:-1]};"
    except StudyError as error:
        complaint = str(error)
        assert depth >= 300
        assert f"{file}: line 1: " in complaint


@pytest.mark.parametrize(("release", "other"), [(2018, 2023), (2023, 2018)])
def test_metadata_of_the_other_release(tmp_path, release, other):
    (tmp_path / "other").mkdir()
    reviews, _ = dump(tmp_path, release)
    _, metadata = dump(tmp_path / "other", other)
    with pytest.raises(StudyError, match=rf"other/meta.jsonl.gz: line 1: columns .*; wanted .*{release} release"):
        amazon.read(reviews, metadata, "X", core=3)


def test_reviews_in_the_place_of_metadata(tmp_path):
    reviews, _ = dump(tmp_path, 2023)
    with pytest.raises(StudyError, match=r"reviews.jsonl.gz: line 1: .*these are reviews.*give the metadata"):
        amazon.read(reviews, reviews, "X", core=3)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"description": 5}, "line 2: description is 5, not text"),
        ({"categories": [1]}, "line 2: categories is [1], not a list of texts"),
        ({"details": "{"}, "line 2: details is '{', not an object"),
        ({"details": [1]}, "line 2: details is [1], not an object"),
        ({"title": ["a", 1]}, "line 2: title is ['a', 1]"),
        ({"parent_asin": None}, "line 2: parent_asin is None, not an ASIN"),
    ],
)
def test_metadata_that_is_no_text(tmp_path, fields, complaint):
    row = {"parent_asin": "A", "title": "Bolt"}
    file = packed_lines(tmp_path, "meta.jsonl.gz", row | {"parent_asin": "Q"}, row | fields)
    with pytest.raises(StudyError) as error:
        amazon.read_metadata(file, amazon.RELEASES[1], {"A"})
    assert f"{file}: {complaint}" in str(error.value)
    assert "mend or delete that line" in str(error.value)


def test_metadata_of_another_category_or_with_too_few_titles(tmp_path):
    reviews, metadata = dump(tmp_path, 2018, titles={"Z": "Thing Z"})
    with pytest.raises(StudyError, match=r"meta.jsonl.gz: has a title for none of the 3 items .*e.g. A; give"):
        amazon.read(reviews, metadata, "X", core=3)
    reviews, metadata = dump(tmp_path, 2018, titles={"A": "Thing A", "B": ""})
    with pytest.raises(StudyError, match=r"meta.jsonl.gz: 2 items have no title, e.g. B, .*smaller core"):
        amazon.read(reviews, metadata, "X", core=3)


def test_a_line_or_a_file_without_end(tmp_path, monkeypatch):
    reviews, metadata = dump(tmp_path, 2018)
    monkeypatch.setattr(json_lines, "LARGEST_FILE", 200)
    with pytest.raises(StudyError, match=r"reviews.jsonl.gz: line 4: more than 200 bytes when decompressed; split"):
        amazon.read(reviews, metadata, "X", core=3)
    monkeypatch.setattr(json_lines, "LONGEST_LINE", 20)
    with pytest.raises(StudyError, match=r"reviews.jsonl.gz: line 1: longer than 20 bytes; one JSON object a line"):
        amazon.read(reviews, metadata, "X", core=3)


def test_damaged_and_empty_files(tmp_path):
    reviews, metadata = dump(tmp_path, 2018)
    content = bytearray(reviews.read_bytes())
    content[-6] ^= 1  # the checksum at the end
    reviews.write_bytes(content)
    with pytest.raises(StudyError, match=r"reviews.jsonl.gz: damaged after line 15 .*fetch the file again"):
        amazon.read(reviews, metadata, "X", core=3)
    reviews.write_bytes(b"")
    with pytest.raises(StudyError, match=r"reviews.jsonl.gz: no review at all; fetch"):
        amazon.read(reviews, metadata, "X", core=3)


def test_a_core_too_small_for_leave_one_out(tmp_path):
    with pytest.raises(StudyError, match=r"core=2: .*choose 3 or more"):
        amazon.read(*dump(tmp_path, 2018), "X", core=2)


def test_a_folder_that_is_there_is_left_as_it_was(tmp_path):
    (tmp_path / "Mine").mkdir()
    with pytest.raises(StudyError, match=r"Mine: exists already; remove it"):
        amazon.convert(*dump(tmp_path, 2018), tmp_path / "Mine", core=3)
    assert list((tmp_path / "Mine").iterdir()) == []
