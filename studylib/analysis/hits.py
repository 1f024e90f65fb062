"""Do two models hit the same users (004, Table 2)?"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
import pandas as pd

from studylib.analysis.significance import MIDDLE
from studylib.errors import StudyError
from studylib.tables import per_user

PARTS = ("overlap", "of first", "of second")
K = 5  # a target among so many is a hit, as in 004 (section 4.1: Hits@5)


def identical_hits(
    first: Sequence[dict], second: Sequence[dict], k: int = K, seed: int = 0, resamples: int = 200
) -> dict[str, float]:
    """Which share of the users that two models hit are the same users; each argument is the seeds of one model.

    004's Table 2 has "the percentage of overlapping predictions", by its text "overlapping hits". It can only count
    hits: with shared misses, Toys at 4 to 5 % Hits@5 (its Table 5) could not be below 0.91, and it is 0.33. It does not
    say of what, so here are the three readings, each the mean over all pairs of a seed of the first and one of the
    second:

    - ``overlap``: users hit by both / users hit by either, with ``low`` and ``high``, its 95 % interval over users
    - ``of first``, ``of second``: users hit by both / users hit by that one

    and each with `` by chance``, what two models would share that hit users independently of each other, each user with
    the model's own hit rate (``first rate``, ``second rate``). A user's hit is an expectation where items share an ID
    (studylib/metrics.py), so users are counted in fractions.

    A trial is never paired with itself, so a model against itself gives what two seeds of one model share: the value to
    hold another modality's against. Two models whose codes were fitted with one seed are not paired either, for a fused
    ID has then the very codes of its half, which two seeds of that half do not share; ``equal seeds`` is True where
    there are no others. ``seeds`` are those of the model that has fewer. Any model hits the easy users, so chance is a
    low bar: a model of random IDs is the fairer control.

    Raises:
        StudyError: other users, or no pair of different seeds, or a seed without a hit.
    """
    met = _meeting(first, second, k)
    a, b = met.first, met.second
    rates = a.mean(1)[:, None], b.mean(1)[None, :]
    values = _shares(a @ b.T / a.shape[1], *rates, met.counted)
    chance = _shares(rates[0] * rates[1], *rates, met.counted)
    low, high = np.nanquantile(_resampled([met], seed, resamples), MIDDLE)
    row = dict(zip(PARTS, values, strict=True)) | {"low": float(low), "high": float(high)}
    row |= {f"{name} by chance": value for name, value in zip(PARTS, chance, strict=True)}
    row |= {"first rate": float(a.mean()), "second rate": float(b.mean()), "pairs": int(met.counted.sum())}
    row["seeds"] = min(len(first), len(second))
    return row | {"equal seeds": met.equal_seeds}


def shared_hits(first: Sequence[dict], second: Sequence[dict]) -> float:
    """``overlap`` of ``identical_hits``, which it raises as; no interval is made."""
    met = _meeting(first, second)
    return _overlap(met, np.ones(met.first.shape[1]))


def beyond_seeds(model: Sequence[dict], half: Sequence[dict], seed: int = 0, resamples: int = 200) -> dict[str, float]:
    """What ``model`` and ``half`` share of their hits (``overlap``) less what two seeds of ``half`` do.

    ``two seeds``, what these share; ``difference``, with ``low`` and ``high``, its 95 % interval over users, who are
    the same for both shares.

    Raises:
        StudyError: as ``identical_hits``.
    """
    met = _meeting(model, half), _meeting(half, half)
    shared, two = (_overlap(both, np.ones(both.first.shape[1])) for both in met)
    drawn = _resampled(met, seed, resamples)
    low, high = np.nanquantile(drawn[:, 0] - drawn[:, 1], MIDDLE)
    return {"two seeds": two, "difference": shared - two, "low": float(low), "high": float(high)}


@dataclass(frozen=True, eq=False)
class _Meeting:
    """Hits of two models, [seeds, users] each, and which pairs of their seeds count, [first seeds, second seeds]."""

    first: np.ndarray
    second: np.ndarray
    counted: np.ndarray
    equal_seeds: bool


def _meeting(first: Sequence[dict], second: Sequence[dict], k: int = K) -> _Meeting:
    if not first or not second:
        raise StudyError("identical hits: a model without trials; train a seed of it first")
    hits = [per_user(records, f"recall@{k}") for records in (first, second)]
    if hits[0].shape[1] != hits[1].shape[1]:
        raise StudyError(
            f"identical hits: {hits[0].shape[1]} users against {hits[1].shape[1]}; compare trials on one data set"
        )
    if not all(seeds.any(axis=1).all() for seeds in hits):
        raise StudyError(f"identical hits: a trial hits no user within {k}; train it longer or take a larger k")
    different = np.array([[not _same(one, other) for other in second] for one in first])
    if not different.any():
        raise StudyError("identical hits: only the same trial on both sides; give at least two seeds")
    of_other_seeds = different & ~np.array([[_same_draws(one, other) for other in second] for one in first])
    different = of_other_seeds if of_other_seeds.any() else different
    return _Meeting(*hits, different, not of_other_seeds.any())


def _overlap(met: _Meeting, times: np.ndarray) -> float:
    """Users hit by both / by either, each user so many ``times``; NaN without a hit."""
    rates = (met.first @ times)[:, None], (met.second @ times)[None, :]
    with np.errstate(invalid="ignore"):  # among few users a resample may hold no hit, and says nothing
        return _shares((met.first * times) @ met.second.T, *rates, met.counted)[0]


def _resampled(meetings: Sequence[_Meeting], seed: int, resamples: int) -> np.ndarray:
    """``_overlap`` of every meeting with users drawn anew, the same for all of them: [resample, meeting]."""
    users = meetings[0].first.shape[1]
    hit = np.any([side.any(0) for met in meetings for side in (met.first, met.second)], axis=0)
    odds = np.append(np.full(hit.sum(), 1 / users), 1 - hit.mean())  # whom nobody hits enters no share
    of_hit = [_Meeting(met.first[:, hit], met.second[:, hit], met.counted, met.equal_seeds) for met in meetings]
    rng = np.random.default_rng(seed)
    drawn = [rng.multinomial(users, odds)[:-1] for _ in range(resamples)]
    return np.array([[_overlap(met, times) for met in of_hit] for times in drawn])


def _same(one: dict, other: dict) -> bool:
    return one is other or ("key" in one and one["key"] == other.get("key"))


def _same_draws(one: dict, other: dict) -> bool:
    """Whether both have codes that a tokenizer fitted, with the same seed."""
    return one["trial"]["seed"] == other["trial"]["seed"] and _fitted(one) and _fitted(other)


def _fitted(record: dict) -> bool:
    """Whether its codes were made from features, which takes draws; ready ones were not, and a baseline has none."""
    features = record["trial"]["features"]
    return features != "none" and not all(part.startswith("index:") for part in features.split("+"))


def _shares(both: np.ndarray, first: np.ndarray, second: np.ndarray, counted: np.ndarray) -> list[float]:
    """|both| / |either|, |both| / |first| and |both| / |second| from rates [first seeds, second seeds], averaged."""
    return [float((both / whole)[counted].mean()) for whole in (first + second - both, first, second)]


def hitting_rows(groups: dict[str, Sequence[dict]]) -> dict[str, Sequence[dict]]:
    """The rows whose every trial hits somebody; the others, as popularity may be on a small data set, are named."""
    found = {name: group for name, group in groups.items() if per_user(group, f"recall@{K}").any(axis=1).all()}
    for name in (name for name in groups if name not in found):
        print(f"{name}: a trial hits no user within {K}, so no share of its hits is known; left out", flush=True)
    return found


def of_all_rows(groups: dict[str, Sequence[dict]]) -> pd.DataFrame:
    """``identical_hits`` of every two rows, and of every row that has two seeds with itself.

    A row with a trial that hits nobody is left out.
    """
    hitting = hitting_rows(groups)
    return pd.DataFrame(
        {"first": first, "second": second} | identical_hits(groups[first], groups[second])
        for first, second in combinations_with_replacement(hitting, 2)
        if first != second or len(groups[first]) > 1
    )
