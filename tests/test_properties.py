"""What hypothesis says of the readers: any content gives a value or the one declared error, and nothing else.

``STUDY_EXAMPLES`` is the number of examples over all properties: 600 unless it says otherwise, 10000 for a whole
search. Content that is nearly valid (a good file with one thing changed) finds more than noise, so there is more of it.
The examples are the same in every run.
"""

import copy
import gzip
import io
import json
import os
import struct
import zlib
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from studylib import notebook
from studylib.config import Trial, trial
from studylib.data import Dataset, amazon, atomic
from studylib.data.dataset import FIELDS
from studylib.encoders.embeddings import read_features
from studylib.encoders.pictures import read_picture
from studylib.errors import StudyError
from studylib.files import parse_yaml, read_yaml
from studylib.semantic_ids import SemanticIds

PROPERTIES = 21  # tests of this file, among which the examples are divided
EXAMPLES = int(os.environ.get("STUDY_EXAMPLES", "600"))
search = settings(
    max_examples=-(-EXAMPLES // PROPERTIES),
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The data set's folder X, written over by every example; nobody waits for the disk."""
    made = tmp_path_factory.mktemp("properties") / "X"
    made.mkdir()
    with patch("os.fsync"):
        yield made


def value_or_error(read, *arguments, longest: int = 1500):
    """What ``read`` returns, or None after a StudyError of one line; any other exception is a failure."""
    try:
        return read(*arguments)
    except StudyError as error:
        complaint = str(error)
    assert len(complaint.splitlines()) == 1
    assert len(complaint) <= longest
    return None


# -- contents ------------------------------------------------------------------------------------------------------

letters = st.text(st.characters(), max_size=12)  # all that Python calls a character, half surrogate pairs too
words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
names = st.sampled_from(["0", "1", "2", "00", "-1", "title", "brand", "attributes", "..", "/", "a" * 300])
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 5), st.integers(), st.floats(), letters, names,
    st.sampled_from([2**31 - 1, 2**63, 10**400, "<a_0>", "<b_1>", "<a_1000000>", "{}", "[[", "&#99999999999;"]),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | letters, inner, max_size=4),
    max_leaves=12,
)
deep = st.integers(1, 3000).map(lambda depth: "[" * depth + "]" * depth)
json_texts = st.one_of(values.map(json.dumps), deep, deep.map(lambda text: '{"0": ' + text + "}"))


@st.composite
def changed(draw, good: dict):
    """``good`` with one to three of its parts replaced, removed, repeated or renamed."""
    root = [copy.deepcopy(good)]
    for _ in range(draw(st.integers(1, 3))):
        holder, key = draw(st.sampled_from(list(_places(root))))
        action = draw(st.sampled_from(["replace", "replace", "remove", "repeat", "rename"]))
        if action == "replace":
            holder[key] = draw(values)
        elif holder is root:
            continue
        elif action == "remove":
            del holder[key]
        elif isinstance(holder, list):
            holder.insert(draw(st.integers(0, len(holder))), copy.deepcopy(holder[key]))
        else:
            holder[draw(names | letters)] = holder[key] if action == "repeat" else holder.pop(key)
    return root[0]


def _places(holder):
    for key in range(len(holder)) if isinstance(holder, list) else list(holder):
        yield holder, key
        if isinstance(holder[key], list | dict):
            yield from _places(holder[key])


