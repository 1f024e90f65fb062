"""Figures show what they are given, and say so where there is nothing to show."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from studylib import plots, tables
from studylib.methods import COLOURS
from tests.test_tables import record


def test_a_tokenizer_that_tells_nothing_of_its_fit_has_no_curve():
    step = {"level": 1, "epoch": 1, "error": 0.5, "usage": 8, "perplexity": 7.0, "collisions": 3}
    told = record("minilm", 0, [0]) | {"tokenizer": {"steps": [step]}, "data": {"items": 40}}
    told["trial"]["tokenizer"] = {"codes": 8}
    silent = told | {"tokenizer": {"steps": []}}
    both = plots.tokenizer_curves({"one": [told], "silent": [silent]})
    assert [axis.get_ylabel() for axis in both.axes] == ["one", "", "", ""]
    assert "tell nothing" in plots.tokenizer_curves({"silent": [silent]}).texts[0].get_text()
    plt.close("all")


def test_a_tokenizer_is_drawn_once_and_each_of_its_levels_is_a_line():
    def fitted(codes: int, *errors: float) -> dict:
        steps = [
            {"level": level, "epoch": epoch, "error": error / epoch, "usage": codes, "perplexity": 2.0, "collisions": 9}
            for level, error in enumerate(errors, 1)
            for epoch in (1, 2)
        ]
        made = record("minilm", 0, [0]) | {"tokenizer": {"steps": steps}, "data": {"items": 40}}
        made["trial"]["tokenizer"] = {"codes": codes}
        return made

    one, same, two, other = fitted(8, 0.9), fitted(8, 0.9), fitted(4, 0.8, 0.4), fitted(8, 0.7)
    same["trial"]["generator"] |= {"temperature": 0.7}  # which no tokenizer reads
    other["trial"]["features"] = "mpnet"
    figure = plots.tokenizer_curves({"one": [one], "two": [two], "same": [same], "other": [other]})
    first, second, third = np.array(figure.axes).reshape(3, 4)
    assert [row[0].get_ylabel() for row in (first, second, third)] == ["one\nsame", "two", "other"]
    assert [list(line.get_ydata()) for line in second[0].lines] == [[0.8, 0.4], [0.4, 0.2]]
    assert [list(axis.lines[0].get_ydata()) for axis in second[1:]] == [[1, 1], [0.5, 0.5], [0.225, 0.225]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["level 1", "level 2"]
    plt.close("all")


def test_the_papers_number_is_a_diamond_where_there_is_one():
    records = [record("minilm", seed, [0, seed, 30]) for seed in range(2)] + [record("random", 0, [20, 30, 30])]
    table = tables.comparison(tables.by_method(records))
    (axis,) = plots.methods(table, "without").axes
    assert axis.get_title() == "without"
    assert [bar.get_width() for bar in axis.patches] == table["recall@10"].tolist()[::-1]
    assert "the paper's number" not in [said.get_text() for said in axis.get_legend().get_texts()]
    (axis,) = plots.methods(table.assign(paper=[0.25, np.nan]), "with").axes
    (diamonds,) = [line for line in axis.lines if line.get_marker() == "D"]
    assert diamonds.get_xdata()[1] == 0.25
    assert "the paper's number" in [said.get_text() for said in axis.get_legend().get_texts()]
    plt.close("all")


def test_a_text_has_its_kinds_colour_and_the_second_of_a_kind_a_lighter_one():
    row = {"strategy": "A", "value": 0.2, "low": 0.1, "high": 0.4, "seeds": np.array([0.15, 0.25])}
    table = pd.DataFrame([row | {"text": text} for text in ("published", "MiniLM", "MPNet")])
    kinds, levels = ["index", "text", "text"], {"published alone": 0.3}
    axis = plots.by_strategy(table, kinds, plt.figure().subplots(), levels)
    line, *points = axis.lines
    assert line.get_ydata() == [0.3, 0.3]
    assert {name.get_text() for name in axis.get_legend().get_texts()} == {
        "published alone", "published + image", "MiniLM + image", "MPNet + image"
    }  # fmt: skip
    means = [point for point in points if list(point.get_ydata()) == [0.2]]
    colours = [to_rgb(point.get_color()) for point in means]
    lighter = tuple((1 + part) / 2 for part in to_rgb(COLOURS["text"]))
    for colour, expected in zip(colours, (to_rgb(COLOURS["index"]), to_rgb(COLOURS["text"]), lighter), strict=True):
        assert colour == pytest.approx(expected)
    assert len({point.get_marker() for point in means}) == 3
    assert [list(point.get_ydata()) for point in points].count([0.15, 0.25]) == 3, "every seed is shown"
    assert axis.get_ylim()[0] > 0.05
    plt.close("all")


def test_one_seed_among_rows_of_several_is_hollow():
    row = {"text": "MiniLM", "value": 0.2, "low": 0.1, "high": 0.4}
    rows = [row | {"strategy": "A", "seeds": np.array([0.1, 0.3])}, row | {"strategy": "C", "seeds": np.array([0.2])}]
    panels = plots.strategy_panels(pd.DataFrame(rows), ["text"], {}, "late").axes

    def hollow(axis) -> int:  # on top; the small points of single seeds stand beside the mean, which is in the middle
        on_top = max(line.get_zorder() for line in axis.lines)
        white = [line for line in axis.lines if line.get_markerfacecolor() == "white" and list(line.get_xdata()) == [0]]
        return sum(line.get_zorder() == on_top for line in white)

    assert [hollow(axis) for axis in panels] == [0, 1]
    assert "hollow: one, over users alone" in panels[0].get_ylabel()
    (alone,) = plots.strategy_panels(pd.DataFrame(rows[1:]), ["text"], {}, "late").axes
    assert (hollow(alone), "one seed, 95 % over users" in alone.get_ylabel()) == (0, True)
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


def test_changes_stand_in_their_own_panel_and_line_and_wide_intervals_run_out_of_it():
    row = {"difference %": -5.0, "low %": -9.0, "high %": -1.0, "paper %": np.nan}
    rows = [
        {"pair": pair, "metric": metric, **row}
        for pair in (
            "A: small against large",
            "A: tiny against large",
            "B: small against large",
            "B: tiny against large",
        )
        for metric in ("recall@10", "ndcg@10")
    ]
    unshown = [{**rows[0], "metric": "recall@5", "low %": -80.0}]  # runs out of no frame, for it is in none
    assert not plots.changes(pd.DataFrame(rows + unshown), "by page").legends[0].get_title().get_text()
    rows[0] |= {"difference %": -20.0, "low %": -80.0, "high %": 40.0, "paper %": 2.0}
    figure = plots.changes(pd.DataFrame(rows), "by page", band=4.0)
    first, second = figure.axes
    assert (first.get_title(), second.get_title()) == ("A", "B")
    assert [tick.get_text() for tick in first.get_yticklabels()] == ["small against large", "tiny against large"]
    assert first.get_xlim() == second.get_xlim()
    assert "goes on beyond it" in figure.legends[0].get_title().get_text()
    assert -45 <= first.get_xlim()[0] < -44
    above, below = sorted((container.lines[0].get_ydata() for container in first.containers), key=list, reverse=True)
    recall = first.containers[0].lines[0].get_xdata()
    assert list(recall) == [-20, -5], "in the order of the pairs, the first on top"
    assert above[0] > below[0] > above[1]
    (paper,) = [line for line in first.lines if line.get_marker() == "D"]
    assert paper.get_xdata()[0] == 2
    rows[2] |= {"difference %": -65.0, "low %": -90.0, "high %": -60.0}
    assert -71 < plots.changes(pd.DataFrame(rows), "by page").axes[0].get_xlim()[0] < -69, "a point is never out of it"
    lacking = plots.changes(pd.DataFrame(rows[:6]), "by page").axes  # B has no tiny page: its line says so
    assert [tick.get_text() for tick in lacking[0].get_yticklabels()] == ["small against large", "tiny against large"]
    (drawn, empty) = lacking[1].containers[0].lines[0].get_xdata()
    assert (drawn, np.isnan(empty)) == (-5, True)
    assert [[text.get_text() for text in axis.texts] for axis in lacking] == [[], ["not trained"]]
    plt.close("all")
