"""Pictures of single things: a text, its page, a line as it is read, a path in the prefix tree, a shelf of products."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from studylib.analysis.attributes import EDGE
from studylib.render import RenderedPage

MARKS = {
    "numeral": {"facecolor": "#9ecae9", "edgecolor": "none"},
    "unit": {"facecolor": "#fdd49e", "edgecolor": "black"},
    "separator": {"facecolor": "#dddddd", "edgecolor": "none"},
    "abbreviation": {"facecolor": "#efbedd", "edgecolor": "black", "linestyle": ":"},
}
FONT = {"family": "DejaVu Sans Mono", "fontsize": 6.578, "va": "top"}  # of which a letter is 11 pixels wide at 200 dpi
ADVANCE, ROW = 0.602 * FONT["fontsize"] / 72, 0.14  # inches: from letter to letter, and from line to line
COLUMNS = 117  # letters that fill a line of a figure
Spans = Sequence[tuple[int, int, str]]


def descriptions(texts: dict[str, tuple[str, Spans]], lines: int = 9) -> Figure:
    """Texts with their attribute-like tokens marked in colour and outline (000's Figure 6 shows the texts bare).

    Args:
        texts: by title, a text and the spans of its tokens with their kinds (``attributes.spans``).
        lines: at most so many of each text.
    """
    laid = [_laid(*text, lines, COLUMNS) for text in texts.values()]
    figure, rows = _sheet(6.6, [_lines(words) * ROW for words in laid])
    for title, words, (bottom, height) in zip(texts, laid, rows, strict=True):
        _write(figure, words, title, (6.6 - COLUMNS * ADVANCE) / 2, bottom, height, COLUMNS)
    return figure


def case_study(
    texts: dict[str, tuple[str, Spans]], pages: dict[str, Sequence[RenderedPage]], lines: int = 24
) -> Figure:
    """A text and, beside it, its pages of several sizes down to the last line of text; a row a data set.

    Args:
        texts: as in ``descriptions``.
        pages: by the same titles, the text's pages, as many of each.
    """
    wide, columns = 3.6, 45  # inches of a page, and letters of a line beside it
    laid = {title: _laid(*text, lines, columns) for title, text in texts.items()}
    full = 0.3 + columns * ADVANCE + (wide + 0.15) * max(map(len, pages.values()))
    heights = [
        max(_lines(words) * ROW, *(wide * written(one) for one in pages[title])) for title, words in laid.items()
    ]
    figure, rows = _sheet(full, heights)
    for (title, words), (bottom, height) in zip(laid.items(), rows, strict=True):
        _write(figure, words, title, 0.1, bottom, height, columns)
        for number, drawn in enumerate(pages[title]):
            tall = wide * written(drawn)
            left = 0.2 + columns * ADVANCE + number * (wide + 0.15)
            axis = _axes(figure, left, bottom + height - tall, wide, tall)
            page(drawn, axis, written(drawn)).set_title(f"{drawn.image.width} px", fontsize=9)
    return figure


def _sheet(width: float, heights: Sequence[float]) -> tuple[Figure, list[tuple[float, float]]]:
    """A figure with a legend of the marks below, and where each row lies: its bottom and height in inches."""
    title, legend = 0.28, 0.35
    total = legend + sum(heights) + title * len(heights)
    figure = plt.figure(figsize=(width, total), layout="none")
    bottoms = total - np.cumsum([height + title for height in heights])
    patches = [Patch(**mark, label=kind) for kind, mark in MARKS.items()]
    figure.legend(handles=patches, loc="lower left", ncols=len(patches))
    return figure, list(zip(bottoms, heights, strict=True))


def _axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def _write(figure, words, title: str, left: float, bottom: float, height: float, columns: int) -> None:
    axis = _axes(figure, left, bottom, columns * ADVANCE, height)
    axis.set(xlim=(0, columns), ylim=(-height / ROW, 0))
    axis.set_title(title, fontsize=9)
    axis.axis("off")
    for row, column, word, kind in words:
        box = {"boxstyle": "square,pad=0.12", "linewidth": 0.6, **MARKS[kind]} if kind in MARKS else None
        axis.text(column, -row, word.replace("$", r"\$"), bbox=box, **FONT)


def _lines(words: Sequence[tuple[int, int, str, str]]) -> float:
    return 1.2 + max(row for row, *_ in words)


def _laid(text: str, spans: Spans, lines: int, columns: int) -> list[tuple[int, int, str, str]]:
    """Row, column, word and kind of each token, with an ellipsis where the text goes on.

    Punctuation at the edges of a marked token stands by itself, unmarked.
    """
    row, column, words = 0, 0, []
    for start, end, kind in spans:
        if column and column + end - start > columns:
            row, column = row + 1, 0
        if row == lines:
            return [*words, (row, 0, "…", "word")]
        token = text[start:end]
        core = token.strip(EDGE)
        if kind in MARKS and core:
            at = token.index(core)
            parts = [(0, token[:at], "word"), (at, core, kind), (at + len(core), token[at + len(core) :], "word")]
        else:
            parts = [(0, token, kind)]
        words += [(row, column + place, part, of) for place, part, of in parts if part]
        column += end - start + 1
    return words


def written(drawn: RenderedPage) -> float:
    """Which share of a page's height is written on, with the margin below as above."""
    return min(1.0, (drawn.boxes[-1][3] + drawn.boxes[0][1]) / drawn.image.height)


def page(drawn: RenderedPage, axis: Axes, share: float = 0.35) -> Axes:
    """The upper ``share`` of a drawn page, its pixels unsmoothed."""
    pixels = np.asarray(drawn.image)
    axis.imshow(pixels[: round(share * len(pixels))], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
    axis.spines[:].set_visible(True)
    return axis


def line(pixels: Float[np.ndarray, "height width"], tokens: Float[np.ndarray, "token dims"], axes: Sequence[Axes]):
    """A line of text as the OCR encoder gets it, and below it the features it gives, one column every 8 pixels."""
    axes[0].imshow(pixels, cmap="gray", vmin=0, vmax=255, aspect="auto")
    scaled = (tokens - tokens.mean(0)) / (tokens.std(0) + 1e-6)
    axes[1].imshow(scaled.T, cmap="PuOr", vmin=-3, vmax=3, aspect="auto", interpolation="nearest")
    axes[1].set_ylabel("feature")
    for axis in axes:
        axis.set_xticks([])
        axis.grid(visible=False)
    axes[0].set_yticks([])


def prefix_tree(nodes: pd.DataFrame, axis: Axes) -> Axes:
    """The path to one item's leaf, and at each step the other ways it could have gone; see ``tour.branches``."""
    place = {(): 0.0}
    for depth, level in nodes.groupby("level"):
        level = level.reset_index(drop=True)
        taken = int(level["taken"].to_numpy().argmax())
        parent = place[level["prefix"].iloc[0][:-1]]
        for number, node in level.iterrows():
            x = parent + (number - taken) * 1.0
            colour, width = ("#D55E00", 2.2) if node["taken"] else ("#bbbbbb", 0.8)
            axis.plot([parent, x], [1 - depth, -depth], color=colour, linewidth=width, zorder=1)
            axis.plot(x, -depth, "o", color=colour, markersize=3 + 2.2 * np.sqrt(node["items"]), zorder=2)
            if node["taken"]:
                place[node["prefix"]] = x
                said = f"{node['name']}: {node['items']} item{'s' * (node['items'] > 1)}"
                # Ground of its own, so that no line crosses the words.
                ground = {"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8}
                axis.annotate(said, (x, -depth), xytext=(9, 5), textcoords="offset points", fontsize=8, bbox=ground)
    axis.plot(0, 0, "o", color="#333333", markersize=9)
    axis.set(xticks=[], yticks=[])
    axis.axis("off")
    return axis


def shelf(pictures: Sequence[Path], titles: Sequence[str], axes: Sequence[Axes], marked: int | None = None) -> None:
    """Products side by side, each picture with its title; the title of the ``marked`` one is orange."""
    for axis in axes:
        axis.axis("off")
    for number, (file, title, axis) in enumerate(zip(pictures, titles, axes, strict=False)):
        with Image.open(file) as picture:
            axis.imshow(picture.convert("RGB"))
        words = title if len(title) <= 34 else title[:33] + "…"
        half = words.rfind(" ", 0, 18) if len(words) > 18 else -1
        axis.set_title(
            words if half < 0 else f"{words[:half]}\n{words[half + 1 :]}",
            fontsize=7,
            loc="center",
            color="#D55E00" if number == marked else "black",
        )
