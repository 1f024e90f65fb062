"""From finished trials to tables: means over seeds, paired tests over users, the paper's number beside ours."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from studylib import paths
from studylib.analysis.significance import compare, holm
from studylib.files import write_bytes, write_json
from studylib.methods import method
from studylib.metrics import Ranks

METRICS = ("recall@5", "recall@10", "recall@20", "ndcg@5", "ndcg@10", "ndcg@20")  # the columns of 000's Table 2


def per_user(records: Sequence[dict], metric: str, unseen: bool = False) -> np.ndarray:
    """One metric of every seed and user, [seeds, users]."""
    name, k = metric.split("@")
    field = "ranks_unseen" if unseen else "ranks"
    return np.stack([getattr(Ranks.unpack(record[field]), name)(int(k)) for record in records])


def by_method(records: Sequence[dict]) -> dict[str, list[dict]]:
    """Records grouped by what they call themselves: the features, or the generator of a baseline."""
    groups: dict[str, list[dict]] = {}
    for record in records:
        features, generator = record["trial"]["features"], record["trial"]["generator"]["name"]
        groups.setdefault(generator if features == "none" else features, []).append(record)
    return groups


def recommendation(
    records: Sequence[dict],
    reference: str,
    paper: dict[str, dict[str, float]] | None = None,
    metric: str = "recall@10",
) -> pd.DataFrame:
    """One row a method.

    Columns: ``method``, ``kind``, ``seeds``; every metric's mean over seeds and ``<metric> sd``; ``<metric> unseen``
    with seen items left out; ``paper`` (000's number, for text and OCR encoders); and for ``metric`` the
    difference to the row of ``reference`` with its 95 % interval, p and Holm-corrected p over the table's comparisons.

    Args:
        reference: features name of the row that the others are compared with.
        paper: by kind ("text", "ocr"), the paper's metrics.
    """
    groups = by_method(records)
    base = per_user(groups[reference], metric)
    rows = []
    for name, group in groups.items():
        what = method(*_names(group[0]))
        row = {"method": what.label, "kind": what.kind, "seeds": len(group)}
        for column in METRICS:
            values = [record["metrics"][column] for record in group]
            row[column] = np.mean(values)
            row[f"{column} sd"] = np.std(values, ddof=1) if len(values) > 1 else np.nan
        row[f"{metric} unseen"] = np.mean([record["metrics_unseen"][metric] for record in group])
        row["paper"] = (paper or {}).get(what.paper, {}).get(metric, np.nan)
        if name != reference:
            found = compare(per_user(group, metric), base)
            row |= {"difference": found.difference, "low": found.low, "high": found.high, "p": found.p}
        rows.append(row)
    table = pd.DataFrame(rows)
    for column in ("difference", "low", "high", "p"):
        if column not in table:
            table[column] = np.nan
    table["p holm"] = np.nan
    tested = table["p"].notna()
    table.loc[tested, "p holm"] = holm(table.loc[tested, "p"].tolist())
    return table


def semantic_id_quality(records: Sequence[dict]) -> pd.DataFrame:
    """One row a kind of IDs: codes used and perplexity of each level, relative error, collisions; means over seeds."""
    rows = []
    for name, group in by_method(records).items():
        quality = [record["semantic_ids"] for record in group if record["semantic_ids"]]
        if not quality:
            continue
        errors = [row["relative_error"][-1] for row in quality if row["relative_error"]]
        rows.append(
            {
                "method": method(name).label,
                "codes used": _levels(quality, "usage", "{:.0f}"),
                "perplexity": _levels(quality, "perplexity", "{:.1f}"),
                "relative error": round(float(np.mean(errors)), 4) if errors else None,
                "collision rate": round(float(np.mean([row["collision_rate"] for row in quality])), 4),
            }
        )
    return pd.DataFrame(rows)


def _levels(quality: Sequence[dict], name: str, form: str) -> str:
    return " / ".join(form.format(value) for value in np.mean([row[name] for row in quality], axis=0))


def findings(table: pd.DataFrame, reference: str, metric: str = "recall@10") -> list[str]:
    """What a recommendation table shows, in sentences that its numbers alone decide."""
    label = method(reference).label
    base = table.loc[table["method"] == label].iloc[0]
    lines = []
    for _, row in table[table["kind"] != "baseline"].iterrows():
        if row["method"] == label:
            continue
        if row["p holm"] < 0.05:
            verdict = "better than" if row["difference"] > 0 else "worse than"
        else:
            verdict = "not told apart from"
        lines.append(
            f"{row['method']} is {verdict} {label}: {row['difference']:+.4f} {_title(metric)} "
            f"[{row['low']:+.4f}, {row['high']:+.4f}], {row['difference'] / base[metric]:+.1%}, p {row['p holm']:.4f}."
        )
    content = table[~table["kind"].isin(["baseline", "control"])]
    if content.empty:
        return lines
    best, knn = content.loc[content[metric].idxmax()], table[table["method"] == method("none", "item-knn").label]
    if len(knn):
        relation = "above" if best[metric] > knn.iloc[0][metric] else "below"
        lines.append(
            f"The best row, {best['method']} ({best[metric]:.4f}), is {relation} item-kNN "
            f"({knn.iloc[0][metric]:.4f}), which reads no content at all."
        )
    return lines


def _names(record: dict) -> tuple[str, str]:
    return record["trial"]["features"], record["trial"]["generator"]["name"]


def readable(table: pd.DataFrame, metric: str = "recall@10") -> pd.DataFrame:
    """The table as it is printed: mean ± sd, four decimals, the interval in brackets."""

    def spread(row, column):
        sd = row[f"{column} sd"]
        return f"{row[column]:.4f}" + (f" ± {sd:.4f}" if sd == sd else "")

    def against(row):
        if row["difference"] != row["difference"]:
            return "reference"
        return f"{row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"

    columns = {"method": table["method"], "seeds": table["seeds"]}
    for column in METRICS:
        columns[_title(column)] = [spread(row, column) for _, row in table.iterrows()]
    columns[f"{_title(metric)}, seen left out"] = table[f"{metric} unseen"].map("{:.4f}".format)
    columns["paper"] = table["paper"].map(lambda value: f"{value:.4f}" if value == value else "–")
    columns[f"Δ {_title(metric)} [95 %]"] = [against(row) for _, row in table.iterrows()]
    columns["p (Holm)"] = table["p holm"].map(lambda value: f"{value:.4f}" if value == value else "–")
    return pd.DataFrame(columns)


def _title(metric: str) -> str:
    name, k = metric.split("@")
    return f"{ {'recall': 'Recall', 'ndcg': 'NDCG', 'mrr': 'MRR'}[name] }@{k}"


def save(
    table: pd.DataFrame, name: str, data: str, printed: pd.DataFrame | None = None, records: Sequence[dict] = ()
) -> Path:
    """Write results/<data>/<name>.csv (full precision) and .md and .tex (as printed); returns the folder.

    The keys of the trials that it was made from go to <name>.trials.json: what no such list names may be removed.
    """
    folder = paths.results_of(data)
    printed = table if printed is None else printed
    write_bytes(folder / f"{name}.csv", table.to_csv(index=False).encode())
    write_bytes(folder / f"{name}.md", (printed.to_markdown(index=False) + "\n").encode())
    latex = printed.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1)
    write_bytes(folder / f"{name}.tex", latex.to_latex(hrules=True).encode())
    if records:
        write_json(folder / f"{name}.trials.json", sorted({record["key"] for record in records}))
    return folder
