"""Tables of fused rows: each beside its halves, what each half gives, and whose hits it has (000, 004)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from studylib import content
from studylib.ablations import fused_label
from studylib.analysis.overlap import identical_hits
from studylib.config import Trial
from studylib.data import Dataset
from studylib.methods import method
from studylib.metrics import WHOLE, Ranks
from studylib.tables import validation


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


def part_hits(groups: dict[str, Sequence[dict]], k: int = 5) -> pd.DataFrame:
    """Recall@k of late-fused rows if one modality's codes had to be right, and if all had to (004, Table 3).

    ``first`` and ``second`` are what the modalities are called, in the order in which their codes are written. Of free
    search the places are among all that was written, what is no item's ID included.
    """
    rows = []
    for name, group in groups.items():
        if all("ranks_parts" in record for record in group):
            row = {"method": name}
            modalities = group[0]["trial"]["features"].split("+")  # the record's parts have lost their order
            for place, part in zip(("first", "second"), modalities, strict=True):
                recalls = [Ranks.unpack(record["ranks_parts"][part]).recall(k) for record in group]
                row |= {place: method(part).label, f"{place} right": np.mean(recalls)}
            whole = [Ranks.unpack(record["ranks_parts"].get(WHOLE, record["ranks"])).recall(k) for record in group]
            rows.append(row | {"whole ID": np.mean(whole)})
    return pd.DataFrame(rows)


def gates(groups: dict[str, Sequence[dict]], trials: dict[str, Sequence[Trial]], data: Dataset) -> pd.DataFrame:
    """One row a gated row of early fusion, means over seeds (000, Eqs. 4 and 5).

    Columns: ``fused`` (its name); ``image``, ``text``, the mean gate value of each; ``constant, image`` and ``constant,
    text``, what the best constant guess leaves of each; ``error, share``, what is left after both are read back from
    the fused vector, as a share of what a constant leaves.

    Args:
        trials: of the fused rows, by name.
    """
    rows = []
    for name in trials:
        gated = [record for record in groups[name] if "gate" in record]
        if gated:
            left = content.constant_errors(trials[name][0], data)
            image, text = np.mean([record["gate"] for record in gated], axis=0)
            error = 2 * np.mean([record["read_back_error"] for record in gated]) / sum(left)
            row = {"fused": name, "image": image, "text": text}
            rows.append(row | {"constant, image": left[0], "constant, text": left[1], "error, share": error})
    return pd.DataFrame(rows)


def hits_beside_halves(
    groups: dict[str, Sequence[dict]], trials: dict[str, Sequence[Trial]], image: str
) -> pd.DataFrame:
    """One row a late-fused row: of the users that it or one of its halves hits, the share that both hit.

    Columns: ``fused`` (its name), ``first`` (the half whose codes are written first); ``image`` and ``text``, the
    shares, with intervals over users, ``<half> low`` and ``<half> high``; ``two seeds of the <half>``, the share of two
    seeds of that half alone, None where it has one; ``equal seeds``, whether a half is met in its own codes alone.

    Args:
        trials: of the fused rows, by name.
        image: what the picture's own row is called.
    """
    seeds: dict[str, float] = {}
    rows = []
    for name, of_seeds in trials.items():
        halves = [method(part).label for part in of_seeds[0].modalities]
        text = next(half for half in halves if half != image)
        rows.append({"fused": name, "first": halves[0], "equal seeds": False})
        for half, said in ((image, "image"), (text, "text")):
            if half not in seeds and len(groups[half]) > 1:
                seeds[half] = identical_hits(groups[half], groups[half], resamples=50)["overlap"]
            shared = identical_hits(groups[name], groups[half], resamples=200)
            rows[-1] |= {said: shared["overlap"], f"{said} low": shared["low"], f"{said} high": shared["high"]}
            rows[-1][f"two seeds of the {said}"] = seeds.get(half)
            rows[-1]["equal seeds"] |= shared["equal seeds"]
    return pd.DataFrame(rows)


def whose(table: pd.DataFrame, image: str) -> list[str]:
    """Does a fused row hit its first half's users? A sentence for each row of ``hits_beside_halves``.

    Rows whose first half has one seed, or whose only trials have their halves' codes, have none.

    Args:
        image: what the picture's own row is called.

    >>> row = {"fused": "A", "first": "picture", "image": 0.83, "image low": 0.8, "image high": 0.85, "text": 0.7}
    >>> row |= {"equal seeds": False, "two seeds of the image": 0.9}
    >>> (line,) = whose(pd.DataFrame([row]), "picture")
    >>> for said in line.split(": "): print(said)
    Of the users that A or picture alone hits, both hit 0.83 [0.80, 0.85], of two seeds of picture 0.90
    fewer. A and its other half share 0.70.
    """
    lines = []
    for _, row in table.iterrows():
        side, other = ("image", "text") if row["first"] == image else ("text", "image")
        two, low, high = row[f"two seeds of the {side}"], row[f"{side} low"], row[f"{side} high"]
        if two is not None and not np.isnan(two) and not row["equal seeds"]:
            said = "fewer" if high < two else "more" if low > two else "not told apart"
            lines.append(
                f"Of the users that {row['fused']} or {row['first']} alone hits, both hit {row[side]:.2f} [{low:.2f}, "
                f"{high:.2f}], of two seeds of {row['first']} {two:.2f}: {said}. {row['fused']} and its other half "
                f"share {row[other]:.2f}."
            )
    return lines
