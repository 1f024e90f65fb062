"""Rows of trials: bars and intervals, changes, how training and fitting went."""

from collections.abc import Sequence
from textwrap import wrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from studylib.methods import COLOURS, HATCHES, KIND_NAMES
from studylib.metrics import validated
from studylib.plots.common import LINES, legend_aside, line_style, spread_said
from studylib.tables import METRIC
from studylib.wording import names_with_seeds, printed

CHANGED = ("recall@10", "ndcg@10")  # whose changes are drawn
FARTHEST = 45  # %, to which the intervals of changes are drawn
MARKERS = ("o", "s", "^", "D")  # of texts, which grey alone would not tell apart


def methods(table: pd.DataFrame, title: str) -> Figure:
    """One bar a method with its spread over seeds; the paper's number, where there is one, as a diamond."""
    rows = table.assign(method=names_with_seeds(table)).iloc[::-1]
    places = np.arange(len(rows))
    figure, axis = plt.subplots(figsize=(6.6, 0.9 + 0.3 * len(rows)))
    bars = axis.barh(
        places, rows[METRIC], xerr=rows[f"{METRIC} sd"], height=0.72, edgecolor="#333333", linewidth=0.6,
        color=[COLOURS[kind] for kind in rows["kind"]], error_kw={"elinewidth": 1, "capsize": 2},
    )  # fmt: skip
    for bar, kind, value, sd in zip(bars, rows["kind"], rows[METRIC], rows[f"{METRIC} sd"].fillna(0), strict=True):
        bar.set_hatch(HATCHES[kind])
        axis.annotate(
            f"{value:.3f}", (value + sd, bar.get_y() + bar.get_height() / 2), xytext=(4, 0),
            textcoords="offset points", va="center", fontsize=7,
        )  # fmt: skip
    axis.set_yticks(places, ["\n".join(wrap(name, 46)) for name in rows["method"]])
    spread = spread_said(rows[f"{METRIC} sd"])
    axis.set_xlabel(f"test {printed(METRIC)} ({spread})")
    axis.grid(axis="y", visible=False)
    axis.margins(x=0.16)
    handles = [
        Patch(facecolor=COLOURS[kind], hatch=HATCHES[kind], edgecolor="#333333", label=KIND_NAMES[kind])
        for kind in dict.fromkeys(table["kind"])
    ]
    if "paper" in rows and rows["paper"].notna().any():
        marks = axis.plot(rows["paper"], places, "D", color="white", markeredgecolor="black", markersize=5, zorder=5)
        marks[0].set_label("the paper's number")
        handles.append(marks[0])
    axis.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.03, 1.0))
    axis.set_title(title)
    return figure


def differences(
    table: pd.DataFrame, title: str, grid: dict[str, dict[str, float]] | None = None, names: Sequence[str] = ()
) -> Figure:
    """Each row's relative difference to the table's reference, with its interval; 002's changes as hollow diamonds.

    Args:
        table: from ``tables.comparison``; its baselines are left out, they would set the scale.
        grid, names: as in ``wording.beside_grid``.
    """
    reference = table.loc[table["difference"].isna(), "method"].iloc[0]
    table = table.assign(method=names_with_seeds(table))
    base = table.loc[table["difference"].isna()].iloc[0]
    rows = table[table["difference"].notna() & (table["kind"] != "baseline")]
    places = np.arange(len(rows))[::-1]
    figure, axis = plt.subplots(figsize=(6.6, 1.32 + 0.32 * len(rows)))
    middle, low, high = (100 * (rows[column] / rows["base"]).to_numpy() for column in ("difference", "low", "high"))
    told_apart = (rows["p holm"] < 0.05).to_numpy()
    theirs = [
        (100 * changes[name], place - 0.25)  # below ours, which they would hide
        for name, place in zip([name for name in names if name != names[0]], places, strict=False)
        for changes in (grid or {}).values()
        if name in changes
    ]
    axis.axvline(0, color="#333333", linewidth=0.8)
    axis.errorbar(
        middle, places, xerr=[middle - low, high - middle], fmt="none", ecolor="#0072B2", elinewidth=1.6, capsize=3
    )
    for chosen, fill, said in (
        (told_apart, "#0072B2", "told apart, p < 0.05"),
        (~told_apart, "white", "not told apart"),
    ):
        if chosen.any():
            said = f"here, {said}" if theirs else said
            axis.plot(middle[chosen], places[chosen], "o", color=fill, markeredgecolor="#0072B2", label=said)
    if theirs:
        axis.plot(
            *np.array(theirs).T, "D", color="none", markeredgecolor="#D55E00", markersize=5, label="002, each data set"
        )
    usual = rows["against"] == reference
    axis.set_yticks(places, rows["method"].where(usual, rows["method"] + "\nagainst " + rows["against"]))
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.set_xlabel(f"test {printed(METRIC)} against “{base['method']}” ({base[METRIC]:.4f}), %")
    axis.grid(axis="y", visible=False)
    legend_aside(axis)
    axis.set_title(title)
    return figure


