"""From finished trials to tables: means over seeds, paired tests over users, the paper's number beside ours."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from studylib import paths
from studylib.ablations import fused_label
from studylib.analysis.significance import compare, holm
from studylib.errors import StudyError
from studylib.files import write_bytes, write_json
from studylib.methods import Method, method
from studylib.metrics import PickedRanks, Ranks, validated
from studylib.store import Store

METRICS = ("recall@5", "recall@10", "recall@20", "ndcg@5", "ndcg@10", "ndcg@20")  # the columns of 000's Table 2


def per_user(records: Sequence[dict], metric: str, unseen: bool = False) -> np.ndarray:
    """One metric of every seed and user, [seeds, users]."""
    name, k = metric.split("@")
    field = "ranks_unseen" if unseen else "ranks"
    return np.stack([getattr(Ranks.unpack(record[field]), name)(int(k)) for record in records])


def paired(first: Sequence[dict], second: Sequence[dict], metric: str, unseen: bool = False) -> list[np.ndarray]:
    """``per_user`` of two groups, for ``significance.compare``; what draws nothing is the same with every seed."""
    groups = (first, second)
    seeds = max(map(len, groups))
    return [
        np.repeat(per_user(group, metric, unseen), seeds if method_of(group[0]).seedless else 1, axis=0)
        for group in groups
    ]


def by_method(records: Sequence[dict]) -> dict[str, list[dict]]:
    """Records grouped by the label of their features, or of the generator of a baseline."""
    groups: dict[str, list[dict]] = {}
    for record in records:
        groups.setdefault(method_of(record).label, []).append(record)
    return groups


def method_of(record: dict) -> Method:
    """What a record's row is called and how it is drawn."""
    return method(record["trial"]["features"], record["trial"]["generator"]["name"])


def comparison(
    groups: dict[str, Sequence[dict]],
    reference: str | None = None,
    metric: str = "recall@10",
    against: dict[str, str] | None = None,
    unseen: bool = False,
) -> pd.DataFrame:
    """One row a group of records (its seeds), by name, each tested against the group of ``reference``, or the first.

    Columns: ``method`` (the group's name), ``kind`` (of its first record), ``seeds``; every metric's mean over seeds
    and ``<metric> sd``; ``<metric> unseen`` with seen items left out; ``cpu seconds`` of one trial; and for ``metric``
    the difference to the reference with its 95 % interval, p and Holm-corrected p over the table's comparisons (see
    ``significance.compare``), the reference's name (``against``) and its mean (``base``).

    Args:
        against: of rows that have another reference, its name.
        unseen: what is tested (``difference`` to ``base``) is ``metric`` with seen items left out.
    """
    reference = next(iter(groups)) if reference is None else reference
    if reference not in groups:
        raise StudyError(f"reference {reference!r} is none of the rows {', '.join(groups)}")
    rows = []
    for name, group in groups.items():
        row = {"method": name, "kind": method_of(group[0]).kind, "seeds": len(group)}
        for column in METRICS:
            values = [record["metrics"][column] for record in group]
            row[column] = np.mean(values)
            row[f"{column} sd"] = np.std(values, ddof=1) if len(values) > 1 else np.nan
        row[f"{metric} unseen"] = np.mean([record["metrics_unseen"][metric] for record in group])
        row["cpu seconds"] = np.mean([record.get("cost", {}).get("cpu_seconds", np.nan) for record in group])
        if name != reference:
            other = (against or {}).get(name, reference)
            values, base = paired(group, groups[other], metric, unseen)
            found = compare(values, base)
            row |= {"difference": found.difference, "low": found.low, "high": found.high, "p": found.p}
            row |= {"against": other, "base": base.mean()}
        rows.append(row)
    table = pd.DataFrame(rows)
    for column in ("difference", "low", "high", "p", "against", "base"):
        if column not in table:
            table[column] = np.nan
    table["p holm"] = np.nan
    tested = table["p"].notna()
    table.loc[tested, "p holm"] = holm(table.loc[tested, "p"].tolist())
    return table


