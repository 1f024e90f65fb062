"""Baselines that read no content: popularity and item-kNN by co-occurrence.

Both count on the training split only and rank the whole catalogue.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from studylib.config import ItemKnnSettings

USERS_PER_BATCH = 256


class Popularity:
    """Items by how often they occur in training; ties by item id."""

    def __init__(self, training: Sequence[np.ndarray], n_items: int):
        self.counts = np.bincount(np.concatenate(training), minlength=n_items).astype(np.float64)

    def scores(self, histories: Sequence[np.ndarray]) -> Float[np.ndarray, "users items"]:
        return np.tile(self.counts, (len(histories), 1))


class ItemKnn:
    """Items that stood near the history's last items in training sequences; ties by popularity.

    score(j) = sum over the last items i, newest first, of recency^n C_ij / (C_i C_j)^damping. C_ij sums 1 / distance
    (or 1, without ``distance_decay``) over the times that i and j stand at most ``window`` positions apart; C_i counts
    i. Damping 0.5, recency 1 and no decay give the plain cosine. `study tune` chooses by data set (params/*.yaml).
    """

    def __init__(self, training: Sequence[np.ndarray], n_items: int, settings: ItemKnnSettings):
        from scipy import sparse

        left, right, weight = [np.empty(0, int)], [np.empty(0, int)], [np.empty(0)]
        for sequence in training:
            for apart in range(1, min(settings.window, len(sequence) - 1) + 1):
                left.append(sequence[:-apart])
                right.append(sequence[apart:])
                weight.append(np.full(len(sequence) - apart, 1 / apart if settings.distance_decay else 1.0))
        entries = (np.concatenate(weight), (np.concatenate(left), np.concatenate(right)))
        counts = sparse.coo_matrix(entries, shape=(n_items, n_items)).tocsr()
        self.popularity = Popularity(training, n_items).counts
        scale = sparse.diags(np.maximum(self.popularity, 1) ** -settings.damping)
        self.similarity = (scale @ (counts + counts.T) @ scale).tocsr()
        self.settings, self.n_items = settings, n_items

    def scores(self, histories: Sequence[np.ndarray]) -> Float[np.ndarray, "users items"]:
        from scipy import sparse

        recent = [history[: -self.settings.last - 1 : -1] for history in histories]
        rows = np.repeat(np.arange(len(recent)), [len(items) for items in recent])
        age = np.concatenate([np.arange(len(items)) for items in recent])
        entries = (self.settings.recency**age, (rows, np.concatenate(recent)))
        queries = sparse.csr_matrix(entries, shape=(len(recent), self.n_items))
        # Far below any difference of similarities, so that popularity decides between equal scores alone.
        return (queries @ self.similarity).toarray() + 1e-9 * self.popularity / max(self.popularity.max(), 1)


def full_ranks(
    model: Popularity | ItemKnn,
    histories: Sequence[np.ndarray],
    targets: Int[np.ndarray, " users"],
    leave_out_seen: bool,
) -> Int[np.ndarray, " users"]:
    """Places (0 = first) of the targets among all items; equal scores are ordered by item id.

    With ``leave_out_seen`` the items of the history come last.

    Raises:
        FloatingPointError: a score is not a number.
    """
    ranks = np.empty(len(targets), dtype=np.int64)
    for begin in range(0, len(targets), USERS_PER_BATCH):
        part = slice(begin, begin + USERS_PER_BATCH)
        scores = model.scores(histories[part])
        if np.isnan(scores).any():  # nothing is larger than NaN, so every target would be first
            raise FloatingPointError("scores: not a number; training has diverged, lower lr")
        if leave_out_seen:
            for row, history in zip(scores, histories[part], strict=True):
                row[history] = -np.inf
        own = np.take_along_axis(scores, targets[part, None], 1)
        ahead = (scores > own).sum(1)
        ties = (scores == own) & (np.arange(scores.shape[1]) < targets[part, None])
        ranks[part] = ahead + ties.sum(1)
    return ranks
