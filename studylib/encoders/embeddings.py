"""Item content in, matrix out: one row an item, cached on disk by content.

A row's key is the sha256 of everything it depends on: the encoder and its version, its weights, the text as drawn or
the picture's bytes, and for pages the renderer's settings and font. A cache hit loads no model.
"""

import json
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from tokenize import TokenError
from typing import BinaryIO

import numpy as np
from jaxtyping import Float

from studylib import paths
from studylib.data.dataset import Dataset
from studylib.encoders import cache, kept, weights
from studylib.encoders.registry import Encoder, encoder
from studylib.errors import StudyError
from studylib.files import check_regular
from studylib.render import SMALLEST_FONT, Page, font_digest, missing_letters, render
from studylib.threads import torch_threads

Say = Callable[[str], None]
SHUFFLE_SEED = 20260101
LARGEST_FEATURES = 32 << 30  # bytes of an .npy file, which is read whole


@dataclass(frozen=True, eq=False)
class Embeddings:
    """One vector per item.

    Args:
        name: the encoder, or "features:..." / "shuffled:...".
        matrix: float32 [items, dims], finite.
        provenance: encoder, weights, page settings, shrunk pages, file: what a record needs to say where it is from.

    Raises:
        StudyError: the matrix is not 2-D, or a row holds NaN or infinity; names the file (or encoder) and the row.
    """

    name: str
    matrix: Float[np.ndarray, "items dims"]
    provenance: dict = field(default_factory=dict)

    def __post_init__(self):
        where = self.provenance.get("file", self.name)
        matrix = np.asarray(self.matrix)
        _check_table(where, matrix.dtype, matrix.shape)
        with np.errstate(over="ignore"):  # beyond float32 is infinity, which is refused below
            matrix = matrix.astype(np.float32)
        bad = ~np.isfinite(matrix).all(axis=1)
        if bad.any():
            raise StudyError(
                f"{where}: row {int(bad.argmax())} holds NaN or infinity ({int(bad.sum())} such row(s); float32 ends "
                "at 3.4e38); compute that item's vector again"
            )
        object.__setattr__(self, "matrix", matrix)


