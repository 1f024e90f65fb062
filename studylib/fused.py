"""Tables of fused rows: each beside its halves, what each half gives, and whose hits it has (000, 004)."""

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
import pandas as pd

from studylib import content, results, tables, wording
from studylib.ablations import fused_label
from studylib.analysis.hits import beyond_seeds, hitting_rows, identical_hits, shared_hits
from studylib.analysis.significance import compare
from studylib.config import Trial
from studylib.data import Dataset
from studylib.methods import method
from studylib.metrics import WHOLE, Ranks
from studylib.notebook import Parameters, say
from studylib.tables import METRIC, best_by_validation, per_user


def by_strategy(groups: dict[str, Sequence[dict]], texts: Sequence[str], strategies: Sequence[str]) -> pd.DataFrame:
    """One row a fused row, for 000's Figures 4 and 5.

    Columns: ``strategy``, ``text``; ``value``, the mean over seeds, with its 95 % interval over users and, of two seeds
    at least, seeds, ``low`` and ``high`` (``significance.compare``); ``seeds``, the value of each.
    """
    rows = []
    for strategy in strategies:
        for text in texts:
            users = per_user(groups[fused_label(text, strategy)], METRIC)
            found = compare(users, np.zeros_like(users))
            row = {"strategy": strategy, "text": text, "value": found.difference, "low": found.low, "high": found.high}
            rows.append(row | {"seeds": users.mean(1)})
    return pd.DataFrame(rows)


def reference_lines(groups: dict[str, Sequence[dict]], alone: Iterable[str]) -> dict[str, float]:
    """What fused rows are seen beside: the mean of each modality alone, and of item-kNN, which reads no content."""
    found = {f"{name} alone": per_user(groups[name], METRIC).mean() for name in alone}
    knn = method("none", "item-knn").label
    return found | ({knn: per_user(groups[knn], METRIC).mean()} if knn in groups else {})


def fusion_pairs(
    groups: dict[str, Sequence[dict]],
    texts: Sequence[str],
    strategies: Sequence[str],
    image: str,
    against: dict[str, str] | None = None,
    controls: Sequence[str] = (),
) -> dict[str, tuple[Sequence[dict], Sequence[dict]]]:
    """Pairs for ``contrasts``: each later text against the first, each fused row against its better half, each later
    strategy against the first, the first text's first row against its controls, and the best fused row against
    item-kNN, where that is among the groups. What is better, and best, the validation split says: chosen by test
    numbers, it would be tested on its own luck.

    Args:
        against: of strategies that have another reference than the first, its name.
        controls: rows in which the picture says nothing.
    """
    pairs = {}
    for strategy in strategies:
        for text in texts[1:]:
            pair = (groups[fused_label(text, strategy)], groups[fused_label(texts[0], strategy)])
            pairs[f"{strategy}: {text} against {texts[0]}"] = pair
    for strategy in strategies:
        for text in texts:
            better = best_by_validation(groups, (text, image))
            name = fused_label(text, strategy)
            pairs[f"{name}, against {better} alone"] = (groups[name], groups[better])
    for text in texts:
        for strategy in strategies[1:]:
            other = (against or {}).get(strategy, strategies[0])
            pair = (groups[fused_label(text, strategy)], groups[fused_label(text, other)])
            pairs[f"{text} + image: {strategy} against {other}"] = pair
    first = fused_label(texts[0], strategies[0])
    pairs |= {f"{first}, against {control}": (groups[first], groups[control]) for control in controls}
    if (knn := method("none", "item-knn").label) in groups:
        rows = [fused_label(text, strategy) for strategy in strategies for text in texts]
        best = best_by_validation(groups, rows)
        pairs[f"{best}, the best, against {knn}"] = (groups[best], groups[knn])
    return pairs


def judged(groups: dict[str, Sequence[dict]], rows: Parameters, name: str, goal: dict[str, float]) -> pd.DataFrame:
    """Late fusion beside its halves and controls: two tables saved, what they say printed, and the first returned.

    Args:
        groups: of the rows of ``rows``, and the baselines.
        name: of the table; that of the contrasts is ``<name>_contrasts``.
        goal: by items that are ranked, what the best is to reach.
    """
    table = tables.comparison(groups)
    contrasts = tables.contrasts(fusion_pairs(groups, *rows.labels("late"), controls=[*rows.controlled("late")]))
    results.save(contrasts, f"{name}_contrasts", rows.data, contrasts.round(4))
    say(wording.of_fusion(table, groups, contrasts, [*rows.fused("late")], goal))
    return results.save(table, name, rows.data, wording.readable(table, tested=False), groups)


