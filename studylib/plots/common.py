"""What the figures share: style, lines, legend, and how a figure is kept."""

import io
import re

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studylib import paths
from studylib.files import write_bytes

STYLE = "studylib.study"
LINES = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def use_style() -> None:
    """Set the study's style for all figures of this process."""
    plt.style.use(STYLE)


def save_figure(figure: Figure, name: str, data: str) -> None:
    """Write figures/<data>/<name>.png and .pdf: the same bytes from the same figure.

    Each carries its description, for those who cannot see it.
    """
    folder, said = paths.figures_of(data), describe(figure)
    kinds = (
        ("png", {"Software": None, "Description": said}),
        ("pdf", {"CreationDate": None, "Producer": None, "Subject": said}),
    )
    for suffix, metadata in kinds:
        content = io.BytesIO()
        figure.savefig(content, format=suffix, metadata=metadata)
        write_bytes(folder / f"{name}.{suffix}", content.getvalue())


def describe(figure: Figure) -> str:
    """What a figure shows, in words: of each of its axes the title, what is measured, the rows and the legend."""
    said = []
    for axis in figure.axes:
        title = " ".join(filter(None, (axis.get_title(loc) for loc in ("left", "center", "right"))))
        words = [f"Figure: {title}." if title else ""]
        for name, label, ticks in (
            ("horizontally", axis.get_xlabel(), axis.get_xticklabels()),
            ("vertically", axis.get_ylabel(), axis.get_yticklabels()),
        ):
            rows = [tick.get_text() for tick in ticks if re.search("[A-Za-z]", tick.get_text())]
            if label:
                words.append(f"{name.capitalize()}: {label}.")
            if rows:
                words.append(f"{name.capitalize()} one after the other: {', '.join(rows)}.")
        legend = axis.get_legend()
        if legend is not None:
            words.append(f"Shown: {', '.join(text.get_text() for text in legend.get_texts())}.")
        said.append(" ".join(filter(None, words)))
    for name, label in (("horizontally", figure.get_supxlabel()), ("vertically", figure.get_supylabel())):
        said.append(f"All {name}: {label}." if label else "")
    return " ".join(" ".join(filter(None, said)).replace("\n", " ").split())


def line_style(number: int) -> dict:
    """Colour and dashes of the n-th line: neighbours differ in both, and the first twenty-eight all differ."""
    return {
        "color": LINES[number % len(LINES)],
        "linestyle": ("-", "--", ":", "-.")[(number % len(LINES) + number // len(LINES)) % 4],
        "linewidth": 1.3,
    }


def legend_aside(axis: Axes) -> None:
    """The legend at the right of the axis, where it hides nothing."""
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def spread_said(deviations: pd.Series | pd.DataFrame) -> str:
    """What error bars over seeds show, for a label."""
    return "one seed" if deviations.isna().all(axis=None) else "mean, sd over seeds"
