"""What a data set holds that is allowed, and may be meant otherwise than it will be read; said by ``study check``."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from studylib.data.dataset import PICTURES, Dataset
from studylib.encoders.pictures import read_picture
from studylib.errors import StudyError
from studylib.render import Page, missing_letters, render

TAG = re.compile(r"</?[A-Za-z][^<>]*>|&(?:[a-z]{2,8}|#[0-9]{1,7});")
LONG = 8_000  # letters; no page is drawn of fewer, to see whether they fit


def doubts(data: Dataset) -> Iterator[str]:
    """One line a kind of doubt, with the number of items, or users, and the first three."""
    bought = np.bincount(np.concatenate(data.sequences), minlength=data.n_items)
    yield from _said("items that no user had; a generator cannot learn their codes", np.flatnonzero(bought == 0))
    same = [user for user, sequence in zip(data.users, data.sequences, strict=True) if len(set(sequence.tolist())) == 1]
    yield from _said("users who had one item again and again", same)
    if data.items is not None:
        texts = [data.text(item) for item in range(data.n_items)]
        times = Counter(texts)
        yield from _said("items with the text of another: one ID, and a level that numbers them", (
            item for item, text in enumerate(texts) if times[text] > 1))  # fmt: skip
        yield from _said("texts with tags or entities of HTML, which are read as text", (
            item for item, text in enumerate(texts) if TAG.search(text)))  # fmt: skip
        lacking = {item: found for item, text in enumerate(texts) if (found := missing_letters(text))}
        letters = "".join(sorted(set().union(*lacking.values()))[:10])
        yield from _said(f"texts with characters that the font of pages lacks ({letters}): all the same box", lacking)
        yield from _said("texts longer than a page in the smallest font, which ends where it is full", (
            item for item, text in enumerate(texts)
            if len(text) > LONG and render(data.fields(item), Page(), item).cut))  # fmt: skip
    images = data.folder / "images" if data.folder else None
    if images is not None and images.is_dir():
        there = {file.stem for file in images.iterdir() if file.suffix.lower() in PICTURES}
        lost = [item for item in range(data.n_items) if str(item) not in there]
        yield from _said("items without a picture images/<item id>.jpg or .png", lost)
        if not lost:
            yield from _said("pictures that cannot be read", (file.name for file in data.pictures if not _reads(file)))


def _reads(file: Path) -> bool:
    try:
        read_picture(file)
    except StudyError:
        return False
    return True


def _said(what: str, which: Iterable) -> Iterator[str]:
    found = list(which)
    if found:
        yield f"{len(found)} {what}: {', '.join(map(str, found[:3]))}{', ...' if len(found) > 3 else ''}"
