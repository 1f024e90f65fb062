"""Residual k-means with balanced codes: at every level each code has at most ceil(items / codes) items.

The assignment step of Lloyd's algorithm becomes a transport problem with equal capacities. Sinkhorn's iterations
(Cuturi, 2013) find a price for each code, kept from one step to the next; items that still find their code full go to
the cheapest that has room, those first that have most to lose.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from studylib.tokenizers.residual import Log, Quantised, plus_plus, quantise, sample_size

SHARPNESS = 0.1  # Sinkhorn's epsilon, as a share of the mean distance above the nearest centroid
PART = 16_384  # rows placed at a time, about, where there are too many for all at once
STEPS = 20  # Sinkhorn's, for each step of k-means; prices are carried over


def priced(
    distance: Float[Tensor, "row code"], prices: Float[Tensor, " code"], steps: int = STEPS
) -> Float[Tensor, " code"]:
    """Prices under which rows that choose by ``distance + price`` fill all codes about equally."""
    above = distance - distance.min(1, keepdim=True).values
    epsilon = float(above.mean()) * SHARPNESS
    if epsilon == 0:  # all centroids coincide
        return prices
    kernel = above.div_(-epsilon).exp_().clamp_(min=1e-30)
    share = (prices / -epsilon).exp().clamp(1e-20, 1e20)
    for _ in range(steps):
        share = 1 / ((1 / (kernel @ share)) @ kernel)
        share = (share / share.mean()).clamp(1e-20, 1e20)
    return share.log() * -epsilon


def fill(cost: Float[Tensor, "row code"], capacity: int) -> Int[Tensor, " row"]:
    """The cheapest code of each row, none with more than ``capacity`` rows.

    In rounds: every row still without a code asks for its cheapest with room; a code keeps those that would lose most
    by going elsewhere. Each round fills a code or ends, so there are at most as many rounds as codes.

    >>> fill(torch.tensor([[0.0, 9.0], [0.0, 1.0], [0.0, 5.0]]), capacity=2)
    tensor([0, 1, 0])
    """
    taken = torch.full((len(cost),), -1)
    room = torch.full((cost.shape[1],), capacity)
    waiting = torch.arange(len(cost))
    while len(waiting):
        offers = cost[waiting].masked_fill(room == 0, torch.inf)
        best = offers.topk(min(2, offers.shape[1]), dim=1, largest=False)
        loss = best.values[:, -1] - best.values[:, 0]
        # Rows in the order code, then falling loss: a row's place among those that want its code.
        order = torch.from_numpy(np.lexsort((-loss.numpy(), best.indices[:, 0].numpy())))
        wanted = best.indices[order, 0]
        place = torch.arange(len(wanted)) - torch.searchsorted(wanted, wanted)
        kept = place < room[wanted]
        taken[waiting[order[kept]]] = wanted[kept]
        room -= torch.bincount(wanted[kept], minlength=len(room))
        waiting = waiting[order[~kept]].sort().values
    return taken


def assign_balanced(
    x: Float[Tensor, "row dims"], centroids: Float[Tensor, "code dims"], prices: Tensor
) -> tuple[Int[Tensor, " row"], Float[Tensor, " row"], Tensor]:
    """Code of each row, squared distance to it, and the prices found."""
    distance = torch.addmm(centroids.square().sum(1), x, centroids.T, alpha=-2)
    prices = priced(distance, prices)
    taken = fill(distance + prices, -(-len(x) // len(centroids)))
    squared = distance.gather(1, taken[:, None])[:, 0] + x.square().sum(1)
    return taken, squared.clamp_(min=0), prices


def balanced_kmeans(
    x: Float[Tensor, "row dims"], codes: int, iterations: int, generator: torch.Generator, log: Log | None = None
) -> Float[Tensor, "code dims"]:
    """Centroids of Lloyd's algorithm with balanced assignment; stops when no row changes its code."""
    centroids, prices = plus_plus(x, codes, generator), torch.zeros(codes)
    taken = torch.full((len(x),), -1)
    for iteration in range(iterations):
        before = taken
        taken, distance, prices = assign_balanced(x, centroids, prices)
        if log:
            log(iteration, taken, distance)
        if torch.equal(taken, before):
            break
        counts = torch.bincount(taken, minlength=codes)
        sums = torch.zeros_like(centroids).index_add_(0, taken, x)
        filled = counts > 0
        centroids[filled] = sums[filled] / counts[filled, None]
    return centroids


def place(x: Float[Tensor, "row dims"], centroids: Float[Tensor, "code dims"]) -> Int[Tensor, " row"]:
    """Balanced codes of all rows; of many rows, chunk by chunk.

    A chunk is a multiple of the codes long, so that the capacities of all chunks add up to ceil(rows / codes).
    """
    codes = len(centroids)
    size = len(x) if len(x) <= sample_size(codes) else -(-PART // codes) * codes
    found, prices = [], torch.zeros(codes)
    for part in x.split(size):
        taken, _, prices = assign_balanced(part, centroids, prices)
        found.append(taken)
    return torch.cat(found)


def fit(
    embeddings: Float[np.ndarray, "items dims"],
    levels: int = 3,
    codes: int = 256,
    iterations: int = 25,
    normalise_residuals: bool = False,
    seed: int = 0,
) -> Quantised:
    """Quantise ``embeddings`` in ``levels`` steps of ``codes`` balanced centroids each.

    Raises:
        StudyError: there are fewer items than codes, or a value is not finite.

    >>> result = fit(np.array([[0.0, 1], [0, 1.1], [0, 1.2], [4, 2]]), levels=1, codes=2)
    >>> np.bincount(result.codes[:, 0])
    array([2, 2])
    """

    def learn(residual, generator, log):
        return balanced_kmeans(residual, codes, iterations, generator, log)

    return quantise(embeddings, levels, codes, normalise_residuals, seed, learn, place)
