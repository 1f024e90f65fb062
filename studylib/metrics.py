"""Recall, NDCG and MRR from per-user ranks.

Items are scored, not IDs. Where g items share the ID that the target stands behind, a list of items has to order them
somehow, so a user's score is the expectation over all orders: the target's rank is uniform over g places.
"""

import base64
import zlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

CUTOFFS = (1, 5, 10, 20)
MISSED = np.uint16(65535)
WHOLE = "whole ID"  # beside the modalities in a record's ``ranks_parts``, of free search


@dataclass(frozen=True, eq=False)
class Ranks:
    """Where each user's target stands.

    ``first``: items certainly ahead of it (0 = at the top), uint16, 65535 if it was not found.
    ``group``: items it shares its place with, itself included (1 = none).

    >>> ranks = Ranks.of([0, 3, None, 9], [1, 1, 1, 2])
    >>> ranks.recall(10).tolist()
    [1.0, 1.0, 0.0, 0.5]
    """

    first: Int[np.ndarray, " users"]
    group: Int[np.ndarray, " users"]

    @classmethod
    def of(cls, first, group=None) -> "Ranks":
        """From a sequence with None for what was not found."""
        first = [MISSED if rank is None else min(rank, int(MISSED) - 1) for rank in first]
        return cls(
            np.array(first, dtype=np.uint16),
            np.array(group if group is not None else [1] * len(first), dtype=np.uint16),
        )

    def recall(self, k: int) -> Float[np.ndarray, " users"]:
        """Share of the target's possible places that are among the first k."""
        return self._expect(k, np.ones(k))

    def ndcg(self, k: int) -> Float[np.ndarray, " users"]:
        """1 / log2(rank + 1) for a rank within k, else 0 (one relevant item, so the ideal DCG is 1)."""
        return self._expect(k, 1 / np.log2(np.arange(2, k + 2)))

    def mrr(self, k: int) -> Float[np.ndarray, " users"]:
        """1 / rank for a rank within k, else 0."""
        return self._expect(k, 1 / np.arange(1, k + 1))

    def _expect(self, k: int, gain: np.ndarray) -> np.ndarray:
        """Mean gain over the places first..first + group - 1, gain[r] for place r < k, 0 beyond."""
        total = np.concatenate([[0.0], np.cumsum(gain)])
        begin = np.minimum(self.first.astype(int), k)
        end = np.minimum(self.first.astype(int) + self.group, k)
        return np.where(self.first == MISSED, 0.0, (total[end] - total[begin]) / self.group)

    def means(self, cutoffs=CUTOFFS) -> dict[str, float]:
        """``{"recall@10": ...}``, means over users."""
        names = ("recall", "ndcg", "mrr")
        return {f"{name}@{k}": float(getattr(self, name)(k).mean()) for name in names for k in cutoffs}

    def pack(self) -> dict[str, str]:
        """Text that ``unpack`` turns back, a few kB for thousands of users."""
        return {name: _pack(getattr(self, name)) for name in ("first", "group")}

    @classmethod
    def unpack(cls, packed: dict[str, str]) -> "Ranks":
        return cls(_unpack(packed["first"]), _unpack(packed["group"]))


class PickedRanks(Ranks):
    """Where each user's target stands if one item, drawn at random, stands for all that share its ID.

    002 resolves collisions so; ``first`` counts IDs, of which each takes one place, and the target is the item drawn
    once in ``group`` times.

    >>> PickedRanks.of([0, 3, None, 9], [1, 1, 1, 2]).ndcg(10).round(2).tolist()
    [1.0, 0.43, 0.0, 0.14]
    """

    def _expect(self, k: int, gain: np.ndarray) -> np.ndarray:
        return np.append(gain, 0)[np.minimum(self.first, k)] / self.group


def _pack(values: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(values.astype("<u2").tobytes(), 9)).decode()


def _unpack(text: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<u2")


def best_epoch(history: list[dict]) -> dict:
    """The epoch whose weights are kept: the first of those with the best Recall@10 on the validation split."""
    return max(validated(history), key=lambda row: row["recall@10"])


def validated(history: list[dict]) -> list[dict]:
    """The epochs after which the validation split was looked at."""
    return [row for row in history if "recall@10" in row]
