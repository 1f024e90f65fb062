"""Where is a recommender good: Recall by how often the target occurs in training.

An item that nobody had in training cannot be counted, and one that few had hardly; content could speak for it. So the
table says what a difference of two methods consists of.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from studylib.data import Dataset
from studylib.tables import per_user

FIRST = (0, 1, 4, 8, 16, 32, 64, 128)  # the least number of occurrences in each group of targets
SHARE = "share of targets"


def occurrences(data: Dataset) -> Int[np.ndarray, " users"]:
    """How often each user's test target occurs in the training split."""
    return np.bincount(np.concatenate(data.training), minlength=data.n_items)[data.test.targets]


def by_occurrence(
    values: dict[str, Float[np.ndarray, " users"]], occurrences: Int[np.ndarray, " users"]
) -> pd.DataFrame:
    """One row a method, its mean over the users of each group of targets; the first row is the groups' shares.

    Groups without a target are left out. ``all`` is the mean over all users.

    >>> by_occurrence({"m": np.array([1.0, 0.0, 0.0])}, np.array([2, 3, 200]))
                 method       1-3  128 or more       all
    0  share of targets  0.666667     0.333333  1.000000
    1                 m  0.500000     0.000000  0.333333
    """
    group = np.searchsorted(FIRST, occurrences, side="right") - 1
    there = [number for number in range(len(FIRST)) if (group == number).any()]
    rows = [{"method": SHARE} | {_name(number): (group == number).mean() for number in there} | {"all": 1.0}]
    for method, value in values.items():
        means = {_name(number): value[group == number].mean() for number in there}
        rows.append({"method": method} | means | {"all": value.mean()})
    return pd.DataFrame(rows)


def of_rows(groups: dict[str, Sequence[dict]], names: Sequence[str], data: Dataset) -> pd.DataFrame:
    """``by_occurrence`` of some rows' Recall@10, means over seeds."""
    hits = {name: per_user(groups[name], "recall@10").mean(0) for name in names}
    return by_occurrence(hits, occurrences(data))


def _name(number: int) -> str:
    first = FIRST[number]
    if number + 1 == len(FIRST):
        return f"{first} or more"
    last = FIRST[number + 1] - 1
    return str(first) if first == last else f"{first}-{last}"


def parts(table: pd.DataFrame, first: str, second: str) -> "pd.Series[float]":
    """What each group of ``by_occurrence`` adds to the difference of two methods' means; they add up to it."""
    rows = table.set_index("method").drop(columns="all")
    return rows.loc[SHARE] * (rows.loc[first] - rows.loc[second])


def findings(table: pd.DataFrame, first: str, others: Sequence[str]) -> list[str]:
    """In sentences that the numbers alone decide: where ``first`` lacks most of what it lacks to each other.

    A row that the saved table does not have is left out.
    """
    lines = []
    for other in table["method"][table["method"].isin(others)]:
        part = parts(table, first, other)
        where = part.idxmin() if part.sum() < 0 else part.idxmax()
        lines.append(
            f"{first} against {other}: {part.sum():+.4f} Recall@10, of which {part[where]:+.4f} from targets with "
            f"{where} occurrences in training ({table.set_index('method').loc[SHARE, where]:.0%} of all)."
        )
    return lines
