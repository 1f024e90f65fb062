"""Tables: they say what their records say, and are not written over by those of others."""

import shutil
from dataclasses import replace
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from studylib import plots, results, tables, wording
from studylib.analysis.significance import compare
from studylib.config import TigerSettings, trial
from studylib.data import atomic, load
from studylib.errors import StudyError
from studylib.examples import pieces_of
from studylib.metrics import PickedRanks, Ranks
from studylib.trials import run
from tests.conftest import toy


def record(features: str, seed: int, ranks: list, generator: str = "tiger") -> dict:
    found = Ranks.of(ranks)
    trained = [{"epoch": 1, "recall@10": found.means()["recall@10"]}]
    return {
        "trial": {"features": features, "seed": seed, "generator": {"name": generator}},
        "data": {"users": len(ranks)},
        "metrics": found.means(), "metrics_unseen": found.means(), "ranks": found.pack(), "ranks_unseen": found.pack(),
        "semantic_ids": None,
        "epochs": [] if generator in ("popularity", "item-knn") else trained,
    }  # fmt: skip


def test_a_data_set_given_as_a_folder_goes_by_its_name(folders, tmp_path):
    table = pd.DataFrame({"a_b": ["50 %"]})
    shown = results.save(table, "t", str(tmp_path / "deep" / "Mine"), table.rename(columns={"a_b": "c_d"}))
    folder = folders / "results" / "Mine"
    assert list(shown) == ["c_d"]
    assert (folder / "t.csv").read_text().startswith("a_b")
    assert r"c\_d" in (folder / "t.tex").read_text()
    assert r"50 \%" in (folder / "t.tex").read_text()


def test_a_table_is_not_written_over_by_another_data_sets_or_a_smaller_budgets(folders):
    shutil.copytree(folders / "data" / "Toy", folders / "else" / "Toy")
    data = toy()
    atomic.write(replace(data, sequences=data.sequences[1:], users=data.users[1:]), folders / "else" / "Toy")
    mine, theirs = (
        run([trial(data=str(folders / where / "Toy"), generator={"name": "popularity"})]) for where in ("data", "else")
    )
    table = pd.DataFrame({"a": [1]})
    results.save(table, "t", "Toy", records=mine)
    file = folders / "results" / "Toy" / "t.csv"
    before = file.read_bytes()
    other = pd.DataFrame({"a": [2]})
    with pytest.raises(StudyError, match=r"else/Toy; set STUDY_RESULTS and STUDY_FIGURES"):
        results.save(other, "t", "Toy", records=theirs)
    assert file.read_bytes() == before
    results.save(other, "t", "Toy", records=mine)
    assert file.read_bytes() != before


def test_a_table_is_not_written_over_by_a_smaller_budgets(folders, monkeypatch):
    def of(budget: str) -> dict:
        found = record("minilm", 0, [0, 3, 30]) | {"key": budget, "data": {"fingerprint": "f"}}
        return found | {"trial": found["trial"] | {"data": "Toy", "budget": budget}}

    counted = record("none", 0, [0, 3, 30], "popularity") | {"key": "knn", "data": {"fingerprint": "f"}}
    counted["trial"] |= {"data": "Toy", "budget": "cpu"}  # a baseline's budget says nothing
    stored = {one["key"]: one for one in (of("cpu"), of("smoke"), of("paper"), counted)}
    monkeypatch.setattr("studylib.store.Store.record", lambda store, key: stored[key])
    table = pd.DataFrame({"a": [1]})
    for budget in ("smoke", "cpu", "paper"):
        results.save(table.assign(a=budget), "t", "Toy", records={"x": [of(budget)], "y": [counted]})
    with pytest.raises(StudyError, match=r"t.trials.json: is of budget paper, larger than cpu; set STUDY_RESULTS"):
        results.save(table, "t", "Toy", records={"x": [of("cpu")], "y": [counted]})
    assert "paper" in (folders / "results" / "Toy" / "t.csv").read_text()


def test_more_places_than_beams_are_refused():
    searched = record("minilm", 0, [0, 3, 30])
    searched["trial"]["generator"] |= {"beams": 20, "search": "tree"}
    searched["key"] = "0" * 16
    assert tables.per_user([searched], "recall@20").tolist() == [[1, 1, 0]]
    with pytest.raises(StudyError, match=r"recall@50: trial 0+ was searched with 20 beams"):
        tables.per_user([searched], "recall@50")
    searched["trial"]["generator"]["search"] = "exact"
    assert tables.per_user([searched], "recall@50").tolist() == [[1, 1, 1]]


