"""Recall by how often the target occurs in training, worked by hand."""

import numpy as np
import pytest

from studylib.analysis import frequency
from studylib.data import Dataset
from studylib.metrics import Ranks

VALUES = {"ours": np.array([1.0, 0.0, 1.0, 0.5, 0.0, 1.0]), "theirs": np.array([0.0, 0.0, 1.0, 1.0, 1.0, 1.0])}
OCCURRENCES = np.array([0, 3, 4, 7, 127, 128])


def test_every_target_is_in_one_group():
    table = frequency.by_occurrence(VALUES, OCCURRENCES).set_index("method")
    assert list(table) == ["0", "1-3", "4-7", "64-127", "128 or more", "all"]
    assert table.loc["share of targets"].tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 3, 1 / 6, 1 / 6, 1])
    assert table.loc["ours"].tolist() == pytest.approx([1, 0, 0.75, 0, 1, 3.5 / 6])
    assert table.loc["theirs"].tolist() == pytest.approx([0, 0, 1, 1, 1, 4 / 6])


def test_what_the_groups_add_is_the_difference(monkeypatch):
    monkeypatch.setattr(frequency, "paired", lambda one, two, metric: (VALUES[one][None], VALUES[two][None]))
    table = frequency.parts({name: name for name in VALUES}, "ours", ["theirs"], OCCURRENCES)
    assert table["occurrences"].tolist() == ["0", "1-3", "4-7", "64-127", "128 or more"]
    assert table["difference"].tolist() == pytest.approx([1 / 6, 0, -0.25 / 3, -1 / 6, 0])
    assert table["difference"].sum() == pytest.approx(VALUES["ours"].mean() - VALUES["theirs"].mean())
    assert frequency.findings(table, "ours") == [
        "Of 5 parts of differences, by occurrence of the target, 0 are told apart from none."
    ]
    told, number = frequency.findings(table.assign(**{"p holm": [1, 1, 1, 0.01, 1]}), "ours")
    assert told.startswith("Targets with 64-127 occurrences in training (17% of all) add -0.1667 [")
    assert number == "Of 5 parts of differences, by occurrence of the target, 1 is told apart from none."


def test_the_parts_know_how_seeds_differ():
    """Two seeds that disagree by more than users do, and the rows' own pairing of them."""

    def record(ranks, seed):
        made = {"features": "minilm", "seed": seed, "generator": {"name": "tiger"}}
        return {"key": str(seed), "trial": made, "ranks": Ranks.of(ranks).pack()}

    hit, miss = [0] * 40, [None] * 40
    groups = {"ours": [record(hit, 0), record(miss, 1)], "theirs": [record(miss, 0), record(miss, 1)]}
    (row,) = frequency.parts(groups, "ours", ["theirs"], np.zeros(40, int)).to_dict("records")
    assert (row["difference"], row["by_seeds"]) == pytest.approx((0.5, 0.5))
    assert row["low"] < 0 < row["high"]


def test_occurrences_are_counted_in_the_training_split():
    """Leave-one-out: the last two of each sequence are validation and test, and count for nothing."""
    items = [np.array([0, 1, 2, 1]), np.array([1, 1, 0, 2]), np.array([0, 0, 2, 0])]
    data = Dataset("Toy", ("ann", "bob", "cyd"), tuple(items), n_items=3)
    assert frequency.occurrences(data).tolist() == [3, 0, 3]
