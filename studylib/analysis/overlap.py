"""How much two modalities say the same: the agreement of their Semantic IDs (004, Table 1)."""

from collections.abc import Sequence
from itertools import combinations, combinations_with_replacement

import numpy as np
import pandas as pd
from jaxtyping import Int
from scipy import stats

from studylib.analysis.significance import subsample_deviations, subsample_interval, summed
from studylib.data.planted import Knobs, generate
from studylib.errors import StudyError
from studylib.semantic_ids import SemanticIds

COLUMNS = ("ami", "low", "high", "ami shuffled", "nmi", "nmi shuffled", "ami of the level")
Codes = SemanticIds | Int[np.ndarray, "items levels"]


def ami(a: Int[np.ndarray, " items"], b: Int[np.ndarray, " items"], average: str = "arithmetic") -> float:
    """Adjusted mutual information of two clusterings (Vinh et al., 2009; 004, A.1): 0 by chance, 1 for the same.

    (I - E[I]) / (mean(H(a), H(b)) - E[I]), where E[I] is the expectation over all orders of the items. 004 does not say
    which mean; ``average`` is scikit-learn's ("arithmetic", "geometric", "max", "min").

    >>> round(ami(np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 1, 1, 1])), 4)
    0.6154
    """
    from sklearn.metrics import adjusted_mutual_info_score  # half a second that only this needs

    return float(adjusted_mutual_info_score(a, b, average_method=average))


def nmi(a: Int[np.ndarray, " items"], b: Int[np.ndarray, " items"], average: str = "arithmetic") -> float:
    """I / mean(H(a), H(b)): not corrected for chance, so read it beside the value of shuffled rows.

    >>> round(nmi(np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 1, 1, 1])), 4)
    0.7337
    """
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(a, b, average_method=average))


def prefixes(codes: Int[np.ndarray, "items levels"], length: int) -> Int[np.ndarray, " items"]:
    """The number of each item's prefix among the different prefixes of that length.

    >>> prefixes(np.array([[4, 1], [4, 0], [2, 1], [4, 1]]), 2).tolist()
    [2, 1, 0, 2]
    """
    return np.unique(codes[:, :length], axis=0, return_inverse=True)[1].reshape(-1)


def code_overlap(
    ids_a: Codes,
    ids_b: Codes,
    seed: int = 0,
    resamples: int = 200,
    shuffles: int = 5,
) -> pd.DataFrame:
    """One row for each prefix length, by which the frame is indexed; row 1, the first-level codes, is 004's Table 1.

    Columns: ``distinct a``, ``distinct b`` (different prefixes); ``ami``, ``nmi``; ``ami shuffled``, ``nmi shuffled``
    (means over ``shuffles`` permutations of b's rows); ``low``, ``high`` (95 % interval of ``ami``, of row 1 only: deep
    prefixes are almost all different, and each resample of them costs seconds); ``ami of the level``, of the level's
    codes without those before it. Where no two items share a prefix on either side, or all do on both, the values are
    nan: any IDs of that kind agree.

    Raises:
        StudyError: the two are not codes of the same number of items.
    """
    a, b = (np.asarray(ids.codes if isinstance(ids, SemanticIds) else ids) for ids in (ids_a, ids_b))
    if a.ndim != 2 or b.ndim != 2 or len(a) != len(b) or len(a) < 10:
        raise StudyError(f"codes of shapes {a.shape} and {b.shape}: give [items, levels] of the same items, 10 or more")
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(b)) for _ in range(shuffles)]
    rows = []
    for length in range(1, min(a.shape[1], b.shape[1]) + 1):
        left, right = prefixes(a, length), prefixes(b, length)
        distinct = int(left.max()) + 1, int(right.max()) + 1
        row = {"prefix": length, "distinct a": distinct[0], "distinct b": distinct[1]} | dict.fromkeys(COLUMNS, np.nan)
        if min(distinct) < len(a) and max(distinct) > 1:
            row |= {"ami": ami(left, right), "nmi": nmi(left, right)}
            # AMI = (NMI - e) / (1 - e), and a permutation leaves e as it is: so one slow AMI tells those of all orders
            one, others = ami(left, right[orders[0]]), [nmi(left, right[order]) for order in orders]
            expected = (others[0] - one) / (1 - one)
            row["nmi shuffled"] = float(np.mean(others))
            row["ami shuffled"] = (row["nmi shuffled"] - expected) / (1 - expected)
            row["ami of the level"] = ami(a[:, length - 1], b[:, length - 1])
            if length == 1 and resamples:
                row["low"], row["high"] = ami_interval(left, right, seed, resamples)
        rows.append(row)
    return pd.DataFrame(rows).set_index("prefix")


