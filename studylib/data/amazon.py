"""Raw Amazon Reviews dumps, 2018 and 2023, to a Dataset.

    2018  reviews   {"reviewerID": "A1", "asin": "B0", "unixReviewTime": 1527465600, ...}
          metadata  {"asin": "B0", "title": ..., "brand": ..., "category": [...], "description": [...] or "..."}
    2023  reviews   {"user_id": "A1", "parent_asin": "B0", "timestamp": 1588687728923, ...}
          metadata  {"parent_asin": "B0", "title": ..., "store": ..., "categories": [...], "description": [...],
                     "features": [...], "details": {...}}

One JSON object a line, plain or gzipped (.json, .jsonl, .json.gz, .jsonl.gz); files are streamed, and only ids and
times of reviews and the text of items that survive are held in memory.
"""

import json
import os
import re
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from studylib.data import atomic
from studylib.data.cleaning import clean, k_core
from studylib.data.dataset import SHORTEST, Dataset
from studylib.data.json_lines import rows
from studylib.errors import StudyError
from studylib.files import shown

ASIN = re.compile(r"[!-~]{1,64}")


@dataclass(frozen=True)
class Release:
    """The columns that one release of the dumps uses."""

    year: int
    user: str
    item: str
    time: str
    brand: str
    categories: tuple[str, ...]
    attributes: tuple[str, ...]


RELEASES = (
    Release(2018, "reviewerID", "asin", "unixReviewTime", "brand", ("category", "categories"), ()),
    Release(2023, "user_id", "parent_asin", "timestamp", "store", ("categories",), ("features", "details")),
)


@dataclass(frozen=True)
class Reviews:
    """A reviews file: who reviewed what, when, each an array in the order of the file.

    ``users``, ``items``: int64 numbers by first appearance; ``times``: int64, seconds (2018) or milliseconds (2023);
    ``asins``: the items' names by number.
    """

    release: Release
    users: np.ndarray
    items: np.ndarray
    times: np.ndarray
    asins: tuple[str, ...]


def read(reviews: Path, metadata: Path, name: str, core: int = 5) -> Dataset:
    """Read one category of a dump.

    In this order: of several reviews of one item by one user the first in time is kept; items without a title in the
    metadata are dropped, for they cannot be drawn or encoded; users and items with fewer than ``core`` interactions are
    dropped until none is left; each user's items are ordered by time, equal times in the order of the file. Users are
    numbered in order of appearance (their names in the dump stand for people, and are not kept), items by first
    appearance in the sequences, ``keys`` holding the ASIN. What was dropped is counted on stdout.

    Raises:
        StudyError: naming the file, the line, and the cure.
    """
    if core < SHORTEST:
        raise StudyError(f"core={core}: leave-one-out needs {SHORTEST} interactions a user; choose {SHORTEST} or more")
    reviews, metadata = Path(reviews), Path(metadata)
    table = read_reviews(reviews)
    kept = first_in_time(table)
    users, items = table.users[kept], table.items[kept]
    duplicates = len(table.users) - len(users)

    # The core of what has a title lies within the core of everything, so only the latter's text is ever read.
    candidates, first_rounds = k_core(users, items, core)
    if not candidates.any():
        raise StudyError(
            f"{reviews}: no user and item with {core} interactions each; take a larger file or a smaller core"
        )
    wanted = {table.asins[item] for item in np.unique(items[candidates])}
    texts = read_metadata(metadata, table.release, wanted)
    untitled = sorted(wanted - set(texts))
    if not texts:
        raise StudyError(
            f"{metadata}: has a title for none of the {len(wanted)} items of {reviews.name}, e.g. {untitled[0]}; "
            "give the metadata of the same category and release"
        )
    titled = np.array([asin in texts for asin in table.asins])[items]
    alive = candidates & titled
    inside, rounds = k_core(users[alive], items[alive], core)
    if not inside.any():
        raise StudyError(
            f"{metadata}: {len(untitled)} items have no title, e.g. {untitled[0]}, and without them no user and item "
            f"with {core} interactions each is left; take the whole metadata file or a smaller core"
        )
    data = _dataset(name, users[alive][inside], items[alive][inside], table.asins, texts, source=str(reviews))
    named = f" (first: {untitled[0]})" if untitled else ""
    print(
        f"{name}: {len(table.users)} reviews of {table.release.year}; dropped {duplicates} duplicates, "
        f"{len(untitled)} items without a title{named}; {core}-core in {first_rounds + rounds} rounds: "
        f"{len(data.users)} users, {data.n_items} items, {int(inside.sum())} interactions"
    )
    return data


