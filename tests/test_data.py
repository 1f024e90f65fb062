"""Data sets: the split, the files, and what is refused."""

import json

import numpy as np
import pytest
from PIL import Image

from studylib.data import Dataset, atomic, load
from studylib.encoders import embed
from studylib.encoders.pictures import read_picture
from studylib.errors import StudyError
from tests.conftest import toy

INTER = {"ann": [0, 1, 2], "bob": [2, 1, 0]}
ITEM = {
    str(item): {"title": f"thing {item}", "brand": "", "categories": "a,b", "description": "5 mm"} for item in range(3)
}


def folder_of(tmp_path, inter=INTER, item=ITEM, keys=None):
    folder = tmp_path / "X"
    folder.mkdir()
    for name, value in (("inter", inter), ("item", item)):
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            (folder / f"X.{name}.json").write_text(text)
    if keys is not None:
        (folder / "X.item2id").write_text(keys)
    return folder


def test_leave_one_out():
    data = Dataset("d", ("u",), (np.array([4, 2, 0, 1, 3]),), 5)
    assert data.training[0].tolist() == [4, 2, 0]
    assert (data.valid.histories[0].tolist(), data.valid.targets.tolist()) == ([4, 2, 0], [1])
    assert (data.test.histories[0].tolist(), data.test.targets.tolist()) == ([4, 2, 0, 1], [3])


def test_written_and_read_again(tmp_path):
    data = toy()
    again = atomic.read(atomic.write(data, tmp_path / "Toy"))
    assert again.fingerprint == data.fingerprint
    assert again.items == data.items
    assert again.statistics == data.statistics


def test_attributes_are_text(tmp_path):
    item = {key: value | {"attributes": {"colour_group_name": "Black"}} for key, value in ITEM.items()}
    data = atomic.read(folder_of(tmp_path, item=item))
    assert data.text(1) == "thing 1\na,b\n5 mm\nBlack"
    again = atomic.read(atomic.write(data, tmp_path / "other" / "X"))
    assert again.items == data.items


def test_the_fingerprint_sees_every_part():
    data = toy()
    others = [
        toy(seed=1),
        Dataset("Other", data.users, data.sequences, 40, data.items),
        Dataset("Toy", data.users, data.sequences, 41),
        Dataset("Toy", data.users, data.sequences, 40, ({"title": "new"}, *data.items[1:])),
        Dataset("Toy", ("v0", *data.users[1:]), data.sequences, 40, data.items),
    ]
    assert len({data.fingerprint, *(other.fingerprint for other in others)}) == 6


@pytest.mark.parametrize(
    ("name", "users", "items", "interactions", "mean_length", "mean_words"),
    [
        ("Scientific", 2843, 1549, 19099, 6.72, 120.0),
        ("Instruments", 17112, 6250, 136226, 7.96, None),
        ("Arts", 22171, 9416, 174079, 7.85, None),
        ("Luxury", 2028, 936, 20050, 9.89, 66.0),
    ],
)
def test_statistics_of_real_data(real_data, name, users, items, interactions, mean_length, mean_words):
    assert load(real_data(name)).statistics == {
        "users": users, "items": items, "interactions": interactions, "mean_length": mean_length,
        "mean_words": mean_words,
    }  # fmt: skip


def test_every_real_item_has_its_picture(real_data):
    assert len(load(real_data("HM")).pictures) == 3186


