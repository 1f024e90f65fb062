"""Malformed input: one line that names the file, the place and the cure, status 2, and nothing left behind.

Each row of the tables says what is wrong, the files that are wrong (beside or instead of those of a good data set and a
good dump), and three words that the line must hold: the file, the place in it, and the cure. Rows with ``megabytes``
run in a process of their own that may take no more than that many beyond its imports.
"""

import gzip
import io
import json
import multiprocessing
import os
import resource
import signal
import struct
import sys
import warnings
import zlib
from collections.abc import Callable
from contextlib import ExitStack, redirect_stderr
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from unittest.mock import patch

import numpy as np
import psutil
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from studylib import paths
from studylib.cli import main
from studylib.data import load
from studylib.encoders.pictures import read_picture
from studylib.errors import StudyError
from studylib.semantic_ids import SemanticIds

NOTEBOOK = str(paths.ROOT / "notebooks" / "02_unimodal.ipynb")
ITEM = {"title": "bolt", "brand": "", "categories": "a,b", "description": "5 mm"}
ITEMS = {str(item): ITEM for item in range(3)}
OUTSIDE = "../../etc/passwd"


@dataclass(frozen=True)
class Case:
    """``files``: path to content; text, bytes, None (no file), a function that makes it, or else a value for JSON."""

    name: str
    files: dict
    file: str
    place: str
    cure: str
    act: list[str] | Callable
    megabytes: int = 0
    bounds: dict[str, int] = field(default_factory=dict)  # module constants to tighten


# -- contents ------------------------------------------------------------------------------------------------------


def lines(*rows) -> bytes:
    return b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows)


def review(**columns) -> dict:
    return {"reviewerID": "ann", "asin": "A", "unixReviewTime": 1} | columns


def thing(**columns) -> dict:
    return {"asin": "A", "title": "bolt"} | columns


REVIEWS = lines(*(review(reviewerID=user, asin=item) for user in ("ann", "bob", "cat") for item in "ABC"))
METADATA = lines(*(thing(asin=item) for item in "BC"))  # cases add a line for A
GOOD = {
    "X/X.inter.json": {"ann": [0, 1, 2], "bob": [2, 1, 0]},
    "X/X.item.json": ITEMS,
    "reviews.json": REVIEWS,
    "meta.json": METADATA + lines(thing()),
}


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npz(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, array)
    return buffer.getvalue()


def npy_header(text: str, rest: bytes = b"") -> bytes:
    header = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + rest