def test_a_table_says_what_its_records_say():
    rng = np.random.default_rng(0)
    good = [record("minilm", seed, rng.integers(0, 12, 400).tolist()) for seed in range(3)]
    poor = [record("random", seed, rng.integers(0, 40, 400).tolist()) for seed in range(3)]
    knn = [record("none", 0, rng.integers(0, 11, 400).tolist(), "item-knn")]
    groups = tables.by_method(good + poor + knn)
    table = tables.comparison(groups, paper={"MiniLM-L6": 0.5}).set_index("method")
    values = [row["metrics"]["recall@10"] for row in good]
    assert table.loc["MiniLM-L6", "recall@10"] == pytest.approx(np.mean(values))
    assert table.loc["MiniLM-L6", "recall@10 sd"] == pytest.approx(np.std(values, ddof=1))
    assert table.loc["MiniLM-L6", "paper"] == 0.5
    found = compare(tables.per_user(poor, "recall@10"), tables.per_user(good, "recall@10"))
    assert table.loc["random IDs", "difference"] == found.difference < 0
    assert table.loc["random IDs", "p holm"] == pytest.approx(2 * found.p)
    assert np.isnan(table.loc["MiniLM-L6", "p"])
    lines = wording.findings(table.reset_index(), groups)
    assert lines[0].startswith("random IDs is worse than MiniLM-L6")
    assert "MiniLM-L6" in lines[1]
    assert "is below item-kNN" in lines[1]
    assert len(wording.findings(table.reset_index())) == 1, "no word on baselines without their records"
    printed = wording.readable(table.reset_index())
    assert printed.loc[0, "Recall@10"] == f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"


def test_means_are_of_their_rule_and_have_a_spread():
    good = [record("minilm", seed, [seed, 3, None, None]) for seed in range(2)]
    for one in good:
        one["metrics_unseen"] = {name: 2 * value for name, value in one["metrics"].items()}
    groups = {"two": good, "one": good[:1]}
    both = tables.means(groups, ("recall@1", "ndcg@5"), ("every item", "seen left out"))
    every, unseen = (rows for _, rows in both.groupby("items"))
    every, unseen = every.reset_index(drop=True), unseen.reset_index(drop=True)
    assert every["recall@1"].tolist() == [1 / 8, 1 / 4]
    assert every.loc[0, "recall@1 sd"] == pytest.approx(1 / 4 / np.sqrt(2))
    assert np.isnan(every.loc[1, "recall@1 sd"])
    assert unseen["ndcg@5"].tolist() == (2 * every["ndcg@5"]).tolist()
    printed = wording.readable_means(every)
    assert printed.columns.tolist() == ["method", "seeds", "items", "Recall@1", "NDCG@5"]
    assert printed["Recall@1"].tolist() == ["0.1250 ± 0.1768", "0.2500"]


def test_what_draws_nothing_is_the_same_with_every_seed():
    """item-kNN has one trial, and no seeds that could fall out otherwise; a generator of one trial has."""
    ranks = np.random.default_rng(0).integers(0, 40, (3, 400)).tolist()
    rows, one = [record("minilm", seed, ranks[seed]) for seed in range(3)], ranks[0]
    by_seeds = {}
    for name, other in (("item-kNN", record("none", 0, one, "item-knn")), ("SASRec", record("none", 0, one, "sasrec"))):
        by_seeds[name] = compare(*tables.paired(rows, [other], "recall@10")).by_seeds
    spread = np.std([row["metrics"]["recall@10"] for row in rows], ddof=1)
    assert by_seeds == pytest.approx({"item-kNN": spread * np.sqrt(1 / 3), "SASRec": spread * np.sqrt(4 / 3)})


def test_a_row_can_have_a_reference_of_its_own():
    ranks = np.random.default_rng(0).integers(0, 40, (3, 400)).tolist()
    groups = {name: [record("minilm", 0, ranks[row])] for row, name in enumerate(("base", "forwards", "last"))}
    table = tables.comparison(groups, against={"last": "forwards"}).set_index("method")
    expected = compare(*(tables.per_user(groups[name], "recall@10") for name in ("last", "forwards")))
    assert table.loc["last", "difference"] == expected.difference != table.loc["forwards", "difference"]
    assert table.loc["last", "base"] == table.loc["forwards", "recall@10"]
    assert wording.readable(table.reset_index()).iloc[2, -3].endswith("] against forwards")
    (axis,) = plots.differences(table.reset_index(), "what differs").axes
    assert axis.get_yticklabels()[1].get_text() == "last\nagainst forwards"
    plt.close("all")


