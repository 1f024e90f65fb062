"""Is a difference more than chance? Paired tests over users, intervals, and correction for many comparisons."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int
from scipy import stats
from scipy.optimize import brentq

PERMUTATIONS = 10_000
RESAMPLES = 10_000
MIDDLE = (0.025, 0.975)  # quantiles: the ends of the intervals that resampling gives
SHARE = 0.8  # of the items in a subsample


@dataclass(frozen=True)
class Comparison:
    """A mean difference, its standard errors by users and by seeds (NaN of one each), 95 % interval and p.

    ``free``: degrees of freedom of the two errors' sum; of ``relative``, NaN.
    """

    difference: float
    by_users: float
    by_seeds: float
    low: float
    high: float
    p: float
    free: float = np.nan

    @property
    def row(self) -> dict[str, float]:
        """What tables have of it: all but the degrees of freedom."""
        return {name: value for name, value in vars(self).items() if name != "free"}


def compare(a: Float[np.ndarray, "seeds users"], b: Float[np.ndarray, "seeds users"], seed: int = 0) -> Comparison:
    """``a`` minus ``b``, one metric per user, as it would be with other users and other seeds.

    The interval is a t interval of the sum of two variances, its degrees of freedom by Satterthwaite (1946): that of
    the users' differences, seeds averaged, and that of the differences by seed, users averaged. Where the sides have
    not as many seeds these are no pairs, and both are taken to vary alike with the seed, so that a side of one seed is
    given the other's spread; two sides of one seed say nothing of seeds. ``p`` is the larger of that t test's and the
    paired randomisation test's over users, two-sided.

    Raises:
        ValueError: the two were not measured on the same users.
    """
    a, b = np.atleast_2d(a), np.atleast_2d(b)
    found = _t_test(a, b)
    return replace(found, p=max(randomisation_test(a.mean(0) - b.mean(0), seed), found.p))


def relative(a: Float[np.ndarray, "seeds users"], b: Float[np.ndarray, "seeds users"], seed: int = 0) -> Comparison:
    """``a``'s mean over ``b``'s, less one, as ``compare``: what it is divided by varies too.

    The interval is Fieller's (1954): of all changes r for which ``compare`` would not tell ``a`` from (1 + r) ``b``. So
    it holds 0 where the interval of the difference does; where ``b`` is not told apart from 0 it has no end. Standard
    errors are to first order; ``p`` is that of the difference. NaN throughout where ``b`` is zero.

    Raises:
        ValueError: the two were not measured on the same users.
    """
    a, b = np.atleast_2d(a), np.atleast_2d(b)
    p, base = compare(a, b, seed).p, b.mean()
    if not base:
        return Comparison(*[np.nan] * 6)
    change = a.mean() / base - 1
    spread = _t_test(a / base, (1 + change) * b / base)  # its mean difference is 0
    low = change - _until(lambda step: _t_test(a, (1 + change - step) * b).low, -spread.low)
    high = change + _until(lambda step: -_t_test(a, (1 + change + step) * b).high, spread.high)
    return Comparison(change, spread.by_users, spread.by_seeds, low, high, p)


def _until(told_apart: Callable[[float], float], guess: float) -> float:
    """The step from which on ``told_apart`` is above 0, about ``guess``; infinite if a hundred times that is not it."""
    if guess < 1e-12:  # nothing varies
        return 0.0
    return brentq(told_apart, 0, 100 * guess, xtol=1e-9) if told_apart(100 * guess) > 0 else np.inf


def _t_test(a: Float[np.ndarray, "seeds users"], b: Float[np.ndarray, "seeds users"]) -> Comparison:
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"{a.shape[1]} users against {b.shape[1]}: a paired test needs the same users")
    differences = a.mean(0) - b.mean(0)
    parts = [(differences.var(ddof=1) / differences.size, differences.size - 1)]
    parts += _by_seeds(a.mean(1), b.mean(1))
    mean, (error, free) = float(differences.mean()), summed(parts)
    half = stats.t.ppf(0.975, free) * error
    p = float(2 * stats.t.sf(abs(mean) / error, free)) if error else 0.0
    by_seeds = float(np.sqrt(sum(part for part, _ in parts[1:]))) if len(parts) > 1 else np.nan
    return Comparison(mean, float(np.sqrt(parts[0][0])), by_seeds, float(mean - half), float(mean + half), p, free)


def summed(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The standard error of a sum of independent parts and its degrees of freedom (Satterthwaite, 1946).

    Args:
        parts: variance and degrees of freedom of each.

    >>> summed([(9.0, 5), (16.0, np.inf)])
    (5.0, 38.58024691358025)
    """
    variance = sum(part for part, _ in parts)
    free = variance**2 / sum(part**2 / free for part, free in parts) if variance else np.inf
    return float(np.sqrt(variance)), float(free)


