"""Two tables of one's own, who had what and what items say, to a Dataset: what ``study import`` does.

CSV with a comma, or TSV where the file's name ends in .tsv, with a line of column names. All cells are text, so an item
007 stays 007. Columns of the first table: ``user``, ``item``, and, unless its rows are in order, ``time`` (numbers, or
dates as ISO 8601 writes them); of the second ``item`` and ``title``, then ``brand``, ``categories`` and ``description``
as far as there are any, and others, which become attributes with their names.
"""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from studylib.data import atomic
from studylib.data.cleaning import clean, k_core
from studylib.data.dataset import FIELDS, LARGEST_PICTURE, PICTURES, SHORTEST, Dataset
from studylib.errors import StudyError
from studylib.files import check_regular, shown

LARGEST = 8 << 30  # bytes of a table, which is read whole
LARGEST_CELL = 1 << 24  # characters


def convert(interactions: Path, items: Path, folder: Path, images: Path | None = None, core: int = 5) -> Dataset:
    """``read`` into a new folder of the convention in ``studylib.data.atomic``, whose name becomes the data set's.

    Args:
        images: a folder with a picture of every item, ``<item>.jpg``, ``.jpeg`` or ``.png``; they are copied.

    Raises:
        StudyError: as ``read``; an item has no picture; or the folder exists. What fails leaves nothing behind.
    """
    folder = Path(os.path.realpath(folder))  # Path.resolve would raise for links in a circle
    atomic.check_name(folder)
    with atomic.new_folder(folder) as partial:
        data = read(interactions, items, folder.name, core)
        atomic.write(data, partial)
        if images is not None:
            _copy_pictures(data, images, partial / "images")
    return atomic.read(folder)


def read(interactions: Path, items: Path, name: str, core: int = 5) -> Dataset:
    """The largest set of interactions in which every user and item has ``core``, every user ``SHORTEST``, as sequences.

    They are in the order of time, equal times in the order of the file; the same user, item and time twice count once.
    Tags and entities of HTML are taken out of the texts. Items are numbered by first appearance; their names are keys.

    Raises:
        StudyError: a column is missing, a time cannot be read, an item is there twice, or not at all, or has no text;
            or nothing is left.
    """
    had, texts = _table(interactions, ("user", "item")), _table(items, ("item", "title"))
    if len(twice := texts.index[texts["item"].duplicated()]):
        raise StudyError(f"{items}: line {twice[0]}: item {shown(texts['item'][twice[0]])} for a second time; keep one")
    if len(lost := had.index[~had["item"].isin(texts["item"])]):
        raise StudyError(
            f"{interactions}: line {lost[0]}: item {shown(had['item'][lost[0]])} is not in {items}; add it there, or "
            "leave the row out"
        )
    if "time" in had:
        had["time"] = _times(interactions, had["time"])
        had = had.drop_duplicates(["user", "item", "time"]).sort_values("time", kind="stable")
    users, user_names = pd.factorize(had["user"])
    numbers, item_names = pd.factorize(had["item"])
    alive, before = np.ones(len(had), dtype=bool), -1
    while before != (before := int(alive.sum())):
        alive[alive] = k_core(users[alive], numbers[alive], core)[0]
        alive &= np.bincount(users[alive], minlength=len(user_names))[users] >= SHORTEST
    if not alive.any():
        raise StudyError(f"{interactions}: no user and item is left with {core} interactions; lower --core")
    numbers, used = pd.factorize(numbers[alive])
    by_user = pd.Series(numbers).groupby(users[alive], sort=True)
    keys = [str(item_names[number]) for number in used]
    place = dict(zip(texts["item"], texts.index, strict=True))
    return Dataset(
        name,
        tuple(str(user_names[user]) for user in by_user.groups),
        tuple(sequence.to_numpy(np.int64) for _, sequence in by_user),
        len(keys),
        tuple(_fields(items, texts, place[key]) for key in keys),
        tuple(keys),
        source=str(interactions),
    )


def _table(file: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """All cells as text; the index is each row's line in the file."""
    check_regular(file, "give a .csv or .tsv file", LARGEST)
    rows, lines = [], []
    csv.field_size_limit(LARGEST_CELL)
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, delimiter="\t" if file.suffix.lower() == ".tsv" else ",", strict=True)
            names = next(reader, [])
            for row in filter(None, reader):
                if len(row) != len(names):
                    raise StudyError(
                        f"{file}: line {reader.line_num}: {len(row)} cells for {len(names)} columns; "
                        'put a cell that holds a comma or a line break into "quotes"'
                    )
                rows.append(row)
                lines.append(reader.line_num)
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise StudyError(
            f"{file}: not a table that can be read ({str(error)[:200]}); save it as CSV in UTF-8"
        ) from None
    if len(set(names)) < len(names) or "" in names:
        raise StudyError(f"{file}: columns {', '.join(map(shown, names))}: give each a name of its own")
    table = pd.DataFrame(rows, lines, names, dtype=str)
    for column in columns:
        if column not in table:
            raise StudyError(f"{file}: no column {column!r}; it has {', '.join(map(shown, names))}")
        if len(empty := table.index[table[column].str.strip() == ""]):
            raise StudyError(f"{file}: line {empty[0]}: no {column}; fill it in, or leave the row out")
    return table


def _times(file: Path, column: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(column, errors="coerce")
    dates = pd.to_datetime(column, errors="coerce", utc=True, format="ISO8601")
    for times in (numbers, dates):
        if times.notna().all():
            return times
    # The first that is neither, or else the first that is not what the first row is.
    bad = numbers.isna() & dates.isna()
    if not bad.any():
        bad = (dates if numbers.isna().iloc[0] else numbers).isna()
    row = bad.idxmax()
    raise StudyError(
        f"{file}: line {row}: time {shown(column[row])}; write all as numbers, or all as 2024-05-31 18:00:00"
    )


def _fields(file: Path, texts: pd.DataFrame, row: int) -> dict[str, str]:
    cells = {str(column): clean(texts[column][row]) for column in texts.columns if column != "item"}
    named = {name: cells[name] for name in FIELDS if cells.get(name)}
    fields = named | {name: f"{name}: {text}" for name, text in cells.items() if name not in FIELDS and text}
    if "title" not in fields:
        raise StudyError(
            f"{file}: line {row}: item {shown(texts['item'][row])} has a title of tags alone; give it words"
        )
    return fields


def _copy_pictures(data: Dataset, images: Path, into: Path) -> None:
    if not images.is_dir():
        raise StudyError(f"{images}: no such folder; give one with a picture <item>.jpg or .png for every item")
    files: dict[str, list[Path]] = {}
    for file in sorted(images.iterdir()):
        if file.suffix.lower() in PICTURES:
            files.setdefault(file.stem, []).append(file)
    into.mkdir()
    for number, key in enumerate(data.keys or ()):
        found = files.get(key, [])
        if len(found) != 1:
            what = "two pictures; remove one" if found else "no picture; add it, or leave the item out"
            raise StudyError(f"{images}: item {shown(key)}: {what}")
        check_regular(found[0], "replace it with a JPEG or PNG", LARGEST_PICTURE)
        shutil.copyfile(found[0], into / f"{number}{found[0].suffix}")
