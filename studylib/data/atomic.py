"""The file convention of LC-Rec, LETTER, MQL4GRec and MiniOneRec.

X/X.inter.json    {"user": [item ids, oldest first]}
X/X.item.json     {"item id": {"title": ..., "brand": ..., "categories": ..., "description": ...[, "attributes": {}]}}
X/X.item2id       name <tab> item id, one a line
X/X.index*.json   {"item id": ["<a_170>", "<b_224>", ...]} (read by studylib.semantic_ids)
X/X.<name>.npy    ready features, row = item id
X/images/         <item id>.jpg or .png
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import numpy as np

from studylib import files
from studylib.data.dataset import FIELDS, Dataset
from studylib.errors import StudyError
from studylib.files import RepeatedKey, parse_json, read_text, shown

LARGEST_FILE = 4 << 30  # bytes; a JSON file is read whole
LARGEST_CATALOGUE = 50_000_000  # items; models hold numbers per item, so one absurd id would fill the memory


def read(folder: str | Path) -> Dataset:
    """Read ``folder`` (whose name is the data set's) and validate it.

    Raises:
        StudyError: naming the file, the user or item in it, and the cure.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):  # unlike Path.is_dir, it does not raise for a name that is too long
        raise StudyError(
            f"{folder}: no such folder; give the folder that holds NAME.inter.json (NAME = the folder's name)"
        )
    name = check_name(folder)
    inter_file = folder / f"{name}.inter.json"
    users, sequences = _sequences(inter_file)
    item_file = folder / f"{name}.item.json"
    items = _items(item_file) if os.path.lexists(item_file) else None
    keys = _keys(folder / f"{name}.item2id")
    largest = max((int(sequence.max()) for sequence in sequences if len(sequence)), default=-1)
    n_items = len(items) if items is not None else len(keys) if keys is not None else largest + 1
    if keys is not None and len(keys) != n_items:
        raise StudyError(
            f"{folder / f'{name}.item2id'}: {len(keys)} items, but {item_file.name} has {n_items}; make them agree"
        )
    return Dataset(name, users, sequences, n_items, items, keys, folder, source=str(inter_file))


def write(data: Dataset, folder: str | Path) -> Path:
    """Write ``data`` in this convention, each file whole or not at all. Returns the folder.

    The reader gives equal data back if the folder bears the data set's name; pictures are not copied.

    Raises:
        StudyError: a key that item2id cannot hold, or a folder that cannot be written.
    """
    folder = Path(folder)
    for item, key in enumerate(data.keys or ()):
        if problem := key_problem(key):
            raise StudyError(f"{folder / f'{data.name}.item2id'}: item {item}: key {shown(key)} {problem}; rename it")
    sequences = {user: sequence.tolist() for user, sequence in zip(data.users, data.sequences, strict=True)}
    _dump(sequences, folder / f"{data.name}.inter.json")
    if data.items is not None:
        _dump({str(item): _nested(fields) for item, fields in enumerate(data.items)}, folder / f"{data.name}.item.json")
    if data.keys is not None:
        lines = "".join(f"{key}\t{item}\n" for item, key in enumerate(data.keys))
        files.write_bytes(folder / f"{data.name}.item2id", lines.encode())
    return folder


