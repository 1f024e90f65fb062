"""What a page's size costs and loses: bytes, seconds, letters misread, neighbours changed (000, 4.4.1, Table 3).

000 reports what becomes of the recommendations; these are the reasons that one would reduce a page, and what the
reader still sees on it. Reading error is the character error rate of the recogniser's own transcript.
"""

import time
from collections.abc import Sequence
from hashlib import sha256
from io import BytesIO

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from studylib import paths
from studylib.analysis.geometry import mutual_knn
from studylib.analysis.significance import bootstrap_interval, per_group
from studylib.data.dataset import Dataset
from studylib.encoders import cache, transcript
from studylib.encoders.embeddings import Say, embed, identity, uncached
from studylib.encoders.registry import encoder
from studylib.errors import StudyError
from studylib.render import Page, RenderedPage, render

MEASURED = ("bytes", "render seconds", "encode seconds", "letters", "wrong letters")
SAMPLE_SEED = 20260104
CHUNK = 4  # pages a file of the cache: what a killed measurement can lose


def edits(read: str, drawn: str) -> int:
    """Levenshtein distance: letters to replace, insert or delete. One row of the table at a time, each in one piece.

    >>> edits("1O0 m", "100 mm"), edits("", "abc"), edits("kitten", "sitting")
    (2, 3, 3)
    """
    right = np.array([ord(letter) for letter in drawn])
    steps = np.arange(len(drawn) + 1)
    row = steps
    for number, letter in enumerate(read, start=1):
        replaced_or_dropped = np.minimum(row[:-1] + (right != ord(letter)), row[1:] + 1)
        row = np.append(number, replaced_or_dropped)
        # An inserted letter costs one more than the place to its left, which may itself be inserted: a running minimum.
        row = np.minimum.accumulate(row - steps) + steps
    return int(row[-1])


def error_rate(read: Sequence[str], drawn: Sequence[str]) -> float:
    """Character error rate of a page: edits of all lines over letters drawn (spaces count; above 1 if much is made up).

    Raises:
        StudyError: not one line read for every line drawn, or nothing was drawn.

    >>> error_rate(["Steel ruier", "150mm"], ["Steel ruler", "150 mm"])  # 2 of 17 letters
    0.11764705882352941
    """
    if len(read) != len(drawn) or not any(drawn):
        raise StudyError(
            f"reading error: {len(read)} lines read, {len(drawn)} drawn; give both of one page that has text"
        )
    return sum(map(edits, read, drawn)) / sum(map(len, drawn))


def transcripts(pages: Sequence[RenderedPage], reader: str = "ppocr-v6") -> list[str]:
    """What ``reader`` reads off each page, a line for every line drawn.

    Raises:
        StudyError: ``reader`` gives no transcript, or its weights are missing.
    """
    return ["\n".join(lines) for lines in transcript.reader_named(reader)(pages)]


def sample(n_items: int, size: int) -> list[int]:
    """The same items every time, in order; a larger sample holds the smaller one."""
    return sorted(np.random.default_rng(SAMPLE_SEED).permutation(n_items)[:size].tolist())


def measure(
    data: Dataset,
    page: Page,
    items: Sequence[int],
    name: str = "ppocr-v6",
    reader: str = "ppocr-v6",
    progress: Say = print,
) -> pd.DataFrame:
    """One row an item: ``MEASURED``, kept in the cache, so that seconds are those of the first time on this machine.

    Bytes are of the page as PNG; seconds are CPU time of one page alone, weights loaded before: drawing it, and what
    the encoder ``name`` takes past the drawing; letters and wrong letters are of the transcript by ``reader``.

    Raises:
        StudyError: ``name`` does not read pages, ``reader`` gives no transcript, or weights or text are missing.
    """
    row = encoder(name)
    if row.reads != "pages":
        raise StudyError(f"{name}: reads {row.reads}, not pages; choose one of kind ocr from 'study encoders'")
    settings = identity(row, page) + identity(encoder(reader), page)
    texts = ["\0".join(page.ordered(data.fields(item), item)) for item in items]
    keys = [sha256((settings + text).encode("utf-8", "surrogatepass")).hexdigest() for text in texts]
    tools = []

    def some(places: list[int]) -> np.ndarray:
        if not tools:
            tools.extend((uncached(data, name, page), transcript.reader_named(reader)))
            tools[0]([items[0]])  # the first page pays for fonts and memory
        return np.array([_measured(data, page, items[place], *tools) for place in places])

    folder = paths.cache_root() / "reading"
    found = cache.rows(folder, keys, some, f"reading {page.resolution} px of {data.name}", progress, CHUNK)
    return pd.DataFrame(found, columns=list(MEASURED), index=pd.Index(items, name="item"))


