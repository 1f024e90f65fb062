"""Figures show what they are given, and say so where there is nothing to show."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb

from studylib import plots
from studylib.methods import COLOURS, HATCHES
from tests.test_tables import record


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
