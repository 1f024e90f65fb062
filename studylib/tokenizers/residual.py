"""What the tokenizers share: checks, the loop over levels, assignment in chunks, and the training report."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from studylib.errors import StudyError

# Up to this many rows (or 32 a code, if that is more) a tokenizer is fitted on all of them at once. Beyond it the
# codebooks are fitted on a sample of so many rows, and every row is assigned in chunks: faiss finds 256 a code enough.
SAMPLE = 131_072
CHUNK = 65_536
NOTHING = 1e-6  # a residual this short, beside the mean one, is what rounding leaves of none


@dataclass(frozen=True, eq=False)
class Quantised:
    """What each tokenizer returns.

    Args:
        codes: int64 [items, levels].
        codebooks: one float32 [codes, dims] a level.
        error: ||x - x^||^2 / ||x||^2 over all items after each level, in the space of the tokenizer's input.
        report: one row for each iteration (or epoch) and level, see ``Progress``.
        last: what the last level quantised, float32 [items, dims]: its distances are what another code would cost.
        error_of: the relative error if the codes of the last level were others.
        weights: what a squared distance of ``last`` weighs in the error, [items]; None where all weigh the same.
    """

    codes: Int[np.ndarray, "items levels"]
    codebooks: list[Float[np.ndarray, "code dims"]]
    error: tuple[float, ...]
    report: tuple[dict, ...]
    last: Float[np.ndarray, "items dims"]
    error_of: Callable[[Int[np.ndarray, " items"]], float]
    weights: Float[np.ndarray, " items"] | None = None


def checked(embeddings: Float[np.ndarray, "items dims"], codes: int) -> Float[Tensor, "items dims"]:
    """``embeddings`` as float32.

    Raises:
        StudyError: there are fewer items than codes, or a value is not finite.
    """
    if len(embeddings) < codes:
        raise StudyError(f"tokenizer: {len(embeddings)} items cannot fill {codes} codes a level; set codes to fewer")
    for start in range(0, len(embeddings), CHUNK):
        finite = np.isfinite(embeddings[start : start + CHUNK]).all(1)
        if not finite.all():
            row = start + int(np.flatnonzero(~finite)[0])
            raise StudyError(f"tokenizer: embedding row {row} is not finite; encode that item again")
    return torch.as_tensor(np.ascontiguousarray(embeddings), dtype=torch.float32)


def sample_size(codes: int) -> int:
    """The number of rows up to which nothing is sampled or chunked."""
    return max(SAMPLE, 32 * codes)


def sample_rows(items: int, codes: int, seed: int) -> Int[Tensor, " row"] | None:
    """Rows to fit on, ascending; None for all of them."""
    size = sample_size(codes)
    if items <= size:
        return None
    rows = np.random.default_rng(seed).choice(items, size, replace=False)
    return torch.as_tensor(np.sort(rows))


def assign(x: Tensor, centroids: Tensor, norms: Tensor) -> tuple[Int[Tensor, " row"], Float[Tensor, " row"]]:
    """Nearest centroid of each row and the squared distance to it."""
    product = torch.addmm(centroids.square().sum(1), x, centroids.T, alpha=-2)
    distance, nearest = product.min(1)
    return nearest, (distance + norms).clamp_(min=0)


def nearest_code(x: Float[Tensor, "row dims"], centroids: Float[Tensor, "code dims"]) -> Int[Tensor, " row"]:
    """Nearest centroid of each row; many rows go chunk by chunk, so that memory does not grow with rows x codes."""
    if len(x) <= sample_size(len(centroids)):
        return assign(x, centroids, x.square().sum(1))[0]
    return torch.cat([assign(part, centroids, part.square().sum(1))[0] for part in x.split(CHUNK)])


def plus_plus(x: Tensor, codes: int, generator: torch.Generator) -> Float[Tensor, "code dims"]:
    """k-means++: each next centroid is a row drawn with probability proportional to its squared distance so far."""
    norms = x.square().sum(1)
    chosen = torch.empty(codes, dtype=torch.long)
    distance = torch.ones(len(x))
    for code in range(codes):
        # All rows may coincide with a centroid already (fewer different rows than codes): then any row will do.
        weight = distance if distance.sum() > 0 else torch.ones(len(x))
        chosen[code] = torch.multinomial(weight, 1, generator=generator)
        row = x[chosen[code]]
        new = (norms - 2 * (x @ row) + row @ row).clamp_(min=0)
        new[chosen[code]] = 0
        distance = new if code == 0 else torch.minimum(distance, new)
    return x[chosen].clone()


def restart_dead(
    centroids: Float[Tensor, "code dims"],
    counts: Float[Tensor, " code"],
    x: Float[Tensor, "row dims"],
    distance: Float[Tensor, " row"],
    generator: torch.Generator,
) -> Int[Tensor, " dead"]:
    """Codes that no row took move, in place, onto rows drawn by their squared distance (k-means++ again).

    Returns the codes that moved; none where nothing is left to explain.
    """
    dead = (counts == 0).nonzero().flatten()[: int((distance > 0).sum())]
    if len(dead):
        centroids[dead] = x[torch.multinomial(distance, len(dead), generator=generator)]
    return dead


class Progress:
    """The training report: one row for each epoch (or iteration) and level, measured on the rows fitted on.

    A row has ``level`` and ``epoch`` (both from 1), ``error`` (relative, as in ``Quantised``), ``usage`` (different
    codes), ``perplexity`` (2 to the entropy in bits) and ``collisions`` (items whose codes up to this level agree with
    another item's). During an epoch of small batches codebooks move, so these are the epoch's, not its last state's.
    """

    def __init__(self, energy: float):
        self.energy = energy
        self.rows: list[dict] = []

    def add(self, level: int, epoch: int, squared: float, codes: Tensor, prefix: np.ndarray | None) -> None:
        """``squared``: sum over rows of ||x - x^||^2; ``prefix``: see ``groups``."""
        p = torch.bincount(codes).double() / len(codes)
        p = p[p > 0]
        self.rows.append(
            {
                "level": level + 1,
                "epoch": epoch + 1,
                "error": round(squared / self.energy, 6) if self.energy else 0.0,
                "usage": len(p),
                "perplexity": round(float(torch.exp(-(p * p.log()).sum())), 3),
                "collisions": colliding(groups(codes.numpy(), prefix)),
            }
        )

    def add_all(self, epoch: int, squared: Tensor, codes: Int[Tensor, "row levels"]) -> None:
        """All levels of one epoch at once; ``squared`` [levels]."""
        prefix = None
        for level, column in enumerate(codes.T):
            self.add(level, epoch, float(squared[level]), column, prefix)
            prefix = groups(column.numpy(), prefix)


def groups(column: Int[np.ndarray, " item"], prefix: Int[np.ndarray, " item"] | None = None) -> np.ndarray:
    """Number the prefixes one level longer: equal numbers, equal codes so far.

    >>> groups(np.array([4, 4, 7, 4]), np.array([0, 1, 1, 0]))
    array([0, 1, 2, 0])
    """
    if prefix is not None:
        column = prefix * (int(column.max()) + 1) + column
    return np.unique(column, return_inverse=True)[1].ravel()


def colliding(group: Int[np.ndarray, " item"]) -> int:
    """Items that are not alone in their group.

    >>> colliding(np.array([0, 1, 2, 0, 0]))
    3
    """
    sizes = np.bincount(group)
    return int(sizes[sizes > 1].sum())


Log = Callable[[int, Tensor, Tensor], None]  # (epoch, codes, squared distances) of the rows fitted on
Learn = Callable[[Tensor, torch.Generator, Log], Tensor]  # rows to fit on -> centroids
Place = Callable[[Tensor, Tensor], Tensor]  # rows, centroids -> the code of each


def quantise(
    embeddings: Float[np.ndarray, "items dims"],
    levels: int,
    codes: int,
    normalise: bool,
    seed: int,
    learn: Learn,
    place: Place = nearest_code,
) -> Quantised:
    """Level by level: learn a codebook on what the levels before left over, place every row, subtract.

    With ``normalise`` each level sees residuals of unit length (002, section 4 Setup); the error is still measured in
    the original space, each item's residual length being remembered for it. An item that is alone with its code leaves
    nothing over, so no direction: it takes part in no later codebook. As a zero row it could become a centroid, and the
    origin is nearer to most unit rows than any other unit row is: one code would take most items.
    """
    x = checked(embeddings, codes)
    generator = torch.Generator().manual_seed(seed)
    rows = sample_rows(len(x), codes, seed)
    fitted: slice | Tensor = slice(None) if rows is None else rows
    energy = energy_of(x)
    progress = Progress(energy if rows is None else energy_of(x[rows]))
    residual, scale, prefix = x, torch.ones(len(x), 1), None
    found, codebooks, error = [], [], []
    for level in range(levels):
        if normalise:
            length = residual.norm(dim=1, keepdim=True)
            some = (length > NOTHING * length.mean()) & (scale > 0)
            residual, scale = torch.where(some, residual / length, 0.0), torch.where(some, scale * length, 0.0)
            fitted = _those(some[:, 0], rows, codes)
        weight = scale[fitted, 0].double().square()

        before = None if prefix is None else prefix[fitted]

        def log(epoch: int, taken: Tensor, squared: Tensor, level=level, weight=weight, before=before) -> None:
            progress.add(level, epoch, float(squared.double() @ weight), taken, before)

        centroids = learn(residual[fitted], generator, log)
        taken, last = place(residual, centroids), residual
        residual = subtract(residual, centroids, taken)
        prefix = groups(taken.numpy(), prefix)
        found.append(taken)
        codebooks.append(centroids.numpy())
        error.append(energy_of(residual, scale) / energy if energy else 0.0)

    def error_of(column: np.ndarray) -> float:
        other = subtract(last, centroids, torch.as_tensor(column))
        return energy_of(other, scale) / energy if energy else 0.0

    stacked = torch.stack(found, 1).numpy()
    weights = scale[:, 0].square().numpy() if normalise else None
    return Quantised(stacked, codebooks, tuple(error), tuple(progress.rows), last.numpy(), error_of, weights)


def _those(some: Bool[Tensor, " item"], rows: Int[Tensor, " row"] | None, codes: int) -> slice | Int[Tensor, " row"]:
    """Of the rows to fit on, those that are marked, if they are enough for a codebook."""
    kept = some.nonzero().flatten() if rows is None else rows[some[rows]]
    if len(kept) < codes:
        return slice(None) if rows is None else rows
    return kept


def subtract(x: Tensor, centroids: Tensor, taken: Tensor) -> Tensor:
    """What each row's centroid leaves over."""
    if len(x) <= CHUNK:
        return x - centroids[taken]
    out = torch.empty_like(x)
    for part, code, to in zip(x.split(CHUNK), taken.split(CHUNK), out.split(CHUNK), strict=True):
        torch.sub(part, centroids[code], out=to)
    return out


def energy_of(x: Tensor, scale: Tensor | None = None) -> float:
    """Sum of squares, each row times its ``scale``, in double precision."""
    if len(x) <= SAMPLE:
        return float((x if scale is None else x * scale).double().square().sum())
    scales = [None] * -(-len(x) // CHUNK) if scale is None else scale.split(CHUNK)
    return sum(energy_of(part, weight) for part, weight in zip(x.split(CHUNK), scales, strict=True))