def _measured(data: Dataset, page: Page, item: int, encode, read) -> list[float]:
    began = time.process_time()
    drawn = render(data.fields(item), page, item)
    rendered = time.process_time()
    encode([item])
    encoded = time.process_time()
    file = BytesIO()
    drawn.image.save(file, "PNG")
    wrong = sum(map(edits, read([drawn])[0], drawn.lines))
    drawing = rendered - began
    return [file.tell(), drawing, max(0.0, encoded - rendered - drawing), sum(map(len, drawn.lines)), wrong]


def costs(
    data: Dataset,
    pages: dict[str, Page],
    items: int = 20,
    name: str = "ppocr-v6",
    reader: str = "ppocr-v6",
    progress: Say = print,
) -> pd.DataFrame:
    """One row a page, by name: means of ``measure`` over a sample of ``items`` items, the same for every page.

    Columns: ``page``, ``bytes``, ``render seconds``, ``encode seconds``; ``error``, the mean over items of the
    character error rate, with its 95 % bootstrap interval over items, ``error low`` and ``error high``.
    """
    rows = []
    for label, page in pages.items():
        found = measure(data, page, sample(data.n_items, items), name, reader, progress)
        error = (found["wrong letters"] / found["letters"]).to_numpy()
        low, high = bootstrap_interval(error)
        means = found[["bytes", "render seconds", "encode seconds"]].mean().to_dict()
        rows.append({"page": label} | means | {"error": error.mean(), "error low": low, "error high": high})
    return pd.DataFrame(rows)


def page_costs(
    data: Dataset, pages: dict[str, Page], name: str, references: dict[str, str], progress: Say = print
) -> pd.DataFrame:
    """One row a page: ``costs``, ``agreement``, and ``shrunk``, the share of pages drawn in a smaller font to fit.

    Letters misread are PP-OCRv6's, if the encoder ``name`` gives no transcript.
    """
    reader = name if name in transcript.READERS else "ppocr-v6"
    table = costs(data, pages, name=name, reader=reader, progress=progress)
    rows = {label: embed(data, name, page, progress) for label, page in pages.items()}
    table["shrunk"] = [found.provenance["shrunk"] / data.n_items for found in rows.values()]
    matrices = {label: found.matrix for label, found in rows.items()}
    return table.merge(agreement(matrices, references, products=data.products), on="page")


def agreement(
    matrices: dict[str, Float[np.ndarray, "items dims"]],
    references: dict[str, str],
    k: int = 10,
    products: Int[np.ndarray, " items"] | None = None,
) -> pd.DataFrame:
    """One row a matrix: share of an item's k nearest by cosine that are so in its reference too.

    Columns: ``page`` (the name), ``against`` (its reference), ``agreement`` (mean over items), its 95 % bootstrap
    interval over products, ``low`` and ``high``, and ``chance``, what random neighbours would give.

    Args:
        references: by name, the matrix that it is compared with; one without is compared with itself.
        products: of which product each item is a variant (default: each of its own); variants are drawn together.

    Raises:
        StudyError: a reference is not there, or the matrices are not of the same items, more than k.
    """
    rows = []
    for name, matrix in matrices.items():
        other = references.get(name, name)
        if other not in matrices:
            raise StudyError(f"agreement: no {other!r} to compare with; give one of {', '.join(matrices)}")
        shared = mutual_knn(matrix, matrices[other], k)
        low, high = bootstrap_interval(shared if products is None else per_group(shared, products))
        chance = k / (len(matrix) - 1)
        found = {"agreement": shared.mean(), "low": low, "high": high, "chance": chance}
        rows.append({"page": name, "against": other} | found)
    return pd.DataFrame(rows)