def test_a_comparison_can_leave_out_what_was_seen():
    """Two rows that are equal with every item allowed; with the seen ones left out one finds all and one nothing."""
    found, missed = Ranks.of([0] * 40), Ranks.of([None] * 40)
    groups = {
        name: [record("minilm", 0, [None] * 40) | {"ranks_unseen": unseen.pack(), "metrics_unseen": unseen.means()}]
        for name, unseen in {"a": missed, "b": found}.items()
    }
    every, unseen = (tables.comparison(groups, rule=rule).iloc[1] for rule in ("every item", "seen left out"))
    assert (every["difference"], unseen["difference"], unseen["base"]) == (0, 1, 0)
    assert unseen["p"] < 0.001
    both = tables.with_and_without_seen({"b against a": (groups["b"], groups["a"])})
    assert both["items"].tolist() == ["every item", "seen left out"]
    assert both["difference"].tolist() == [0, 1]
    assert both["p holm"].tolist() == pytest.approx([1, 2 * both["p"][1]])


def test_changes_by_both_rules_have_the_papers_beside_every_item_alone():
    """One row finds all and the other half of it; with the seen ones left out it is the other way about."""
    whole, half = Ranks.of([0] * 40), Ranks.of([0, None] * 20)
    first, second = (
        [record("minilm", 0, ranks) | {"ranks_unseen": unseen.pack(), "metrics_unseen": unseen.means()}]
        for ranks, unseen in (([0] * 40, half), ([0, None] * 20, whole))
    )
    changes = partial(tables.changes, metrics=("recall@10",), paper={"one against other": {"recall@10": 7.0}})
    table = tables.with_and_without_seen({"one against other": (first, second)}, changes)
    assert table["difference %"].tolist() == [100, -50]
    printed = wording.readable_changes(table)
    assert printed[["items", "source"]].to_numpy().tolist() == [
        ["every item", "here, %"], ["every item", "paper, %"], ["seen left out", "here, %"]
    ]  # fmt: skip
    assert printed["Recall@10"][1] == "+7.0"


def test_the_deciding_metric_is_corrected_over_its_own_pairs():
    """Two pairs by three metrics: that of the study counts two tests, the other two together four."""
    ranks = np.random.default_rng(0).integers(0, 12, (3, 300)).tolist()
    one, two, three = ([record("minilm", 0, row)] for row in ranks)
    table = tables.changes({"a": (one, two), "b": (one, three)}, ("recall@5", "recall@10", "ndcg@10"))
    for family, count in ((table["metric"] == "recall@10", 2), (table["metric"] != "recall@10", 4)):
        least = table[family].nsmallest(1, "p").iloc[0]
        assert len(table[family]) == count
        assert least["p holm"] == pytest.approx(min(1, count * least["p"]))
    assert tables.changes({}).empty


def test_contrasts_are_the_first_less_the_second():
    """Of eight users: the seeds of one side hit 6 and 4, those of the other 1 and 3; and one seed against itself."""

    def hitting(seed: int, users: int, unseen: int) -> dict:
        one = record("minilm", seed, [0] * users + [None] * (8 - users))
        return one | {"ranks_unseen": Ranks.of([0] * unseen + [None] * (8 - unseen)).pack()}

    much, little = [hitting(0, 6, 8), hitting(1, 4, 8)], [hitting(0, 1, 0), hitting(1, 3, 0)]
    pairs = {"much, little": (much, little), "the same": (much[:1], much[:1])}
    found = tables.contrasts(pairs).set_index("pair")
    assert found.columns.tolist() == ["first", "second", "difference", "low", "high", "by_seeds", "p", "p holm"]
    assert found.loc["much, little", ["first", "second", "difference"]].tolist() == [5 / 8, 2 / 8, 3 / 8]
    # By seed the differences are 5/8 and 1/8: standard deviation sqrt(2) / 4, of the mean of two 1/4.
    assert found.loc["much, little", "by_seeds"] == pytest.approx(1 / 4)
    assert found.loc["the same", ["first", "difference", "low", "high", "p"]].tolist() == [6 / 8, 0, 0, 0, 1]
    assert np.isnan(found.loc["the same", "by_seeds"])
    assert found["p holm"].tolist() == pytest.approx([min(1, 2 * found["p"].iloc[0]), 1])
    assert tables.contrasts(pairs, "seen left out")["difference"].tolist() == [1, 0]


