"""From finished trials to tables: means over seeds, paired tests over users, the paper's number beside ours."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd

from studylib.analysis.significance import compare, holm, relative
from studylib.config import planned_epochs
from studylib.errors import StudyError
from studylib.methods import BESIDE, Method, method
from studylib.metrics import PickedRanks, Ranks, best_epoch, validated

METRICS = ("recall@5", "recall@10", "recall@20", "ndcg@5", "ndcg@10", "ndcg@20")  # the columns of 000's Table 2
# The settings by which generators are trained alike, or not: see ``training_of``.
TRAINING = (
    "epochs", "targets", "targets_per_step", "training", "augmentation", "history", "lr", "weight_decay", "dropout",
    "validate_every", "patience",
)  # fmt: skip
METRIC = "recall@10"  # what rows are compared by: validation, which chooses epochs and rows, knows no other

# Which items are ranked, and where a record has their ranks: all, also where several share an ID; all but those of
# the history; or one item drawn for each ID, which is 002's rule (``metrics.PickedRanks``).
RULES = {"every item": "ranks", "seen left out": "ranks_unseen", "one drawn": "ranks_picked"}


def per_user(records: Sequence[dict], metric: str, rule: str = "every item") -> np.ndarray:
    """One metric of every seed and user, [seeds, users].

    Args:
        rule: which items are ranked, see ``RULES``.

    Raises:
        StudyError: a late-fused trial, whose items share IDs, has no ranks of drawn ones; or more places than beams.
    """
    name, k = metric.split("@")
    for record in records:
        settings = record["trial"]["generator"]
        if int(k) > settings.get("beams", int(k)) and settings.get("search") != "exact":
            raise StudyError(
                f"{metric}: trial {record['key']} was searched with {settings['beams']} beams, and nothing is known of "
                "what is behind them; set generator: {beams: ...} to as many, or take a smaller k"
            )
    return np.stack([getattr(_ranks(record, rule), name)(int(k)) for record in records])


def _ranks(record: dict, rule: str) -> Ranks:
    if rule != "one drawn":
        return Ranks.unpack(record[RULES[rule]])
    if RULES[rule] in record:
        return PickedRanks.unpack(record[RULES[rule]])
    if record["semantic_ids"] and record["semantic_ids"]["collision_rate"]:
        raise StudyError(
            f"trial {record['key']}: no ranks of drawn items, which are kept of IDs of one modality; compare another"
        )
    return Ranks.unpack(record["ranks"])  # each ID has one item to draw


def paired(first: Sequence[dict], second: Sequence[dict], metric: str, rule: str = "every item") -> list[np.ndarray]:
    """``per_user`` of two groups, for ``significance.compare``; what draws nothing is the same with every seed."""
    groups = (first, second)
    seeds = max(map(len, groups))
    return [
        np.repeat(per_user(group, metric, rule), seeds if method_of(group[0]).seedless else 1, axis=0)
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
    against: dict[str, str] | None = None,
    rule: str = "every item",
    paper: dict[str, float] | None = None,
) -> pd.DataFrame:
    """One row a group of records (its seeds), by name, each tested against the group of ``reference``, or the first.

    Columns: ``method`` (the group's name), ``kind`` (of its first record), ``seeds``; every metric's mean over seeds
    and ``<metric> sd``; ``recall@10 unseen`` with seen items left out; ``cpu seconds`` of one trial; and for ``METRIC``
    the difference to the reference with its 95 % interval, standard error by seeds (NaN of one seed each: then interval
    and p are over users alone), p and Holm-corrected p over the table's comparisons (see ``significance.compare``), the
    reference's name (``against``) and its mean (``base``).

    Args:
        against: of rows that have another reference, its name.
        rule: which items are ranked for what is tested (``difference`` to ``base``), see ``RULES``.
        paper: by row, the paper's number, for a column of that name.
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
        row[f"{METRIC} unseen"] = np.mean([record["metrics_unseen"][METRIC] for record in group])
        row["cpu seconds"] = np.mean([record.get("cost", {}).get("cpu_seconds", np.nan) for record in group])
        if name != reference:
            other = (against or {}).get(name, reference)
            values, base = paired(group, groups[other], METRIC, rule)
            found = compare(values, base)
            row |= {column: getattr(found, column) for column in ("difference", "low", "high", "by_seeds", "p")}
            row |= {"against": other, "base": base.mean()}
        rows.append(row)
    table = pd.DataFrame(rows)
    for column in ("difference", "low", "high", "by_seeds", "p", "against", "base"):
        if column not in table:
            table[column] = np.nan
    table["p holm"] = np.nan
    tested = table["p"].notna()
    table.loc[tested, "p holm"] = holm(table.loc[tested, "p"].tolist())
    return table if paper is None else table.assign(paper=table["method"].map(paper).astype(float))


def validation(group: Sequence[dict]) -> float:
    """Mean over seeds of the best epoch's Recall@10 on the validation split: what a choice of rows may look at."""
    return float(np.mean([best_epoch(record["epochs"])["recall@10"] for record in group]))


def best_by_validation(groups: dict[str, Sequence[dict]], names: Iterable[str]) -> str:
    """Which of these rows is best on the validation split; of equal ones the first."""
    return max(names, key=lambda name: validation(groups[name]))


def validation_users(group: Sequence[dict]) -> int:
    """Of how many users ``validation`` is; values of others are no choice between rows."""
    users = group[0]["data"]["users"]
    return min(users, group[0]["trial"]["generator"].get("validation_users", users))


def training_of(group: Sequence[dict]) -> tuple:
    """How a row was to be trained, on how much of each history, and how many users chose its epoch."""
    settings = group[0]["trial"]["generator"]
    return *(settings.get(name) for name in TRAINING), validation_users(group)


def by_rule(groups: dict[str, Sequence[dict]], rule: str) -> pd.DataFrame:
    """One row a group: ``METRIC`` with every item allowed, by another of ``RULES``, and the change.

    ``relative`` is the change as a share of the former; ``p holm`` is corrected over the rows. Groups without ranks of
    "one drawn", which 002 shows, are left out there: their items share no ID, or they are fused late.
    """
    if rule == "one drawn":
        groups = {name: group for name, group in groups.items() if all(RULES[rule] in record for record in group)}
    rows = []
    for name, group in groups.items():
        every, other = per_user(group, METRIC), per_user(group, METRIC, rule)
        found = compare(other, every)
        row = {"method": name, "every item": every.mean(), rule: other.mean()}
        row |= {"relative": found.difference / every.mean()}
        rows.append(row | {column: getattr(found, column) for column in ("difference", "low", "high", "p")})
    return _corrected(pd.DataFrame(rows))


def contrasts(pairs: dict[str, tuple[Sequence[dict], Sequence[dict]]], rule: str = "every item") -> pd.DataFrame:
    """One row a pair of groups: both means, first minus second as in ``comparison``."""
    rows = []
    for name, (first, second) in pairs.items():
        values = paired(first, second, METRIC, rule)
        found = compare(*values)
        rows.append({"pair": name, "first": values[0].mean(), "second": values[1].mean()} | found.row)
    table = pd.DataFrame(rows, columns=["pair", "first", "second", "difference", "low", "high", "by_seeds", "p"])
    return _corrected(table)


def with_and_without_seen(
    pairs: dict[str, tuple[Sequence[dict], Sequence[dict]]], compared: Callable[..., pd.DataFrame] = contrasts
) -> pd.DataFrame:
    """``contrasts`` with every item allowed, and with the items of the history left out; corrected over all rows.

    Args:
        compared: what takes pairs and a ``rule``, if not ``contrasts``.
    """
    rules = ("every item", "seen left out")
    table = pd.concat([compared(pairs, rule=rule).assign(items=rule) for rule in rules], ignore_index=True)
    table.insert(1, "items", table.pop("items"))
    return _corrected(table)


def _corrected(table: pd.DataFrame) -> pd.DataFrame:
    """With ``p holm`` over all rows; where they are of several metrics, over those of ``METRIC``, and the others."""
    if "p" not in table:
        return table
    decides = table["metric"] == METRIC if "metric" in table else np.ones(len(table), dtype=bool)
    for family in (decides, ~decides):
        table.loc[family, "p holm"] = holm(table.loc[family, "p"].tolist())
    return table


def epochs_run(groups: dict[str, Sequence[dict]]) -> pd.DataFrame:
    """One row a group that was trained: epochs it was to have, those it had, and the best, seed by seed.

    Beside them ``validation`` and of how many users it is.
    """
    rows = []
    for name, group in groups.items():
        epochs = [record["epochs"] for record in sorted(group, key=lambda row: row["trial"]["seed"])]
        if not all(map(validated, epochs)):
            continue
        columns = {
            "at most": [epochs_planned(group[0])],
            "run": [validated(of_seed)[-1]["epoch"] for of_seed in epochs],
        }
        columns["best"] = [best_epoch(of_seed)["epoch"] for of_seed in epochs]
        row = {column: " / ".join(map(str, values)) for column, values in columns.items()}
        row |= {"validation recall@10": round(validation(group), 4), "users": validation_users(group)}
        rows.append({"method": name} | row)
    return pd.DataFrame(rows)


def epochs_planned(record: dict) -> int:
    """Epochs that a trial was to have."""
    data, settings = record["data"], record["trial"]["generator"]
    every = data["interactions"] - 3 * data["users"]  # no target: a user's first item, the last two are held out
    of_an_epoch = {"none": data["users"], "both-ways": 2 * every}.get(settings.get("augmentation"), every)
    return planned_epochs(settings["epochs"], settings["targets"], of_an_epoch)


def changes(
    pairs: dict[str, tuple[Sequence[dict], Sequence[dict]]], metrics: Sequence[str] = METRICS,
    paper: dict[str, dict[str, float]] | None = None, rule: str = "every item",
) -> pd.DataFrame:  # fmt: skip
    """One row a pair and metric: relative change from the second to the first, with interval, in % (000, Table 3).

    ``by_seeds`` as in ``comparison``, here of the change as a share. ``p holm`` is corrected over the pairs for
    ``METRIC``, by which the study decides, and for all other metrics together: such rows are read for their largest. An
    interval ends at -100 %, where nothing is left.

    Args:
        paper: by pair, the paper's change of each metric in %, with every item allowed: column ``paper %``.
    """
    rows, beside = [], (paper or {}) if rule == "every item" else {}
    for metric in metrics:
        for pair, groups in pairs.items():
            values = paired(*groups, metric, rule)
            change = relative(*values)
            row = {"pair": pair, "first": values[0].mean(), "second": values[1].mean()}
            row |= {f"{name} %": max(100 * getattr(change, name), -100) for name in ("difference", "low", "high")}
            row |= {"by_seeds": change.by_seeds, "p": change.p}
            rows.append(row | {"metric": metric, "paper %": beside.get(pair, {}).get(metric, np.nan)})
    return _corrected(pd.DataFrame(rows))


def semantic_id_quality(groups: dict[str, Sequence[dict]]) -> pd.DataFrame:
    """One row a kind of IDs: codes used and perplexity of each level, relative error, collisions; means over seeds.

    ``collide before`` and ``after``: items that shared their ID before and after something was done about it.
    ``alignment loss``: of LETTER, its L_CF in the last epoch; the logarithm of the batch is what chance leaves.
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
                "relative error": round(float(np.mean(errors)), 4) if errors else "",
                "collision rate": round(float(np.mean([row["collision_rate"] for row in quality])), 4),
            }
        )
        resolved = [record["tokenizer"]["collisions"] for record in group if "tokenizer" in record]
        for when in ("before", "after") if resolved else ():
            rows[-1][f"collide {when}"] = f"{np.mean([row[when] for row in resolved]):.0f}"
        steps = [record["tokenizer"].get("steps") or {} for record in group if "tokenizer" in record]
        if aligned := [of_seed["alignment"][-1] for of_seed in steps if "alignment" in of_seed]:
            rows[-1]["alignment loss"] = round(float(np.mean(aligned)), 3)
    table = pd.DataFrame(rows)
    return table.astype(dict.fromkeys(table.columns[table.isna().any()], object)).fillna("")


def _levels(quality: Sequence[dict], name: str, form: str) -> str:
    """Means over the seeds that have the level: one whose IDs never collide has none that numbers them."""
    levels = pd.DataFrame([pd.Series(row[name]) for row in quality])
    return " / ".join(map(form.format, levels.mean()))


def strongest(groups: dict[str, Sequence[dict]], own: Sequence[str]) -> list[str]:
    """The rows with content, none of ``own``, that are best on validation, then SASRec and item-kNN if they are rows.

    They are the best of those that were trained as one of ``own`` was (``training_of``), and the best of the others,
    whose values on validation are not comparable with theirs; one where all are of one sort.
    """
    kinds = {name: method_of(group[0]).kind for name, group in groups.items()}
    others = [name for name, kind in kinds.items() if kind not in BESIDE and name not in own]
    lengths = [training_of(groups[name]) for name in own]
    alike = [name for name in others if training_of(groups[name]) in lengths]
    unlike = [name for name in others if name not in alike]
    best = [best_by_validation(groups, names) for names in (alike, unlike) if names]
    return best + [name for name in ("SASRec", "item-kNN") if name in groups]


def means(
    groups: dict[str, Sequence[dict]], metrics: Sequence[str], rules: Sequence[str] = ("every item",)
) -> pd.DataFrame:
    """One row a group and rule: its seeds, and mean and standard deviation (``<metric> sd``) over them of each metric.

    Args:
        metrics: any that ``Ranks.means`` has.
        rules: which items are ranked, "every item" or "seen left out": column ``items``.
    """
    kept = {"every item": "metrics", "seen left out": "metrics_unseen"}
    rows = []
    for rule in rules:
        for name, group in groups.items():
            row = {"method": name, "seeds": len(group), "items": rule}
            for metric in metrics:
                values = [record[kept[rule]][metric] for record in group]
                row |= {metric: np.mean(values), f"{metric} sd": np.std(values, ddof=1) if len(values) > 1 else np.nan}
            rows.append(row)
    return pd.DataFrame(rows)
