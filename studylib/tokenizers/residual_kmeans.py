"""Residual k-means: each level clusters what the levels before it left over (RK-Means in 002, section 3.1)."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from studylib.tokenizers.residual import Log, Quantised, assign, plus_plus, quantise


def kmeans(
    x: Float[Tensor, "row dims"], codes: int, iterations: int, generator: torch.Generator, log: Log | None = None
) -> Float[Tensor, "code dims"]:
    """Centroids of Lloyd's algorithm from a k-means++ start.

    A cluster that falls empty takes the row that is farthest from its own. Stops when no row changes its cluster.
    """
    centroids = plus_plus(x, codes, generator)
    norms = x.square().sum(1)
    nearest = torch.full((len(x),), -1)
    for iteration in range(iterations):
        before = nearest
        nearest, distance = assign(x, centroids, norms)
        if log:
            log(iteration, nearest, distance)
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
    return centroids


def fit(
    embeddings: Float[np.ndarray, "items dims"],
    levels: int = 3,
    codes: int = 256,
    iterations: int = 25,
    normalise_residuals: bool = False,
    seed: int = 0,
) -> Quantised:
    """Quantise ``embeddings`` in ``levels`` steps of ``codes`` centroids each.

    With ``normalise_residuals`` each level clusters residuals of unit length (002, section 4 Setup).

    Raises:
        StudyError: there are fewer items than codes, or a value is not finite.

    >>> result = fit(np.array([[0.0, 1], [0, 2], [4, 1], [4, 2]]), levels=2, codes=2)
    >>> len(set(map(tuple, result.codes.tolist()))), round(result.error[-1], 6)
    (4, 0.0)
    """

    def learn(residual, generator, log):
        return kmeans(residual, codes, iterations, generator, log)

    return quantise(embeddings, levels, codes, normalise_residuals, seed, learn)