BROKEN_FILES = [
    ({"inter": None}, "X.inter.json", "no such file"),
    ({"inter": "{"}, "X.inter.json", "line 1: not JSON"),
    ({"inter": "[1]"}, "X.inter.json", "not an object"),
    ({"inter": '{"ann": [0, 1, 2], "ann": [2, 1, 0]}'}, "X.inter.json", "'ann' stands twice"),
    ({"inter": {"ann": [0]}}, "X.inter.json", "user 'ann' has 1 item(s)"),
    ({"inter": {"ann": [0, 1, 9]}}, "X.inter.json", "user 'ann' names item 9, outside 0..2"),
    ({"inter": {"ann": [0, 1, -2]}}, "X.inter.json", "user 'ann': -2 is not an item id"),
    ({"inter": {"ann": [0, 1, 1.5]}}, "X.inter.json", "user 'ann': 1.5 is not an item id"),
    ({"inter": {"ann": [0, 1, "2"]}}, "X.inter.json", "user 'ann': '2' is not an item id"),
    ({"inter": {"ann": "0 1 2"}}, "X.inter.json", "user 'ann': expected a list"),
    ({"inter": {}}, "X.inter.json", "no user"),
    ({"item": '{"0": {"title": "a"}, "0": {"title": "b"}}'}, "X.item.json", "'0' stands twice"),
    ({"item": {"0": ITEM["0"], "2": ITEM["2"]}}, "X.item.json", "item 1 is missing"),
    ({"item": {"a": ITEM["0"]}}, "X.item.json", "item id 'a' is not a number"),
    ({"item": {**ITEM, "1": {"name": "x"}}}, "X.item.json", "item 1: no field 'title'"),
    ({"item": {**ITEM, "1": {"title": "x", "colour": "red"}}}, "X.item.json", "item 1: unknown field 'colour'"),
    ({"item": {**ITEM, "1": {"title": 5}}}, "X.item.json", "item 1: field 'title' is int"),
    ({"item": {**ITEM, "1": "thing"}}, "X.item.json", "item 1: expected an object"),
    ({"item": {**ITEM, "1": {"title": "x", "attributes": 3}}}, "X.item.json", "item 1: 'attributes'"),
    ({"inter": '{"ann": [0, 1, 2' + "9" * 5000 + "]}"}, "X.inter.json", "not JSON that can be read"),
    ({"inter": '{"\\ud800": [0, 1, 2]}'}, "X.inter.json", "half a surrogate pair"),
    ({"inter": {"ann": []}}, "X.inter.json", "user 'ann' has 0 item(s)"),
    ({"item": {}}, "X.item.json", "no item at all"),
    ({"item": {"0": ITEM["0"], "00": ITEM["1"]}}, "X.item.json", "item 0 stands twice (as '00' too)"),
    ({"item": {**ITEM, "1": {"title": "x \ud800"}}}, "X.item.json", "item 1: field 'title': character 2 is half"),
    ({"item": {**ITEM, "1": {"title": "x", "attributes": {"brand": "y"}}}}, "X.item.json", "attribute 'brand' has"),
    ({"keys": "A\t0\nB\t1\n\t2\n"}, "X.item2id", "line 3: found '2'; write"),
    ({"keys": "A\t0\nB\t1\nC\t1\n"}, "X.item2id", "line 3: 'C' / 1 stands twice"),
    ({"keys": "A\t0\nB\t1\nC\t5\n"}, "X.item2id", "item 2 is missing"),
    ({"keys": "A\t0\nB\t1\n"}, "X.item2id", "2 items, but X.item.json has 3"),
    ({"keys": "A\t0\nA\t1\nC\t2\n"}, "X.item2id", "line 2: 'A' / 1 stands twice"),
    ({"keys": "A 0\n"}, "X.item2id", "line 1: found 'A 0'; write the item's name, a tab"),
]


@pytest.mark.parametrize(("files", "file", "complaint"), BROKEN_FILES, ids=[row[2] for row in BROKEN_FILES])
def test_broken_files_are_refused_in_one_line(tmp_path, files, file, complaint):
    folder = folder_of(tmp_path, **files)
    with pytest.raises(StudyError) as error:
        atomic.read(folder)
    message = str(error.value)
    assert str(folder / file) in message
    assert complaint in message
    assert "\n" not in message
    assert ";" in message or ": expected " in message  # the cure


def test_a_file_that_is_not_utf_8(tmp_path):
    folder = folder_of(tmp_path)
    (folder / "X.item.json").write_bytes(b'{"0": {"title": "caf\xe9"}}')
    with pytest.raises(StudyError, match=r"X.item.json: byte 20 is not UTF-8.*save"):
        atomic.read(folder)


def test_an_item2id_that_is_not_utf_8(tmp_path):
    folder = folder_of(tmp_path)
    (folder / "X.item2id").write_bytes(b"caf\xe9\t0\n")
    with pytest.raises(StudyError, match=r"X.item2id: byte 3 is not UTF-8; save"):
        atomic.read(folder)


@pytest.mark.parametrize("key", ["", "a\tb", "a\nb"])
def test_keys_that_would_not_come_back_are_not_written(tmp_path, key):
    data = Dataset("X", ("u",), (np.array([0, 1, 2]),), 3, keys=("A", key, "C"))
    with pytest.raises(StudyError, match=r"X.item2id: item 1: key .* rename it"):
        atomic.write(data, tmp_path / "X")
    assert not (tmp_path / "X" / "X.item2id").exists()


