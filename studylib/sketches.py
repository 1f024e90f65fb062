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

from studylib.render import RenderedPage

MARKS = {
    "numeral": {"facecolor": "#9ecae9", "edgecolor": "none"},
    "unit": {"facecolor": "#fdd49e", "edgecolor": "black"},
    "separator": {"facecolor": "#dddddd", "edgecolor": "none"},
    "abbreviation": {"facecolor": "#efbedd", "edgecolor": "black", "linestyle": ":"},
}
COLUMNS = 110  # letters of 7 points that fill a line of a figure


def descriptions(texts: dict[str, tuple[str, Sequence[tuple[int, int, str]]]], lines: int = 9) -> Figure:
    """Texts with their attribute-like tokens marked in colour and outline (000's Figure 6 shows the texts bare).

    Args:
        texts: by title, a text and the spans of its tokens with their kinds (``attributes.spans``).
        lines: at most so many of each text.
    """
    laid = {title: _laid(*text, lines) for title, text in texts.items()}
    heights = [1.8 + max(row for row, *_ in words) for words in laid.values()]
    figure, axes = plt.subplots(
        len(laid), figsize=(6.6, 0.3 + 0.145 * sum(heights) + 0.2 * len(laid)), squeeze=False, height_ratios=heights
    )
    for (title, words), height, axis in zip(laid.items(), heights, axes[:, 0], strict=True):
        for row, column, word, kind in words:
            box = {"boxstyle": "square,pad=0.12", "linewidth": 0.6, **MARKS[kind]} if kind in MARKS else None
            axis.text(column, -row, word, family="DejaVu Sans Mono", fontsize=7, va="top", bbox=box)
        axis.set(xlim=(0, COLUMNS), ylim=(-height, 0.4), title=title)
        axis.axis("off")
    patches = [Patch(**mark, label=kind) for kind, mark in MARKS.items()]
    figure.legend(handles=patches, loc="outside lower left", ncols=len(patches))
    return figure


def _laid(text: str, spans: Sequence[tuple[int, int, str]], lines: int) -> list[tuple[int, int, str, str]]:
    """Row, column, word and kind of each token, with an ellipsis where the text goes on."""
    row, column, words = 0, 0, []
    for start, end, kind in spans:
        if column and column + end - start > COLUMNS:
            row, column = row + 1, 0
        if row == lines:
            return [*words, (row, 0, "…", "word")]
        words.append((row, column, text[start:end].replace("$", r"\$"), kind))
        column += end - start + 1
    return words


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