def part_hits(groups: dict[str, Sequence[dict]]) -> pd.DataFrame:
    """Recall@5 of late-fused rows if one modality's codes had to be right, and if all had to (004, Table 3).

    ``first`` and ``second`` are what the modalities are called, in the order in which their codes are written. Of free
    search the places are among all that was written, what is no item's ID included.
    """
    rows = []
    for name, group in groups.items():
        if all("ranks_parts" in record for record in group):
            row = {"method": name}
            modalities = group[0]["trial"]["features"].split("+")  # the record's parts have lost their order
            for place, part in zip(("first", "second"), modalities, strict=True):
                recalls = [Ranks.unpack(record["ranks_parts"][part]).recall(5) for record in group]
                row |= {place: method(part).label, f"{place} right": np.mean(recalls)}
            whole = [Ranks.unpack(record["ranks_parts"].get(WHOLE, record["ranks"])).recall(5) for record in group]
            rows.append(row | {"whole ID": np.mean(whole)})
    return pd.DataFrame(rows)


def translations(groups: dict[str, Sequence[dict]]) -> pd.DataFrame:
    """One row a fused row that was aligned, and direction: is translation learnt, and is it left after training?

    Means over the ``seeds`` whose records say so (older ones do not). ``loss, first tenth`` and ``last
    tenth`` of the steps of alignment, in both directions; then the share of codes ``right`` after alignment, and what
    it is if another item's codes are read (``without reading``); the same after training (``alignment.translated``).
    """
    rows = []
    for name, group in groups.items():
        told = [record["alignment"] for record in group if "loss" in record.get("alignment", {})]
        for place in range(len(told[0]["from"]) if told else 0):
            row = {"method": name, "seeds": len(told)}
            row |= {end: method(told[0][end][place]).label for end in ("from", "to")}
            for said, end in (("first", 0), ("last", -1)):
                row[f"loss, {said} tenth"] = np.mean([one["loss"][end] for one in told])
            for when in ("aligned", "trained"):
                for what in ("right", "without reading"):
                    row[f"{when}: {what}"] = np.mean([one[when][place][what] for one in told])
            rows.append(row)
    return pd.DataFrame(rows)


def gated(groups: dict[str, Sequence[dict]], names: Iterable[str]) -> dict[str, list[dict]]:
    """Of these rows, the records of each gate, one a seed however its vectors are tokenized, by what it fuses."""
    found: dict[str, dict[int, dict]] = {}
    for name in names:
        for record in (record for record in groups[name] if "gate" in record):
            found.setdefault(method(record["trial"]["features"]).label, {})[record["trial"]["seed"]] = record
    return {fused: list(of_seeds.values()) for fused, of_seeds in found.items()}


def gates(groups: dict[str, Sequence[dict]], trials: dict[str, Sequence[Trial]], data: Dataset) -> pd.DataFrame:
    """One row a gate, means over its seeds (000, Eqs. 4 and 5).

    Columns: ``fused`` (what it fuses); ``seeds``; ``image``, ``text``, the mean gate value of each, and ``sd`` of
    either over seeds; ``image, errors as shares``, where the loss counts each modality's error as a share of what a
    constant leaves of it (``constant, image`` and ``constant, text``); ``error, share``, what is left after both are
    read back from the fused vector, as a share of what a constant leaves; ``mean, share``, the same of the plain mean.

    Args:
        trials: of the fused rows, by name.
    """
    rows, trial_of = [], {method(of_seeds[0].features).label: of_seeds[0] for of_seeds in trials.values()}
    for fused, records in gated(groups, trials).items():
        beside = content.yardsticks(trial_of[fused], data)
        left = dict(zip(("image", "text"), beside["constant"], strict=True))
        values = np.array([record["gate"] for record in records])
        error = 2 * np.mean([record["read_back_error"] for record in records]) / sum(left.values())
        row = {"fused": fused, "seeds": len(records), "image": values[:, 0].mean(), "text": values[:, 1].mean()}
        row["sd"] = values[:, 1].std(ddof=1) if len(records) > 1 else np.nan
        row |= {"image, errors as shares": beside["alike"]} | {f"constant, {half}": left[half] for half in left}
        rows.append(row | {"error, share": error, "mean, share": beside["mean"] / sum(left.values())})
    return pd.DataFrame(rows)