def overlap_of_seeds(
    first: Sequence[Codes], second: Sequence[Codes] | None = None, seed: int = 0, resamples: int = 200
) -> pd.DataFrame:
    """``code_overlap`` of two kinds of IDs with several seeds each: means over ``pairs`` of seeds, the column of it.

    Each seed meets the next of the other side (``_meetings``). Where each side has one seed, or ready IDs, those two
    do. Without ``second`` the other side is the kind itself: what two fits of one tokenizer on one encoder agree in,
    the ceiling for any two encoders. The interval is that of the mean. Equal IDs, as ready ones are with every seed,
    count once.

    Raises:
        StudyError: one kind of IDs that are all equal.
    """
    one = _different(first)
    other = one if second is None else _different(second)
    pairs = _meetings(one, other)
    if second is None:
        if not pairs:
            raise StudyError("codes of one seed, or of ready IDs: nothing to compare them with; give another kind")
        pairs = pairs[:1] if len(pairs) == 2 else pairs  # the second is the first the other way round
    pairs = pairs or [(one[0], other[0])]
    found = pd.concat([code_overlap(a, b, seed, resamples=0) for a, b in pairs]).groupby("prefix").mean()
    firsts = [(prefixes(a, 1), prefixes(b, 1)) for a, b in pairs]
    if resamples and not np.isnan(found.loc[1, "ami"]):

        def mean(items: np.ndarray) -> float:
            return float(np.mean([ami(a[items], b[items]) for a, b in firsts]))

        found.loc[1, ["low", "high"]] = subsample_interval(mean, len(firsts[0][0]), seed, resamples)
    return found.assign(pairs=len(pairs))


def _meetings(first: Sequence, *others: Sequence) -> list[tuple]:
    """Each seed of ``first`` with the next of every other side (or its first, after the last), never its own.

    Tokenizers of one seed make the same draws, and codes agree by that (on Scientific the third codes of MiniLM with
    those of the pictures by 0.16, in place of 0.01 with two seeds). A seed that one side has alone meets none there.
    There are as many meetings as the shortest side has seeds: more would count its seeds twice.
    """
    found = []
    for number, ids in enumerate(first):
        places = [(number + 1) % len(side) for side in others]
        if number not in places:
            found.append((ids, *(side[place] for side, place in zip(others, places, strict=True))))
    return found[: min(map(len, (first, *others)))]


def _different(kind: Sequence[Codes]) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    for ids in kind:
        codes = np.asarray(ids.codes if isinstance(ids, SemanticIds) else ids)
        if not any(np.array_equal(codes, earlier) for earlier in found):
            found.append(codes)
    return found


def ami_interval(
    a: Int[np.ndarray, " items"], b: Int[np.ndarray, " items"], seed: int = 0, resamples: int = 200
) -> tuple[float, float]:
    """95 % interval of ``ami`` over items, the codebooks as they are, from subsamples of 80 % without replacement.

    A bootstrap would be wrong here: an item drawn twice lies with itself in one cluster on both sides, which counts as
    agreement, so that even independent codes seem to agree. A subsample has no such pair (``subsample_interval``).
    """
    return subsample_interval(lambda items: ami(a[items], b[items]), len(a), seed, resamples)


def closer(
    fused: Sequence[Int[np.ndarray, "items levels"]],
    first: Sequence[Int[np.ndarray, "items levels"]],
    second: Sequence[Int[np.ndarray, "items levels"]],
    less: Sequence[Int[np.ndarray, "items levels"]] | None = None,
    seed: int = 0,
    resamples: int = 200,
) -> dict[str, float]:
    """Do the first codes of ``fused`` agree more with those of ``first`` than of ``second`` (004, Table 1)?

    Each argument is the codes of seeds 0, 1, ... of one kind of IDs; each of ``fused`` meets the next seed of the
    others (``_meetings``).

    Args:
        less: another fused kind, whose difference is taken off, seed by seed.

    Returns:
        ``seeds``: those of ``fused`` that meet another of both; without one all else is NaN. ``with first``, ``with
        second``: AMI; ``difference`` with its 95 % interval, ``low`` and ``high``: over items and, of two seeds at
        least, over seeds (``by_seeds``, the standard error by these, else NaN). All are means over seeds.
    """
    kinds = list(zip(fused, fused if less is None else less, strict=False))
    met = [(*own, one, other) for own, one, other in _meetings(kinds, first, second)]
    seeds = [tuple(prefixes(codes, 1) for codes in kinds) for kinds in met]
    if not seeds:
        names = ("with first", "with second", "difference", "by_seeds", "low", "high")
        return {"seeds": 0} | dict.fromkeys(names, np.nan)

    def agreed(items: np.ndarray | slice, side: int, of: int = 0) -> np.ndarray:
        return np.array([ami(codes[of][items], codes[side][items]) for codes in seeds])

    def lead(items: np.ndarray | slice) -> np.ndarray:
        off = 0 if less is None else agreed(items, 2, of=1) - agreed(items, 3, of=1)
        return agreed(items, 2) - agreed(items, 3) - off

    whole, items = slice(None), len(seeds[0][0])
    by_seed = lead(whole)
    away = subsample_deviations(lambda drawn: float(lead(drawn).mean()), items, seed, resamples)
    parts, error = [(float(away.var(ddof=1)), items - 1)], np.nan
    if len(seeds) > 1:
        parts.append((float(by_seed.var(ddof=1)) / len(seeds), len(seeds) - 1))
        error = float(np.sqrt(parts[1][0]))
    both, free = summed(parts)
    half = float(stats.t.ppf(0.975, free)) * both
    found = {"seeds": len(seeds), "with first": agreed(whole, 2).mean(), "with second": agreed(whole, 3).mean()}
    value = float(by_seed.mean())
    return found | {"difference": value, "by_seeds": error, "low": value - half, "high": value + half}


