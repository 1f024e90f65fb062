"""The house: dependencies agree, the command line is polite, tables and figures are what they say."""

import json
import re
import shutil
import tomllib
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.colors import to_hex, to_rgb

from studylib import paths, plots, results, tables, wording
from studylib.analysis.significance import compare
from studylib.cli import main
from studylib.config import TigerSettings, trial
from studylib.data import atomic, load
from studylib.encoders.registry import ENCODERS
from studylib.errors import StudyError
from studylib.examples import pieces_of
from studylib.methods import COLOURS, HATCHES, METHODS, method
from studylib.metrics import PickedRanks, Ranks
from studylib.trials import run
from tests.conftest import toy

PROJECT = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]


def test_environment_yml_is_a_door_to_pyproject():
    environment = yaml.safe_load((paths.ROOT / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    extras = re.fullmatch(r"-e \.\[([a-z,]+)\]", next(line for line in pip if line.startswith("-e")))[1].split(",")
    assert set(extras) <= set(PROJECT["optional-dependencies"])
    others = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    assert sorted(re.split(r"[=<>]", entry)[0] for entry in others) == ["pip", "python"]


def test_every_package_is_installed():
    """A package that the list forgets is there in a checkout, and missing for whoever installs the project."""
    listed = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {file.parent.relative_to(paths.ROOT) for file in (paths.ROOT / "studylib").rglob("__init__.py")}
    assert sorted(".".join(folder.parts) for folder in there) == listed


def test_constraints_fit_the_dependencies():
    lines = (paths.ROOT / "constraints.txt").read_text().splitlines()
    pinned = {re.split("==", line)[0].lower().replace("_", "-") for line in lines if "==" in line}
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["encoders"]
    assert {re.split(r"[=<>\[]", entry)[0].lower() for entry in wanted} <= pinned


def test_check_prints_statistics_as_json(folders, capsys):
    assert main(["check", str(folders / "data" / "Toy")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed) == ["users", "items", "interactions", "mean_length", "mean_words"]
    assert printed["users"] == 60


def test_bad_input_is_one_line_and_status_2(folders, capsys):
    for arguments in (["check", "nowhere"], ["recommend", "0123"], ["bench", "train", "--data-set", "nowhere"]):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("study: error: ")
        assert error.count("\n") == 1


def test_encoders_are_listed(capsys):
    assert main(["encoders", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = {row["name"] for row in rows}
    assert {"minilm", "ppocr-v6", "efficientnet-lite0", "pixels", "random-crnn", "deepseek-ocr", "donut-base"} <= names
    assert all(row["available"] or row["why"] for row in rows)


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
    folder = results.save(table, "t", str(tmp_path / "deep" / "Mine"))
    assert folder == folders / "results" / "Mine"
    assert r"a\_b" in (folder / "t.tex").read_text()
    assert r"50 \%" in (folder / "t.tex").read_text()


def test_a_table_is_not_written_over_by_another_data_sets_or_a_smaller_budgets(folders):
    shutil.copytree(folders / "data" / "Toy", folders / "else" / "Toy")
    data = toy()
    atomic.write(replace(data, sequences=data.sequences[1:], users=data.users[1:]), folders / "else" / "Toy")
    mine, theirs = (
        run([trial(data=str(folders / where / "Toy"), generator={"name": "popularity"})]) for where in ("data", "else")
    )
    table = pd.DataFrame({"a": [1]})
    file = results.save(table, "t", "Toy", records=mine) / "t.csv"
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
        file = results.save(table.assign(a=budget), "t", "Toy", records={"x": [of(budget)], "y": [counted]}) / "t.csv"
    with pytest.raises(StudyError, match=r"t.trials.json: is of budget paper, larger than cpu; set STUDY_RESULTS"):
        results.save(table, "t", "Toy", records={"x": [of("cpu")], "y": [counted]})
    assert "paper" in file.read_text()


def test_a_tokenizer_that_tells_nothing_of_its_fit_has_no_curve():
    step = {"level": 1, "epoch": 1, "error": 0.5, "usage": 8, "perplexity": 7.0, "collisions": 3}
    told = record("minilm", 0, [0]) | {"tokenizer": {"steps": [step]}, "data": {"items": 40}}
    told["trial"]["tokenizer"] = {"codes": 8}
    silent = told | {"tokenizer": {"steps": []}}
    both = plots.tokenizer_curves({"one": [told], "silent": [silent]})
    assert [line.get_label() for line in both.axes[0].lines] == ["one"]
    assert "tell nothing" in plots.tokenizer_curves({"silent": [silent]}).texts[0].get_text()
    plt.close("all")


def test_a_text_has_its_kinds_colour_and_the_second_of_a_kind_a_lighter_one():
    means = pd.DataFrame([[0.1, 0.2, 0.3]], ["A"], ["published", "MiniLM", "MPNet"])
    axis = plots.by_strategy(means, means * np.nan, ["index", "text", "text"], plt.figure().subplots(), {})
    published, first, second = axis.patches
    assert to_hex(published.get_facecolor()) == COLOURS["index"].lower()
    assert published.get_hatch() == HATCHES["index"]
    assert to_hex(first.get_facecolor()) == COLOURS["text"].lower()
    assert second.get_facecolor()[:3] == pytest.approx([(1 + part) / 2 for part in to_rgb(COLOURS["text"])])
    plt.close("all")


def test_a_mean_curve_goes_as_far_as_every_seed_was_trained():
    def trained(recalls: list[float]) -> dict:
        rows = [{"epoch": 2 * n + 2, "recall@10": recall} for n, recall in enumerate(recalls)]
        return record("minilm", 0, [0]) | {"epochs": [{"epoch": 1, "loss": 2.0}, *rows]}

    untrained = record("none", 0, [0], "popularity") | {"epochs": []}
    groups = {"two seeds": [trained([0.1, 0.3, 0.5]), trained([0.3, 0.1])], "one": [trained([0.4])], "no": [untrained]}
    figure = plots.learning_curves(groups)
    assert [axis.get_title() for axis in figure.axes] == ["two seeds", "one"]
    *others, first, second, mean = (line.get_xydata().tolist() for line in figure.axes[0].lines)
    assert mean == [[2, 0.2], [4, 0.2]] == others[0]
    assert others[1] == [[2, 0.4]]
    assert (first, second) == ([[2, 0.1], [4, 0.3], [6, 0.5]], [[2, 0.3], [4, 0.1]])
    assert "All vertically: validation Recall@10." in plots.common.describe(figure)
    assert "by epochs" in plots.learning_curves({"no": [untrained]}).texts[0].get_text()
    plt.close("all")


def test_more_places_than_beams_are_refused():
    searched = record("minilm", 0, [0, 3, 30])
    searched["trial"]["generator"] |= {"beams": 20, "search": "tree"}
    searched["key"] = "0" * 16
    assert tables.per_user([searched], "recall@20").tolist() == [[1, 1, 0]]
    with pytest.raises(StudyError, match=r"recall@50: trial 0+ was searched with 20 beams"):
        tables.per_user([searched], "recall@50")
    searched["trial"]["generator"]["search"] = "exact"
    assert tables.per_user([searched], "recall@50").tolist() == [[1, 1, 1]]


def test_a_misspelt_setting_is_told_what_it_may_have_meant():
    with pytest.raises(StudyError, match=r"unknown setting 'generator.tiger.epoch'; did you mean 'epochs'\? There are"):
        trial(data="x", generator={"epoch": 2})
    with pytest.raises(StudyError, match=r"'generator.sasrec.layer'; did you mean 'layers'"):
        trial(data="x", generator={"name": "sasrec", "layer": 2})


def test_kinds_of_methods_that_no_table_lists():
    assert method("index:index_lemb_unique").paper == method("minilm").paper == "text"
    assert method("ppocr-v6-backbone").kind == "ocr"


def test_what_is_no_rival_of_a_reader_stands_beside_no_paper():
    assert ENCODERS.keys() <= METHODS.keys()
    readers = {name for name, encoder in ENCODERS.items() if encoder.kind == "ocr"}
    assert all(method(name).paper == (None if METHODS[name].contrast else "ocr") for name in readers)
    contrasts = {name for name in readers if METHODS[name].contrast}
    assert contrasts == {"craft", "ppocr-v4-backbone", "ppocr-v6-backbone", "transcript-minilm"}


def test_a_table_says_what_its_records_say():
    rng = np.random.default_rng(0)
    good = [record("minilm", seed, rng.integers(0, 12, 400).tolist()) for seed in range(3)]
    poor = [record("random", seed, rng.integers(0, 40, 400).tolist()) for seed in range(3)]
    knn = [record("none", 0, rng.integers(0, 11, 400).tolist(), "item-knn")]
    table = tables.recommendation(good + poor + knn, "minilm", {"text": {"recall@10": 0.5}}).set_index("method")
    values = [row["metrics"]["recall@10"] for row in good]
    assert table.loc["MiniLM-L6", "recall@10"] == pytest.approx(np.mean(values))
    assert table.loc["MiniLM-L6", "recall@10 sd"] == pytest.approx(np.std(values, ddof=1))
    assert table.loc["MiniLM-L6", "paper"] == 0.5
    found = compare(tables.per_user(poor, "recall@10"), tables.per_user(good, "recall@10"))
    assert table.loc["random IDs", "difference"] == found.difference < 0
    assert table.loc["random IDs", "p holm"] == pytest.approx(2 * found.p)
    assert np.isnan(table.loc["MiniLM-L6", "p"])
    lines = wording.findings(table.reset_index(), tables.by_method(good + poor + knn))
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
    axis = plots.differences(table.reset_index(), plt.figure().subplots())
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


def test_how_long_rows_were_trained():
    def trained(seed: int, recalls: list) -> dict:
        epochs = [{"epoch": 2 * n + 2, "loss": 1.0, "recall@10": value} for n, value in enumerate(recalls)]
        row = record("minilm", seed, [0])
        row["trial"]["generator"] |= {"epochs": 40, "targets": 1000, "augmentation": "both-ways"}
        return row | {"epochs": epochs, "data": {"interactions": 32, "users": 4}}

    counted = record("none", 0, [0], "item-knn") | {"epochs": []}
    table = tables.epochs_run({"x": [trained(1, [0.1, 0.3, 0.3]), trained(0, [0.2, 0.1])], "kNN": [counted]})
    assert table.to_dict("records") == [{"method": "x", "at most": "25", "run": "4 / 6", "best": "2 / 4"}]


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
