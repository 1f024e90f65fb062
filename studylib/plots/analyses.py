"""What the analyses measure: values of modalities, relations, spaces, overlap, pages, claims."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studylib.plots.common import legend_aside

VERDICTS = {  # colour, marker: they differ in grey too
    "reproduced": ("#009E73", "o"), "contradicted": ("#D55E00", "s"), "undecided": ("#999999", "D"),
}  # fmt: skip


ROLES = {  # colour, marker: dark, middle and light, so that they differ in grey too
    "picture": ("#1b2a41", "s"), "text": ("#3A9BDC", "o"), "text as a picture": ("#F0A33A", "^"),
}  # fmt: skip


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
    legend_aside(axis)
    return axis


def what_a_page_loses(costs: pd.DataFrame, title: str) -> Figure:
    """Bars of what is misread and of which neighbours are other ones, a pair a page.

    Args:
        costs: ``reading.costs`` merged with ``reading.agreement``.
    """
    lost = {"lost": 1 - costs["agreement"], "lost low": 1 - costs["high"], "lost high": 1 - costs["low"]}
    costs, places = costs.assign(**lost), np.arange(len(costs))
    figure, axis = plt.subplots(figsize=(max(6.6, 0.85 * len(costs)), 3.2))
    kinds = (("error", "letters misread", "#D55E00", "//"), ("lost", "neighbours that changed", "#0072B2", ""))
    for number, (column, said, colour, hatch) in enumerate(kinds):
        spread = [costs[column] - costs[f"{column} low"], costs[f"{column} high"] - costs[column]]
        axis.bar(
            places + 0.4 * number - 0.2, costs[column], 0.38, yerr=np.clip(spread, 0, None), label=said, color=colour,
            hatch=hatch, edgecolor="#333333", linewidth=0.6, error_kw={"elinewidth": 1, "capsize": 2},
        )  # fmt: skip
    axis.set_xticks(places, costs["page"].str.replace(", ", ",\n"))
    said = "neighbours: against the first page"
    if costs["against"].nunique() > 1:
        said += " of its layout, and the first varied page against the first of all"
    axis.set(ylabel="share", ylim=(0, 1), xlabel=said)
    axis.grid(axis="x", visible=False)
    axis.legend(loc="upper left")
    axis.set_title(title)
    return figure


PLAINLY = {"tokens per word": "pieces a word is cut into,", "share cut off": "share of the text not read,"}


def relations(table: pd.DataFrame, title: str) -> Figure:
    """Spearman's rho with its interval over targets, and the middle 95 % of the control as a grey band.

    A panel a data set; in it a line for each property, of the target and of the history.
    """
    table = table.assign(said=table["property"].replace(PLAINLY) + " of the " + table["of"])
    names = list(dict.fromkeys(table.sort_values("of", ascending=False, kind="stable")["said"]))
    place = {said: len(names) - 1 - number for number, said in enumerate(names)}
    data_sets = list(table["data"].unique())
    size = max(6.6, 3.4 + 1.3 * len(data_sets)), 1.5 + 0.26 * len(names)
    figure, axes = plt.subplots(1, len(data_sets), figsize=size, sharex=True, sharey=True, squeeze=False)
    for axis, name in zip(axes[0], data_sets, strict=True):
        rows = table[table["data"] == name]
        places, low, high = rows["said"].map(place), rows["shuffled low"], rows["shuffled high"]
        axis.axvline(0, color="#333333", linewidth=0.8)
        axis.barh(places, high - low, left=low, height=0.7, color="#dddddd", label="properties dealt out at random")
        spread = [rows["rho"] - rows["low targets"], rows["high targets"] - rows["rho"]]
        axis.errorbar(
            rows["rho"], places, xerr=np.clip(spread, 0, None), fmt="o", color="#0072B2", capsize=3, markersize=4.5,
            label="95 % over targets",
        )  # fmt: skip
        axis.set_title(name, fontsize="small")
        axis.set_yticks(list(place.values()), names)
        axis.set_ylim(-0.6, len(names) - 0.4)
        axis.use_sticky_edges = False  # else the axis ends where the widest band does, and cuts whiskers
        axis.margins(x=0.05)
        axis.set_xlabel("Spearman's ρ")
        axis.grid(axis="y", visible=False)
    lines, said = axes[0][0].get_legend_handles_labels()
    figure.legend(lines, said, loc="outside lower center", ncols=2)
    figure.suptitle(title)
    return figure


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
    for number in axis.texts:  # its own choice of colour changes from cell to cell of nearly one grey
        number.set_color("white" if float(number.get_text()) > 0.5 else "black")
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
                linestyle=style, alpha=0.6, zorder=4,
            )  # fmt: skip
    area = np.clip(3000 / len(items), 2, 9)  # many points, small marks: a space must not hide the one below
    for space, own in points.groupby("space", sort=False):
        colour, marker = ROLES[roles[space]]
        axis.scatter(
            own["x"], own["y"], s=area, marker=marker, color=colour, edgecolors="white", linewidths=area / 30,
            label=f"{roles[space]} ({space})", zorder=3,
        )  # fmt: skip
    axis.set(xticks=[], yticks=[])
    for column, limit in (("x", axis.set_xlim), ("y", axis.set_ylim)):
        low, high = points[column].quantile([0.01, 0.99])
        limit(low - 0.05 * (high - low), high + 0.05 * (high - low))
    return axis


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
    legend_aside(axis)
    return axis
