"""Relative positions as biases of attention logits: T5's, and the two-part ones of 001."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

BUCKETS, MAX_DISTANCE = 32, 128  # T5's relative positions
WITHIN = 11  # places inside an item that two-part positions tell apart: twelve levels, and nine buckets are left


def position_bias(
    table: nn.Embedding, queries: Tensor, keys: Tensor, bidirectional: bool
) -> Float[Tensor, "1 head q k"]:
    """T5's relative position bias: half of the buckets for exact near distances, half for log-spaced far ones."""
    return table(bucket(keys[None, :] - queries[:, None], BUCKETS, bidirectional)).permute(2, 0, 1)[None]


def bucket(distance: Int[Tensor, "q k"], buckets: int, bidirectional: bool) -> Int[Tensor, "q k"]:
    """T5's bucket of each distance (key minus query); if bidirectional, half of them for what lies ahead."""
    first = torch.zeros_like(distance)
    if bidirectional:
        buckets //= 2
        first = (distance > 0).long() * buckets
        distance = distance.abs()
    else:
        distance = -distance.clamp(max=0)
    exact = buckets // 2
    far = exact + (
        torch.log(distance.clamp(min=1).float() / exact) / math.log(MAX_DISTANCE / exact) * (buckets - exact)
    ).long().clamp(max=buckets - exact - 1)
    return first + torch.where(distance < exact, distance, far)


def two_part_bias(
    table: nn.Embedding, item: Int[Tensor, " token"], place: Int[Tensor, " token"], levels: int, bidirectional: bool
) -> Float[Tensor, "1 head q k"]:
    """One bias by the distance in items plus one by that of the codes' places inside their items (001, section 3.3).

    ``levels``: places that an item has.

    T5's log-spaced buckets run across items and levels alike, so that the same level of two items is nowhere special.
    The stored buckets are as many as T5's: one for each distance of places, up to ``WITHIN``, the rest across items.
    With twelve levels nine are left; with more, places eleven or more apart share one. Bidirectional, half of them are
    for items ahead, and the past is told apart as 0, 1, 2-15 and 16 or more items; an encoder that sees no item ahead
    can have them all: 0 to 3, 4-7, 8-15, 16-31, 32-63, 64 or more.
    """
    reach = min(levels - 1, WITHIN)
    within = (place[None, :] - place[:, None]).clamp(-reach, reach) + reach
    across = bucket(item[None, :] - item[:, None], table.num_embeddings - (2 * reach + 1), bidirectional)
    return (table(within) + table(2 * reach + 1 + across)).permute(2, 0, 1)[None]