def convert(reviews: Path, metadata: Path, folder: Path, core: int = 5) -> Dataset:
    """``read`` into a new folder of the convention in ``studylib.data.atomic``, whose name becomes the data set's.

    Raises:
        StudyError: as ``read``; or the folder exists. A conversion that fails leaves nothing behind.
    """
    folder = Path(os.path.realpath(folder))  # Path.resolve would raise for links in a circle
    atomic.check_name(folder)
    with atomic.new_folder(folder) as partial:
        atomic.write(read(reviews, metadata, folder.name, core), partial)
    return atomic.read(folder)


# -- reviews --------------------------------------------------------------------------------------------------------


def read_reviews(file: Path) -> Reviews:
    """Users, items and times of every line; the release is known by the first line's columns."""
    user_numbers: dict[str, int] = {}
    item_numbers: dict[str, int] = {}
    users, items, times = array("q"), array("q"), array("q")
    release = None
    for number, row in rows(file):
        release = release or _release_of_reviews(file, number, row)
        user, item, time = (row.get(column) for column in (release.user, release.item, release.time))
        if not isinstance(user, str) or not user:
            raise _bad_value(file, number, release.user, user, "text")
        if not isinstance(item, str) or (item not in item_numbers and not _is_asin(item)):
            raise _bad_value(file, number, release.item, item, "an ASIN")
        if isinstance(time, bool) or not isinstance(time, int) or abs(time) >= 2**62:
            raise _bad_value(file, number, release.time, time, "a whole number")
        users.append(user_numbers.setdefault(user, len(user_numbers)))
        items.append(item_numbers.setdefault(item, len(item_numbers)))
        times.append(time)
    if release is None:
        raise StudyError(f"{file}: no review at all; fetch the file again")
    return Reviews(
        release, *(np.array(column, dtype=np.int64) for column in (users, items, times)), tuple(item_numbers)
    )


def _is_asin(item: str) -> bool:
    return bool(ASIN.fullmatch(item)) and atomic.key_problem(item) is None


def first_in_time(table: Reviews) -> np.ndarray:
    """Row numbers of the reviews to keep, ordered by user and time; equal times stay in the order of the file.

    Of several reviews of one item by one user only the first in that order is among them.

    >>> table = Reviews(RELEASES[0], np.array([0, 1, 0, 0]), np.array([7, 7, 7, 8]), np.array([5, 1, 3, 3]), ())
    >>> first_in_time(table)
    array([2, 3, 1])
    """
    order = np.lexsort((table.times, table.users))  # stable
    pairs = table.users[order] * (table.items.max(initial=0) + 1) + table.items[order]  # one number a pair
    _, first = np.unique(pairs, return_index=True)  # the first of equals: the sort inside is stable
    return order[np.sort(first)]


def _release_of_reviews(file: Path, number: int, row: dict) -> Release:
    for release in RELEASES:
        if {release.user, release.item, release.time} <= set(row):
            return release
    wanted = " or ".join(f"{r.user}, {r.item}, {r.time} ({r.year})" for r in RELEASES)
    raise StudyError(
        f"{file}: line {number}: columns {_names(row)}; wanted {wanted}: give a reviews file of either release"
    )


def _dataset(name, users, items, asins, texts, source) -> Dataset:
    """Rows already ordered by user and time become sequences over items numbered by first appearance."""
    numbers: dict[int, int] = {}
    renumbered = np.array([numbers.setdefault(item, len(numbers)) for item in items.tolist()], dtype=np.int64)
    sequences = tuple(np.split(renumbered, np.flatnonzero(np.diff(users)) + 1))
    keys = tuple(asins[item] for item in numbers)
    rows = tuple(texts[key] for key in keys)
    return Dataset(name, tuple(map(str, range(len(sequences)))), sequences, len(keys), rows, keys, source=source)


