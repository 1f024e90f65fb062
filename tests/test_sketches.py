"""Texts and pages as they are drawn: letters on a grid, marks on words alone, pages whole down to their last line."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from studylib import plots, sketches
from studylib.analysis.attributes import spans
from studylib.render import Page, render

TEXT = "Steel ruler, 150 mm, PVC. " + "A good ruler for the hand; (0.5 mm) marks. " * 12


@pytest.fixture(autouse=True)
def style():
    plots.use_style()
    yield
    plt.close("all")


def test_letters_stand_on_their_columns():
    figure = sketches.descriptions({"one": (TEXT, spans(TEXT))})
    figure.set_dpi(200)
    axis, renderer = figure.axes[0], figure.canvas.get_renderer()
    column = axis.get_window_extent(renderer).width / sketches.COLUMNS
    for text in axis.texts:
        assert text.get_window_extent(renderer).width == pytest.approx(column * len(text.get_text()), abs=1)
        assert text.get_position()[0] + len(text.get_text()) <= sketches.COLUMNS


def test_marks_end_where_punctuation_begins():
    words = sketches._laid(TEXT, spans(TEXT), 3, 40)
    marked = {word: kind for _, _, word, kind in words if kind != "word"}
    assert marked == {"150": "numeral", "mm": "unit", "PVC": "abbreviation", "0.5": "numeral"}
    starts = {(row, column): word for row, column, word, _ in words}
    assert starts[0, 17] == "mm"
    assert starts[0, 19] == ","
    assert words[-1][2] == "…"


@pytest.mark.parametrize("resolution", [1024, 256])
@pytest.mark.parametrize("lines", [1, 20, 100])
def test_a_page_ends_after_its_last_line(resolution, lines):
    drawn = render(["A ruler of steel"] * lines, Page(resolution=resolution))
    end = round(sketches.written(drawn) * resolution)
    pixels = np.asarray(drawn.image)
    assert (pixels[end:] == 255).all(), "nothing is cut off"
    assert end >= drawn.boxes[-1][3]
    assert end == resolution or end - drawn.boxes[-1][3] <= drawn.boxes[0][1]