def recommendation(
    records: Sequence[dict],
    reference: str,
    paper: dict[str, dict[str, float]] | None = None,
    metric: str = "recall@10",
) -> pd.DataFrame:
    """``comparison`` of what each record calls itself, with the paper's number beside it.

    Args:
        reference: features name of the row that the others are compared with.
        paper: by kind ("text", "ocr"), the paper's metrics: column ``paper``.
    """
    groups = by_method(records)
    table = comparison(groups, method(reference).label, metric)
    theirs = [(paper or {}).get(method_of(group[0]).paper, {}) for group in groups.values()]
    table["paper"] = [numbers.get(metric, np.nan) for numbers in theirs]
    return table


EQUAL = 0.01  # relative change up to which two rows count as equal


def beside_grid(
    table: pd.DataFrame, names: Sequence[str], grid: dict[str, dict[str, float]], metric: str = "recall@10"
) -> pd.DataFrame:
    """Our direction and 002's, for the rows of ``comparison`` that 002 has too.

    Args:
        names: of the table's rows but the baselines, as ``grid`` knows them.
        grid: relative changes by data set and row (``papers.grid``).

    A direction of ours is "better" or "worse" where the Holm-corrected test says so, "equal" where the interval of the
    change lies within ``EQUAL``, else "not told apart". One of 002's is that of all its data sets; it gives no spread,
    so there a change within ``EQUAL`` counts as none; "mixed" where they disagree. The columns are there without rows.
    """
    rows = []
    for name, (_, row) in zip(names, table[table["kind"] != "baseline"].iterrows(), strict=True):
        theirs = {data: changes[name] for data, changes in grid.items() if name in changes}
        if not theirs:
            continue
        ours, paper = verdict(row), direction(list(theirs.values()))
        rows.append(
            {
                "row": row["method"],
                "ours": f"{row['difference'] / row['base']:+.1%}",
                "p (Holm)": f"{row['p holm']:.4f}",
                "our direction": ours,
                "002": ", ".join(f"{data} {change:+.1%}" for data, change in theirs.items()),
                "its direction": paper,
                "agree": "–" if "mixed" in paper or ours == "not told apart" else "yes" if ours == paper else "no",
            }
        )
    columns = ["row", "ours", "p (Holm)", "our direction", "002", "its direction", "agree"]
    return pd.DataFrame(rows, columns=columns)


def seen_left_out(groups: dict[str, Sequence[dict]], metric: str = "recall@10") -> pd.DataFrame:
    """One row a group: the metric with every item allowed, with the items of the history left out, and the change.

    ``relative`` is the change as a share of the former; ``p holm`` is corrected over the rows.
    """
    rows = []
    for name, group in groups.items():
        every, unseen = per_user(group, metric), per_user(group, metric, unseen=True)
        found = compare(unseen, every)
        row = {"method": name, "every item": every.mean(), "seen left out": unseen.mean()}
        row |= {"relative": found.difference / every.mean()}
        rows.append(row | {column: getattr(found, column) for column in ("difference", "low", "high", "p")})
    table = pd.DataFrame(rows)
    return table.assign(**{"p holm": holm(table["p"].tolist())})


def contrasts(
    pairs: dict[str, tuple[Sequence[dict], Sequence[dict]]], metric: str = "recall@10", unseen: bool = False
) -> pd.DataFrame:
    """One row a pair of groups: both means, first minus second with interval, p and Holm-corrected p over the rows."""
    rows = []
    for name, (first, second) in pairs.items():
        values = paired(first, second, metric, unseen)
        found = compare(*values)
        rows.append({"pair": name, "first": values[0].mean(), "second": values[1].mean()} | vars(found))
    table = pd.DataFrame(rows, columns=["pair", "first", "second", "difference", "low", "high", "p"])
    table["p holm"] = holm(table["p"].tolist())
    return table


