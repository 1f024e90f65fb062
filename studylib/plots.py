"""Figures, drawn from tables; every function takes and returns an axis."""

import io
import re
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from studylib import paths
from studylib.files import write_bytes
from studylib.methods import COLOURS, HATCHES, KIND_NAMES
from studylib.metrics import validated
from studylib.wording import names_with_seeds

STYLE = "studylib.study"


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
    return " ".join(" ".join(filter(None, said)).replace("\n", " ").split())


def methods(table: pd.DataFrame, axis: Axes, metric: str = "recall@10", paper: bool = True) -> Axes:
    """One bar a method with its spread over seeds; the paper's number, where there is one, as a diamond."""
    rows = table.assign(method=names_with_seeds(table)).iloc[::-1]
    places = np.arange(len(rows))
    bars = axis.barh(
        places, rows[metric], xerr=rows[f"{metric} sd"], height=0.72, edgecolor="#333333", linewidth=0.6,
        color=[COLOURS[kind] for kind in rows["kind"]], error_kw={"elinewidth": 1, "capsize": 2},
    )  # fmt: skip
    for bar, kind, value, sd in zip(bars, rows["kind"], rows[metric], rows[f"{metric} sd"].fillna(0), strict=True):
        bar.set_hatch(HATCHES[kind])
        axis.annotate(
            f"{value:.3f}", (value + sd, bar.get_y() + bar.get_height() / 2), xytext=(4, 0),
            textcoords="offset points", va="center", fontsize=7,
        )  # fmt: skip
    axis.set_yticks(places, rows["method"])
    spread = _spread(rows[f"{metric} sd"])
    axis.set_xlabel(f"test {metric.replace('recall', 'Recall').replace('ndcg', 'NDCG')} ({spread})")
    axis.grid(axis="y", visible=False)
    axis.margins(x=0.16)
    handles = [
        Patch(facecolor=COLOURS[kind], hatch=HATCHES[kind], edgecolor="#333333", label=KIND_NAMES[kind])
        for kind in dict.fromkeys(table["kind"])
    ]
    if paper and rows["paper"].notna().any():
        marks = axis.plot(rows["paper"], places, "D", color="white", markeredgecolor="black", markersize=5, zorder=5)
        marks[0].set_label("the paper's number")
        handles.append(marks[0])
    axis.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.03, 1.0))
    return axis


def _spread(deviations: pd.Series | pd.DataFrame) -> str:
    return "one seed" if deviations.isna().all(axis=None) else "mean, sd over seeds"


def learning_curves(groups: dict[str, Sequence[dict]], axis: Axes) -> Axes:
    """Validation Recall@10 by epoch, mean over a group's seeds, as far as every seed was trained."""
    shown = 0
    for name, group in groups.items():
        curves = [validated(record["epochs"]) for record in group if record["epochs"]]
        if not curves:
            continue
        shortest = min(map(len, curves))
        epochs = [row["epoch"] for row in curves[0][:shortest]]
        mean = np.mean([[row["recall@10"] for row in curve[:shortest]] for curve in curves], axis=0)
        axis.plot(epochs, mean, label=name, **line_style(shown))
        shown += 1
    axis.set(xlabel="epoch", ylabel="validation Recall@10 (mean over seeds)")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return axis