def changes(table: pd.DataFrame, title: str, band: float = 0.0) -> Figure:
    """Relative changes in % with their intervals, from ``tables.changes``; the paper's as diamonds.

    A panel a row of trials, which a pair names before its first ": "; in it a line for what is compared. An interval
    that runs out of the frame goes beyond ``FARTHEST`` %, and beyond every change itself: whole, it would squeeze all.

    Args:
        band: changes up to so many % either way lie on grey.
    """
    cut = table["pair"].str.split(": ", n=1, expand=True)
    rows, pairs = list(cut[0].unique()), list(cut[1].unique())
    size = max(6.6, 3.6 + len(rows)), 1.6 + 0.28 * len(pairs)
    figure, axes = plt.subplots(1, len(rows), figsize=size, sharex=True, sharey=True, squeeze=False)
    for axis, row in zip(axes[0], rows, strict=True):
        _changes(table.assign(pair=cut[1])[cut[0] == row], pairs, axis)
        axis.axvspan(-band, band, color="#dddddd", zorder=0)
        axis.set_title("\n".join(wrap(row, 18)), fontsize="small")
    shown = table[table["metric"].isin(CHANGED)]
    least, most = shown["difference %"].min() - 5, shown["difference %"].max() + 5  # every point is in it
    low, high = axes[0, 0].get_xlim()
    left, right = max(low, min(least, -FARTHEST)), min(high, max(most, FARTHEST))
    axes[0, 0].set_xlim(left, right)
    beyond = shown["low %"].min() < left or shown["high %"].max() > right
    said = {name: line for axis in axes[0] for line, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    told = "a line that reaches the frame goes on beyond it" if beyond else None
    figure.legend(said.values(), said, loc="outside lower center", ncols=len(said), title=told)
    figure.suptitle(title)
    return figure


def _changes(table: pd.DataFrame, pairs: Sequence[str], axis: Axes) -> None:
    """A line for each of ``pairs``, which are all panels': one that ``table`` lacks was not trained, and says so."""
    places = np.arange(len(pairs))[::-1]
    axis.axvline(0, color="#333333", linewidth=0.8)
    for place, pair in zip(places, pairs, strict=True):
        if pair not in set(table["pair"]):
            axis.text(0, place, "not trained", ha="center", va="center", fontsize=7, backgroundcolor="white")
    for number, metric in enumerate(CHANGED):
        rows = table[table["metric"] == metric].set_index("pair").reindex(pairs)
        middle, said = rows["difference %"], printed(metric)
        spread = [middle - rows["low %"], rows["high %"] - middle]
        axis.errorbar(
            middle, places + 0.15 - 0.3 * number, xerr=spread, fmt="os"[number], color=LINES[number + 1], capsize=3,
            elinewidth=1.4, markersize=4.5, label=said,
        )  # fmt: skip
        if rows["paper %"].notna().any():
            axis.plot(
                rows["paper %"], places + 0.15 - 0.3 * number, "D", color="none", markeredgecolor=LINES[number + 1],
                markersize=5.5, label=f"the paper's {said}", zorder=5,
            )  # fmt: skip
    axis.set_yticks(places, pairs)
    axis.set_ylim(-0.6, len(pairs) - 0.4)
    axis.set_xlabel("change, %")
    axis.grid(axis="y", visible=False)


def by_strategy(
    table: pd.DataFrame, kinds: Sequence[str], axis: Axes, lines: dict[str, float], counts: set[int] | None = None
) -> Axes:
    """Points of several texts side by side for each strategy (000, Figures 4 and 5), other rows as lines.

    A row of one seed among rows of several is hollow, for its interval is over users alone.

    The axis does not begin at 0: what matters here is smaller than a bar would show.

    Args:
        table: from ``fused.by_strategy``.
        kinds: of the texts; where two are of one kind, the later is lighter.
        lines: from ``fused.reference_lines``.
        counts: how many seeds rows have, of this panel or another one beside it (default: of this one).
    """
    counts = set(map(len, table["seeds"])) if counts is None else counts
    several = max(counts) > 1
    strategies, texts = table["strategy"].unique(), table["text"].unique()
    for number, (name, value) in enumerate(lines.items()):  # black, for the colours are the points'
        axis.axhline(value, label=name, **line_style(number) | {"color": "black", "linewidth": 1.0})
    for number, (text, kind) in enumerate(zip(texts, kinds, strict=True)):
        rows = table[table["text"] == text]
        places = np.arange(len(rows)) + (number - (len(texts) - 1) / 2) * 0.8 / len(texts)
        style = {"color": _shade(kind, list(kinds[:number]).count(kind)), "marker": MARKERS[number % len(MARKERS)]}
        spread = np.clip([rows["value"] - rows["low"], rows["high"] - rows["value"]], 0, None)
        axis.errorbar(
            places, rows["value"], yerr=spread, linestyle="", capsize=3, markersize=6, label=f"{text} + image", **style
        )
        for place, value, seeds in zip(places, rows["value"], rows["seeds"], strict=True):
            if several and len(seeds) == 1:
                axis.plot(place, value, linestyle="", markersize=6, markerfacecolor="white", zorder=3, **style)
            if len(seeds) > 1:
                across = np.full(len(seeds), place + 0.2 / len(texts))
                axis.plot(across, seeds, linestyle="", markersize=3, markerfacecolor="white", **style)
    axis.set_xticks(np.arange(len(strategies)), strategies)
    middle, half = (len(strategies) - 1) / 2, max(len(strategies) / 2 + 0.1, 0.8)  # one strategy alone fills no picture
    axis.set_xlim(middle - half, middle + half)
    said = "95 % interval; small: each seed" if several else "one seed, 95 % over users"
    said += ";\nhollow: one, over users alone" if several and 1 in counts else ""
    axis.set_ylabel(f"test {printed(METRIC)}\n({said})")
    axis.grid(axis="x", visible=False)
    legend_aside(axis)
    return axis


def _shade(kind: str, before: int) -> tuple[float, ...]:
    """The colour of a kind, half as far from white for each row of that kind ``before`` this one."""
    return tuple(1 - (1 - part) / 2**before for part in to_rgb(COLOURS[kind]))


def strategy_panels(table: pd.DataFrame, kinds: Sequence[str], lines: dict[str, float], title: str) -> Figure:
    """``by_strategy`` with a panel for each strategy, all on one scale (000, Figure 5)."""
    strategies, counts = table["strategy"].unique(), set(map(len, table["seeds"]))
    figure, axes = plt.subplots(
        1, len(strategies), figsize=(3.2 + 0.95 * len(strategies), 3.2), sharey=True, squeeze=False
    )
    for axis, strategy in zip(axes[0], strategies, strict=True):
        by_strategy(table[table["strategy"] == strategy], kinds, axis, lines, counts)
        axis.set(xlim=(-0.6, 0.6), xticks=[])
        axis.set_title(strategy.replace(" ", "\n", 1).replace(", ", ",\n").replace(" and ", "\nand "), fontsize=8)
        if axis is not axes[0, -1]:
            axis.get_legend().remove()
        if axis is not axes[0, 0]:
            axis.set_ylabel("")
    figure.suptitle(title)
    return figure


def parts(table: pd.DataFrame, title: str) -> Figure:
    """A panel for each other row: what each group of targets adds to the difference, from ``frequency.parts``."""
    others = list(table["against"].unique())
    figure, axes = plt.subplots(1, len(others), figsize=(6.6, 2.6), sharey=True, squeeze=False)
    for axis, other in zip(axes.flat, others, strict=True):
        rows = table[table["against"] == other]
        spread = np.clip([rows["difference"] - rows["low"], rows["high"] - rows["difference"]], 0, None)
        names = rows["occurrences"].str.replace(" or more", "+")
        axis.errorbar(range(len(rows)), rows["difference"], yerr=spread, fmt="o", color=LINES[0], capsize=3)
        axis.axhline(0, color="#333333", linewidth=0.8)
        axis.set_xticks(range(len(rows)), names, rotation=45, ha="right")
        axis.set_title("\n".join(wrap(f"against {other}", 92 // len(others))), fontsize="small")
    axes[0, 0].set_ylabel("part of the difference,\nRecall@10 (95 %)")
    figure.supxlabel("occurrences of the target in training", fontsize="small")
    figure.suptitle(title)
    return figure


def learning_curves(groups: dict[str, Sequence[dict]]) -> Figure:
    """Validation Recall@10 by epoch: a panel a row, its seeds thin, their mean thick, the other rows' means in grey.

    A mean goes as far as every seed was trained. Rows that are not trained by epochs have no panel.
    """
    seeds = {name: [_validations(record) for record in group if record["epochs"]] for name, group in groups.items()}
    seeds = {name: curves for name, curves in seeds.items() if curves}
    if not seeds:
        return _nothing("no row here is trained by epochs")
    means = {name: pd.concat(curves, axis=1).dropna().mean(axis=1) for name, curves in seeds.items()}
    columns = min(3, len(seeds))
    rows = -(-len(seeds) // columns)
    size = (0.6 + 2.2 * columns, 0.6 + 1.4 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, sharex=True, sharey=True, squeeze=False)
    for axis, (name, curves) in zip(axes.flat, seeds.items(), strict=False):
        for mean in means.values():
            axis.plot(mean, color="0.8", linewidth=0.8)
        for curve in curves:
            axis.plot(curve, color=LINES[1], linewidth=0.6)
        axis.plot(means[name], color=LINES[0], linewidth=1.6)
        axis.set_title(name, fontsize=8)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axis in axes.flat[len(seeds) :]:
        axis.remove()
    for axis in axes.flat[len(seeds) - columns : len(seeds)]:  # the lowest of each column
        axis.tick_params(labelbottom=True)
    figure.supxlabel("epoch", fontsize="medium")
    figure.supylabel("validation Recall@10", fontsize="medium")
    return figure


def _validations(record: dict) -> pd.Series:
    """Recall@10 by epoch, of the epochs that were validated."""
    rows = validated(record["epochs"])
    return pd.Series([row["recall@10"] for row in rows], [row["epoch"] for row in rows])


def _nothing(why: str) -> Figure:
    figure = plt.figure(figsize=(4, 1))
    figure.text(0.5, 0.5, why, ha="center", va="center")
    return figure


def tokenizer_curves(groups: dict[str, Sequence[dict]]) -> Figure:
    """How the fit of each tokenizer's first seed went: a row of panels a tokenizer, a line a level.

    The error is what the levels up to this one leave, collisions are of the codes up to this one; usage and perplexity
    are the level's own, as shares of its codes. A level-wise tokenizer finishes a level before it begins the next, and
    counts its iterations anew. Rows that differ in the generator alone have one tokenizer, and are drawn once.
    """
    fits, names = {}, {}
    for name, group in groups.items():
        steps = group[0].get("tokenizer", {}).get("steps")
        if steps:  # a tokenizer may tell nothing of its fit
            fitted = repr({setting: value for setting, value in group[0]["trial"].items() if setting != "generator"})
            fits.setdefault(fitted, (pd.DataFrame(steps), group[0]))
            names.setdefault(fitted, []).append(name)
    if not fits:
        return _nothing("these tokenizers tell nothing of their fit")
    size = (7.2, 1.0 + 0.72 * len(fits))
    figure, axes = plt.subplots(len(fits), 4, figsize=size, sharex=True, sharey="col", squeeze=False)
    for row, (fitted, (steps, record)) in zip(axes, fits.items(), strict=True):
        codes, items = record["trial"]["tokenizer"]["codes"], record["data"]["items"]
        for level, own in steps.groupby("level"):
            shares = (own["error"], own["usage"] / codes, own["perplexity"] / codes, own["collisions"] / items)
            for axis, share in zip(row, shares, strict=True):
                # A fit that ends in one iteration is a point, not a line.
                marker, style = "o" if len(own) == 1 else "", line_style(level - 1)
                axis.plot(own["epoch"], share, label=f"level {level}", marker=marker, **style)
        said = "\n".join(line for name in names[fitted] for line in wrap(name, 20))
        row[0].set_ylabel(said, rotation=0, ha="right", va="center", fontsize=7)
    for axis, title in zip(axes[0], ("relative error", "usage", "perplexity", "collisions"), strict=True):
        axis.set(title=title, ylim=(0, None) if title == "relative error" else (0, 1.05), xscale="log")
        axis.xaxis.set_major_formatter("{x:.0f}")  # most happens in the first few
    for axis in axes[-1]:
        axis.set_xlabel("iteration or epoch", fontsize=8)
    deepest = max((row[0] for row in axes), key=lambda axis: len(axis.lines))
    figure.legend(*deepest.get_legend_handles_labels(), loc="outside lower center", ncols=len(deepest.lines))
    return figure