# -- metadata -------------------------------------------------------------------------------------------------------


def read_metadata(file: Path, release: Release, wanted: set[str]) -> dict[str, dict[str, str]]:
    """Per wanted item its text fields; items without a title are left out, of two lines the first with one counts."""
    texts: dict[str, dict[str, str]] = {}
    checked = False
    for number, row in rows(file):
        if not checked:
            _check_metadata(file, number, row, release)
            checked = True
        asin = row.get(release.item)
        if not isinstance(asin, str):
            raise _bad_value(file, number, release.item, asin, "an ASIN")
        if asin in wanted and asin not in texts:
            fields = _fields(file, number, row, release)
            if fields["title"]:
                texts[asin] = fields
    if not checked:
        raise StudyError(f"{file}: no item at all; fetch the file again")
    return texts


def _check_metadata(file: Path, number: int, row: dict, release: Release) -> None:
    reviews_columns = {r.user for r in RELEASES} & set(row)
    other_release = release.year == 2018 and "parent_asin" in row
    if release.item in row and not reviews_columns and not other_release:
        return
    columns = ", ".join((release.item, "title", release.brand, *release.categories, "description", *release.attributes))
    hint = " (these are reviews)" if reviews_columns else ""
    raise StudyError(
        f"{file}: line {number}: columns {_names(row)}{hint}; wanted {columns}: "
        f"give the metadata file of the {release.year} release, which the reviews are of"
    )


def _fields(file: Path, number: int, row: dict, release: Release) -> dict[str, str]:
    title = _text(file, number, "title", row.get("title"))
    if "getTime" in title:  # 2018: a page's script stands where the title should be; commonly left out
        title = ""
    categories = next((row[column] for column in release.categories if row.get(column)), None)
    fields = {
        "title": title,
        "brand": re.sub(r"^by\s*\n\s*", "", _text(file, number, release.brand, row.get(release.brand), raw=True)),
        "categories": _categories(file, number, categories),
        "description": _text(file, number, "description", row.get("description")),
    }
    fields["brand"] = clean(fields["brand"])
    attributes = {column: _text(file, number, column, row.get(column)) for column in release.attributes}
    return fields | {column: text for column, text in attributes.items() if text}


def _text(file: Path, number: int, column: str, value, raw: bool = False) -> str:
    if value is None:
        return ""
    if column == "details":
        value = _details(file, number, value)
    parts = [value] if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise _bad_value(file, number, column, value, "text or a list of texts")
    return " ".join(parts) if raw else clean(" ".join(parts))


def _details(file: Path, number: int, value) -> list[str]:
    """2023's free table of attributes, an object or an object in quotes, as ``name: value`` in the dump's order."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise _bad_value(file, number, "details", value, "an object of name: value") from None
    if not isinstance(value, dict):
        raise _bad_value(file, number, "details", value, "an object of name: value")
    try:
        details = [text if isinstance(text, str) else json.dumps(text, ensure_ascii=False) for text in value.values()]
    except RecursionError:
        raise _bad_value(file, number, "details", value, "an object of name: value") from None
    return [f"{name}: {text};" for name, text in zip(value, details, strict=True)]


def _categories(file: Path, number: int, value) -> str:
    """Joined by commas, as the published data sets have it, so that words are counted alike."""
    value = [value] if isinstance(value, str) else value or []
    path = value[0] if isinstance(value, list) and value and isinstance(value[0], list) else value
    if not isinstance(path, list) or not all(isinstance(part, str) for part in path):
        raise _bad_value(file, number, "categories", value, "a list of texts")
    parts = []
    for part in path:
        if "</span>" in part:  # 2018: from here on the page's markup was taken for categories
            break
        parts.append(clean(part))
    return ",".join(part for part in parts if part)


def _bad_value(file: Path, number: int, column: str, value, wanted: str) -> StudyError:
    return StudyError(
        f"{file}: line {number}: {column} is {shown(value)}, not {wanted}; mend or delete that line, "
        "or fetch the file again"
    )


def _names(row: dict) -> str:
    return ", ".join(map(shown, sorted(row)[:20])) or "none"