def _check_table(where, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    if dtype.kind not in "fiu" or len(shape) != 2 or min(shape) < 1:
        raise StudyError(f"{where}: {dtype} of shape {shape}; embeddings are numbers [items, dims], save them as such")


def embed(data: Dataset, name: str, page: Page | None = None, progress: Say = print, centre: bool = True) -> Embeddings:
    """The embeddings of ``data`` by the encoder ``name``, from the cache as far as they are there.

    Args:
        name: a name of the registry, "features:<file.npy>", or "shuffled:<name>" (rows permuted, fixed seed).
        page: how text is drawn, for encoders that read pages; the default page if None.
        progress: gets one line at a time.
        centre: take the catalogue's mean off where the registry says so; False to see the rows as they were given.

    Raises:
        StudyError: unknown encoder, weights or content missing, or bad features.
    """
    page = page or Page()
    if name.startswith("features:"):
        return _features(data, name)
    if name.startswith("shuffled:"):
        return _shuffled(embed(data, name.removeprefix("shuffled:"), page, progress, centre), name)
    row = encoder(name)
    matrix, provenance = _kept_or_encoded(data, row, page, progress)
    if row.centred and centre:
        matrix = matrix - matrix.mean(axis=0, dtype=np.float64).astype(np.float32)
    return Embeddings(name, matrix, provenance)


def keep(data: Dataset, name: str, page: Page | None = None, progress: Say = print) -> Path:
    """Encode ``data`` and keep the rows with the results; returns the file.

    Raises:
        StudyError: as ``embed``; or ``name`` is no encoder of the registry.
    """
    return kept.write(data.name, name, *_kept_or_encoded(data, encoder(name), page or Page(), progress))


def _kept_or_encoded(data: Dataset, row: Encoder, page: Page, progress: Say) -> tuple[np.ndarray, dict]:
    settings = identity(row, page)
    keys = [sha256(settings.encode() + content).hexdigest() for content in _contents(data, row, page)]
    found = kept.read(data.name, row.name, _of_all(keys), progress)
    return found or _encoded(data, row, page, keys, progress)


def _of_all(keys: list[str]) -> str:
    return sha256("".join(keys).encode()).hexdigest()


def _of_pages(data: Dataset, shrunk: int, cut: int) -> Iterator[str]:
    """What should be known of pages that do not show all of a text."""
    lacking = [missing_letters(data.text(item)) for item in range(data.n_items)]
    if shrunk:
        yield f"{shrunk} of {data.n_items} pages drawn in a smaller font to fit"
    if cut:
        yield f"{cut} of {data.n_items} texts are longer than a page in the smallest font, which ends where it is full"
    if any(lacking):
        letters = "".join(sorted(set().union(*lacking))[:10])
        yield (
            f"{sum(map(bool, lacking))} of {data.n_items} texts have characters that the font lacks ({letters}), all "
            "drawn as the same box: no reader of pages can tell them apart"
        )


def uncached(data: Dataset, name: str, page: Page | None = None) -> Callable[[list[int]], np.ndarray]:
    """An encoder past the cache, for measuring: item ids in, their raw rows out."""
    row = encoder(name)
    model = _load(row)
    return lambda items: _rows(data, row, page or Page(), model, items)


def _encoded(data: Dataset, row: Encoder, page: Page, keys: list[str], progress: Say) -> tuple[np.ndarray, dict]:
    """The columns of ``row``, from the cache as far as they are there; one key an item."""
    digest, name = _digest(row), row.raw or row.name
    model = None

    def encode(items: list[int]) -> np.ndarray:
        nonlocal model
        model = model or _load(row)
        with torch_threads(1):  # a trial encodes with one, a notebook with all: the rows shall be the same
            return _rows(data, row, page, model, items)

    found = cache.rows(paths.cache_root() / "embeddings" / name, keys, encode, f"{name} on {data.name}", progress)
    provenance = {"encoder": row.name, "weights": digest, "items": _of_all(keys)}
    if row.then:
        provenance["then"] = {"encoder": row.then, "weights": _digest(encoder(row.then))}
    if row.reads == "pages":
        asked = [page.of_item(data.fields(item)).font_size for item in range(data.n_items)]
        found, sizes = found[:, :-1], found[:, -1]
        shrunk, smallest = int((sizes < asked).sum()), np.flatnonzero(sizes == SMALLEST_FONT)
        provenance |= {"page": page.model_dump(), "shrunk": shrunk}
        if cut := sum(render(data.fields(item), page, item).cut > 0 for item in smallest.tolist()):
            provenance["cut"] = cut
        if model is not None:
            for line in _of_pages(data, shrunk, cut):
                progress(f"{name} on {data.name}: {line}")
    if row.columns:
        found = np.concatenate([found[:, first:last] for first, last in row.columns], axis=1)
    return found, provenance


def identity(row: Encoder, page: Page) -> str:
    """All that an encoder's rows depend on besides the item: weights, version, options; for pages, the drawing."""
    options = json.dumps(row.options, sort_keys=True) if row.options else ""
    settings = f"{row.raw or row.name}\0{row.version}\0{_digest(row)}\0{options}"
    if row.then:
        settings += f"\0{identity(encoder(row.then), page)}\0"
    return settings + (f"{page.model_dump_json()}\0{font_digest()}\0" if row.reads == "pages" else "")


def _digest(row: Encoder) -> str:
    """sha256 of the weights; asks the hub, or says what is missing."""
    return weights.key(row) or weights.load(row).digest


def _contents(data: Dataset, row: Encoder, page: Page) -> Sequence[bytes]:
    """Per item the bytes that the encoder reads, for the cache key."""
    if row.reads in ("text", "pages"):
        texts = [_text(data, item) for item in range(data.n_items)]
    if row.reads == "text":
        return [text.encode("utf-8", "surrogatepass") for text in texts]
    if row.reads == "pages":
        return [
            "\0".join(page.ordered(data.fields(item), item)).encode("utf-8", "surrogatepass")
            for item in range(data.n_items)
        ]
    if row.reads == "pictures":
        return [sha256(file.read_bytes()).digest() for file in data.pictures]
    return [str(item).encode() for item in range(data.n_items)]


def _load(row: Encoder) -> Callable:
    module, function = row.backend.split(".")
    found = weights.load(row).path
    then = {"then": _load(encoder(row.then))} if row.then else {}
    return getattr(import_module(f"studylib.encoders.{module}"), function)(found, **row.options, **then)


def _rows(data: Dataset, row: Encoder, page: Page, model: Callable, items: list[int]) -> np.ndarray:
    if row.reads == "text":
        vectors = model([_text(data, item) for item in items])
    elif row.reads == "pages":
        drawn = [render(data.fields(item), page, item) for item in items]
        vectors = np.asarray(model(drawn), dtype=np.float32)
        vectors = np.concatenate([vectors, np.array([[one.font_size] for one in drawn], dtype=np.float32)], axis=1)
    elif row.reads == "pictures":
        vectors = model([data.pictures[item] for item in items])
    else:
        vectors = model(items)
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        raise StudyError(
            f"{data.name}: item {items[int(bad.argmax())]}: {row.name} gave NaN or infinity; check the weights"
        )
    return vectors


def _text(data: Dataset, item: int) -> str:
    text = data.text(item)
    if not text.strip():
        raise StudyError(f"{data.source or data.name}: item {item}: empty text; give it a title or leave the item out")
    return text


def _features(data: Dataset, name: str) -> Embeddings:
    file = feature_file(data, name.removeprefix("features:"))
    matrix = read_features(file, data.n_items, data.name)
    return Embeddings(name, matrix, {"file": str(file), "weights": weights.file_digest(file)})


def read_features(file: Path, n_items: int, owner: str) -> np.ndarray:
    """The table of numbers [items, dims] in an .npy file of the data set ``owner``.

    Its header is judged before memory is asked for: it may promise more than the file holds, or than there is.

    Raises:
        StudyError: not an .npy file of such a table, cut off, or of another number of rows.
    """
    size = check_regular(file, "save the one matrix there with numpy.save, or a link to it", LARGEST_FEATURES)
    try:
        # Warnings are of headers in the style of Python 2.
        with file.open("rb") as stream, warnings.catch_warnings(action="ignore"):
            shape, fortran, dtype = _header(file, stream)
            _check_table(file, dtype, shape)
            promised, held = math.prod(shape) * dtype.itemsize, size - stream.tell()
            if promised > held:
                raise StudyError(f"{file}: its header promises {promised} bytes, {held} follow; copy the file again")
            if shape[0] != n_items:
                raise StudyError(f"{file}: {shape[0]} rows, but {owner} has {n_items} items; row must be item id")
            return np.fromfile(stream, dtype, math.prod(shape)).reshape(shape, order="F" if fortran else "C")
    except StudyError:
        raise
    except (ValueError, TypeError, OSError, SyntaxError, RecursionError, MemoryError, TokenError) as error:
        raise StudyError(
            f"{file}: not an array that can be read ({str(error)[:200]}); save it with numpy.save"
        ) from None


def _header(file: Path, stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type; the stream is left where the numbers begin."""
    if stream.read(4) == b"PK\x03\x04":
        raise StudyError(f"{file}: an archive of arrays; save the one matrix with numpy.save")
    stream.seek(0)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(stream)
    if version not in readers:
        raise StudyError(f"{file}: version {version} of .npy, which holds no plain numbers; save it with numpy.save")
    shape, fortran, dtype = readers[version](stream)
    if dtype.hasobject:  # a pickle, which can run code
        raise ValueError("it holds Python objects")
    return shape, fortran, dtype


def feature_file(data: Dataset, given: str) -> Path:
    if given.endswith(".npy"):
        cure = f"give the path of an .npy file, or a bare name for {data.name}.<name>.npy"
        check_regular(Path(given), cure, LARGEST_FEATURES)
        return Path(given)
    file = (data.folder or Path()) / f"{data.name}.{given}.npy"
    check_regular(
        file, f"give features:<path to .npy>, or put {file.name} into the data set's folder", LARGEST_FEATURES
    )
    return file


def _shuffled(embeddings: Embeddings, name: str) -> Embeddings:
    order = np.random.default_rng(SHUFFLE_SEED).permutation(len(embeddings.matrix))
    return Embeddings(name, embeddings.matrix[order], embeddings.provenance | {"shuffled": SHUFFLE_SEED})