def promising(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    return npy_header(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}", bytes(24))


def picture(size=(8, 8), form="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, form, **options)
    return buffer.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A few bytes that say they are a picture of that size."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(64)))]
    body = [struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in [*chunks, (b"IEND", b"")]]  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def long_comment() -> PngInfo:
    """A megabyte and more of text that takes a kilobyte of file."""
    info = PngInfo()
    info.add_text("Comment", "a" * (2 << 20), zip=True)
    return info


def link(target: str) -> Callable[[Path], None]:
    return lambda file: file.symlink_to(target)


def sparse(size: int, head: bytes = b"") -> Callable[[Path], None]:
    """A file of that size which takes no room on the disk."""

    def make(file: Path):
        file.write_bytes(head)
        os.truncate(file, size)

    return make


def packed_zeros(file: Path) -> None:
    with gzip.open(file, "wb", compresslevel=6) as out:
        for _ in range(64):
            out.write(bytes(1 << 20))


PIPE = os.mkfifo
CIRCLE = link("circle")  # with CIRCLE_TOO, a link to a link to itself
CIRCLE_TOO = {"X/circle": link("circle"), "X/images/circle": link("circle"), "circle": link("circle")}
FOLDER = Path.mkdir
DEEP = "[" * 1_000_000
LAUGHS = "a0: &a0 lol\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))

# -- the readers -----------------------------------------------------------------------------------------------------


def pictures_of_x():
    for file in load("X").pictures:
        read_picture(file)


def index_of_x():
    SemanticIds.load("X/X.index.json", n_items=3)


check = partial(Case, act=["check", "X"])
convert = partial(Case, act=["convert", "reviews.json", "meta.json", "new/Mine", "--core", "3"])
features = partial(Case, act=["embed", "X", "features:mine"])
pictures = partial(Case, act=pictures_of_x)
index = partial(Case, act=index_of_x)
run = partial(Case, act=["run", NOTEBOOK, "-f", "p.yaml"])


def inter(name: str, content, place: str, cure: str, **options) -> Case:
    return check(f"inter: {name}", {"X/X.inter.json": content}, "X/X.inter.json", place, cure, **options)


def item(name: str, content, place: str, cure: str, **options) -> Case:
    return check(f"item: {name}", {"X/X.item.json": content}, "X/X.item.json", place, cure, **options)


def item2id(name: str, content, place: str, cure: str, **options) -> Case:
    return check(f"item2id: {name}", {"X/X.item2id": content}, "X/X.item2id", place, cure, **options)


def reviews(name: str, content, place: str, cure: str, **options) -> Case:
    return convert(f"reviews: {name}", {"reviews.json": content}, "reviews.json", place, cure, **options)


def metadata(name: str, content, place: str, cure: str, **options) -> Case:
    return convert(f"metadata: {name}", {"meta.json": content}, "meta.json", place, cure, **options)


def matrix(name: str, content, place: str, cure: str = "numpy.save", **options) -> Case:
    return features(f"features: {name}", {"X/X.mine.npy": content}, "X/X.mine.npy", place, cure, **options)


def ids(name: str, content, place: str, cure: str, **options) -> Case:
    return index(f"index: {name}", {"X/X.index.json": content}, "X/X.index.json", place, cure, **options)


def image(name: str, content, place: str, cure: str = "replace it", **options) -> Case:
    good = {f"X/images/{number}.png": picture() for number in (0, 2)}
    return pictures(f"picture: {name}", good | {"X/images/1.png": content}, "images/1.png", place, cure, **options)


def params(name: str, content, place: str, cure: str, **options) -> Case:
    return run(f"params: {name}", {"p.yaml": content}, "p.yaml", place, cure, **options)


def tokens(**rows) -> dict:
    return {"0": ["<a_0>"], "1": ["<a_1>"], "2": ["<a_2>"]} | {name[1:]: row for name, row in rows.items()}


# -- the tables --------------------------------------------------------------------------------------------------------

INTER = [
    check("inter: none", {"X/X.inter.json": None}, "X", "no such data set", "STUDY_DATA"),
    inter("empty", "", "line 1", "mend"),
    inter("not JSON", '{"ann": [0, 1, 2]', "line 1", "mend"),
    inter("a list", "[1]", "holds a list", "expected {id"),
    inter("zeros", bytes(64), "line 1", "mend"),
    inter("a user twice", '{"ann": [0, 1, 2], "ann": [2, 1, 0]}', "'ann' stands twice", "remove"),
    inter("no user", "{}", "no user", "give"),
    inter("a short sequence", {"ann": [0, 1, 2], "bob": [0, 1]}, "'bob' has 2 item(s)", "drop"),
    inter("an item outside", {"ann": [0, 1, 3]}, "'ann' names item 3", "renumber"),
    inter("a negative item", {"ann": [0, 1, -1]}, "'ann': -1", "write whole numbers"),
    inter("a fraction", {"ann": [0, 1, 1.5]}, "'ann': 1.5", "write whole numbers"),
    inter("a truth value", '{"ann": [0, 1, true]}', "'ann': True", "write whole numbers"),
    inter("NaN", '{"ann": [0, 1, NaN]}', "'ann': nan", "write whole numbers"),
    inter("infinity", '{"ann": [0, 1, -Infinity]}', "'ann': -inf", "write whole numbers"),
    inter("a path", {"ann": [0, 1, OUTSIDE]}, f"'ann': '{OUTSIDE}'", "write whole numbers"),
    inter("5000 digits", '{"ann": [0, 1, ' + "9" * 5000 + "]}", "integer string", "fetch"),
    inter("UTF-16", json.dumps({"ann": [0, 1, 2]}).encode("utf-16"), "byte 0", "UTF-8"),
    inter("Latin-1", '{"café": [0, 1, 2]}'.encode("latin-1"), "byte 5", "UTF-8"),
    inter("a byte-order mark", '{"ann": [0, 1, 2]}'.encode("utf-8-sig"), "byte 0", "without one"),
    inter("half a surrogate pair", '{"\\ud800": [0, 1, 2]}', "character 0", "remove"),
    inter("a user of a million letters", {"a" * 1_000_000: [0]}, "'aaaa", "drop"),
    inter("a pipe", PIPE, "a pipe", "README"),
    inter("a folder", FOLDER, "a folder", "README"),
    inter("a link to nothing", link("nothing"), "a link to a file that is not there", "README"),
    inter("a link to a folder", link("/"), "a folder", "README"),
    check("inter: links in a circle", {**CIRCLE_TOO, "X/X.inter.json": CIRCLE}, "X.inter.json", "symbolic", "README"),
    inter("a link to a device", link("/dev/zero"), "a device", "README", megabytes=32),
    inter("nested deeply", '{"ann": ' + DEEP, "nested too deeply", "fetch", megabytes=32),
    inter("larger than memory", sparse(5 << 30), "5368709120 bytes", "README", megabytes=32),
    check(
        "inter: an absurd catalogue", {"X/X.inter.json": {"ann": [0, 1, 2**31 - 1]}, "X/X.item.json": None},
        "X.inter.json", "'ann': item 2147483647", "number the items",
    ),
]  # fmt: skip

ITEM_TEXTS = [
    item("an empty object", "{}", "no item at all", "remove the file"),
    item("an item twice", '{"0": {"title": "a"}, "0": {"title": "b"}}', "'0' stands twice", "remove"),
    item("an item twice in other digits", {**ITEMS, "00": ITEM}, "item 0 stands twice", "remove"),
    item("a gap", {"0": ITEM, "2": ITEM}, "item 1 is missing", "must run"),
    item("a path as item id", {**ITEMS, OUTSIDE: ITEM}, f"'{OUTSIDE}' is not a number", "number the items"),
    item("Arabic digits", {"0": ITEM, "1": ITEM, "٢": ITEM}, "'٢' is not a number", "number the items"),
    item("no title", {**ITEMS, "1": {"name": "x"}}, "item 1: no field 'title'", "rename"),
    item("an unknown field", {**ITEMS, "1": {**ITEM, "colour": "red"}}, "item 1: unknown field 'colour'", "attributes"),
    item("a field of a million letters", {**ITEMS, "1": {**ITEM, "a" * 1_000_000: ""}}, "item 1", "attributes"),
    item("NaN", '{"0": {"title": NaN}}', "item 0: field 'title' is float", "in quotes"),
    item("a number", {**ITEMS, "1": {"title": 5}}, "item 1: field 'title' is int", "in quotes"),
    item("no object", {**ITEMS, "1": "bolt"}, "item 1", "expected an object"),
    item("a list of attributes", {**ITEMS, "1": {**ITEM, "attributes": [1]}}, "item 1: 'attributes'", "make it"),
    item("an attribute called brand", {**ITEMS, "1": {**ITEM, "attributes": {"brand": ""}}}, "item 1", "rename"),
    item("half a pair in a name", {**ITEMS, "1": {**ITEM, "attributes": {"\ud800": ""}}}, "item 1", "remove"),
    item("half a pair in a title", {**ITEMS, "1": {"title": "x \ud800"}}, "item 1: field 'title': char", "remove"),
    item("a pipe", PIPE, "a pipe", "README"),
    check("item: links in a circle", {**CIRCLE_TOO, "X/X.item.json": CIRCLE}, "X.item.json", "symbolic", "README"),
    item("nested deeply", '{"0": ' + DEEP, "nested too deeply", "fetch", megabytes=32),
    check(
        "item: an empty text", {"X/X.item.json": {**ITEMS, "1": {"title": " "}}}, "X.item.json", "item 1: empty text",
        "write one",
    ),
]  # fmt: skip

ITEM_NAMES = [
    item2id("empty", "", "no item at all", "remove the file"),
    item2id("a path", f"A\t0\n{OUTSIDE}\t1\nC\t2\n", "line 2", "rename"),
    item2id("an absolute path", "A\t0\n/etc/passwd\t1\nC\t2\n", "line 2", "rename"),
    item2id("a path of Windows", "A\t0\n..\\..\\x\t1\nC\t2\n", "line 2", "rename"),
    item2id("a zero character", "A\t0\nB\0\t1\nC\t2\n", "line 2", "rename"),
    item2id("a lone return", "A\t0\nB\rD\t1\nC\t2\n", "line 2", "rename"),
    item2id("no tab", "A 0\n", "line 1", "a tab"),
    item2id("a path as item id", f"A\t{OUTSIDE}\n", f"'{OUTSIDE}' is not a number", "number the items"),
    item2id("an id twice", "A\t0\nB\t1\nC\t1\n", "line 3", "remove"),
    item2id("a name twice", "A\t0\nA\t1\nC\t2\n", "line 2", "remove"),
    item2id("too few", "A\t0\nB\t1\n", "2 items", "make them agree"),
    item2id("a byte-order mark", "A\t0\nB\t1\nC\t2\n".encode("utf-8-sig"), "byte 0", "without one"),
    item2id("Latin-1", "caf\xe9\t0\n".encode("latin-1"), "byte 3", "UTF-8"),
    item2id("a link to a folder", link("/"), "a folder", "remove it"),
    item2id("a link to a device", link("/dev/zero"), "a device", "remove it", megabytes=32),
]

FOLDERS = [
    Case("folder: none", {}, "nowhere", "no such data set", "STUDY_DATA", ["check", "nowhere"]),
    Case("folder: a file", {}, "X.inter.json", "no such data set", "STUDY_DATA", ["check", "X/X.inter.json"]),
    Case("folder: a long name", {}, "aaaa", "no such data set", "STUDY_DATA", ["check", "a" * 1000]),
    Case("folder: in a circle", {"c": link("c")}, "c: ", "no such data set", "STUDY_DATA", ["check", "c"]),
    Case(
        "folder: a name that is no text", {"\udcff/\udcff.inter.json": GOOD["X/X.inter.json"]}, "\udcff",
        "the folder's name", "rename", ["check", "\udcff"], megabytes=32,
    ),
]  # fmt: skip

REVIEW_LINES = [
    reviews("none", None, "no such file", "give"),
    reviews("empty", "", "no review at all", "fetch"),
    reviews("blank lines", "\n \n\n", "no review at all", "fetch"),
    reviews("not JSON", REVIEWS + b"{not json}\n", "line 10", "mend"),
    reviews("a list", REVIEWS + b"[1]\n", "line 10: holds a list", "give one object"),
    reviews("other columns", lines(thing()), "line 1: columns 'asin', 'title'", "give a reviews file"),
    reviews("Latin-1", REVIEWS + b'{"reviewerID": "caf\xe9"}\n', "line 10: not UTF-8", "fetch"),
    reviews("UTF-16", json.dumps(review()).encode("utf-16"), "line 1: not UTF-8", "fetch"),
    reviews("a zip archive", npz(np.zeros(3)), "line 1: not UTF-8", "fetch"),
    reviews("a path as item", REVIEWS + lines(review(asin=OUTSIDE)), f"line 10: asin is '{OUTSIDE}'", "mend"),
    reviews("an item of 10,000 letters", REVIEWS + lines(review(asin="A" * 10_000)), "line 10: asin", "mend"),
    reviews("no user's name", REVIEWS + lines(review(reviewerID="")), "line 10: reviewerID is ''", "mend"),
    reviews("no item", REVIEWS + lines(review(asin=None)), "line 10: asin is None", "mend"),
    reviews("NaN", REVIEWS + lines(review(unixReviewTime=float("nan"))), "line 10: unixReviewTime is nan", "mend"),
    reviews("infinity", REVIEWS + lines(review()).replace(b": 1}", b": 1e999}"), "line 10: unixReviewTime", "mend"),
    reviews("an absurd time", REVIEWS + lines(review(unixReviewTime=2**70)), "line 10: unixReviewTime", "mend"),
    reviews("5000 digits", REVIEWS + b'{"unixReviewTime": ' + b"9" * 5000 + b"}", "line 10: not JSON", "mend"),
    reviews("cut off", gzip.compress(REVIEWS)[:-30], "cut off after line", "fetch"),
    reviews("another checksum", gzip.compress(REVIEWS)[:-8] + bytes(8), "damaged after line 9", "fetch"),
    reviews("rubbish after the end", gzip.compress(REVIEWS) + b"rubbish", "damaged after line 9", "fetch"),
    reviews("a folder", FOLDER, "a folder", "give"),
    reviews("a pipe", PIPE, "a pipe", "give"),
    convert("reviews: in a circle", {**CIRCLE_TOO, "reviews.json": CIRCLE}, "reviews.json", "symbolic", "give"),
    reviews("a link to a device", link("/dev/zero"), "a device", "give", megabytes=32),
    reviews("a gigantic line", sparse(1 << 30, b'{"a": "'), "line 1: longer than", "wanted", megabytes=96),
    reviews("a gzip bomb of one line", packed_zeros, "line 1: longer than", "wanted", megabytes=96),
    reviews(
        "a gzip bomb of blank lines", gzip.compress(b"\n" * (1 << 20)), "times its size", "fetch", megabytes=32,
        bounds={"studylib.data.json_lines.LONGEST_LINE": 1 << 16},
    ),
    reviews("nested deeply", '{"a": ' + DEEP, "line 1: not JSON", "mend", megabytes=64),
]  # fmt: skip

METADATA_LINES = [
    metadata("empty", "", "no item at all", "fetch"),
    metadata("reviews", REVIEWS, "line 1: columns 'asin', 'reviewerID'", "give the metadata"),
    metadata("another release", lines({"parent_asin": "A"}), "line 1: columns 'parent_asin'", "give the metadata"),
    metadata("another category", lines(thing(asin="Z")), "none of the 3 items", "give the metadata"),
    metadata("no title", METADATA, "1 items have no title", "whole metadata file"),
    metadata("a number as title", METADATA + lines(thing(title=5)), "line 3: title is 5", "mend"),
    metadata("NaN as description", METADATA + lines(thing(description=float("nan"))), "line 3: descri", "mend"),
    metadata("a number as category", METADATA + lines(thing(category=[1])), "line 3: categories is [1]", "mend"),
    metadata("a pipe", PIPE, "a pipe", "give"),
    convert(
        "metadata: details nested deeply",
        {
            "reviews.json": REVIEWS.replace(b"reviewerID", b"user_id").replace(b"asin", b"parent_asin").replace(
                b"unixReviewTime", b"timestamp"),
            "meta.json": lines({"parent_asin": "A", "title": "bolt", "details": DEEP}),
        },
        "meta.json", "line 1: details is", "mend", megabytes=64,
    ),
]  # fmt: skip

CONVERSIONS = [
    Case(f"convert: {name}", files, file, place, cure, ["convert", "reviews.json", "meta.json", *arguments])
    for name, files, file, place, cure, arguments in [
        ("a core of 2", {}, "core=2", "leave-one-out", "choose", ["Mine", "--core", "2"]),
        ("a negative core", {}, "core=-1", "leave-one-out", "choose", ["Mine", "--core", "-1"]),
        ("an absurd core", {}, "reviews.json", f"{10**30} inter", "smaller core", ["Mine", "--core", str(10**30)]),
        ("a folder that exists", {}, "X", "exists already", "choose another", ["X"]),
        ("into a link in a circle", {"c": link("c")}, "c", "exists already", "choose another", ["c"]),
        ("into a file", {}, "X.inter.json/a/b", "Not a directory", "choose another", ["X/X.inter.json/a/b"]),
        ("into a long name", {}, "aaaa", "File name too long", "choose another", ["deep/" + "a" * 300]),
    ]
]  # fmt: skip

FEATURES = [
    matrix("none", None, "no such file", "put X.mine.npy into"),
    matrix("empty", "", "EOF"),
    matrix("text", "1 2 3\n4 5 6\n", "magic"),
    matrix("the magic word alone", b"\x93NUMPY\x01", "EOF"),
    matrix("a header without end", npy_header("{'descr': ('<f4', "), "not an array"),
    matrix("a header that is code", npy_header("{'descr': __import__('os').getcwd()}"), "not an array"),
    matrix("a header of a megabyte", b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 20) + b" " * (1 << 20), "large"),
    matrix("cut off", npy(np.ones((3, 4)))[:-8], "promises 96 bytes, 88 follow", "copy the file again"),
    matrix("a negative shape", promising((3, -2)), "shape (3, -2)", "save them"),
    matrix("no dimension", npy(np.ones((3, 0))), "shape (3, 0)", "save them"),
    matrix("a vector", npy(np.ones(3)), "shape (3,)", "save them"),
    matrix("too few rows", npy(np.ones((2, 4))), "2 rows", "row must be item id"),
    matrix("text in cells", npy(np.full((3, 1), "a")), "<U1 of shape (3, 1)", "save them"),
    matrix("complex numbers", npy(np.ones((3, 1), dtype=complex)), "complex128", "save them"),
    matrix("Python objects", npy(np.full((3, 1), None)), "Python objects"),
    matrix("NaN", npy(np.array([[0.0], [np.nan], [0.0]])), "row 1", "compute"),
    matrix("infinity", npy(np.array([[0.0], [0.0], [-np.inf]])), "row 2", "compute"),
    matrix("beyond float32", npy(np.array([[1e300], [0.0], [0.0]])), "row 0", "compute"),
    matrix("a folder", FOLDER, "a folder", "put X.mine.npy into"),
    matrix("a pipe", PIPE, "a pipe", "put X.mine.npy into"),
    features("features: in a circle", {**CIRCLE_TOO, "X/X.mine.npy": CIRCLE}, "X.mine.npy", "symbolic", "put X.mine"),
    matrix("a link to a device", link("/dev/zero"), "a device", "put X.mine.npy into", megabytes=32),
    matrix("an archive in its place", npz(np.zeros((3, 1 << 22))), "an archive", megabytes=32),
    matrix("a header of terabytes", promising((3, 1 << 40)), "promises 13194139533312", "copy", megabytes=32),
    matrix("a header beyond 64 bits", promising((3, 1 << 62)), "promises", "copy", megabytes=32),
    matrix("a terabyte of nothing", sparse(1 << 40, promising((3, 1 << 36))), "1099511627776", "put", megabytes=32),
    Case("features: a path outside", {}, "X", "no such file", "put", ["embed", "X", f"features:{OUTSIDE}"]),
    Case("features: a long name", {}, "aaaa", "name too long", "put", ["embed", "X", f"features:{'a' * 300}"]),
    Case("features: no such encoder", {}, "'minilmm'", "not known", "'study encoders'", ["embed", "X", "minilmm"]),
]  # fmt: skip

INDEXES = [
    ids("none", None, "no such file", "README"),
    ids("empty", "{}", "0 items", "take the index"),
    ids("too few items", {"0": ["<a_0>"]}, "1 items", "take the index"),
    ids("an item twice", '{"0": ["<a_0>"], "0": ["<a_1>"]}', "'0' stands twice", "remove"),
    ids("a path as item id", {OUTSIDE: ["<a_0>"]}, f"'{OUTSIDE}'", "number the items"),
    ids("no list", tokens(_1="<a_0>"), "item 1", "expected a list"),
    ids("no token", tokens(_1=[]), "item 1", "expected a list"),
    ids("another level", tokens(_1=["<b_0>"]), "item 1", "should look like '<a_12>'"),
    ids("levels of another number", tokens(_1=["<a_0>", "<b_0>"]), "item 1 has 2 codes", "make them equal"),
    ids("a gigantic code", tokens(_1=["<a_1000000>"]), "item 1", "should look like '<a_12>'"),
    ids("Arabic digits", tokens(_1=["<a_٢>"]), "item 1", "should look like '<a_12>'"),
    ids("a negative code", tokens(_1=["<a_-1>"]), "item 1", "should look like '<a_12>'"),
    ids("NaN", '{"0": ["<a_0>"], "1": [NaN], "2": ["<a_0>"]}', "item 1: token nan", "should look like '<a_12>'"),
    ids("a token of a million letters", tokens(_1=["a" * 1_000_000]), "item 1", "should look like '<a_12>'"),
    ids("a pipe", PIPE, "a pipe", "README"),
    ids("nested deeply", '{"0": ' + DEEP, "nested too deeply", "fetch", megabytes=32),
]

IMAGES = [
    pictures("picture: none", {"X/images/0.png": picture()}, "images", "item 1 has no picture", "add 1.jpg"),
    pictures("picture: no folder", {}, "X", "no images folder", "add images"),
    pictures(
        "picture: two of an item", {"X/images/0.png": "", "X/images/0.jpg": ""}, "images", "0.jpg and 0.png", "remove",
    ),
    image("empty", "", "not a picture"),
    image("text", "not a picture", "not a picture"),
    image("of another format", picture(form="GIF"), "not a picture"),
    image("an archive", npz(np.zeros(3)), "not a picture"),
    image("cut off", picture(size=(64, 64), form="JPEG")[:-200], "not a picture"),
    image("another checksum", picture()[:40] + b"\xff" + picture()[41:], "not a picture"),
    image("a path outside, not a picture", link("../../reviews.json"), "not a picture"),
    image("a folder", FOLDER, "a folder"),
    image("a pipe", PIPE, "a pipe"),
    pictures(
        "picture: in a circle",
        {**CIRCLE_TOO, **{f"X/images/{number}.png": CIRCLE for number in range(3)}}, "0.png", "symbolic", "replace it",
    ),
    image("a link to a device", link("/dev/zero"), "a device", megabytes=64),
    image("a picture bomb", png_of_size(30_000, 30_000), "900000000 pixels", megabytes=64),
    image("a picture somewhat too large", png_of_size(9_000, 9_000), "9000 x 9000 pixels", "smaller", megabytes=64),
    image("a comment bomb", picture(pnginfo=long_comment()), "not a picture", megabytes=64),
    image("a file of a gigabyte", sparse(1 << 30, picture()), "1073741824 bytes", megabytes=64),
]  # fmt: skip

PARAMETERS = [
    params("none", None, "o such file", "params/"),
    params("empty", "", "expected lines", "'name: value'"),
    params("a list", "[1, 2]", "expected lines", "'name: value'"),
    params("not YAML", "seeds: [1,\ndata: planted", "line 2", "write"),
    params("a tab", "generator:\n\tlr: 1", "line 2", "write"),
    params("a name twice", "seeds: 1\nseeds: 2", "line 2: 'seeds' stands twice", "remove"),
    params("a name that is a number", "1: 2", "line 1: the name 1", "in quotes"),
    params("an object of Python", "data: !!python/object/apply:os.getcwd []", "line 1", "write a text"),
    params("a date", "data: 2024-01-01", "line 1: a value of the kind 'timestamp'", "in quotes"),
    params("a date that cannot be", "data: 2024-13-45", "line 1: a value of the kind 'timestamp'", "in quotes"),
    params("NaN", "seeds: 1\ngenerator: {lr: .nan}", "line 2: '.nan' is not finite", "write a finite"),
    params("infinity", "generator: {lr: .inf}", "line 1: '.inf' is not finite", "write a finite"),
    params("5000 digits", "seeds: " + "9" * 5000, "line 1", "write a plain number"),
    params("9000 hexadecimal digits", "seeds: 0x" + "f" * 9000, "line 1", "write a smaller"),
    params("a tag that does not fit", "train: !!bool perhaps", "line 1", "write a plain"),
    params("half a surrogate pair", r'data: "\ud800"', "line 1", "write"),
    params("an escape beyond Unicode", r'data: "\U00110000"', "line 1", "mend"),
    params("UTF-16", "seeds: 1".encode("utf-16"), "byte 0", "UTF-8"),
    params("a zero character", "seeds: 1\0", "position 8", "write"),
    params("an unknown name", "sede: 1", "'sede'", "choose from"),
    params("no seed", "seeds: 0", "'seeds'", "change"),
    params("too many seeds", "seeds: 101", "'seeds'", "change"),
    params("one code", "codes: 1", "'codes'", "change"),
    params("negative jobs", "jobs: -1", "'jobs'", "change"),
    params("an unknown budget", "budget: huge", "'budget'", "change"),
    params("features twice", "features: [random, random]", "differ", "change"),
    params("a folder", FOLDER, "a folder", "params/"),
    params("a pipe", PIPE, "a pipe", "params/"),
    run("params: in a circle", {**CIRCLE_TOO, "p.yaml": CIRCLE}, "p.yaml", "symbolic", "params/"),
    params("a link to a device", link("/dev/zero"), "a device", "params/", megabytes=64),
    params("aliases that stand for billions", LAUGHS, "line 2: an alias", "write the value out", megabytes=64),
    params("nested deeply", "seeds: " + "[" * 60_000, "nested too deeply", "write", megabytes=64),
    params("50 MB", sparse(50_000_000), "50000000 bytes", "params/", megabytes=64),
    *(
        Case(f"parameters: {name}", {"p.yaml": content}, setting, place, cure, ["run", NOTEBOOK, "-f", "p.yaml"])
        for name, content, setting, place, cure in [
            ("too many codes", "codes: 1000000000000", "codes", "65536", "change"),
            ("no epoch", "generator: {epochs: 0}", "epochs", "greater", "change"),
            ("all dropped out", "generator: {dropout: 1.0}", "dropout", "less than 1", "change"),
            ("an unknown setting", "generator: {layers: 3}", "layers", "unknown setting", "There are"),
            ("a reference that is not there", "reference: mpnet", "reference", "'mpnet'", "none of the features"),
        ]
    ),
    Case("-p: not YAML", {"p.yaml": "seeds: 1"}, "-p seeds", "line 1", "write", ["run", NOTEBOOK, "-f", "p.yaml",
         "-p", "seeds", "["]),
    Case("-p: no number", {"p.yaml": "seeds: 1"}, "seeds", "'many'", "change", ["run", NOTEBOOK, "-f", "p.yaml",
         "-p", "seeds", "many"]),
    Case("run: no notebook", {"p.yaml": "seeds: 1"}, "nowhere.ipynb", "no such file", "choose", ["run",
         "nowhere.ipynb", "-f", "p.yaml"]),
    Case("run: a name too long", {"p.yaml": "seeds: 1"}, "nnnn", "cannot be opened", "choose", ["run",
         "n" * 300 + ".ipynb", "p.yaml"]),
    Case("run: no parameters", {}, "run", "at least one notebook", "give", ["run", "nowhere.ipynb"]),
    Case("run: an unknown option", {}, "--job", "unrecognized", "--help", ["run", "a.ipynb", "p.yaml", "--job=3"]),
    Case("embed: a page that is a number", {}, "--page", "'5'", "write settings", ["embed", "X", "random", "--page",
         "5"]),
    Case("embed: a page too large", {}, "page", "resolution", "known", ["embed", "X", "random", "--page",
         "{resolution: 100000}"]),
    Case("recommend: a key that is a path", {}, "../../x", "no finished trial", "lists them", ["recommend",
         "../../x"]),
    Case("recommend: a key too long", {}, "aaaa", "no finished trial", "lists them", ["recommend", "a" * 300]),
    Case("tune: minus one job", {}, "--jobs", "'-1'", "from 0 up", ["tune", "sasrec", "X", "--jobs", "-1"]),
    Case("bench: LETTER of nothing", {}, "--tokenizers", "letter", "take rq-vae", ["bench", "tokenize", "--items",
         "1000", "--tokenizers", "letter"]),
    Case("selftest: no kills", {}, "--moments", "0", "at least one", ["selftest", "--moments", "0"]),
    Case("gc: a list of trials that is none", {"results/X/t.trials.json": "{"}, "t.trials.json", "no list", "run its",
         ["gc"]),
]  # fmt: skip

RECORDS = [
    Case(f"record: {name}", {"results/trials/0123/record.json": content}, "0123", "no finished trial", "study trials",
         ["recommend", "0123"])
    for name, content in [
        ("none", None), ("empty", ""), ("zeros", bytes(64)), ("a list", "[1]"), ("without a checksum", "{}"),
        ("another checksum", {"key": "0123", "checksum": "0" * 64}), ("Latin-1", b'{"caf\xe9": 1}'),
    ]
]  # fmt: skip

CASES = [
    *INTER, *ITEM_TEXTS, *ITEM_NAMES, *FOLDERS, *REVIEW_LINES, *METADATA_LINES, *CONVERSIONS, *FEATURES, *INDEXES,
    *IMAGES, *PARAMETERS, *RECORDS,
]  # fmt: skip
BY_NAME = {case.name: case for case in CASES}


# -- the test ----------------------------------------------------------------------------------------------------------


def put(file: Path, content) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if callable(content):
        content(file)
    elif content is not None:
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())


