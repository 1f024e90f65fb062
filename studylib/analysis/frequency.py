"""Where is a recommender good: Recall by how often the target occurs in training.

An item that nobody had in training cannot be counted, and one that few had hardly; content could speak for it. So the
table says what a difference of two methods consists of.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from studylib.analysis.significance import compare, holm
from studylib.data import Dataset
from studylib.tables import METRIC, paired, per_user
from studylib.wording import over_users_alone

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
    group = _group(occurrences)
    there = [number for number in range(len(FIRST)) if (group == number).any()]
    rows = [{"method": SHARE} | {_name(number): (group == number).mean() for number in there} | {"all": 1.0}]
    for method, value in values.items():
        means = {_name(number): value[group == number].mean() for number in there}
        rows.append({"method": method} | means | {"all": value.mean()})
    return pd.DataFrame(rows)


def of_rows(groups: dict[str, Sequence[dict]], names: Sequence[str], data: Dataset) -> pd.DataFrame:
    """``by_occurrence`` of some rows' Recall@10, means over seeds."""
    hits = {name: per_user(groups[name], METRIC).mean(0) for name in names}
    return by_occurrence(hits, occurrences(data))


def _group(occurrences: Int[np.ndarray, " users"]) -> Int[np.ndarray, " users"]:
    return np.searchsorted(FIRST, occurrences, side="right") - 1


def _name(number: int) -> str:
    first = FIRST[number]
    if number + 1 == len(FIRST):
        return f"{first} or more"
    last = FIRST[number + 1] - 1
    return str(first) if first == last else f"{first}-{last}"


def parts(
    groups: dict[str, Sequence[dict]], first: str, others: Sequence[str], occurrences: Int[np.ndarray, " users"]
) -> pd.DataFrame:
    """What each group of targets adds to the difference of ``first`` to each other row in Recall@10.

    The parts of one other row add up to the whole difference. Columns: ``against``, ``occurrences``, ``share of
    targets``, and those of ``significance.compare``; ``p holm`` is corrected over all rows.
    """
    group, rows = _group(occurrences), []
    for other in others:
        one, two = paired(groups[first], groups[other], METRIC)
        for number in np.unique(group):
            found = compare(one * (group == number), two * (group == number))
            rows.append({"against": other, "occurrences": _name(number), SHARE: (group == number).mean()} | found.row)
    table = pd.DataFrame(rows)
    return table.assign(**{"p holm": holm(table["p"].tolist())})


def findings(table: pd.DataFrame, first: str) -> list[str]:
    """Which groups of ``parts`` are told apart, a sentence each, and how many are not."""
    lines = []
    for _, row in table[table["p holm"] < 0.05].iterrows():
        lines.append(
            f"Targets with {row['occurrences']} occurrences in training ({row[SHARE]:.0%} of all) add "
            f"{row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}] to {first}'s Recall@10 less that of "
            f"{row['against']}, p {row['p holm']:.4f}{over_users_alone(row['by_seeds'])}."
        )
    told = f"{len(lines)} {'is' if len(lines) == 1 else 'are'}"
    return [*lines, f"Of {len(table)} parts of differences, by occurrence of the target, {told} told apart from none."]
