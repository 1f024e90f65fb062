"""R-VQ: residual vector quantisation with learned codebooks, one level after the other (002, section 4 Setup).

Where residual k-means moves a centroid onto the mean of all its rows, R-VQ learns it from small batches: by gradient
(Adam on the codebook loss ||sg[r] - e||^2; there is no encoder, so there is nothing to commit) or by moving averages.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from studylib.tokenizers.residual import Log, Quantised, assign, plus_plus, quantise, restart_dead

EPSILON = 1e-5  # of the smoothed counts, so that a code that lost all its rows is not divided by zero


class MovingAverages:
    """Codebook as the ratio of two exponential moving averages: sums of rows and counts (van den Oord et al., 2017)."""

    def __init__(self, centroids: Float[Tensor, "code dims"], decay: float):
        self.centroids, self.decay = centroids, decay
        self.counts, self.sums = torch.ones(len(centroids)), centroids.clone()

    def step(self, x: Float[Tensor, "row dims"], nearest: Int[Tensor, " row"]) -> None:
        counts = torch.bincount(nearest, minlength=len(self.counts)).to(x.dtype)
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(torch.zeros_like(self.sums).index_add_(0, nearest, x), 1 - self.decay)
        total = self.counts.sum()
        smoothed = (self.counts + EPSILON) / (total + len(self.counts) * EPSILON) * total
        torch.div(self.sums, smoothed[:, None], out=self.centroids)

    def moved(self, codes: Int[Tensor, " dead"]) -> None:
        """These codes start again from where they are now."""
        self.counts[codes], self.sums[codes] = 1.0, self.centroids[codes]


class Gradient:
    """Adam on half the squared distance of each row to its code, averaged over the batch."""

    def __init__(self, centroids: Float[Tensor, "code dims"], lr: float):
        self.centroids = centroids
        self.optimiser = torch.optim.Adam([centroids], lr=lr)

    def step(self, x: Float[Tensor, "row dims"], nearest: Int[Tensor, " row"]) -> None:
        # The gradient is written out: sum over a code's rows of (e - x), over the rows of the batch.
        pull = self.centroids * torch.bincount(nearest, minlength=len(self.centroids))[:, None]
        self.centroids.grad = pull.index_add_(0, nearest, x, alpha=-1) / len(x)
        self.optimiser.step()

    def moved(self, codes: Int[Tensor, " dead"]) -> None:
        """These codes forget the moments that Adam kept of them."""
        state = self.optimiser.state[self.centroids]
        state["exp_avg"][codes], state["exp_avg_sq"][codes] = 0.0, 0.0


def learn(
    x: Float[Tensor, "row dims"],
    codes: int,
    epochs: int,
    batch: int,
    update: Callable[[Tensor], MovingAverages | Gradient],
    generator: torch.Generator,
    log: Log | None = None,
) -> Float[Tensor, "code dims"]:
    """One level's codebook: k-means++ start, ``epochs`` passes in small batches, dead codes restarted after each."""
    book = update(plus_plus(x, codes, generator))
    norms = x.square().sum(1)
    for epoch in range(epochs):
        nearest, distance = torch.empty(len(x), dtype=torch.long), torch.empty(len(x))
        for rows in torch.randperm(len(x), generator=generator).split(batch):
            part = x[rows]
            nearest[rows], distance[rows] = assign(part, book.centroids, norms[rows])
            book.step(part, nearest[rows])
        if log:
            log(epoch, nearest, distance)
        if epoch < epochs - 1:  # a restarted code needs an epoch to settle
            dead = restart_dead(book.centroids, torch.bincount(nearest, minlength=codes), x, distance, generator)
            if len(dead):
                book.moved(dead)
    return book.centroids


def fit(
    embeddings: Float[np.ndarray, "items dims"],
    levels: int = 3,
    codes: int = 256,
    iterations: int = 25,
    normalise_residuals: bool = False,
    seed: int = 0,
    update: str = "ema",
    decay: float = 0.95,
    lr: float = 1e-3,
    batch: int = 512,
) -> Quantised:
    """Quantise ``embeddings`` in ``levels`` steps of ``codes`` learned codes each.

    Args:
        update: "ema" (``decay`` of the averages a batch) or "gradient" (Adam, ``lr``; 002 takes 1e-3).
        normalise_residuals: each level sees residuals of unit length (002: "Residuals are normalized").

    Raises:
        StudyError: there are fewer items than codes, or a value is not finite.

    >>> result = fit(np.array([[0.0, 1], [0, 2], [4, 1], [4, 2]]), levels=2, codes=2)
    >>> result.codes.shape, result.error[1] <= result.error[0]
    ((4, 2), True)
    """

    def updated(centroids: Tensor) -> MovingAverages | Gradient:
        return MovingAverages(centroids, decay) if update == "ema" else Gradient(centroids, lr)

    def level(residual, generator, log):
        return learn(residual, codes, iterations, batch, updated, generator, log)

    return quantise(embeddings, levels, codes, normalise_residuals, seed, level)