@st.composite
def damaged(draw, good: bytes):
    """``good`` with one to four places where bytes were changed, cut out or put in, or noise alone."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    content = good
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 4]))):
        at = draw(st.integers(0, len(content)))
        new = draw(st.binary(min_size=1, max_size=1) | st.binary(max_size=8))
        cut = draw(st.sampled_from([len(new), len(new), 0, 1, 99]))
        content = content[:at] + new + content[at + cut :]
    return content


INTER = {"ann": [0, 1, 2], "bob": [2, 1, 0, 1]}
ITEM = {str(item): {"title": "bolt", "description": "5 mm", "attributes": {"colour": "red"}} for item in range(3)}
ITEM2ID = "A\t0\nB\t1\nC\t2\n"
INDEX = {"0": ["<a_0>", "<b_1>"], "1": ["<a_1>", "<b_0>"], "2": ["<a_1>", "<b_1>"]}
REVIEWS = [
    {"reviewerID": user, "asin": item, "unixReviewTime": time}
    for user in ("ann", "bob", "cat")
    for time, item in enumerate("ABC")
]
METADATA = [
    {"asin": item, "title": "bolt &amp; nut", "brand": "by\n\nK", "category": ["a", "b"], "description": ["5", "mm"]}
    for item in "ABC"
]
METADATA_2023 = {
    "parent_asin": "A", "title": "bolt", "store": "K", "categories": ["a"], "description": ["5 mm"],
    "features": ["strong"], "details": {"Size": "M4", "Rank": {"Tools": 7}},
}  # fmt: skip
PARAMETERS = {
    "data": "planted", "datasets": ["planted"], "features": ["minilm", "random"], "reference": "minilm", "codes": 32,
    "seeds": 2, "budget": "smoke", "generator": {"lr": 0.001, "epochs": 2}, "jobs": 1, "train": False,
}  # fmt: skip
TRIAL = {
    "data": "planted", "features": "minilm", "fusion": "none", "page": {}, "tokenizer": {"levels": 2, "codes": 8},
    "generator": {"name": "tiger", "lr": 0.001}, "budget": "smoke", "seed": 1,
}  # fmt: skip


def json_lines(rows: list) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def picture(mode: str, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).convert(mode.replace("I;16", "I"))
    image = image.convert(mode)
    image.save(buffer, form, **options)
    return buffer.getvalue()


PICTURES = [
    picture("RGB", "PNG"), picture("RGBA", "PNG"), picture("P", "PNG", transparency=0), picture("L", "PNG"),
    picture("1", "PNG"), picture("LA", "PNG"), picture("I;16", "PNG"), picture("RGB", "JPEG"),
    picture("L", "JPEG", progressive=True), picture("CMYK", "JPEG"),
]  # fmt: skip


# -- data sets -----------------------------------------------------------------------------------------------------


def fill(folder: Path, inter=None, item=None, item2id=None, index=None) -> None:
    """The files of X; bytes or text as they are, any other value as JSON, None for no file."""
    for name, content in (("inter.json", inter), ("item.json", item), ("item2id", item2id), ("index.json", index)):
        file = folder / f"X.{name}"
        file.unlink(missing_ok=True)
        if content is not None:
            text = content if isinstance(content, str | bytes) else json.dumps(content)
            file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))


def read_and_use(folder: Path) -> None:
    """Whatever is read as a data set can be used as one, and comes back equal after it was written."""
    data = value_or_error(atomic.read, folder)
    if data is None:
        return
    assert json.dumps(data.statistics)
    assert len(data.valid) == len(data.test) == len(data.users)
    assert data.title(data.n_items - 1)
    value_or_error(data.check_texts)
    again = atomic.read(atomic.write(data, folder.parent / "again" / "X"))
    assert (again.fingerprint, again.keys, again.items) == (data.fingerprint, data.keys, data.items)
    for file in again.folder.iterdir():
        file.unlink()


@search
@given(json_texts, st.booleans())
def test_any_json_as_sequences(folder, text, with_items):
    fill(folder, inter=text, item=ITEM if with_items else None)
    read_and_use(folder)


@search
@given(json_texts)
def test_any_json_as_items(folder, text):
    fill(folder, inter=INTER, item=text)
    read_and_use(folder)


@search
@given(letters | st.lists(st.tuples(letters, letters | names), max_size=4).map(
    lambda rows: "".join("\t".join(row) + "\n" for row in rows)))  # fmt: skip
def test_any_text_as_item_names(folder, text):
    fill(folder, inter=INTER, item2id=text)
    read_and_use(folder)


@search
@given(changed({"inter": INTER, "item": ITEM}))
def test_a_data_set_with_changes(folder, files):
    assume(isinstance(files, dict))
    fill(folder, files.get("inter"), files.get("item"), ITEM2ID)
    read_and_use(folder)


@search
@given(st.sampled_from(["inter", "item", "item2id"]), st.data())
def test_damaged_files_of_a_data_set(folder, name, data):
    files = {"inter": json.dumps(INTER), "item": json.dumps(ITEM), "item2id": ITEM2ID}
    fill(folder, **(files | {name: data.draw(damaged(files[name].encode()))}))
    read_and_use(folder)


@st.composite
def datasets(draw):
    """Any valid data set: up to 6 items, with or without texts and names."""
    n_items = draw(st.integers(1, 6))
    users = draw(st.lists(words, min_size=1, max_size=4, unique=True))
    sequences = [draw(st.lists(st.integers(0, n_items - 1), min_size=3, max_size=6)) for _ in users]
    sequences[0].append(n_items - 1)  # without texts and names the catalogue ends at the largest item
    fields = st.fixed_dictionaries({"title": words}, optional={name: words for name in FIELDS[1:]})
    attributes = st.dictionaries(words.filter(lambda name: name not in FIELDS), words, max_size=2)
    texts = st.tuples(fields, attributes).map(
        lambda parts: {n: parts[0][n] for n in FIELDS if n in parts[0]} | parts[1]
    )
    keys = words.filter(lambda key: atomic.key_problem(key) is None)
    return Dataset(
        "X",
        tuple(users),
        tuple(np.array(sequence) for sequence in sequences),
        n_items,
        draw(st.none() | st.lists(texts, min_size=n_items, max_size=n_items).map(tuple)),
        draw(st.none() | st.lists(keys, min_size=n_items, max_size=n_items, unique=True).map(tuple)),
    )


@search
@given(datasets())
def test_a_data_set_written_is_read_again(folder, data):
    fill(folder)
    again = atomic.read(atomic.write(data, folder))
    assert again.fingerprint == data.fingerprint
    assert (again.users, again.n_items, again.keys) == (data.users, data.n_items, data.keys)
    assert again.items == data.items
    assert again.statistics == data.statistics


# -- Semantic IDs --------------------------------------------------------------------------------------------------


def load_and_use(folder: Path) -> None:
    ids = value_or_error(SemanticIds.load, folder / "X.index.json", 3)
    if ids is not None:
        assert json.dumps(ids.quality())
        assert ids.tree.group_sizes.sum() == 3


@search
@given(json_texts)
def test_any_json_as_semantic_ids(folder, text):
    fill(folder, index=text)
    load_and_use(folder)


@search
@given(changed(INDEX))
def test_semantic_ids_with_changes(folder, table):
    fill(folder, index=table)
    load_and_use(folder)


@search
@given(damaged(json.dumps(INDEX).encode()))
def test_damaged_semantic_ids(folder, content):
    fill(folder, index=content)
    load_and_use(folder)


codes = st.tuples(st.integers(1, 30), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.int64, shape, elements=st.integers(0, 3) | st.integers(0, 999_999))
)


@search
@given(codes)
def test_semantic_ids_saved_are_loaded_again(folder, table):
    ids = SemanticIds(table, tuple(int(size) for size in table.max(0) + 1))
    ids.save(folder / "X.index.json")
    again = SemanticIds.load(folder / "X.index.json", len(table))
    assert again.codes.tolist() == table.tolist()
    assert again.sizes == ids.sizes
    assert again.quality() == ids.quality()


@search
@given(codes)
def test_every_item_is_found_below_its_codes(table):
    tree = SemanticIds(table, tuple(int(size) for size in table.max(0) + 1)).tree
    for item, row in enumerate(table):
        node = 0
        for depth, code in enumerate(row):
            first, last = tree.first[depth][node], tree.first[depth][node + 1]
            children = tree.code[depth][first:last]
            assert (np.diff(children) > 0).all()
            node = int(first + np.searchsorted(children, code))
            assert tree.code[depth][node] == code
        assert tree.leaf_of[item] == node
        assert item in tree.group(node)
    groups = [tree.group(leaf) for leaf in range(len(tree.group_sizes))]
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(table)))
    assert all(len({tuple(table[item]) for item in group}) == 1 for group in groups)


# -- features and pictures -------------------------------------------------------------------------------------------

dimensions = st.integers(-2, 4) | st.sampled_from([2**31, 2**40, 2**62, 2**64])
headers = st.fixed_dictionaries(
    {
        "descr": st.sampled_from(["<f4", ">f8", "<i2", "|b1", "|O", "<U3", "<c8", "<M8[s]", "V9", "<f99", "", ("f", 1)])
        | values,
        "fortran_order": st.booleans() | values,
        "shape": st.lists(dimensions, max_size=3).map(tuple) | values,
    }
)


@search
@given(headers.map(repr) | st.text("{}()[]'\",:-+0123456789LNTFaxn \\\n#", max_size=60), st.binary(max_size=64))
def test_any_npy_header(folder, header, rest):
    text = header.encode("utf-8", "backslashreplace") + b"\n"
    file = folder / "X.mine.npy"
    file.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + rest)
    matrix = value_or_error(read_features, file, 3, "X")
    assert matrix is None or (matrix.ndim == 2 and len(matrix) == 3)


@search
@given(damaged(npy(np.ones((3, 2), dtype="f4"))))
def test_damaged_features(folder, content):
    file = folder / "X.mine.npy"
    file.write_bytes(content)
    matrix = value_or_error(read_features, file, 3, "X")
    assert matrix is None or (matrix.ndim == 2 and len(matrix) == 3)


@st.composite
def chunks(draw):
    """A PNG of chunks with right checksums and any content."""
    sizes = st.integers(0, 9) | st.sampled_from([5_000, 70_000, 2**31 - 1, 2**32 - 1])
    depth, colour, interlaced = (
        draw(st.sampled_from(row)) for row in ((1, 2, 8, 16, 3), (0, 2, 3, 4, 6, 1), (0, 1, 2))
    )
    header = struct.pack(">IIBBBBB", draw(sizes), draw(sizes), depth, colour, 0, 0, interlaced)
    kinds = (b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"tRNS", b"PLTE", b"gAMA", b"pHYs", b"cHRM", b"sRGB", b"eXIf", b"acTL",
             b"fcTL", b"fdAT", b"IDAT", b"IDAT", b"IEND", b"IHDR", b"qqqq")  # fmt: skip
    contents = st.one_of(
        st.binary(max_size=40),
        st.binary(max_size=99).map(zlib.compress),
        st.binary(max_size=40).map(lambda content: b"a\0\0" + zlib.compress(content)),
        st.integers(0, 2**20).map(lambda size: b"a\0\0" + zlib.compress(bytes(size))),
    )
    rows = [(b"IHDR", header), *draw(st.lists(st.tuples(st.sampled_from(kinds), contents), max_size=5)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in rows
    )


@search
@given(chunks() | st.sampled_from(PICTURES).flatmap(damaged))
def test_damaged_pictures(folder, content):
    file = folder / "0.png"
    file.write_bytes(content)
    found = value_or_error(read_picture, file)
    assert found is None or found.mode == "RGB"


# -- dumps ---------------------------------------------------------------------------------------------------------


@search
@given(changed({"reviews": REVIEWS, "metadata": METADATA}), st.booleans())
def test_dumps_with_changes(folder, tables, packed):
    assume(isinstance(tables, dict))
    files = []
    for name in ("reviews", "metadata"):
        rows = tables.get(name)
        content = json_lines(rows if isinstance(rows, list) else [rows])
        files.append(folder / f"{name}.json")
        files[-1].write_bytes(gzip.compress(content) if packed else content)
    data = value_or_error(amazon.read, *files, "X", 3)
    if data is not None:
        fill(folder)
        atomic.write(data, folder)
        read_and_use(folder)


@search
@given(changed(METADATA_2023))
def test_metadata_with_changes(folder, row):
    file = folder / "metadata.json"
    file.write_bytes(json_lines([METADATA_2023 | {"parent_asin": "B"}, row]))
    texts = value_or_error(amazon.read_metadata, file, amazon.RELEASES[1], {"A", "B"})
    assert texts is None or all(text == text.strip() for fields in texts.values() for text in fields.values())


@search
@given(damaged(gzip.compress(json_lines(REVIEWS), mtime=0)) | damaged(json_lines(REVIEWS)))
def test_damaged_dumps(folder, content):
    file = folder / "reviews.jsonl.gz"
    file.write_bytes(content)
    table = value_or_error(amazon.read_reviews, file)
    assert table is None or len(table.users) == len(table.items) == len(table.times)


# -- parameters ----------------------------------------------------------------------------------------------------

yaml_texts = st.one_of(
    st.text("ab:-?[]{},&*!|>'\"#%@` \n\t0123456789.~<=_x", max_size=40),
    values.map(lambda value: json.dumps(value)),
    st.sampled_from(["!!int", "!!float", "!!bool", "!!timestamp", "!!binary", "!!set", "!!omap", "!!python/name:os"])
    .flatmap(lambda tag: letters.map(lambda text: f"a: {tag} {text}")),
    st.tuples(st.sampled_from("xuU"), st.text("0123456789abcdefg")).map(lambda pair: f'"\\{"".join(pair)}"'),
)  # fmt: skip


@search
@given(
    yaml_texts.map(lambda text: text.encode("utf-8", "surrogatepass")) | damaged(yaml.safe_dump(PARAMETERS).encode())
)
def test_any_content_as_a_file_of_parameters(folder, content):
    file = folder / "p.yaml"
    file.write_bytes(content)
    found = value_or_error(read_yaml, file)
    if found is not None:
        assert all(isinstance(name, str) for name in found)
        assert json.dumps(found, allow_nan=False).encode()
        value_or_error(notebook.check, found, "p.yaml")


class Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data):
        return True


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | words
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@search
@given(plain)
def test_plain_values_come_back_from_yaml(value):
    assert parse_yaml("here", yaml.dump(value, Dumper=Dumper)) == value


@search
@given(changed(PARAMETERS))
def test_parameters_with_changes(given_parameters):
    assume(isinstance(given_parameters, dict))
    found = value_or_error(notebook.check, given_parameters, "here")
    if found is not None:
        value_or_error(found.trials)


@search
@given(changed(TRIAL))
def test_a_trial_with_changes(given_settings):
    assume(isinstance(given_settings, dict))
    found = value_or_error(lambda: trial(**given_settings))
    if found is not None:
        assert Trial(**json.loads(found.model_dump_json())) == found


def test_the_examples_are_divided_among_the_properties():
    assert sum(hasattr(value, "hypothesis") for value in globals().values()) == PROPERTIES