@pytest.mark.parametrize("part", [{"items": ({"title": "a"},)}, {"keys": ("A",)}])
def test_texts_and_keys_are_one_an_item(part):
    with pytest.raises(StudyError, match=r"^X: 1 item (texts|keys) for 3 items; give one an item"):
        Dataset("X", ("u",), (np.array([0, 1, 2]),), 3, **part)


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "deep" / "X"

    def fill(last_step):
        with atomic.new_folder(folder) as partial:
            (partial / "ours").write_text("")
            last_step()

    def be_beaten():
        folder.mkdir()
        (folder / "theirs").write_text("")

    with pytest.raises(KeyError):
        fill(last_step={}.popitem)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StudyError, match=r"X: exists already; remove it"):
        fill(last_step=be_beaten)
    assert [file.name for file in folder.iterdir()] == ["theirs"]
    assert [file.name for file in folder.parent.iterdir()] == ["X"]


def test_two_pictures_of_one_item(tmp_path):
    folder = folder_of(tmp_path)
    (folder / "images").mkdir()
    for name in ("0.jpg", "0.png", "1.jpg", "2.jpg"):
        (folder / "images" / name).write_bytes(b"")
    with pytest.raises(StudyError, match=r"images: 0.jpg and 0.png: two pictures; remove one"):
        _ = atomic.read(folder).pictures


def test_links_to_files_elsewhere_are_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    folder = folder_of(tmp_path / "elsewhere")
    Image.new("RGB", (2, 2)).save(folder / "p.png")
    np.save(folder / "f.npy", np.ones((3, 2)))
    (tmp_path / "X" / "images").mkdir(parents=True)
    for name in ("X.inter.json", "X.item.json"):
        (tmp_path / "X" / name).symlink_to(folder / name)
    (tmp_path / "X" / "X.mine.npy").symlink_to(folder / "f.npy")
    for item in range(3):
        (tmp_path / "X" / "images" / f"{item}.png").symlink_to(folder / "p.png")
    data = atomic.read(tmp_path / "X")
    assert data.fingerprint == atomic.read(folder).fingerprint
    assert embed(data, "features:mine").matrix.shape == (3, 2)
    assert [read_picture(file).size for file in data.pictures] == [(2, 2)] * 3


def test_missing_folders():
    with pytest.raises(StudyError, match="no such folder"):
        atomic.read("nowhere")
    with pytest.raises(StudyError, match=r"nowhere: no such data set.*STUDY_DATA"):
        load("nowhere")


def test_empty_text_is_refused_where_text_is_needed(tmp_path):
    folder = folder_of(tmp_path, item={**ITEM, "1": {"title": " ", "brand": ""}})
    data = atomic.read(folder)
    with pytest.raises(StudyError, match=r"X.item.json: item 1: empty text.*title"):
        data.check_texts()
    with pytest.raises(StudyError, match="item 1: empty text"):
        embed(data, "pixels")


def test_missing_pictures(tmp_path):
    folder = folder_of(tmp_path)
    with pytest.raises(StudyError, match="no images folder; add images/"):
        _ = atomic.read(folder).pictures
    (folder / "images").mkdir()
    (folder / "images" / "0.jpg").write_bytes(b"")
    with pytest.raises(StudyError, match="item 1 has no picture; add"):
        _ = atomic.read(folder).pictures


def test_no_text_at_all(tmp_path):
    data = atomic.read(folder_of(tmp_path, item=None))
    assert data.statistics["mean_words"] is None
    assert data.n_items == 3
    with pytest.raises(StudyError, match=r"no item text; add X.item.json"):
        data.text(0)


@pytest.mark.parametrize(
    ("array", "complaint"),
    [
        (np.zeros((2, 4)), "2 rows, but X has 3 items"),
        (np.array([[0.0, 1], [np.nan, 1], [0, 1]]), "row 1 holds NaN"),
        (np.array([[0.0, 1], [1, 1], [0, np.inf]]), "row 2 holds NaN or infinity"),
        (np.zeros(3), "of shape (3,)"),
        (np.array([["a"], ["b"], ["c"]]), "embeddings are numbers"),
    ],
)
def test_features_that_are_no_embeddings(tmp_path, array, complaint):
    folder = folder_of(tmp_path)
    np.save(folder / "X.mine.npy", array)
    with pytest.raises(StudyError) as error:
        embed(atomic.read(folder), "features:mine")
    assert "X.mine.npy" in str(error.value)
    assert complaint in str(error.value)


def test_pickled_features_are_not_opened(tmp_path):
    folder = folder_of(tmp_path)
    np.save(folder / "X.mine.npy", np.array([{}, {}, {}], dtype=object), allow_pickle=True)
    with pytest.raises(StudyError, match=r"X.mine.npy: not an array that can be read"):
        embed(atomic.read(folder), "features:mine")
