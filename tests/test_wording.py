"""Wording: what is printed of tables, and the sentences that their numbers decide."""

import matplotlib.pyplot as plt
import numpy as np

from studylib import plots, tables, wording
from tests.test_tables import record


def test_the_best_row_is_above_a_baseline_only_if_a_test_says_so():
    ranks = np.random.default_rng(0).integers(0, 40, (3, 400))
    rows = [record("minilm", seed, ranks[seed].tolist()) for seed in range(3)]
    nearly = ranks[0].copy()
    nearly[np.flatnonzero(nearly >= 10)[:1]] = 0
    rows.append(record("none", 0, nearly.tolist(), "item-knn"))
    (line,) = wording.findings(tables.recommendation(rows, "minilm"), tables.by_method(rows))
    assert "is not told apart from item-kNN" in line


def test_the_best_row_is_the_best_on_validation():
    rng = np.random.default_rng(0)
    groups = {
        name: [record(features, 0, rng.integers(0, worst, 300).tolist())]
        for name, features, worst in (("lucky", "minilm", 11), ("best", "ppocr-v6", 14), ("noise", "random", 12))
    }
    groups["item-kNN"] = [record("none", 0, rng.integers(0, 40, 300).tolist(), "item-knn")]
    groups["best"][0]["epochs"][0]["recall@10"] = 0.99
    *_, best, control = wording.findings(tables.comparison(groups), groups)
    assert best.startswith("The best row with content by validation, best (")
    assert control.startswith("A control has a larger mean, noise (")
    assert "it is above best, p 0.0" in control
    assert tables.strongest(groups, ["lucky"]) == ["best", "item-kNN"] == tables.strongest(groups, [])
    groups["best"][0]["trial"]["generator"]["validation_users"] = 299
    assert "validated on different users" in wording.findings(tables.comparison(groups), groups)[-1]
    third = groups | {"third": [record("mpnet", 0, rng.integers(0, 40, 300).tolist())]}
    assert tables.strongest(third, ["lucky"])[0] == "third"  # trained as "lucky" was; "best" had other validation users
    assert tables.strongest(third, ["lucky", "third"])[0] == "best"  # nobody else was


def test_a_row_of_fewer_seeds_than_another_says_so():
    ranks = np.random.default_rng(0).integers(0, 40, (3, 400)).tolist()
    rows = [record("minilm", seed, ranks[seed]) for seed in range(3)] + [record("random", 0, ranks[0])]
    table = tables.recommendation([*rows, record("none", 0, ranks[0], "item-knn")], "minilm")
    assert wording.names_with_seeds(table).tolist() == ["MiniLM-L6", "random IDs, 1 seed", "item-kNN"]
    assert wording.findings(table)[0] == wording.FEWER_SEEDS
    assert wording.findings(table)[1].startswith("random IDs, 1 seed is")
    axis = plots.differences(table, plt.figure().subplots())
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["random IDs, 1 seed"]
    plt.close("all")