def _by_seeds(a: Float[np.ndarray, " seeds"], b: Float[np.ndarray, " seeds"]) -> list[tuple[float, int]]:
    """The variance of ``a.mean() - b.mean()`` that seeds add, with its degrees of freedom; nothing of one seed each."""
    if len(a) == len(b):
        return [(float((a - b).var(ddof=1)) / len(a), len(a) - 1)] if len(a) > 1 else []
    free = len(a) + len(b) - 2
    pooled = (np.square(a - a.mean()).sum() + np.square(b - b.mean()).sum()) / free
    return [(float(pooled) * (1 / len(a) + 1 / len(b)), free)]


def randomisation_test(
    difference: Float[np.ndarray, " users"], seed: int = 0, permutations: int = PERMUTATIONS
) -> float:
    """Two-sided p of the mean paired difference, the sign of each user's difference being flipped at random.

    The observed assignment counts as one permutation, so p is never 0. Users without a difference change no sum and
    are left out of the work.

    >>> randomisation_test(np.array([1.0, -1.0, 1.0, -1.0]))
    1.0
    """
    moved = difference[difference != 0]
    observed = abs(moved.sum())
    rng = np.random.default_rng(seed)
    extreme, left = 0, permutations
    while left and len(moved):
        rows = min(left, 500)
        bits = np.unpackbits(rng.integers(0, 256, (rows, -(-len(moved) // 8)), dtype=np.uint8), axis=1)
        sums = (2.0 * bits[:, : len(moved)] - 1.0) @ moved
        extreme += int((np.abs(sums) >= observed - 1e-9).sum())
        left -= rows
    return (1 + extreme) / (1 + permutations) if len(moved) else 1.0


def bootstrap_interval(values: Float[np.ndarray, " users"], seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean over resampled users.

    A resample draws how often each distinct value occurs (multinomial), which is the same as drawing users and far
    cheaper where many users share a value.

    >>> bootstrap_interval(np.ones(10))
    (1.0, 1.0)
    """
    distinct, counts = np.unique(values, return_counts=True)
    rng, odds = np.random.default_rng(seed), counts / len(values)
    means = [  # in parts: of many distinct values all draws at once would not fit into memory
        rng.multinomial(len(values), odds, size=min(500, RESAMPLES - start)) @ distinct / len(values)
        for start in range(0, RESAMPLES, 500)
    ]
    low, high = np.quantile(np.concatenate(means), MIDDLE)
    return float(low), float(high)


def subsample_interval(
    measure: Callable[[Int[np.ndarray, " some"]], float | np.ndarray], n: int, seed: int = 0, resamples: int = 200
) -> tuple[float | np.ndarray, float | np.ndarray]:
    """The 95 % interval over items of a measure of ``n`` of them (or several) in which no item may occur twice.

    From subsamples of 80 % without replacement. Their spread around their own mean (a measure may drift with the number
    of items) is smaller than what n fresh items would have by sqrt((n - m) / m), and is scaled up by as much.

    Args:
        measure: takes the numbers of the items that are there.

    >>> low, high = subsample_interval(lambda items: float(np.mean(items >= 50)), 100)
    >>> bool(0.35 < low < 0.45 < 0.55 < high < 0.65)
    True
    """
    value, away = measure(np.arange(n)), subsample_deviations(measure, n, seed, resamples)
    low, high = np.quantile(away, MIDDLE, axis=0)
    return value - high, value - low


def subsample_deviations(
    measure: Callable[[Int[np.ndarray, " some"]], float | np.ndarray], n: int, seed: int = 0, resamples: int = 200
) -> Float[np.ndarray, "resamples ..."]:
    """By how much the measure (or several) of a fresh sample of ``n`` items would miss its mean; see above."""
    rng, drawn = np.random.default_rng(seed), round(SHARE * n)
    found = np.array([measure(rng.choice(n, drawn, replace=False)) for _ in range(resamples)])
    return (found - found.mean(axis=0)) * np.sqrt(drawn / (n - drawn))


def members(groups: Int[np.ndarray, " rows"]) -> list[Int[np.ndarray, " some"]]:
    """The rows of each group.

    >>> [rows.tolist() for rows in members(np.array([7, 2, 7]))]
    [[1], [0, 2]]
    """
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)


def per_group(values: Float[np.ndarray, " rows"], groups: Int[np.ndarray, " rows"]) -> Float[np.ndarray, " groups"]:
    """One value a group, so that rows which hang together are resampled together; their mean is that of ``values``.

    A group counts as much as it has rows: mean + (its sum - its rows x mean) / mean rows of a group, the linear part of
    the ratio of sums to rows.

    >>> per_group(np.array([1.0, 1, 4]), np.array([7, 7, 2]))
    array([3.33333333, 0.66666667])
    """
    _, group, rows = np.unique(groups, return_inverse=True, return_counts=True)
    mean = values.mean()
    return mean + np.bincount(group, values - mean) / rows.mean()


def between_groups(groups: Sequence[Float[np.ndarray, "seeds users"]]) -> dict[str, float]:
    """Do groups (encoders) differ by more than other users and seeds would make them? NaN where no pair knows of seeds.

    What is compared is every pair, as ``compare`` does it; pairs of one seed each, which say nothing of seeds, are left
    out of all but ``sd of means``.

    Returns:
        ``sd of means``: of the groups. ``sd by chance``: what it would be if only users and seeds differed (the root of
        half the mean squared standard error of a pair's difference, as half the mean squared difference is the
        variance of the means); ``compare`` errs on the large side. ``pairs``: how many. ``p``: the smallest of the
        pairs', corrected (Holm), so that it is below 0.05 exactly where a pair is told apart. ``least difference``: the
        smallest difference that one t test at 5 % finds in 80 % of cases, of the pair of which that is largest; a large
        p excludes only what is larger, and not quite that where there are several pairs. ``sd of a seed``: of a group's
        means by seed, pooled, with ``seeds free`` degrees of freedom.

    >>> a, b = np.array([[0.0, 1.0, 1.0], [1.0, 1.0, 0.0]]), np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    >>> found = between_groups([a, b])
    >>> {name: round(float(value), 3) for name, value in found.items()}
    {'sd of means': 0.236, 'sd by chance': 0.236, 'pairs': 1.0, 'p': 1.0, 'least difference': 1.884, \
'sd of a seed': 0.0, 'seeds free': 2.0}
    """
    groups = [np.atleast_2d(group) for group in groups]
    pairs = [compare(a, b) for a, b in combinations(groups, 2) if max(len(a), len(b)) > 1]
    if not pairs:
        names = ("sd of means", "sd by chance", "pairs", "p", "least difference", "sd of a seed", "seeds free")
        return dict.fromkeys(names, float("nan"))
    errors = [(pair.by_users**2 + pair.by_seeds**2) ** 0.5 for pair in pairs]
    free = sum(len(group) - 1 for group in groups)
    by_seed = sum(np.square(group.mean(1) - group.mean()).sum() for group in groups) / free
    return {
        "sd of means": float(np.std([group.mean() for group in groups], ddof=1)),
        "sd by chance": float(np.sqrt(np.mean(np.square(errors)) / 2)),
        "pairs": len(pairs),
        "p": min(holm([pair.p for pair in pairs])),
        "least difference": max(least_difference(error, pair.free) for error, pair in zip(errors, pairs, strict=True)),
        "sd of a seed": float(np.sqrt(by_seed)),
        "seeds free": free,
    }


def least_difference(error: float, free: float, power: float = 0.8) -> float:
    """The difference that a two-sided t test at 5 % finds so often, its standard error having ``free`` degrees.

    With few degrees of freedom, as two seeds have, it is much more than the normal distribution's 2.8 errors.

    >>> [round(least_difference(1.0, free), 2) for free in (1e6, 8, 2)]
    [2.8, 3.2, 5.65]
    """
    if not error:
        return 0.0
    seen = np.sqrt(stats.chi2.ppf((np.arange(4000) + 0.5) / 4000, free) / free)  # the standard error, truly 1
    edge = stats.t.ppf(0.975, free) * seen

    def found(at: float) -> float:
        return float((stats.norm.sf(edge - at) + stats.norm.cdf(-edge - at)).mean())

    return error * brentq(lambda at: found(at) - power, 1.0, 100.0, xtol=1e-6)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the chance of any false alarm among all comparisons stays below the level.

    >>> [round(value, 3) for value in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, dtype=float)
    order = np.argsort(p, kind="stable")
    adjusted = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    result = np.empty_like(adjusted)
    result[order] = adjusted
    return result.tolist()