def of_all_rows(codes: dict[str, Sequence[Codes]]) -> pd.DataFrame:
    """``overlap_of_seeds`` of every two rows, and of every row that has two different seeds with itself.

    Columns: ``first``, ``second``, ``prefix``, and those of ``overlap_of_seeds``. Prefixes so long that no two items
    share one, as whole IDs are, say nothing and have no row.
    """
    found = {}
    for first, second in combinations_with_replacement(codes, 2):
        if first != second or len(_different(codes[first])) > 1:
            shared = overlap_of_seeds(codes[first], None if first == second else codes[second])
            found[first, second] = shared.dropna(subset="ami")
    return pd.concat(found, names=["first", "second"]).reset_index()


def findings(table: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """How far the first codes of every two of some rows agree, beside what two seeds of either agree in; sentences.

    Args:
        table: of ``of_all_rows``.

    >>> columns = ("first", "second", "prefix", "ami", "low", "high")
    >>> rows = [("a", "a", 1, 0.6, 0.5, 0.7), ("a", "b", 1, 0.2, 0.1, 0.3), ("b", "b", 1, 0.4, 0.3, 0.5)]
    >>> for line in findings(pd.DataFrame(rows, columns=columns), ["a", "b"]): print(line)
    a and b: AMI 0.200 [0.100, 0.300] of first codes; two seeds of a 0.600, of b 0.400.
    """
    first = table[table["prefix"] == 1].set_index(["first", "second"])
    lines = []
    for one, other in combinations(names, 2):
        pair = (one, other) if (one, other) in first.index else (other, one)
        if pair not in first.index:
            raise StudyError(f"code_overlap has no {one} beside {other}; run the notebook with train: true")
        row = first.loc[pair]
        alone = [
            f"of {name} {first.loc[(name, name), 'ami']:.3f}" for name in (one, other) if (name, name) in first.index
        ]
        ceiling = f"; two seeds {', '.join(alone)}" if alone else ""
        lines.append(
            f"{one} and {other}: AMI {row['ami']:.3f} [{row['low']:.3f}, {row['high']:.3f}] of first codes{ceiling}."
        )
    return lines


def leads(
    halves: dict[str, tuple[str, str]], codes: dict[str, Sequence[Codes]], plain: dict[str, str] | None = None
) -> pd.DataFrame:
    """``closer`` of every fused row, by its name with the names of its two halves.

    Args:
        plain: by row, another whose difference is taken off in a row of its own, below.
    """
    rows = []
    for name, (first, second) in halves.items():
        rows.append(
            {"fused": name, "first": first, "second": second} | closer(codes[name], codes[first], codes[second])
        )
        if other := (plain or {}).get(name):
            found = closer(codes[name], codes[first], codes[second], less=codes[other])
            rows.append({"fused": f"{name}, less {other}", "first": first, "second": second} | found)
    return pd.DataFrame(rows)


def over_knob(shares: Sequence[float]) -> pd.DataFrame:
    """AMI of the planted text and image groups where text and picture agree for these shares of products."""
    rows = []
    for share in shares:
        truth = generate(Knobs(users=10, correlation=share))[2]
        found = code_overlap(truth.text_group[:, None], truth.image_group[:, None])
        rows.append({"knob": share} | found.loc[1, ["ami", "low", "high", "ami shuffled"]].to_dict())
    return pd.DataFrame(rows)
