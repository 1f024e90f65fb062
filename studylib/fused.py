"""Tables of fused rows: each beside its halves, what each half gives, and whose hits it has (000, 004)."""

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
import pandas as pd

from studylib import content
from studylib.ablations import fused_label
from studylib.analysis.hits import beyond_seeds, hitting_rows, identical_hits, shared_hits
from studylib.config import Trial
from studylib.data import Dataset
from studylib.methods import method
from studylib.metrics import WHOLE, Ranks
from studylib.tables import METRIC, validation


def by_strategy(
    groups: dict[str, Sequence[dict]], texts: Sequence[str], strategies: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Means and standard deviations over seeds of fused rows, strategies x texts."""
    cells = {text: [groups[fused_label(text, strategy)] for strategy in strategies] for text in texts}
    values = {text: [[r["metrics"][METRIC] for r in group] for group in column] for text, column in cells.items()}
    means = {text: [np.mean(seeds) for seeds in column] for text, column in values.items()}
    spreads = {text: [pd.Series(seeds).std() for seeds in column] for text, column in values.items()}
    return pd.DataFrame(means, index=list(strategies)), pd.DataFrame(spreads, index=list(strategies))


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
            better = max((text, image), key=lambda half: validation(groups[half]))
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
        best = max(rows, key=lambda row: validation(groups[row]))
        pairs[f"{best}, the best, against {knn}"] = (groups[best], groups[knn])
    return pairs


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


def hits_beside_halves(
    groups: dict[str, Sequence[dict]], trials: dict[str, Sequence[Trial]], image: str
) -> pd.DataFrame:
    """One row a late-fused row: of the users that it or one of its halves hits, the share that both hit.

    A row is left out if it, or one of its halves, has a trial that hits nobody.

    Columns: ``fused`` (its name), ``first`` (the half whose codes are written first); ``image`` and ``text``, the
    shares, with intervals over users, ``<half> low`` and ``<half> high``; ``two seeds of the <half>``, the share of two
    seeds of that half alone, NaN where it has one; ``<half> less seeds``, the difference of the two with its interval
    over users; ``equal seeds``, whether a half is met in its own codes alone; ``halves``, what image and text share.

    Args:
        trials: of the fused rows, by name.
        image: what the picture's own row is called.
    """
    halves_of = {name: [method(part).label for part in of_seeds[0].modalities] for name, of_seeds in trials.items()}
    concerned = {*trials, *chain.from_iterable(halves_of.values())}
    hitting = hitting_rows({name: group for name, group in groups.items() if name in concerned})
    rows = []
    for name, halves in halves_of.items():
        if not {name, *halves} <= hitting.keys():
            continue
        text = next(half for half in halves if half != image)
        rows.append({"fused": name, "first": halves[0], "equal seeds": False})
        rows[-1]["halves"] = shared_hits(groups[image], groups[text])
        for half, said in ((image, "image"), (text, "text")):
            shared = identical_hits(groups[name], groups[half], resamples=200)
            rows[-1] |= {said: shared["overlap"], f"{said} low": shared["low"], f"{said} high": shared["high"]}
            rows[-1]["equal seeds"] |= shared["equal seeds"]
            less = dict.fromkeys(("two seeds", "difference", "low", "high"), np.nan)
            if len(groups[half]) > 1:
                less = beyond_seeds(groups[name], groups[half], resamples=200)
            rows[-1] |= {f"two seeds of the {said}": less["two seeds"], f"{said} less seeds": less["difference"]}
            rows[-1] |= {f"{said} less seeds {end}": less[end] for end in ("low", "high")}
    return pd.DataFrame(rows)


def whose(table: pd.DataFrame, image: str) -> list[str]:
    """Does a fused row hit its first half's users? A sentence for each row of ``hits_beside_halves``.

    Rows whose first half has one seed, or whose only trials have their halves' codes, have none. The interval of the
    difference, over users, decides; what other seeds would share it does not know.

    Args:
        image: what the picture's own row is called.

    >>> row = {"fused": "A", "first": "picture", "image": 0.83, "image low": 0.8, "image high": 0.85, "text": 0.7}
    >>> row |= {"equal seeds": False, "two seeds of the image": 0.9, "halves": 0.6}
    >>> row |= {"image less seeds": -0.07, "image less seeds low": -0.09, "image less seeds high": -0.05}
    >>> (line,) = whose(pd.DataFrame([row]), "picture")
    >>> for said in line.split(": "): print(said)
    Of the users that A or picture alone hits, both hit 0.83, of two seeds of picture 0.90
    -0.07 [-0.09, -0.05] over users, fewer. A and its other half share 0.70, the two halves 0.60.
    """
    lines = []
    for _, row in table.iterrows():
        side, other = ("image", "text") if row["first"] == image else ("text", "image")
        two, less = row[f"two seeds of the {side}"], f"{side} less seeds"
        if not np.isnan(two) and not row["equal seeds"]:
            low, high = row[f"{less} low"], row[f"{less} high"]
            said = "fewer" if high < 0 else "more" if low > 0 else "not told apart"
            lines.append(
                f"Of the users that {row['fused']} or {row['first']} alone hits, both hit {row[side]:.2f}, of two "
                f"seeds of {row['first']} {two:.2f}: {row[less]:+.2f} [{low:+.2f}, {high:+.2f}] over users, {said}. "
                f"{row['fused']} and its other half share {row[other]:.2f}, the two halves {row['halves']:.2f}."
            )
    return lines