def with_and_without_seen(
    pairs: dict[str, tuple[Sequence[dict], Sequence[dict]]], metric: str = "recall@10"
) -> pd.DataFrame:
    """``contrasts`` with every item allowed, and with the items of the history left out; corrected over all rows."""
    kinds = {"every item": False, "seen left out": True}
    table = pd.concat(
        [contrasts(pairs, metric, unseen).assign(items=name) for name, unseen in kinds.items()], ignore_index=True
    )
    table.insert(1, "items", table.pop("items"))
    return table.assign(**{"p holm": holm(table["p"].tolist())})


def epochs_run(groups: dict[str, Sequence[dict]]) -> pd.DataFrame:
    """One row a group that was trained: epochs it was to have, those it had, and the best, seed by seed."""
    rows = []
    for name, group in groups.items():
        looked = [validated(record["epochs"]) for record in sorted(group, key=lambda row: row["trial"]["seed"])]
        if not all(looked):
            continue
        best = [max(rows, key=lambda row: row["recall@10"])["epoch"] for rows in looked]
        planned = [record["trial"]["generator"]["epochs"] for record in group]
        columns = {"at most": planned[:1], "run": [rows[-1]["epoch"] for rows in looked], "best": best}
        rows.append({"method": name} | {column: " / ".join(map(str, values)) for column, values in columns.items()})
    return pd.DataFrame(rows)


