"""`study import`: tables of one's own become a data set, or one line of complaint and nothing else."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from studylib.cli import main
from studylib.data import load
from studylib.data.from_tables import convert
from studylib.data.planted import Knobs, generate
from studylib.doubts import doubts
from studylib.errors import StudyError

ITEMS = "item,title,price,description\n" + "".join(
    f'0{n},"Ruler, {n} cm",{n}.50 EUR,"<b>Steel</b> &amp; brass"\n' for n in range(4)
)
ROWS = [(user, f"0{item}", time) for user in ("ann", "bob", "7") for time, item in ((3, 2), (1, 0), (2, 1), (3, 3))]


@pytest.fixture
def tables(tmp_path):
    interactions = "".join(f"{user},{item},{time}\r\n" for user, item, time in ROWS)
    (tmp_path / "had.csv").write_bytes(("\ufeffuser,item,time\r\n" + interactions).encode())
    (tmp_path / "items.csv").write_text(ITEMS)
    return tmp_path


def made(folder, **options):
    return convert(folder / "had.csv", folder / "items.csv", folder / "Mine", **options)


def test_tables_become_sequences_in_the_order_of_time(tables):
    data = made(tables, core=3)
    assert data.users == ("ann", "bob", "7")
    assert [data.keys[item] for item in data.sequences[0]] == ["00", "01", "02", "03"]  # equal times as in the file
    item = data.keys.index("02")
    assert data.fields(item) == ["Ruler, 2 cm", "Steel & brass", "price: 2.50 EUR"]
    assert load(tables / "Mine").fingerprint == data.fingerprint


def test_the_command_prints_statistics_and_dates_are_times(tables, capsys):
    text = (tables / "had.csv").read_text(encoding="utf-8-sig")
    for time in (1, 2, 3):
        text = text.replace(f",{time}\n", f",2024-05-0{time}T10:00:00Z\n")
    (tables / "had.tsv").write_text(text.replace(",", "\t"))
    files = [str(tables / name) for name in ("had.tsv", "items.csv", "Mine")]
    assert main(["import", *files, "--core", "3"]) == 0
    assert json.loads(capsys.readouterr().out)["interactions"] == 12
    assert load(tables / "Mine").sequences[0].tolist() == made_in(tables, "Other").sequences[0].tolist()


def made_in(folder, name):
    return convert(folder / "had.csv", folder / "items.csv", folder / name, core=3)


def test_pictures_come_along_under_the_items_numbers(tables):
    (tables / "pictures").mkdir()
    for n in range(4):
        Image.new("RGB", (8, 8), (60 * n, 0, 0)).save(tables / "pictures" / f"0{n}.{'PNG' if n else 'png'}")
    data = made(tables, images=tables / "pictures", core=3)
    assert [Image.open(file).getpixel((0, 0))[0] for file in data.pictures] == [60 * int(key) for key in data.keys]


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        ("had.csv", "user,", "who,", r"had.csv: no column 'user'; it has 'who', 'item', 'time'"),
        ("had.csv", "ann,02,3", "ann,99,3", r"had.csv: line 2: item '99' is not in .*items.csv; add it there"),
        ("had.csv", "ann,02,3", "ann,02,soon", r"had.csv: line 2: time 'soon'; write all as numbers, or all as 2024"),
        ("had.csv", "bob,02,3", "bob,02,2024-05-31", r"had.csv: line 6: time '2024-05-31'; write all as numbers"),
        ("had.csv", "ann,02,3", ",02,3", r"had.csv: line 2: no user; fill it in"),
        ("items.csv", "\n03,", "\n02,", r"items.csv: line 5: item '02' for a second time; keep one"),
        (
            "items.csv",
            '03,"Ruler, 3 cm",3.50 EUR,"<b>Steel</b> &amp; brass"',
            "03,<br>,,",
            r"item '03' has a title of tags alone",
        ),
        ("items.csv", '"Ruler, 3 cm"', "", r"items.csv: line 5: no title; fill it in"),
        ("items.csv", "title", "", r"items.csv: columns 'item', '', 'price', 'description': give each a name"),
        ("items.csv", "title", "name", r"items.csv: no column 'title'"),
        (
            "items.csv",
            '"Ruler, 1 cm"',
            "Ruler, 1 cm",
            r"items.csv: line 3: 5 cells for 4 columns; put a cell that holds a",
        ),
        ("items.csv", "price", "title", r"items.csv: columns .*: give each a name of its own"),
        ("items.csv", '&amp; brass"', '"brass', r"items.csv: not a table that can be read"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_left_behind(tables, file, old, new, complaint):
    text = (tables / file).read_text(encoding="utf-8-sig")
    assert old in text
    (tables / file).write_text(text.replace(old, new, 1))
    with pytest.raises(StudyError, match=complaint):
        made(tables, core=3)
    assert not (tables / "Mine").exists()


def test_too_high_a_core_and_lost_pictures_are_refused(tables):
    with pytest.raises(StudyError, match=r"no user and item is left with 9 interactions; lower --core"):
        made(tables, core=9)
    with pytest.raises(StudyError, match=r"pictures: no such folder"):
        made(tables, images=tables / "pictures", core=3)
    (tables / "pictures").mkdir()
    with pytest.raises(StudyError, match=r"pictures: item '00': no picture; add it"):
        made(tables, images=tables / "pictures", core=3)
    assert sorted(file.name for file in tables.iterdir()) == ["had.csv", "items.csv", "pictures"]


def test_users_who_are_too_short_take_their_items_along(tables):
    """With a core of 2 a user of two items goes, and an item that only such users had with them."""
    (tables / "had.csv").write_text(
        "user,item\n" + "".join(f"{user},0{item}\n" for user in "ab" for item in range(3)) + "c,03\nc,00\nd,03\nd,00\n"
    )
    data = made(tables, core=2)
    assert (data.users, data.keys) == (("a", "b"), ("00", "01", "02"))


def test_check_says_what_may_be_meant_otherwise(tmp_path, capsys):
    data, _, _ = generate(Knobs(users=20, items=32))
    assert list(doubts(data)) == []
    texts = [{"title": "<b>Bolt</b>"}, {"title": "日本"}, {"title": "a b"}, {"title": "a b"}, {"title": "w " * 60_000}]
    odd = replace(data, items=(*texts, *data.items[5:]), sequences=(np.array([3, 3, 3]), *data.sequences[1:]))
    (tmp_path / "images").mkdir()
    for item in range(odd.n_items):
        (tmp_path / "images" / f"{item}.jpg").write_bytes(b"no picture")
    said = "\n".join(doubts(replace(odd, folder=tmp_path)))
    for line in (
        "1 users who had one item again and again: ", "2 items with the text of another", ": 2, 3\n",
        "1 texts with tags or entities of HTML, which are read as text: 0", "lacks (日本): all the same box: 1",
        "1 texts longer than a page in the smallest font, which ends where it is full: 4",
        "pictures that cannot be read: 0.jpg, 1.jpg, 2.jpg, ...",
    ):  # fmt: skip
        assert line in said
    (tmp_path / "images" / "0.jpg").unlink()
    assert "1 items without a picture images/<item id>.jpg or .png: 0" in "\n".join(
        doubts(replace(odd, folder=tmp_path))
    )
