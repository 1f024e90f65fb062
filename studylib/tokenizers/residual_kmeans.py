"""Residual k-means: each level clusters what the levels before it left over (RK-Means in 002, section 3.1)."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from studylib.errors import StudyError


@dataclass(frozen=True)
class KMeans:
    """Centroids, float32 [codes, dims], and each row's nearest, int64 [rows]."""

    centroids: Float[Tensor, "code dims"]
    nearest: Int[Tensor, " row"]


def kmeans(x: Float[Tensor, "row dims"], codes: int, iterations: int, generator: torch.Generator) -> KMeans:
    """Lloyd's algorithm from a k-means++ start; a cluster that falls empty takes the row that is farthest from its own.

    Stops early when no row changes its cluster.
    """
    centroids = plus_plus(x, codes, generator)
    norms = x.square().sum(1)
    nearest = torch.full((len(x),), -1)
    for _ in range(iterations):
        before = nearest
        nearest, distance = assign(x, centroids, norms)
        counts = torch.bincount(nearest, minlength=codes)
        empty = (counts == 0).nonzero().flatten()
        if len(empty):
            farthest = distance.topk(min(len(empty), len(x))).indices
            nearest[farthest] = empty[: len(farthest)]
            counts = torch.bincount(nearest, minlength=codes)
        if torch.equal(nearest, before):
            break
        sums = torch.zeros_like(centroids).index_add_(0, nearest, x)
        filled = counts > 0
        centroids[filled] = sums[filled] / counts[filled, None]
    nearest, _ = assign(x, centroids, norms)
    return KMeans(centroids, nearest)


def assign(x: Tensor, centroids: Tensor, norms: Tensor) -> tuple[Int[Tensor, " row"], Float[Tensor, " row"]]:
    """Nearest centroid of each row and the squared distance to it."""
    product = torch.addmm(centroids.square().sum(1), x, centroids.T, alpha=-2)
    distance, nearest = product.min(1)
    return nearest, (distance + norms).clamp_(min=0)


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


@dataclass(frozen=True, eq=False)
class ResidualCodes:
    """Codes int64 [items, levels], codebooks (one [codes, dims] a level), relative error after each level."""

    codes: Int[np.ndarray, "items levels"]
    codebooks: list[Float[np.ndarray, "code dims"]]
    error: tuple[float, ...]


def fit(
    embeddings: Float[np.ndarray, "items dims"],
    levels: int = 3,
    codes: int = 256,
    iterations: int = 25,
    normalise_residuals: bool = False,
    seed: int = 0,
) -> ResidualCodes:
    """Quantise ``embeddings`` in ``levels`` steps of ``codes`` centroids each.

    ``error`` after a level is ||x - x^||^2 / ||x||^2 over all items. With ``normalise_residuals`` each level clusters
    residuals of unit length (002, section 4 Setup); the error is still measured in the original space, each item's
    residual length being remembered for it.

    Raises:
        StudyError: there are fewer items than codes, or a value is not finite.

    >>> result = fit(np.array([[0.0, 1], [0, 2], [4, 1], [4, 2]]), levels=2, codes=2)
    >>> len(set(map(tuple, result.codes.tolist()))), round(result.error[-1], 6)
    (4, 0.0)
    """
    if len(embeddings) < codes:
        raise StudyError(f"tokenizer: {len(embeddings)} items cannot fill {codes} codes a level; set codes to fewer")
    finite = np.isfinite(embeddings).all(1)
    if not finite.all():
        raise StudyError(
            f"tokenizer: embedding row {int(np.flatnonzero(~finite)[0])} is not finite; encode that item again"
        )
    x = torch.as_tensor(np.ascontiguousarray(embeddings), dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    energy, residual = float(x.double().square().sum()), x
    found, codebooks, error = [], [], []
    scale = torch.ones(len(x), 1)
    for _ in range(levels):
        if normalise_residuals:
            length = residual.norm(dim=1, keepdim=True).clamp(min=1e-12)
            residual, scale = residual / length, scale * length
        level = kmeans(residual, codes, iterations, generator)
        residual = residual - level.centroids[level.nearest]
        found.append(level.nearest)
        codebooks.append(level.centroids.numpy())
        error.append(float((residual * scale).double().square().sum()) / energy)
    return ResidualCodes(torch.stack(found, 1).numpy(), codebooks, tuple(error))