def changes(
    pairs: dict[str, tuple[Sequence[dict], Sequence[dict]]], metrics: Sequence[str] = METRICS,
    paper: dict[str, dict[str, float]] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """One row a pair and metric: relative change from the second to the first, with interval, in % (000, Table 3).

    ``p holm`` is corrected over all rows: a table of changes is read for its largest. An interval ends at -100 %, where
    nothing is left.

    Args:
        paper: by pair, the paper's change of each metric in %: column ``paper %``.
    """
    tables = []
    for metric in metrics:
        table = contrasts(pairs, metric).assign(metric=metric)
        for column in ("difference", "low", "high"):
            table[f"{column} %"] = (100 * table[column] / table["second"]).clip(lower=-100)
        table["paper %"] = [(paper or {}).get(pair, {}).get(metric, np.nan) for pair in table["pair"]]
        tables.append(table)
    table = pd.concat(tables, ignore_index=True)
    return table.assign(**{"p holm": holm(table["p"].tolist())})


def readable_changes(table: pd.DataFrame) -> pd.DataFrame:
    """``changes`` as it is printed: one row a pair, one column a metric, and the paper's row below where it has one."""
    said = table.apply(lambda row: f"{row['difference %']:+.1f} [{row['low %']:+.1f}, {row['high %']:+.1f}]", axis=1)
    theirs = table[table["paper %"].notna()]
    theirs = theirs.assign(said=theirs["paper %"].map("{:+.1f}".format), source="paper, %")
    both = pd.concat([table.assign(said=said, source="here, %"), theirs])
    both["title"] = both["metric"].map(_title)
    wide = both.pivot(index=["pair", "source"], columns="title", values="said")
    order = [row for pair in table["pair"].unique() for row in ((pair, "here, %"), (pair, "paper, %"))]
    titles = [_title(metric) for metric in table["metric"].unique()]
    return wide.loc[[row for row in order if row in wide.index], titles].reset_index()


def by_strategy(
    groups: dict[str, Sequence[dict]], texts: Sequence[str], strategies: Sequence[str], metric: str = "recall@10"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Means and standard deviations over seeds of fused rows, strategies x texts."""
    cells = {text: [groups[fused_label(text, strategy)] for strategy in strategies] for text in texts}
    values = {text: [[r["metrics"][metric] for r in group] for group in column] for text, column in cells.items()}
    means = {text: [np.mean(seeds) for seeds in column] for text, column in values.items()}
    spreads = {text: [pd.Series(seeds).std() for seeds in column] for text, column in values.items()}
    return pd.DataFrame(means, index=list(strategies)), pd.DataFrame(spreads, index=list(strategies))


def fusion_pairs(
    groups: dict[str, Sequence[dict]], texts: Sequence[str], strategies: Sequence[str], image: str,
    metric: str = "recall@10",
) -> dict[str, tuple[Sequence[dict], Sequence[dict]]]:  # fmt: skip
    """Pairs for ``contrasts``: each later text against the first, each fused row against its better half, each later
    strategy against the first, and the best fused row against item-kNN, where that is among the groups."""
    pairs = {}
    for strategy in strategies:
        for text in texts[1:]:
            pair = (groups[fused_label(text, strategy)], groups[fused_label(texts[0], strategy)])
            pairs[f"{strategy}: {text} against {texts[0]}"] = pair
    for strategy in strategies:
        for text in texts:
            better = max((text, image), key=lambda half: per_user(groups[half], metric).mean())
            name = fused_label(text, strategy)
            pairs[f"{name}, against {better} alone"] = (groups[name], groups[better])
    for text in texts:
        first, *later = (fused_label(text, strategy) for strategy in strategies)
        for name, strategy in zip(later, strategies[1:], strict=True):
            pairs[f"{text} + image: {strategy} against {strategies[0]}"] = (groups[name], groups[first])
    if (knn := method("none", "item-knn").label) in groups:
        rows = [fused_label(text, strategy) for strategy in strategies for text in texts]
        best = max(rows, key=lambda row: per_user(groups[row], metric).mean())
        pairs[f"{best}, the best, against {knn}"] = (groups[best], groups[knn])
    return pairs


def part_hits(groups: dict[str, Sequence[dict]], k: int = 5) -> pd.DataFrame:
    """Recall@k of late-fused rows if one modality's codes had to be right, and if all had to (004, Table 3).

    ``first`` and ``second`` are what the modalities are called, in the order in which their codes are written.
    """
    rows = []
    for name, group in groups.items():
        if all("ranks_parts" in record for record in group):
            row = {"method": name}
            modalities = group[0]["trial"]["features"].split("+")  # the record's parts have lost their order
            for place, part in zip(("first", "second"), modalities, strict=True):
                recalls = [Ranks.unpack(record["ranks_parts"][part]).recall(k) for record in group]
                row |= {place: method(part).label, f"{place} right": np.mean(recalls)}
            rows.append(row | {"whole ID": per_user(group, f"recall@{k}").mean()})
    return pd.DataFrame(rows)


def verdict(row: pd.Series) -> str:
    """What the corrected test, and the interval, say of a row of ``comparison``.

    >>> made = {"p holm": 1.0, "base": 0.1, "difference": 0.0, "low": -0.0005, "high": 0.0005}
    >>> [verdict(pd.Series(made | more)) for more in ({}, {"high": 0.002}, {"difference": -0.01, "p holm": 0.01})]
    ['equal', 'not told apart', 'worse']
    """
    if row["p holm"] < 0.05:
        return "better" if row["difference"] > 0 else "worse"
    return "equal" if max(-row["low"], row["high"]) <= EQUAL * row["base"] else "not told apart"


def direction(changes: Sequence[float]) -> str:
    """One word for relative changes on several data sets.

    >>> direction([-0.2, -0.1]), direction([0.004]), direction([0.1, -0.1]), direction([-0.2, -0.001])
    ('worse', 'equal', 'mixed', 'mixed')
    """
    signs = {0 if abs(change) <= EQUAL else int(np.sign(change)) for change in changes}
    return ("equal", "better", "worse")[signs.pop()] if len(signs) == 1 else "mixed"


def semantic_id_quality(groups: dict[str, Sequence[dict]]) -> pd.DataFrame:
    """One row a kind of IDs: codes used and perplexity of each level, relative error, collisions; means over seeds.

    ``collide before`` and ``after``: items that shared their ID before and after something was done about it.
    """
    rows = []
    for name, group in groups.items():
        quality = [record["semantic_ids"] for record in group if record["semantic_ids"]]
        if not quality:
            continue
        errors = [row["relative_error"][-1] for row in quality if row["relative_error"]]
        rows.append(
            {
                "method": name,
                "codes used": _levels(quality, "usage", "{:.0f}"),
                "perplexity": _levels(quality, "perplexity", "{:.1f}"),
                "relative error": round(float(np.mean(errors)), 4) if errors else None,
                "collision rate": round(float(np.mean([row["collision_rate"] for row in quality])), 4),
            }
        )
        resolved = [record["tokenizer"]["collisions"] for record in group if "tokenizer" in record]
        for when in ("before", "after") if resolved else ():
            rows[-1][f"collide {when}"] = f"{np.mean([row[when] for row in resolved]):.0f}"
    return pd.DataFrame(rows).fillna("")


def one_drawn(groups: dict[str, Sequence[dict]], metric: str = "recall@10") -> pd.DataFrame:
    """One row a group whose items share IDs: all of an ID's items shown, in any order, or one drawn for each ID.

    002 shows one; see ``metrics.PickedRanks``. Groups of trials without such ranks are left out.
    """
    name, k = metric.split("@")
    rows = []
    for row, group in groups.items():
        if all("ranks_picked" in record for record in group):
            drawn = np.stack([getattr(PickedRanks.unpack(r["ranks_picked"]), name)(int(k)) for r in group])
            every = per_user(group, metric)
            found = compare(drawn, every)
            rows.append({"method": row, "all shown": every.mean(), "one drawn": drawn.mean()})
            rows[-1] |= {column: getattr(found, column) for column in ("difference", "low", "high", "p")}
    return pd.DataFrame(rows)


def _levels(quality: Sequence[dict], name: str, form: str) -> str:
    return " / ".join(form.format(value) for value in np.mean([row[name] for row in quality], axis=0))


def names_with_seeds(table: pd.DataFrame) -> pd.Series:
    """Each row's name, with its number of seeds where another row has more: it holds more luck."""
    content = table["kind"] != "baseline"
    fewer = content & (table["seeds"] < table.loc[content, "seeds"].max())
    counted = table["seeds"].map(lambda seeds: f", {seeds} seed{'s' if seeds > 1 else ''}")
    return table["method"].where(~fewer, table["method"] + counted)


FEWER_SEEDS = (
    "A number of seeds behind a name: fewer than other rows have. Such a row is compared as if its seeds varied as "
    "those of the other do."
)


PREPOSITION = {"better": "than", "worse": "than", "equal": "to", "not told apart": "from"}


def findings(
    table: pd.DataFrame, groups: dict[str, Sequence[dict]] | None = None, metric: str = "recall@10"
) -> list[str]:
    """What a table of comparisons shows, in sentences that its numbers alone decide.

    Args:
        groups: what the table was made from, for a last sentence on the best row and the strongest baseline.
    """
    named = names_with_seeds(table)
    lines = [FEWER_SEEDS] if (named != table["method"]).any() else []
    name_of = dict(zip(table["method"], named, strict=True))
    for _, row in table[(table["kind"] != "baseline") & table["difference"].notna()].iterrows():
        said = verdict(row)
        lines.append(
            f"{name_of[row['method']]} is {said} {PREPOSITION[said]} "
            f"{name_of[row['against']]}: {row['difference']:+.4f} {_title(metric)} "
            f"[{row['low']:+.4f}, {row['high']:+.4f}], {row['difference'] / row['base']:+.1%}, p {row['p holm']:.4f}."
        )
    content = table[~table["kind"].isin(["baseline", "control"])]
    baselines = table[table["kind"] == "baseline"]
    if groups is None or content.empty or baselines.empty:
        return lines
    best, strongest = (part.loc[part[metric].idxmax()] for part in (content, baselines))
    found = compare(*paired(groups[best["method"]], groups[strongest["method"]], metric))
    said = "not told apart from" if found.p >= 0.05 else "above" if found.difference > 0 else "below"
    lines.append(
        f"The best row, {name_of[best['method']]} ({best[metric]:.4f}), is {said} {strongest['method']} "
        f"({strongest[metric]:.4f}), which reads no content at all: {found.difference:+.4f} "
        f"[{found.low:+.4f}, {found.high:+.4f}], p {found.p:.4f}, uncorrected."
    )
    return lines


def means(groups: dict[str, Sequence[dict]], metrics: Sequence[str]) -> pd.DataFrame:
    """One row a group, its metrics' means over seeds; any that ``Ranks.means`` has."""
    return pd.DataFrame(
        {"method": name} | {metric: np.mean([record["metrics"][metric] for record in group]) for metric in metrics}
        for name, group in groups.items()
    )


def readable(table: pd.DataFrame, metric: str = "recall@10") -> pd.DataFrame:
    """The table as it is printed: mean ± sd, four decimals, the interval in brackets."""

    def spread(row, column):
        sd = row[f"{column} sd"]
        return f"{row[column]:.4f}" + (f" ± {sd:.4f}" if sd == sd else "")

    def against(row):
        if row["difference"] != row["difference"]:
            return "reference"
        other = "" if row["against"] == reference else f" against {row['against']}"
        return f"{row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]{other}"

    reference = table.loc[table["difference"].isna(), "method"].iloc[0]

    columns = {"method": table["method"], "seeds": table["seeds"]}
    for column in METRICS:
        columns[_title(column)] = [spread(row, column) for _, row in table.iterrows()]
    columns[f"{_title(metric)}, seen left out"] = table[f"{metric} unseen"].map("{:.4f}".format)
    if "paper" in table:
        columns["paper"] = table["paper"].map(lambda value: f"{value:.4f}" if value == value else "–")
    columns[f"Δ {_title(metric)} [95 %]"] = [against(row) for _, row in table.iterrows()]
    columns["p (Holm)"] = table["p holm"].map(lambda value: f"{value:.4f}" if value == value else "–")
    columns["CPU s"] = table["cpu seconds"].map(lambda value: f"{value:.0f}" if value == value else "–")
    return pd.DataFrame(columns)


def _title(metric: str) -> str:
    name, k = metric.split("@")
    return f"{ {'recall': 'Recall', 'ndcg': 'NDCG', 'mrr': 'MRR'}[name] }@{k}"


def saved(name: str, data: str) -> pd.DataFrame:
    """A table as ``save`` wrote it.

    Raises:
        StudyError: it has not been made.
    """
    file = paths.results_of(data) / f"{name}.csv"
    if not file.exists():
        raise StudyError(f"{file}: not there; run the notebook that makes it with train: true")
    return pd.read_csv(file)


def records_behind(name: str, data: str) -> dict[str, list[dict]]:
    """The records of the trials that a saved table was made from, by its rows.

    Raises:
        StudyError: there is no such table, or one of its trials is lost.
    """
    file, store = paths.results_of(data) / f"{name}.trials.json", Store.default()
    if not file.exists():
        raise StudyError(f"{file}: not there; run the notebook that makes {name} on {data} first")
    groups = {}
    for row, keys in json.loads(file.read_text()).items():
        groups[row] = [store.record(key) for key in keys]
        if None in groups[row]:
            lost = keys[groups[row].index(None)]
            raise StudyError(f"{file}: trial {lost} is not in the store; run the notebook that makes {name} again")
    return groups


def save(
    table: pd.DataFrame,
    name: str,
    data: str,
    printed: pd.DataFrame | None = None,
    records: Sequence[dict] | dict[str, Sequence[dict]] = (),
) -> Path:
    """Write results/<data>/<name>.csv (full precision) and .md and .tex (as printed); returns the folder.

    The keys of the trials that it was made from (``records``, or groups of them by row) go to <name>.trials.json, by
    row: what no such list names may be removed.
    """
    folder = paths.results_of(data)
    printed = table if printed is None else printed
    write_bytes(folder / f"{name}.csv", table.to_csv(index=False).encode())
    write_bytes(folder / f"{name}.md", (printed.to_markdown(index=False) + "\n").encode())
    latex = printed.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1)
    write_bytes(folder / f"{name}.tex", latex.to_latex(hrules=True).encode())
    groups = records if isinstance(records, dict) else by_method(records)
    if groups:
        keys = {row: sorted(record["key"] for record in group) for row, group in groups.items()}
        write_json(folder / f"{name}.trials.json", keys)
    return folder