def test_the_quality_of_ids_is_a_mean_over_seeds():
    def with_ids(usage: list, perplexity: list, errors: list | None, rate: float, **collisions: int) -> dict:
        quality = {"usage": usage, "perplexity": perplexity, "relative_error": errors, "collision_rate": rate}
        return {"semantic_ids": quality} | ({"tokenizer": {"collisions": collisions}} if collisions else {})

    groups = {
        "fitted": [
            with_ids([8, 6, 2], [7.0, 5.5, 1.2], [0.5, 0.25], 0.0, before=10, after=0),
            with_ids([8, 4, 4], [8.0, 4.5, 1.8], [0.5, 0.3], 0.1, before=13, after=4),
        ],
        "ready": [with_ids([8, 8], [8.0, 8.0], None, 1 / 3)],
        "one never collides": [with_ids([8, 2], [7.0, 1.5], None, 0.0), with_ids([6], [5.0], None, 0.0)],
        "no IDs": [{"semantic_ids": None}],
    }
    assert tables.semantic_id_quality(groups).to_dict("records") == [
        {
            "method": "fitted", "codes used": "8 / 5 / 3", "perplexity": "7.5 / 5.0 / 1.5", "relative error": 0.275,
            "collision rate": 0.05, "collide before": "12", "collide after": "2",
        },
        {
            "method": "ready", "codes used": "8 / 8", "perplexity": "8.0 / 8.0", "relative error": "",
            "collision rate": 0.3333, "collide before": "", "collide after": "",
        },
        {
            "method": "one never collides", "codes used": "7 / 2", "perplexity": "6.0 / 1.5", "relative error": "",
            "collision rate": 0.0, "collide before": "", "collide after": "",
        },
    ]  # fmt: skip
    assert tables.semantic_id_quality({"no IDs": groups["no IDs"]}).empty
    letter = [record | {"tokenizer": record["tokenizer"] | {"steps": {"alignment": [4.1, loss]}}}
              for record, loss in zip(groups["fitted"], (3.5, 3.0), strict=True)]  # fmt: skip
    found = tables.semantic_id_quality({"RQ-VAE": groups["fitted"], "LETTER": letter})
    assert found["alignment loss"].tolist() == ["", 3.25]


def test_how_long_rows_were_trained():
    def trained(seed: int, recalls: list) -> dict:
        epochs = [{"epoch": 2 * n + 2, "loss": 1.0, "recall@10": value} for n, value in enumerate(recalls)]
        row = record("minilm", seed, [0])
        row["trial"]["generator"] |= {"epochs": 40, "targets": 1000, "augmentation": "both-ways"}
        return row | {"epochs": epochs, "data": {"interactions": 32, "users": 4}}

    counted = record("none", 0, [0], "item-knn") | {"epochs": []}
    table = tables.epochs_run({"x": [trained(1, [0.1, 0.3, 0.3]), trained(0, [0.2, 0.1])], "kNN": [counted]})
    trained_on = {"at most": "25", "run": "4 / 6", "best": "2 / 4"}
    assert table.to_dict("records") == [{"method": "x"} | trained_on | {"validation recall@10": 0.25, "users": 4}]


@pytest.mark.parametrize("augmentation", ["every", "both-ways", "none"])
def test_planned_epochs_are_those_that_the_loop_plans(augmentation):
    """Counted from a record's statistics, and from the pieces that are trained on."""
    data, settings = load("planted"), TigerSettings(augmentation=augmentation)
    of_an_epoch = sum(piece.targets for piece in pieces_of(settings, data.training))
    generator = {"epochs": 40, "targets": 10 * of_an_epoch + 1, "augmentation": augmentation}
    assert tables.epochs_planned({"data": data.statistics, "trial": {"generator": generator}}) == 10


def test_the_rule_of_one_drawn_item_stands_beside_the_expectation():
    ranks, sizes = np.random.default_rng(0).integers(0, 40, 400), np.full(400, 2)
    drawn = {"ranks_picked": PickedRanks.of(ranks.tolist(), sizes.tolist()).pack()}
    rows = {"apart": [record("minilm", 0, ranks.tolist())], "shared": [record("minilm", 0, ranks.tolist()) | drawn]}
    table = tables.by_rule(rows, "one drawn")
    assert table["method"].tolist() == ["shared"]
    assert table["one drawn"][0] == pytest.approx((ranks < 10).mean() / 2)
    assert tables.by_rule({"apart": rows["apart"]}, "one drawn").empty
    beside = tables.comparison(rows, rule="one drawn").iloc[1]  # of IDs that no items share, the rule changes nothing
    assert (beside["base"], beside["difference"]) == pytest.approx(((ranks < 10).mean(), -(ranks < 10).mean() / 2))
    old = rows["apart"][0] | {"key": "0" * 16, "semantic_ids": {"collision_rate": 0.1}}
    with pytest.raises(StudyError, match="no ranks of drawn items"):
        tables.per_user([old], "recall@10", "one drawn")