LINES = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def line_style(number: int) -> dict:
    """Colour and dashes of the n-th line: neighbours differ in both, and the first twenty-eight all differ."""
    return {
        "color": LINES[number % len(LINES)],
        "linestyle": ("-", "--", ":", "-.")[(number % len(LINES) + number // len(LINES)) % 4],
        "linewidth": 1.3,
    }


def differences(
    table: pd.DataFrame, axis: Axes, grid: dict[str, dict[str, float]] | None = None, names: Sequence[str] = (),
    metric: str = "recall@10",
) -> Axes:  # fmt: skip
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
    middle, low, high = (100 * (rows[column] / rows["base"]).to_numpy() for column in ("difference", "low", "high"))
    told_apart = (rows["p holm"] < 0.05).to_numpy()
    axis.axvline(0, color="#333333", linewidth=0.8)
    axis.errorbar(
        middle, places, xerr=[middle - low, high - middle], fmt="none", ecolor="#0072B2", elinewidth=1.6, capsize=3
    )
    for chosen, fill, said in (
        (told_apart, "#0072B2", "told apart, p < 0.05"),
        (~told_apart, "white", "not told apart"),
    ):
        axis.plot(middle[chosen], places[chosen], "o", color=fill, markeredgecolor="#0072B2", label=f"here, {said}")
    theirs = [
        (100 * changes[name], place)
        for name, place in zip([name for name in names if name != names[0]], places, strict=False)
        for changes in (grid or {}).values()
        if name in changes
    ]
    if theirs:
        axis.plot(
            *np.array(theirs).T, "D", color="none", markeredgecolor="#D55E00", markersize=5, label="002, each data set"
        )
    usual = rows["against"] == reference
    axis.set_yticks(places, rows["method"].where(usual, rows["method"] + "\nagainst " + rows["against"]))
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.set_xlabel(f"test Recall@10 against “{base['method']}” ({base[metric]:.4f}), %")
    axis.grid(axis="y", visible=False)
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return axis


def by_strategy(
    means: pd.DataFrame, spreads: pd.DataFrame, axis: Axes, lines: dict[str, float], metric: str = "recall@10"
) -> Axes:
    """Bars of several texts side by side for each strategy (000, Figures 4 and 5), single modalities as lines.

    Args:
        means, spreads: strategies x texts.
        lines: value of each single modality.
    """
    places, width = np.arange(len(means)), 0.8 / means.shape[1]
    for number, text in enumerate(means.columns):
        bars = axis.bar(
            places + (number - (means.shape[1] - 1) / 2) * width, means[text], width * 0.94, label=f"{text} + image",
            yerr=spreads[text], color=list(COLOURS.values())[number], edgecolor="#333333", linewidth=0.6,
            error_kw={"elinewidth": 1, "capsize": 2},
        )  # fmt: skip
        for bar in bars:
            bar.set_hatch(list(HATCHES.values())[number])
    for number, (name, value) in enumerate(lines.items()):  # black, for a line of a bar's colour is lost on the bar
        axis.axhline(value, label=f"{name} alone", **line_style(number) | {"color": "black"})
    axis.set_xticks(places, means.index)
    middle, half = (len(means) - 1) / 2, max(len(means) / 2 + 0.1, 1.2)  # one strategy alone fills no picture
    axis.set_xlim(middle - half, middle + half)
    axis.set_ylabel(f"test {metric.replace('recall', 'Recall')} (bars: {_spread(spreads)})")
    axis.grid(axis="x", visible=False)
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return axis


def strategy_panels(means: pd.DataFrame, spreads: pd.DataFrame, lines: dict[str, float], title: str) -> Figure:
    """``by_strategy`` with a panel for each strategy, all on one scale (000, Figure 5)."""
    figure, axes = plt.subplots(1, len(means), figsize=(3.2 + 0.95 * len(means), 3.2), sharey=True, squeeze=False)
    for axis, strategy in zip(axes[0], means.index, strict=True):
        by_strategy(means.loc[[strategy]], spreads.loc[[strategy]], axis, lines)
        axis.set(xlim=(-0.6, 0.6), xticks=[])
        axis.set_title(strategy.replace(" ", "\n", 1).replace(", ", ",\n").replace(" and ", "\nand "), fontsize=8)
        if axis is not axes[0, -1]:
            axis.get_legend().remove()
        if axis is not axes[0, 0]:
            axis.set_ylabel("")
    axes[0, 0].set_ylabel(f"test Recall@10\n(bars: {_spread(spreads)})")
    figure.suptitle(title)
    return figure


def changes(table: pd.DataFrame, axis: Axes, metrics: Sequence[str] = ("recall@10", "ndcg@10")) -> Axes:
    """Relative changes in % with their intervals, one line a pair, from ``tables.changes``; the paper's as diamonds."""
    pairs = list(table["pair"].unique())
    places = np.arange(len(pairs))[::-1]
    axis.axvline(0, color="#333333", linewidth=0.8)
    for number, metric in enumerate(metrics):
        rows = table[table["metric"] == metric].set_index("pair").loc[pairs]
        middle, said = rows["difference %"], metric.replace("recall", "Recall").replace("ndcg", "NDCG")
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
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return axis


def what_a_page_loses(costs: pd.DataFrame, axis: Axes) -> Axes:
    """Bars of what is misread and of which neighbours are other ones, a pair a page.

    Args:
        costs: ``reading.costs`` merged with ``reading.agreement``.
    """
    lost = {"lost": 1 - costs["agreement"], "lost low": 1 - costs["high"], "lost high": 1 - costs["low"]}
    costs, places = costs.assign(**lost), np.arange(len(costs))
    kinds = (("error", "letters misread", "#D55E00", "//"), ("lost", "neighbours that changed", "#0072B2", ""))
    for number, (column, said, colour, hatch) in enumerate(kinds):
        spread = [costs[column] - costs[f"{column} low"], costs[f"{column} high"] - costs[column]]
        axis.bar(
            places + 0.4 * number - 0.2, costs[column], 0.38, yerr=np.clip(spread, 0, None), label=said, color=colour,
            hatch=hatch, edgecolor="#333333", linewidth=0.6, error_kw={"elinewidth": 1, "capsize": 2},
        )  # fmt: skip
    axis.set_xticks(places, costs["page"].str.replace(", ", ",\n"))
    axis.set(ylabel="share", ylim=(0, 1))
    axis.grid(axis="x", visible=False)
    axis.legend(loc="upper left")
    return axis


def values(table: pd.DataFrame, axis: Axes) -> Axes:
    """Shapley values with their intervals over users, one bar a modality; a diamond where there is an ideal value."""
    rows = table.iloc[::-1]
    spread = np.clip([rows["value"] - rows["low"], rows["high"] - rows["value"]], 0, None)
    axis.barh(
        rows["modality"], rows["value"], xerr=spread, color="#0072B2", edgecolor="#333333", height=0.6,
        error_kw={"elinewidth": 1, "capsize": 3},
    )  # fmt: skip
    if "ideal value" in rows:
        axis.plot(
            rows["ideal value"], rows["modality"], "D", color="white", markeredgecolor="black", label="ideal reader"
        )
    axis.axvline(0, color="#333333", linewidth=0.8)
    axis.set_xlabel("Shapley value, Recall@10 (95 % over users)")
    axis.grid(axis="y", visible=False)
    return axis


def by_occurrence(table: pd.DataFrame, axis: Axes) -> Axes:
    """One line a method over groups of targets, from ``frequency.by_occurrence``; each group's share stands below."""
    shares, *rows = (row for _, row in table.drop(columns="all").set_index("method").iterrows())
    for number, row in enumerate(rows):
        axis.plot(range(len(row)), row, label=row.name, marker="osD^v"[number % 5], markersize=4, **line_style(number))
    axis.set_xticks(
        range(len(shares)), [f"{name.replace(' or more', '+')}\n{share:.0%}" for name, share in shares.items()]
    )
    axis.set(xlabel="occurrences of the target in training; share of targets", ylabel="test Recall@10")
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return axis


def values_by_knobs(rows: pd.DataFrame) -> Figure:
    """``values`` of every setting of the planted knobs beside the ideal reader's, from ``shapley.beside_ideal``."""
    settings = [row for _, row in rows.groupby("data", sort=False)]
    lines = -(-len(settings) // 2)
    figure, axes = plt.subplots(lines, 2, figsize=(6.6, 1.7 * lines), sharex=True, sharey=True, squeeze=False)
    for axis, row in zip(axes.flat, settings, strict=False):
        values(row, axis)
        axis.set_title(", ".join(f"{part['modality']} {part['knob']:g}" for _, part in row.iterrows()))
        axis.label_outer()
    for axis in axes.flat[len(settings) :]:
        axis.remove()
    axes[0, 0].legend()
    return figure


def relations(table: pd.DataFrame, axis: Axes) -> Axes:
    """Spearman's rho with its interval over targets, and the middle 95 % of the control as a grey band."""
    places = np.arange(len(table))[::-1]
    names = [f"{row['data']}: {row['property']} of the {row['of']}" for _, row in table.iterrows()]
    axis.axvline(0, color="#333333", linewidth=0.8)
    axis.barh(
        places, table["shuffled high"] - table["shuffled low"], left=table["shuffled low"], height=0.7, color="#dddddd",
        label="properties dealt out at random",
    )  # fmt: skip
    spread = [table["rho"] - table["low targets"], table["high targets"] - table["rho"]]
    axis.errorbar(
        table["rho"], places, xerr=np.clip(spread, 0, None), fmt="o", color="#0072B2", capsize=3, markersize=4.5,
        label="95 % over targets",
    )  # fmt: skip
    axis.set_yticks(places, names)
    axis.set_xlabel("Spearman's ρ with the gain of OCR-text over text (NDCG@20)")
    axis.grid(axis="y", visible=False)
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return axis


VERDICTS = {  # colour, marker: they differ in grey too
    "reproduced": ("#009E73", "o"), "contradicted": ("#D55E00", "s"), "undecided": ("#999999", "D"),
}  # fmt: skip


def claims(details: pd.DataFrame, axis: Axes) -> Axes:
    """Every claim's effect and interval on every data set, by verdict, on what the claim says; ``claims.ledger``."""
    rows = details[details["missing"] == ""].iloc[::-1].reset_index(drop=True)
    ends = 1.1 * np.array([min(rows["low"].min(), 0), max(rows["high"].max(), 0)]) if len(rows) else (0, 1)
    least, most = rows["above"].clip(*ends), rows["below"].clip(*ends)
    axis.barh(rows.index, most - least, left=least, height=0.8, color="#e5e5e5", label="as claimed")
    axis.set_xlim(*ends)
    axis.axvline(0, color="#333333", linewidth=0.8)
    for verdict, (colour, marker) in VERDICTS.items():
        own = rows[rows["verdict"] == verdict]
        spread = np.clip([own["value"] - own["low"], own["high"] - own["value"]], 0, None)
        axis.errorbar(
            own["value"], own.index, xerr=spread, fmt=marker, color=colour, capsize=2, markersize=5, label=verdict
        )
    axis.set_yticks(rows.index, rows["claim"] + ", " + rows["data"])
    axis.set_ylim(-0.6, max(len(rows), 1) - 0.4)
    axis.set_xlabel("relative change of Recall@10, or the measure that the claim names; 95 % interval")
    axis.grid(axis="y", visible=False)
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return axis


ROLES = {  # colour, marker: dark, middle and light, so that they differ in grey too
    "picture": ("#1b2a41", "s"), "text": ("#0072B2", "o"), "text as a picture": ("#F0A33A", "^"),
}  # fmt: skip


def joint_projection(points: pd.DataFrame, axis: Axes, lines: int, roles: dict[str, str]) -> Axes:
    """Points of every space, and lines from the picture to each text of some items, evenly chosen.

    Args:
        roles: of each space, by its name: one of ``ROLES``.

    The axes show the middle 98 % of the points: one that lies far out would press the others together.
    """
    items = np.sort(points["item"].unique())
    some = items[:: max(1, len(items) // max(1, lines))][:lines]
    by_role = {roles[space]: own.set_index("item") for space, own in points.groupby("space", sort=False)}
    for (role, own), style in zip(list(by_role.items())[1:], ("-", "--"), strict=False):
        for item in some:
            ends = [by_role["picture"].loc[item], own.loc[item]]
            axis.plot(
                [end["x"] for end in ends], [end["y"] for end in ends], color=ROLES[role][0], linewidth=0.5,
                linestyle=style, alpha=0.6,
            )  # fmt: skip
    for space, own in points.groupby("space", sort=False):
        colour, marker = ROLES[roles[space]]
        axis.scatter(
            own["x"], own["y"], s=9, marker=marker, color=colour, edgecolors="white", linewidths=0.3,
            label=f"{roles[space]} ({space})", zorder=3,
        )  # fmt: skip
    axis.set(xticks=[], yticks=[])
    for column, limit in (("x", axis.set_xlim), ("y", axis.set_ylim)):
        low, high = points[column].quantile([0.01, 0.99])
        limit(low - 0.05 * (high - low), high + 0.05 * (high - low))
    return axis


def agreement(pairs: pd.DataFrame, title: str) -> Figure:
    """A triangle of AMI between the first codes of two rows each; columns ``first``, ``second``, ``ami``.

    Names stand at the rows with numbers, the numbers alone at the columns. A row against itself, which is two seeds of
    it, stands on the diagonal.
    """
    names = list(dict.fromkeys([*pairs["first"], *pairs["second"]]))
    across = names if (pairs["first"] == pairs["second"]).any() else names[:-1]
    square = pairs.pivot(index="second", columns="first", values="ami").reindex(names, columns=across)
    side = 0.42 * max(len(names), 4)  # two rows alone would leave no room for title and scale
    figure, axis = plt.subplots(figsize=(side + 3, side + 0.6))
    seaborn.heatmap(
        square.astype(float), ax=axis, annot=True, fmt=".2f", cmap="Greys", vmin=0, vmax=1, square=True, linewidths=0.5,
        annot_kws={"size": 8}, cbar_kws={"label": "AMI (0 chance, 1 the same)", "shrink": 0.9},
    )  # fmt: skip
    axis.set(xlabel="", ylabel="", title=title if len(names) > 3 else title.replace(" ", "\n", 2))
    axis.set_xticks(axis.get_xticks(), range(1, len(across) + 1), rotation=0)
    wrapped = [name.replace(", ", ",\n", 1) for name in names]
    numbered = [f"{name}  {number}" for number, name in enumerate(wrapped, 1)]
    axis.set_yticks(axis.get_yticks(), numbered, rotation=0)
    axis.grid(visible=False)
    return figure


def over_knob(table: pd.DataFrame, axis: Axes) -> Axes:
    """AMI with its interval over a planted knob, and that of permuted items; columns as in ``overlap.code_overlap``."""
    spread = np.clip([table["ami"] - table["low"], table["high"] - table["ami"]], 0, None)
    axis.errorbar(table["knob"], table["ami"], yerr=spread, fmt="o-", capsize=3, label="AMI, 95 % over items")
    axis.plot(table["knob"], table["ami shuffled"], "x--", color="#777777", label="items permuted")
    axis.set(xlabel="share of products whose text and picture agree", ylabel="AMI")
    axis.legend()
    return axis


def tokenizer_curves(groups: dict[str, Sequence[dict]]) -> Figure:
    """How the fit of each tokenizer's first seed went: error, use and collisions down, levels across.

    The error is what the levels up to this one leave, collisions are of the codes up to this one; usage and perplexity
    are the level's own, as shares of its codes. A level-wise tokenizer finishes a level before it begins the next, and
    counts its iterations anew.
    """
    fits = {
        name: (pd.DataFrame(group[0]["tokenizer"]["steps"]), group[0])
        for name, group in groups.items()
        if group[0].get("tokenizer")
    }
    levels = max(steps["level"].max() for steps, _ in fits.values())
    figure, axes = plt.subplots(4, levels, figsize=(0.6 + 2.2 * levels, 7.2), sharex=True, sharey="row", squeeze=False)
    for number, (name, (steps, record)) in enumerate(fits.items()):
        codes, items = record["trial"]["tokenizer"]["codes"], record["data"]["items"]
        for level, own in steps.groupby("level"):
            shares = (own["error"], own["usage"] / codes, own["perplexity"] / codes, own["collisions"] / items)
            for axis, share in zip(axes[:, level - 1], shares, strict=True):
                # A fit that ends in one iteration is a point, not a line.
                axis.plot(own["epoch"], share, label=name, marker="o" if len(own) == 1 else "", **line_style(number))
    for axis, title in zip(axes[:, 0], ("relative error", "usage", "perplexity", "collisions"), strict=True):
        axis.set(ylabel=title, ylim=(0, None) if title == "relative error" else (0, 1.03))
    for level, (top, bottom) in enumerate(zip(axes[0], axes[-1], strict=True), 1):
        top.set_title(f"level {level}")
        bottom.set(xlabel="iteration or epoch", xscale="log")  # most happens in the first few
        bottom.xaxis.set_major_formatter("{x:.0f}")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def attribute_density(densities: pd.DataFrame, axis: Axes) -> Axes:
    """Stacked shares of the kinds of attribute-like tokens; one bar a data set, columns as in ``attributes.KINDS``."""
    shades = {"numeral": "#0072B2", "unit": "#E69F00", "separator": "#999999", "abbreviation": "#CC79A7"}
    hatches = {"numeral": "", "unit": "//", "separator": "..", "abbreviation": "xx"}
    left = np.zeros(len(densities))
    for kind, colour in shades.items():
        axis.barh(
            densities.index, densities[kind], left=left, color=colour, hatch=hatches[kind], label=kind, height=0.6,
            edgecolor="#333333", linewidth=0.5,
        )  # fmt: skip
        left = left + densities[kind].to_numpy()
    axis.set_xlabel("share of an item's tokens (mean over items)")
    axis.grid(axis="y", visible=False)
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return axis


def use_style() -> None:
    """Set the study's style for all figures of this process."""
    plt.style.use(STYLE)
