"""What each modality of a history is worth: exact Shapley values over all subsets of modalities (001, Table 3b).

A game's players are the modalities, its payout is a metric of one and the same model with only some of them in the
history. With n modalities that is 2^n evaluations and no sampling. The payout is a mean over users and the values are
linear in it, so every user has values of their own, and intervals come from resampling users.
"""

from collections.abc import Sequence
from itertools import combinations
from math import factorial

import numpy as np
import pandas as pd
from jaxtyping import Float

from studylib.analysis.significance import bootstrap_interval
from studylib.errors import StudyError
from studylib.metrics import Ranks

Payouts = dict[frozenset[str], Float[np.ndarray, " users"]]


def shapley_values(payouts: Payouts) -> dict[str, Float[np.ndarray, " users"]]:
    """Each player's value, user by user: sum over the subsets S without the player of

        |S|! (n - |S| - 1)! / n! * (payout(S with the player) - payout(S))      (Shapley, 1953)

    Raises:
        StudyError: a subset of the players is missing.

    >>> payouts = {frozenset(): 0.0, frozenset("a"): 1.0, frozenset("b"): 2.0, frozenset("ab"): 4.0}
    >>> shapley_values({players: np.array([payout]) for players, payout in payouts.items()})
    {'a': array([1.5]), 'b': array([2.5])}
    """
    players = sorted(frozenset().union(*payouts))
    for size in range(len(players) + 1):
        for subset in combinations(players, size):
            if frozenset(subset) not in payouts:
                raise StudyError(f"Shapley values: no payout of {'+'.join(subset) or 'nothing'}; evaluate all subsets")
    found, n = {}, len(players)
    for player in players:
        others = [other for other in players if other != player]
        found[player] = sum(
            factorial(size) * factorial(n - size - 1) / factorial(n)
            * (payouts[frozenset(subset) | {player}] - payouts[frozenset(subset)])
            for size in range(n)
            for subset in combinations(others, size)
        )  # fmt: skip
    return found


def payouts_of(records: Sequence[dict], metric: str = "recall@10") -> Payouts:
    """Per-user payouts of a masked model's trials, averaged over seeds, by the modalities that histories had.

    Raises:
        StudyError: a trial was not trained with masks.
    """
    name, k = metric.split("@")
    sums: dict[frozenset[str], list[np.ndarray]] = {}
    for record in records:
        if "ranks_subsets" not in record:
            raise StudyError(f"{record['key']}: trained without masks; set masking, and fusion to stacked")
        whole = {record["trial"]["features"]: record["ranks"]}
        for subset, ranks in (record["ranks_subsets"] | whole).items():
            present = frozenset(subset.split("+")) - {""}
            sums.setdefault(present, []).append(getattr(Ranks.unpack(ranks), name)(int(k)))
    return {present: np.mean(rows, axis=0) for present, rows in sums.items()}


def table(payouts: Payouts, seed: int = 0) -> pd.DataFrame:
    """One row a modality: value, its 95 % interval over users, and its share of what all modalities add.

    The values add up to the payout of all modalities minus that of none, which is checked.
    """
    values = shapley_values(payouts)
    total = float((payouts[frozenset(values)] - payouts[frozenset()]).mean())
    if abs(sum(value.mean() for value in values.values()) - total) > 1e-9:
        raise AssertionError("Shapley values do not add up to what all modalities add")
    rows = []
    for player, value in values.items():
        low, high = bootstrap_interval(value, seed)
        share = value.mean() / total if total else np.nan
        rows.append({"modality": player, "value": value.mean(), "low": low, "high": high, "share": share})
    return pd.DataFrame(rows)
