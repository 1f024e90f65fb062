"""Wording: what is printed of tables, and the sentences that their numbers decide."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from studylib import plots, tables, wording
from tests.test_tables import record


def test_the_best_row_is_above_a_baseline_only_if_a_test_says_so():
    ranks = np.random.default_rng(0).integers(0, 40, (3, 400))
    rows = [record("minilm", seed, ranks[seed].tolist()) for seed in range(3)]
    nearly = ranks[0].copy()
    nearly[np.flatnonzero(nearly >= 10)[:1]] = 0
    rows.append(record("none", 0, nearly.tolist(), "item-knn"))
    (line,) = wording.findings(tables.comparison(tables.by_method(rows)), tables.by_method(rows))
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
    looks = groups | {"looks": [record("craft", 0, rng.integers(0, 11, 300).tolist())]}
    looks["looks"][0]["epochs"][0]["recall@10"] = 1.0
    *_, best, _, contrast = wording.findings(tables.comparison(looks), looks)
    assert best.startswith("The best row with content by validation, best (")
    assert contrast.startswith("A contrast has a larger mean, looks (")
    assert tables.strongest(looks, ["lucky"])[0] == "best"
    assert tables.strongest(groups, ["lucky"]) == ["best", "item-kNN"] == tables.strongest(groups, [])
    groups["best"][0]["trial"]["generator"]["validation_users"] = 299
    assert "validated on different users" in wording.findings(tables.comparison(groups), groups)[-1]
    third = groups | {"third": [record("mpnet", 0, rng.integers(0, 40, 300).tolist())]}
    assert tables.strongest(third, ["lucky"]) == ["third", "best", "item-kNN"]  # "best" had other validation users
    assert tables.strongest(third, ["lucky", "third"]) == ["best", "item-kNN"]  # nobody else was trained as they were


def test_generators_are_trained_alike_if_every_setting_of_training_is():
    """Of two rows that differ in one of them alone `strongest` names both: which is better, validation cannot say."""
    names = ("epochs targets targets_per_step training augmentation history lr weight_decay dropout validate_every "
             "patience validation_users")  # fmt: skip
    ranks = np.random.default_rng(0).integers(0, 40, (3, 300)).tolist()
    groups = {name: [record("minilm", 0, ranks[place])] for place, name in enumerate(("own", "alike", "other"))}
    assert tables.strongest(groups, ["own"]) == ["other"]  # better on validation
    settings = groups["other"][0]["trial"]["generator"]
    for name in names.split():
        groups["other"][0]["trial"]["generator"] = settings | {name: 7}
        assert tables.strongest(groups, ["own"]) == ["alike", "other"], name


def test_what_is_said_of_fusion_is_of_the_best_fused_row_by_validation():
    rng = np.random.default_rng(0)
    names = {"half": "minilm", "one": "minilm+pixels", "other": "minilm+random"}
    groups = {name: [record(of, 0, rng.integers(0, 20, 300).tolist())] for name, of in names.items()}
    for name, value in (("half", 0.9), ("one", 0.1), ("other", 0.5)):
        groups[name][0]["epochs"] = [{"epoch": 2, "recall@10": value}]
        groups[name][0]["data"]["interactions"] = 1200
        groups[name][0]["trial"]["generator"] |= {"epochs": 2, "targets": 600}
    groups["item-kNN"] = [record("none", 0, rng.integers(0, 40, 300).tolist(), "item-knn")]
    contrasts = tables.contrasts({"one against half": (groups["one"], groups["half"])})
    said = wording.of_fusion(tables.comparison(groups), groups, contrasts, ["one", "other"], {"every item": 0.0})
    assert said[0].startswith("The best row with content by validation, half (")
    assert any(line.startswith("Of 1 pairs") for line in said)
    assert said[-1].endswith(": one; other.")  # both are best in their last epoch
    (goal,) = [line for line in said if line.startswith("Goal")]
    assert goal.startswith("Goal, every item: other has ")
    assert (
        tables.best_by_validation(groups | {"again": groups["half"]}, ["again", "half"]) == "again"
    )  # the first of equal


def test_a_row_of_fewer_seeds_than_another_says_so():
    ranks = np.random.default_rng(0).integers(0, 40, (3, 400)).tolist()
    rows = [record("minilm", seed, ranks[seed]) for seed in range(3)] + [record("random", 0, ranks[0])]
    table = tables.comparison(tables.by_method([*rows, record("none", 0, ranks[0], "item-knn")]))
    assert wording.names_with_seeds(table).tolist() == ["MiniLM-L6", "random IDs, 1 seed", "item-kNN"]
    assert wording.findings(table)[0] == wording.FEWER_SEEDS
    assert wording.findings(table)[1].startswith("random IDs, 1 seed is")
    (axis,) = plots.differences(table, "what differs").axes
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["random IDs, 1 seed"]
    plt.close("all")


# Ours in a table whose base is 0.1 throughout: kind, difference, its interval, corrected p.
NONE = (np.nan, np.nan, np.nan, np.nan)
OURS = {
    "reference": ("text", *NONE),
    "up": ("text", 0.02, 0.01, 0.03, 0.01),
    "down": ("text", -0.02, -0.03, -0.01, 0.01),
    "level": ("text", 0.0002, -0.0008, 0.001, 0.9),
    "open": ("control", -0.001, -0.004, 0.002, 0.2),
    "mixed": ("text", 0.02, 0.01, 0.03, 0.01),
    "ours alone": ("text", 0.02, 0.01, 0.03, 0.01),
    "item-kNN": ("baseline", -0.05, -0.06, -0.04, 0.001),
}
THEIRS = {
    "Beauty": {"up": 0.2, "down": 0.1, "level": 0.01, "open": -0.1, "mixed": 0.1},
    "Toys": {"up": 0.05, "level": -0.004, "open": -0.2, "mixed": 0.01},
}


def ours(*names: str) -> pd.DataFrame:
    columns = ["kind", "difference", "low", "high", "p holm"]
    table = pd.DataFrame([OURS[name] for name in names], columns=columns)
    return table.assign(method=[f"the row {name}" for name in names], base=0.1)


def test_directions_beside_002_agree_differ_or_say_nothing():
    content = [name for name in OURS if name != "item-kNN"]
    found = wording.beside_grid(ours(*OURS), content, THEIRS).set_index("row")
    assert list(found.index) == [f"the row {name}" for name in ("up", "down", "level", "open", "mixed")]
    assert found["our direction"].tolist() == ["better", "worse", "equal", "not told apart", "better"]
    assert found["its direction"].tolist() == ["better", "better", "equal", "worse", "mixed"]
    assert found["agree"].tolist() == ["yes", "no", "yes", "–", "–"]
    assert found.loc["the row up", ["ours", "p (Holm)", "002"]].tolist() == [
        "+20.0%", "0.0100", "Beauty +20.0%, Toys +5.0%",
    ]  # fmt: skip
    assert found.loc["the row down", "002"] == "Beauty +10.0%"


@pytest.mark.parametrize(
    ("row", "theirs", "agree"), [("level", 0.2, "no"), ("up", 0.005, "no"), ("down", -0.3, "yes"), ("open", 0.0, "–")]
)
def test_equal_is_a_direction_and_not_told_apart_is_none(row, theirs, agree):
    assert wording.beside_grid(ours(row), [row], {"Beauty": {row: theirs}})["agree"].tolist() == [agree]


def test_rows_that_002_has_none_of_leave_the_columns():
    found = wording.beside_grid(ours("up", "item-kNN"), ["another name"], THEIRS)
    assert found.empty
    assert found.columns[-1] == "agree"
    with pytest.raises(ValueError, match="longer"):
        wording.beside_grid(ours("up", "down"), ["up"], THEIRS)


def test_changes_are_printed_with_the_papers_below_in_the_order_of_the_table():
    columns = ["pair", "metric", "difference %", "low %", "high %", "paper %"]
    rows = [
        ("small", "recall@10", -3.04, -5.0, 1.26, -2.5),
        ("large", "recall@10", 10.0, 2.0, 18.0, np.nan),
        ("small", "ndcg@10", 0.04, -1.0, 1.0, np.nan),
        ("large", "ndcg@10", -100.0, -100.0, -90.0, np.nan),
    ]
    printed = wording.readable_changes(pd.DataFrame(rows, columns=columns))
    assert printed.columns.tolist() == ["pair", "source", "Recall@10", "NDCG@10"]
    assert printed.fillna("").to_numpy().tolist() == [
        ["small", "here, %", "-3.0 [-5.0, +1.3]", "+0.0 [-1.0, +1.0]"],
        ["small", "paper, %", "-2.5", ""],
        ["large", "here, %", "+10.0 [+2.0, +18.0]", "-100.0 [-100.0, -90.0]"],
    ]
    assert wording.readable_changes(pd.DataFrame()).empty


def test_goals_stand_below_the_rows_that_were_to_reach_them():
    table = pd.DataFrame({"method": ["a", "b", "c"], "seeds": [3, 2, 1], "kind": "text"})
    table = table.assign(**{"recall@10": [0.1, 0.2, 0.3], "recall@10 unseen": [0.15, 0.25, 0.35]})
    found = wording.beside_goal(table, ["c", "a"], {"every item": 0.121, "seen left out": 0.133})
    assert found.columns.tolist() == ["method", "seeds", "every item", "seen left out"]
    assert found.to_numpy().tolist() == [["c", 1, 0.3, 0.35], ["a", 3, 0.1, 0.15], [wording.GOAL, 1, 0.121, 0.133]]
    assert found["seeds"].dtype == int
    assert wording.beside_goal(table, ["b"], {}).to_numpy().tolist() == [["b", 2, 0.2, 0.25]]