def check_name(folder: Path) -> str:
    """The data set's name: that of its folder, which must be text, for file names can be any bytes."""
    name = os.path.basename(os.path.realpath(folder))  # Path.resolve would raise for links in a circle
    _check_unicode(f"{folder}: the folder's name", name, "rename the folder")
    return name


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder that appears complete or not at all: the block fills a temporary sibling, renamed when it ends.

    Raises:
        StudyError: the folder is there already, or came into being meanwhile; it is left as it was.
    """
    refusal = StudyError(f"{folder}: exists already; remove it or choose another folder")
    if os.path.lexists(folder):
        raise refusal
    made = [parent for parent in folder.parents if not os.path.lexists(parent)]
    partial = folder.with_name(f".{folder.name}.{uuid4().hex[:12]}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        os.rename(partial, folder)
    except OSError as error:
        if os.path.lexists(folder):
            raise refusal from None
        raise StudyError(
            f"{folder}: cannot be written ({error.strerror}); free space or choose another folder"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):  # of the folders above, what is empty; on success none is
            for parent in made:
                parent.rmdir()


def read_json(file: Path) -> dict:
    """A JSON object whose keys are all different (a repeated key is an error, not a silent overwrite)."""
    text = read_text(file, "see the README for the files that a data set needs", LARGEST_FILE)
    try:
        table = parse_json(text)
    except RepeatedKey as error:
        raise StudyError(f"{file}: {error}") from None
    except json.JSONDecodeError as error:
        raise StudyError(
            f"{file}: line {error.lineno}: not JSON ({error.msg}); mend that line or fetch the file again"
        ) from None
    except ValueError as error:  # a number of thousands of digits
        raise StudyError(f"{file}: not JSON that can be read ({error}); fetch the file again") from None
    except RecursionError:
        raise StudyError(f"{file}: nested too deeply for a data file; fetch the file again") from None
    if not isinstance(table, dict):
        raise StudyError(f"{file}: holds a {type(table).__name__}, not an object; expected {{id: ...}}")
    return table


def item_table(file: Path, table: dict) -> list:
    """The values of ``{item id: value}`` in order of item id, which must run 0..n-1."""
    ids = {}
    for key, value in table.items():
        if not (key.isascii() and key.isdigit() and len(key) < 10):
            raise StudyError(f"{file}: item id {shown(key)} is not a number; number the items 0..{len(table) - 1}")
        if int(key) in ids:
            raise StudyError(f"{file}: item {int(key)} stands twice (as {shown(key)} too); remove one of the two")
        ids[int(key)] = value
    for item in range(len(table)):
        if item not in ids:
            raise StudyError(f"{file}: item {item} is missing; item ids must run 0..{len(table) - 1} without a gap")
    return [ids[item] for item in range(len(table))]


def _sequences(file: Path) -> tuple[tuple[str, ...], tuple[np.ndarray, ...]]:
    table = read_json(file)
    sequences = []
    for user, sequence in table.items():
        where = f"{file}: user {shown(user)}"
        _check_unicode(where, user)
        if not isinstance(sequence, list):
            raise StudyError(f"{where}: expected a list of item ids, found {type(sequence).__name__}")
        for item in sequence:
            if isinstance(item, bool) or not isinstance(item, int) or item < 0:
                raise StudyError(f"{where}: {shown(item)} is not an item id; write whole numbers from 0")
            if item >= LARGEST_CATALOGUE:
                raise StudyError(
                    f"{where}: item {shown(item)} is beyond {LARGEST_CATALOGUE}; number the items from 0 without gaps"
                )
        sequences.append(np.array(sequence, dtype=np.int64))
    return tuple(table), tuple(sequences)


def _items(file: Path) -> tuple[dict[str, str], ...]:
    items = []
    table = item_table(file, read_json(file))
    if not table:
        raise StudyError(f"{file}: no item at all; give every item of the catalogue a line, or remove the file")
    for item, fields in enumerate(table):
        if not isinstance(fields, dict):
            raise StudyError(f"{file}: item {item}: expected an object with fields {', '.join(FIELDS)}")
        if "title" not in fields:
            raise StudyError(
                f"{file}: item {item}: no field 'title' (found {shown(', '.join(fields))}); rename the column"
            )
        unknown = set(fields) - set(FIELDS) - {"attributes"}
        if unknown:
            raise StudyError(
                f"{file}: item {item}: unknown field {shown(min(unknown))}; "
                f"use {', '.join(FIELDS)} or put it under 'attributes'"
            )
        row = {name: _text(file, item, name, fields[name]) for name in FIELDS if name in fields}
        attributes = fields.get("attributes") or {}
        if not isinstance(attributes, dict):
            raise StudyError(
                f"{file}: item {item}: 'attributes' is {type(attributes).__name__}; make it an object of name: value"
            )
        taken = sorted(set(attributes) & set(FIELDS))
        if taken:
            raise StudyError(f"{file}: item {item}: attribute {taken[0]!r} has a field's name; rename the attribute")
        for name, value in attributes.items():
            _check_unicode(f"{file}: item {item}: the attribute's name {shown(name)}", name)
            row[name] = _text(file, item, name, value)
        items.append(row)
    return tuple(items)


def _text(file: Path, item: int, name: str, value) -> str:
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        value = ", ".join(value)
    if not isinstance(value, str):
        raise StudyError(
            f"{file}: item {item}: field {shown(name)} is {type(value).__name__}, not text; write it in quotes, or "
            "leave it out"
        )
    _check_unicode(f"{file}: item {item}: field {shown(name)}", value)
    return value


def _check_unicode(where: str, value: str, cure: str = "remove it") -> None:
    """JSON can spell half a surrogate pair, which no file, font or tokenizer can take."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise StudyError(f"{where}: character {error.start} is half a surrogate pair; {cure}") from None


def key_problem(key: str) -> str | None:
    """What keeps a name out of item2id: it must come back as it was, and may become the name of a file.

    >>> key_problem("B0042"), key_problem("../B0042")
    (None, 'leads out of a folder')
    """
    if not key or set(key) & set("\t\r\n\0"):
        return "is empty or holds a tab, a line break or a zero character"
    parts = key.replace("\\", "/").split("/")
    if not parts[0] or ".." in parts:
        return "leads out of a folder"
    return "holds half a surrogate pair" if any("\ud800" <= letter <= "\udfff" for letter in key) else None


def _keys(file: Path) -> tuple[str, ...] | None:
    if not os.path.lexists(file):
        return None
    table: dict[str, str] = {}
    names: set[str] = set()
    text = read_text(file, "write one item a line, or remove it", LARGEST_FILE)
    lines = text.replace("\r\n", "\n").split("\n")
    for number, line in enumerate(lines[:-1] if lines[-1] == "" else lines, 1):
        parts = line.split("\t")
        if len(parts) != 2 or not all(parts):
            raise StudyError(
                f"{file}: line {number}: found {line.strip()[:60]!r}; write the item's name, a tab, and its item id"
            )
        name, item = parts
        if problem := key_problem(name):
            raise StudyError(f"{file}: line {number}: the name {shown(name)} {problem}; rename the item")
        if item in table or name in names:
            raise StudyError(f"{file}: line {number}: {shown(name)} / {item[:20]} stands twice; remove one of the two")
        table[item] = name
        names.add(name)
    if not table:
        raise StudyError(f"{file}: no item at all; write one item a line, or remove the file")
    return tuple(item_table(file, table))


def _nested(fields: dict[str, str]) -> dict:
    attributes = {name: value for name, value in fields.items() if name not in FIELDS}
    named = {name: value for name, value in fields.items() if name in FIELDS}
    return named | ({"attributes": attributes} if attributes else {})


def _dump(table: dict, file: Path) -> None:
    files.write_bytes(file, json.dumps(table, ensure_ascii=False).encode())