def hits_beside_halves(groups: dict[str, Sequence[dict]], trials: dict[str, Sequence[Trial]]) -> pd.DataFrame:
    """One row a late-fused row and half of it: of the users that either hits, the share that both hit.

    A fused row is left out if it, or one of its halves, has a trial that hits nobody.

    Columns: ``fused``, ``half``, and when the half's codes are ``written`` ("first", "second"); ``shared`` with its
    interval over users, ``low`` and ``high``; ``two seeds``, the share of two seeds of that half alone, NaN where it
    has one; ``shared`` less that, ``difference``, with its interval over users, ``difference low`` and ``difference
    high``; ``equal seeds``, whether the half is met in its own codes alone; ``halves``, what the two halves share.

    Args:
        trials: of the fused rows, by name.
    """
    halves_of = {name: [method(part).label for part in of_seeds[0].modalities] for name, of_seeds in trials.items()}
    concerned = {*trials, *chain.from_iterable(halves_of.values())}
    hitting = hitting_rows({name: group for name, group in groups.items() if name in concerned})
    rows = []
    for name, halves in halves_of.items():
        if not {name, *halves} <= hitting.keys():
            continue
        between = shared_hits(*(groups[half] for half in halves))
        for half, written in zip(halves, ("first", "second"), strict=True):
            shared = identical_hits(groups[name], groups[half])
            less = dict.fromkeys(("two seeds", "difference", "low", "high"), np.nan)
            if len(groups[half]) > 1:
                less = beyond_seeds(groups[name], groups[half])
            row = {"fused": name, "half": half, "written": written, "shared": shared["overlap"]}
            row |= {"low": shared["low"], "high": shared["high"], "two seeds": less["two seeds"]}
            row |= {"difference": less["difference"]} | {f"difference {end}": less[end] for end in ("low", "high")}
            rows.append(row | {"equal seeds": shared["equal seeds"], "halves": between})
    return pd.DataFrame(rows)


def whose(table: pd.DataFrame) -> list[str]:
    """Does a fused row hit its first half's users? A sentence for each fused row of ``hits_beside_halves``.

    Rows whose first half has one seed, or that meet a half in its own codes alone, have none. The interval of the
    difference, over users, decides; what other seeds would share it does not know.

    >>> row = {"fused": "A", "half": "picture", "shared": 0.83, "two seeds": 0.9, "halves": 0.6, "equal seeds": False}
    >>> row |= {"difference": -0.07, "difference low": -0.09, "difference high": -0.05}
    >>> (line,) = whose(pd.DataFrame([row, row | {"half": "text", "shared": 0.7}]))
    >>> for said in line.split(": "): print(said)
    Of the users that A or picture alone hits, both hit 0.83, of two seeds of picture 0.90
    -0.07 [-0.09, -0.05] over users, fewer. A and its other half share 0.70, the two halves 0.60.
    """
    lines = []
    for name, rows in table.groupby("fused", sort=False) if len(table) else ():
        first, second = (row for _, row in rows.iterrows())
        if np.isnan(first["two seeds"]) or rows["equal seeds"].any():
            continue
        low, high = first["difference low"], first["difference high"]
        said = "fewer" if high < 0 else "more" if low > 0 else "not told apart"
        lines.append(
            f"Of the users that {name} or {first['half']} alone hits, both hit {first['shared']:.2f}, of two seeds of "
            f"{first['half']} {first['two seeds']:.2f}: {first['difference']:+.2f} [{low:+.2f}, {high:+.2f}] over "
            f"users, {said}. {name} and its other half share {second['shared']:.2f}, the two halves "
            f"{first['halves']:.2f}."
        )
    return lines