def perform(case: Case) -> int:
    """What a user does, in the folder where the files are; a reader without a command of its own ends like one."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        for category in (RuntimeWarning, UserWarning, SyntaxWarning):  # a user would see them as more lines
            warnings.simplefilter("error", category)
        for name, bound in case.bounds.items():
            stack.enter_context(patch(name, bound))
        if isinstance(case.act, list):
            return main(case.act)
        try:
            case.act()
        except StudyError as error:
            print(f"study: error: {error}", file=sys.stderr)
            return 2
        return 0


def perform_bounded(name: str, answer: Connection, folder: str, environment: dict[str, str]) -> None:
    """``perform`` in this process, which may grow by the case's megabytes and no more; sends status and stderr."""
    os.chdir(folder)
    os.environ.update(environment)
    case = BY_NAME[name]
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + (case.megabytes << 20),) * 2)
    with redirect_stderr(io.StringIO()) as said:
        status = perform(case)
    answer.send((status, said.getvalue()))


def in_bounds(case: Case) -> tuple[int, str]:
    """The answer of ``perform_bounded``, run in a process forked from one in which all is imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.test_malformed", "studylib.notebook"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=perform_bounded, args=(case.name, theirs, os.getcwd(), dict(os.environ)))
    with patch.dict(os.environ, PYTHONPATH=str(paths.ROOT)):  # the first start starts the server, which imports
        process.start()
    theirs.close()
    try:
        return ours.recv()  # EOFError: it died, of a MemoryError for example, and has said so
    finally:
        process.kill()
        process.join()


def listing() -> dict[str, int]:
    """Every file below the working folder and its size; links are not followed."""
    return {
        os.path.join(folder, name): os.lstat(os.path.join(folder, name)).st_size
        for folder, folders, files in os.walk(".")
        for name in folders + files
    }


@pytest.fixture
def alarm():
    """A reader that waits for a pipe or reads a device to its end is stopped, and fails."""

    def stop(*_):
        raise TimeoutError("still reading after 30 s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_the_cases_differ():
    assert len(BY_NAME) == len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_line_and_nothing_left_behind(case, tmp_path, monkeypatch, capsys, alarm):
    monkeypatch.chdir(tmp_path)
    for name in ("RESULTS", "CACHE", "FIGURES", "DATA", "MODELS"):
        monkeypatch.setenv(f"STUDY_{name}", str(tmp_path / name.lower()))
    for name, content in (GOOD | case.files).items():
        put(Path(name), content)
    before = listing()
    status, said = in_bounds(case) if case.megabytes else (perform(case), capsys.readouterr().err)
    assert said.startswith("study: error: ")
    assert said.count("\n") == 1, said
    assert len(said) < 1500
    for word in (case.file, case.place, case.cure):
        assert word in said
    assert status == 2
    assert listing() == before
