"""Tables of embedding spaces: every measure of ``geometry`` beside what chance gives, and what is nearer to what."""

from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from threadpoolctl import threadpool_limits

from studylib.analysis.geometry import (
    Space,
    aligned_rank,
    anchors_and_others,
    centred,
    cka_values,
    dispersion,
    mean_cosine,
    modality_gap,
    mutual_knn,
    participation_ratio,
    relational_rank,
    unit,
)
from studylib.analysis.significance import MIDDLE, bootstrap_interval, members, per_group, subsample_interval
from studylib.errors import StudyError
from studylib.fusion import project

PROJECTIONS = 20  # to one width, each from a seed of its own
DEALT = 20  # permutations of the rows, whose largest value is what chance gives
WIDEST = 512  # to which spaces that are both wider are projected: at 1,280 a projection costs 2.7 times as much


@threadpool_limits.wrap(limits=1)  # small products, for which threads that wait cost more than they do
def measures(
    spaces: dict[str, Space],
    given: dict[str, Space] | None = None,
    products: Int[np.ndarray, " items"] | None = None,
    seed: int = 0,
    width: int | None = None,
    k: int = 10,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All measures of every space, and of every pair of them, each beside its controls.

    Args:
        given: the rows as the encoders gave them, where ``spaces`` had the catalogue's mean taken off. All that is said
            of one space, and what needs common axes, is of these, since a mean that is taken off one side is no gap.
        products: of which product each item is a variant (default: each of its own); variants are drawn together.

    Returns:
        One row a space, by its name: ``dims``; each measure of its unit rows as ``given``, and ``<measure>, centred``
        with their mean taken off; ``<measure> gaussian``, that of random numbers of the same shape.
        One row a pair and measure: ``first``, ``second``, ``measure``, ``value``; ``low``, ``high`` (95 % over
        products, where the measure is a mean of values of items); ``shuffled`` (the second's rows permuted; for the
        gap, which of its two rows an item gives to which space is tossed); ``gaussian`` (random numbers for the second
        space).
        The gap, which needs common axes, is a mean over ``PROJECTIONS`` projections, with the middle 95 % of these,
        ``projected low`` and ``projected high``; and that of the second space turned at random, ``turned low`` and
        ``turned high``, which is what unrelated axes give. Inside it a value says nothing of the pair.

    Rows are at unit length. The gap is taken at ``width`` (default: that of the pair's narrower space, ``WIDEST`` at
    most), all else at the spaces' own.
    """
    _check_spaces(spaces, width)
    rng = np.random.default_rng(seed)
    noise, given = {name: rng.standard_normal(np.shape(x)) for name, x in spaces.items()}, given or spaces
    singles, pairs = [], []
    for name in spaces:
        rows = unit(given[name], name)
        chance = {f"{measure} gaussian": value for measure, value in _of_one(noise[name]).items()}
        singles.append({"space": name, "dims": rows.shape[1]} | _both_ways(rows) | chance)
    for first, second in combinations(spaces, 2):
        order = rng.permutation(len(spaces[first]))
        x, y = ((np.asarray(spaces[one]), np.asarray(given[one])) for one in (first, second))
        common = width or min(np.shape(x[0])[1], np.shape(y[0])[1], WIDEST)
        others = {"shuffled": (y[0][order], y[1][order]), "gaussian": (noise[second], noise[second])}
        found = _of_two(x[0], y[0], products, k, seed)
        chance = {said: _of_two(x[0], other[0], products, k, seed) for said, other in others.items()}
        for measure, values in found.items():
            row = {"first": first, "second": second, "measure": measure, "value": values.mean()}
            row["low"], row["high"] = _interval(measure, values, products, seed)
            pairs.append(row | {said: of[measure].mean() for said, of in chance.items()})
        gap, tossed = _gap(x[1], y[1], common, seed), _tossed(*(project(of[1], common, seed) for of in (x, y)), rng)
        noisy = _gap(x[1], noise[second], common, seed)
        for measure, facts in gap.items():
            row = {"first": first, "second": second, "measure": measure} | facts
            pairs.append(row | {"shuffled": tossed[measure], "gaussian": noisy[measure]["value"]})
    return pd.DataFrame(singles).set_index("space"), pd.DataFrame(pairs)


@threadpool_limits.wrap(limits=1)
def found_at(
    spaces: dict[str, Space], products: Int[np.ndarray, " items"] | None = None, seed: int = 0
) -> pd.DataFrame:
    """At which rank an item finds itself in the other space: the two ranks of ``measures``, as they are.

    One row a pair and ``way`` ("relational", "aligned"): ``median`` rank, 1 the first, ``of`` about so many; the share
    of items ``found first`` and ``within ten``; ``median shuffled``, of the second space's rows permuted.
    """
    rng, rows = np.random.default_rng(seed), []
    for first, second in combinations(spaces, 2):
        x, y = spaces[first], spaces[second]
        other = y[rng.permutation(len(y))]
        ways = {
            "relational": (len(anchors_and_others(len(x), seed)[1]), lambda of, x=x: relational_rank(x, of, seed)),
            "aligned": (len(x) // 2, lambda of, x=x: aligned_rank(x, of, products, seed)),
        }
        for way, (candidates, rank) in ways.items():
            found, dealt = rank(y), rank(other)
            row = {"first": first, "second": second, "way": way, "median": np.median(found), "of": candidates}
            row |= {"found first": (found == 1).mean(), "within ten": (found <= 10).mean()}
            rows.append(row | {"median shuffled": np.median(dealt)})
    return pd.DataFrame(rows)


def _interval(
    measure: str, values: Float[np.ndarray, " some"], products: Int[np.ndarray, " items"] | None, seed: int
) -> tuple[float, float]:
    """The 95 % interval over products of the mean of a measure's values, which may be of some items alone."""
    if products is None:
        return bootstrap_interval(values, seed)
    if measure.startswith("relational"):
        products = products[anchors_and_others(len(products), seed=seed)[1]]
    return bootstrap_interval(per_group(values, products), seed)


@threadpool_limits.wrap(limits=1)
def shapes(
    spaces: dict[str, Space],
    first: str,
    second: str,
    products: Int[np.ndarray, " items"] | None = None,
    seed: int = 0,
    resamples: int = 200,
) -> pd.DataFrame:
    """Two spaces' own measures side by side. One row a measure, of unit rows and with their mean taken off.

    Args:
        products: of which product each item is a variant (default: each of its own); variants are drawn together.

    Columns: ``measure``; its value for each of the two names; ``difference``, the first's less the second's, with its
    95 % interval over products, ``low`` and ``high`` (``significance.subsample_interval``: copies of an item are as
    like as can be, so that no product may be drawn twice).
    """
    given = [unit(spaces[name], name) for name in (first, second)]
    items = len(given[0])
    apart = members(np.arange(items) if products is None else products)

    def differences(drawn: Int[np.ndarray, " some"]) -> np.ndarray:
        rows = np.concatenate([apart[product] for product in drawn])
        one, other = (_both_ways(x[rows]) for x in given)
        return np.array([one[measure] - other[measure] for measure in one])

    here, there = map(_both_ways, given)
    table = pd.DataFrame({"measure": list(here), first: here.values(), second: there.values()})
    table["difference"] = table[first] - table[second]
    table["low"], table["high"] = subsample_interval(differences, len(apart), seed, resamples)
    return table


def _both_ways(x: Space) -> dict[str, float]:
    """The measures of one space as it is, and with its mean taken off."""
    return _of_one(x) | {f"{measure}, centred": value for measure, value in _of_one(centred(x)).items()}


def verdicts(shapes: pd.DataFrame) -> list[str]:
    """What ``shapes`` say of 000's Figure 1: text has "higher dispersion and stronger anisotropy" than OCR.

    >>> rows = [("dispersion", 0.9, 0.1, 0.8, 0.7, 0.9), ("mean cosine", 0.2, 0.9, -0.7, -0.8, -0.6)]
    >>> rows.append(("participation ratio", 50, 48, 2, -1, 5))
    >>> table = pd.DataFrame(rows, columns=["measure", "T", "O", "difference", "low", "high"])
    >>> cone, directions = verdicts(table)[1:]
    >>> print(cone)
    stronger anisotropy of T, by mean cosine: no; 0.200 against 0.900 of O, -0.700 [-0.800, -0.600]
    >>> directions.split("; ")[0]
    'stronger anisotropy of T, by participation ratio: not told apart'
    """
    text, ocr = shapes.columns[1:3]
    rows, said = shapes.set_index("measure"), []
    for claim, measure, sign in (
        ("higher dispersion", "dispersion", 1),
        ("stronger anisotropy", "mean cosine", 1),
        ("stronger anisotropy", "participation ratio", -1),  # few directions are an anisotropy
        ("stronger anisotropy", "participation ratio, centred", -1),  # of the other two centring leaves nothing
    ):
        if measure in rows.index:
            row = rows.loc[measure]
            low, high = sorted((sign * row["low"], sign * row["high"]))
            holds = "yes" if low > 0 else "no" if high < 0 else "not told apart"
            interval = f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
            said.append(
                f"{claim} of {text}, by {measure}: {holds}; {row[text]:.3f} against {row[ocr]:.3f} of {ocr}, {interval}"
            )
    return said


@threadpool_limits.wrap(limits=1)
def closer(
    spaces: dict[str, Space],
    to: str,
    first: str,
    second: str,
    products: Int[np.ndarray, " items"] | None = None,
    seed: int = 0,
    k: int = 10,
    draws: int = DEALT,
) -> pd.DataFrame:
    """Is ``second`` closer to ``to`` than ``first`` is? One row a measure that needs no common axes.

    All three with their mean taken off: were it taken off one alone, that would be a part of the difference.

    Args:
        products: of which product each item is a variant (default: each of its own); variants are drawn together.

    Columns: ``measure``; its value for each of the two names; ``difference``, second's minus first's, with its 95 %
    interval over products (the same for both), ``low`` and ``high``; ``chance first`` and ``chance second``, the
    largest value of ``draws`` permutations of the rows. Where neither value is above its chance there is nothing to
    compare, and no interval.
    """
    x, one, other = (centred(unit(spaces[name], name)) for name in (to, first, second))
    here, there = (_of_two(x, y, products, k, seed) for y in (one, other))
    rng = np.random.default_rng(seed)
    dealt = [[_of_two(x[rng.permutation(len(x))], y, products, k, seed) for _ in range(draws)] for y in (one, other)]
    rows = []
    for measure in here:
        values = here[measure].mean(), there[measure].mean()
        chance = [max(draw[measure].mean() for draw in side) for side in dealt]
        related = any(value > level for value, level in zip(values, chance, strict=True))
        change = there[measure] - here[measure]
        interval = _interval(measure, change, products, seed) if related else (np.nan, np.nan)
        rows.append((measure, *values, *interval, *chance))
    table = pd.DataFrame(rows, columns=["measure", first, second, "low", "high", "chance first", "chance second"])
    table.insert(3, "difference", table[second] - table[first])
    return table


def nearer(closer: pd.DataFrame) -> list[str]:
    """What ``closer`` says, a sentence a measure.

    >>> row = {"measure": "CKA", "T": 0.3, "O": 0.2, "difference": -0.1}
    >>> for low, high in ((-0.2, -0.05), (np.nan, np.nan)):
    ...     print(*nearer(pd.DataFrame([row | {"low": low, "high": high}])))
    by CKA, O is further than T: -0.1000 [-0.2000, -0.0500]
    by CKA, neither is nearer than rows dealt at random (T 0.3000, O 0.2000): nothing to compare
    """
    (first, second), said = closer.columns[1:3], []
    for _, row in closer.iterrows():
        if np.isnan(row["low"]):
            values = f"{first} {row[first]:.4f}, {second} {row[second]:.4f}"
            said.append(
                f"by {row['measure']}, neither is nearer than rows dealt at random ({values}): nothing to compare"
            )
            continue
        verdict = "closer than" if row["low"] > 0 else "further than" if row["high"] < 0 else "not told apart from"
        interval = f"{row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"
        said.append(f"by {row['measure']}, {second} is {verdict} {first}: {interval}")
    return said


def _of_one(x: Space) -> dict[str, float]:
    x = unit(x)
    return {"mean cosine": mean_cosine(x), "participation ratio": participation_ratio(x), "dispersion": dispersion(x)}


def _of_two(
    x: Space, y: Space, products: Int[np.ndarray, " items"] | None, k: int, seed: int
) -> dict[str, Float[np.ndarray, " some"]]:
    """The measures of a pair that need no common axes, one value an item; for the rank a map from y to x is learnt."""
    return {
        "linear CKA": cka_values(unit(x), unit(y)),
        f"mutual kNN, k = {k}": mutual_knn(x, y, k),
        "relational reciprocal rank": 1 / relational_rank(x, y, seed=seed),
        "aligned reciprocal rank": 1 / aligned_rank(x, y, products, seed),
    }


def _gap(x: Space, y: Space, width: int, seed: int) -> dict[str, dict[str, float]]:
    """The gap before and after centring: its mean over projections, and the bands of these and of turned axes."""
    draws: dict[str, list[dict]] = {"projected": [], "turned": []}
    for draw in range(seed, seed + PROJECTIONS):
        near, far = project(x, width, draw), project(y, width, draw)
        turn = np.linalg.qr(np.random.default_rng([draw, 1]).standard_normal((width, width)))[0]
        for said, other in (("projected", far), ("turned", far @ turn)):
            draws[said].append(_gaps(near, other))
    found = {}
    for measure in draws["projected"][0]:
        found[measure] = {"value": float(np.mean([one[measure] for one in draws["projected"]]))}
        for said, ones in draws.items():
            low, high = np.quantile([one[measure] for one in ones], MIDDLE)
            found[measure] |= {f"{said} low": float(low), f"{said} high": float(high)}
    return found


def _gaps(near: Space, far: Space) -> dict[str, float]:
    both = {"modality gap": (near, far), "modality gap, centred": (centred(near), centred(far))}
    return {measure: modality_gap(*of) for measure, of in both.items()}


def _tossed(near: Space, far: Space, rng: np.random.Generator) -> dict[str, float]:
    heads = rng.random((len(near), 1)) < 0.5
    return _gaps(np.where(heads, near, far), np.where(heads, far, near))


def common_width(spaces: dict[str, Space]) -> dict[str, Space]:
    """Every space at one width, that of the narrowest."""
    narrowest = _check_spaces(spaces)
    return {name: project(x, narrowest) for name, x in spaces.items()}


def _check_spaces(spaces: dict[str, Space], width: int | None = None) -> int:
    """The narrowest space's width, if they are spaces of the same items and ``width`` is one of them all."""
    if not spaces:
        raise StudyError("spaces: none given; name one with its embeddings")
    shapes = {name: unit(x, name).shape for name, x in spaces.items()}
    if len({rows for rows, _ in shapes.values()}) > 1:
        listed = ", ".join(f"{name} {rows}" for name, (rows, _) in shapes.items())
        raise StudyError(f"spaces: different numbers of items ({listed}); give the same items in the same order")
    narrowest = min(dims for _, dims in shapes.values())
    if width is not None and not 1 <= width <= narrowest:
        raise StudyError(f"width {width}: take 1 to {narrowest}, the narrowest space's; a projection adds no dimension")
    return narrowest
