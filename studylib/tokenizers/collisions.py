"""Items whose codes agree: what is done about them.

``dedup`` appends a level that numbers them (TIGER); ``matching`` and ``sinkhorn`` give them other codes of the last
level, under the same prefix; ``none`` leaves them. After dedup and matching no two items share an ID, and that is
checked; after the others the number that do is in the report.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, Int

from studylib.errors import StudyError
from studylib.tokenizers.residual import Quantised, colliding, groups

ROUNDS = 20  # of Sinkhorn, at most
STEPS = 50  # within a round, for each sharpness
SHARPNESS = (0.1, 0.02, 0.004, 0.0008)  # epsilon of Sinkhorn, as shares of the mean cost, one after the other

Costs = Callable[[Int[np.ndarray, " some"]], Float[np.ndarray, "some code"]]  # items -> cost of each last code


def resolve(
    result: Quantised, sizes: tuple[int, ...], choice: str
) -> tuple[Int[np.ndarray, "items levels"], tuple[int, ...], tuple[float, ...], dict]:
    """Apply ``choice``; returns codes, codebook sizes, error after each level, and one row for the report.

    The row has ``collisions`` (the choice), ``before`` and ``after`` (items that share their ID), ``rounds``.

    Raises:
        StudyError: more items share a prefix than the last level has codes (``matching``).
    """
    codes, error, rounds = result.codes, result.error, 0
    before = count(codes)

    def costs(items):
        book, rows = result.codebooks[-1].astype(np.float64), result.last[items].astype(np.float64)
        squared = (np.square(rows).sum(1)[:, None] + np.square(book).sum(1) - 2 * rows @ book.T).clip(min=0)
        return squared if result.weights is None else squared * result.weights[items, None]

    if choice == "dedup":
        codes, largest = deduplicate(codes)
        sizes = (*sizes, largest)
    elif choice == "matching":
        codes = match(codes, sizes[-1], costs)
    elif choice == "sinkhorn":
        codes, rounds = sinkhorn(codes, costs)
    after = count(codes)
    if after and choice in ("dedup", "matching"):
        raise AssertionError(f"{choice} left {after} items that share an ID")
    if choice in ("matching", "sinkhorn") and before:
        error = (*error[:-1], result.error_of(codes[:, -1]))
    return codes, sizes, error, {"collisions": choice, "before": before, "after": after, "rounds": rounds}


def count(codes: Int[np.ndarray, "items levels"]) -> int:
    """Items that share their whole ID with another item.

    >>> count(np.array([[5, 1], [5, 2], [5, 1]]))
    2
    """
    return colliding(_numbered(codes))


def _numbered(codes: Int[np.ndarray, "items levels"]) -> Int[np.ndarray, " items"]:
    group = None
    for column in codes.T:
        group = groups(column, group)
    return group


def deduplicate(codes: Int[np.ndarray, "items levels"]) -> tuple[Int[np.ndarray, "items levels_1"], int]:
    """Append a level with its own vocabulary that numbers the items sharing all codes (TIGER; 002, Table 7).

    Returns the longer codes, all different, and the size of the new level. Where no items collide the level is there
    all the same, with one code, so that IDs of all tokenizers have one length.

    >>> deduplicate(np.array([[5, 1], [5, 2], [5, 1]]))
    (array([[5, 1, 0],
           [5, 2, 0],
           [5, 1, 1]]), 2)
    """
    group = _numbered(codes)
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sizes = np.diff(np.append(starts, len(ordered)))
    number = np.empty(len(codes), dtype=np.int64)
    number[order] = np.arange(len(codes)) - np.repeat(starts, sizes)
    return np.column_stack([codes, number]), int(sizes.max())


def match(codes: Int[np.ndarray, "items levels"], size: int, costs: Costs) -> Int[np.ndarray, "items levels"]:
    """Colliding items get different last codes under their prefix, at the least total cost.

    Items that are alone keep their ID; those that collide, each of them, share out the codes that the former leave
    free (scipy's linear_sum_assignment). Items never move to another prefix: that would undo what the upper levels
    say of them, so a prefix with more items than codes is refused instead.

    Raises:
        StudyError: more items share a prefix than the last level has codes.
    """
    from scipy.optimize import linear_sum_assignment  # here: a trial's process starts without it

    codes = codes.copy()
    for items, alone in _crowded(codes):
        if len(items) + len(alone) > size:
            raise StudyError(
                f"collisions matching: {len(items) + len(alone)} items share the prefix "
                f"{codes[items[0], :-1].tolist()}, and the last level has {size} codes; set more codes or levels, "
                "or collisions: dedup"
            )
        free = np.setdiff1d(np.arange(size), codes[alone, -1])
        rows, columns = linear_sum_assignment(costs(items)[:, free])
        codes[items[rows], -1] = free[columns]
    return codes


def sinkhorn(codes: Int[np.ndarray, "items levels"], costs: Costs) -> tuple[Int[np.ndarray, "items levels"], int]:
    """Colliding items of a prefix spread over the last level's codes, in rounds (after LC-Rec and LETTER).

    Each round transports the items that collide under a prefix to the last level's codes that no item has alone, none
    taking more than its share of them (see ``balanced``), and each item moves to the code that takes most of it. A
    round that leaves more collisions than the best so far is not kept. It ends when none collide, or after ``ROUNDS``;
    items with equal embeddings want equal codes and stay together (``matching`` parts them). Returns the codes and the
    rounds taken.
    """
    best, fewest = codes, count(codes)
    codes = codes.copy()
    for done in range(ROUNDS):
        if not fewest:
            return best, done
        before = codes[:, -1].copy()
        for items, alone in _crowded(codes):
            cost = costs(items)
            free = np.setdiff1d(np.arange(cost.shape[1]), codes[alone, -1])
            if len(free):
                codes[items, -1] = free[balanced(cost[:, free]).argmax(1)]
        left = count(codes)
        if left < fewest:
            best, fewest = codes.copy(), left
        if (codes[:, -1] == before).all():  # the next round would do the same
            return best, done + 1
    return best, ROUNDS


def balanced(cost: Float[np.ndarray, "item code"]) -> Float[np.ndarray, "item code"]:
    """Sinkhorn's plan: each item sends out one unit, no code receives more than its share (Cuturi, 2013).

    Where there are fewer items than codes the share is one item, and a row of its own, to which all codes are equal,
    takes what no item needs. Without it all codes would have to receive the same, and items would be sent to codes
    that are far from them because no other item wants those.

    >>> balanced(np.array([[0.0, 1.0, 2.0], [0.1, 1.0, 2.0]])).argmax(1)
    array([0, 1])
    """
    items, codes = cost.shape
    spread, supply = float((cost - cost.min(1, keepdims=True)).mean()), np.ones(items)
    if items < codes:
        cost, supply = np.vstack([cost, np.zeros(codes)]), np.append(supply, codes - items)
    price = np.zeros(codes)  # what a code asks for its room, in units of cost
    for sharpness in SHARPNESS:
        epsilon, asked = max(sharpness * spread, 1e-300), cost + price
        kernel = np.exp((asked.min(1, keepdims=True) - asked) / epsilon).clip(min=1e-300)
        share = np.ones(codes)
        for _ in range(STEPS):
            share = 1 / ((supply / (kernel @ share)) @ kernel)
            share /= share.mean()
        price = price - epsilon * np.log(share)
    plan = (kernel * share)[:items]
    return plan / plan.sum(1, keepdims=True)


def _crowded(codes: Int[np.ndarray, "items levels"]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of each prefix under which items collide: the items that do, and those that are alone with their ID."""
    whole = _numbered(codes)
    prefix = _numbered(codes[:, :-1]) if codes.shape[1] > 1 else np.zeros(len(codes), dtype=np.int64)
    collides = np.bincount(whole)[whole] > 1
    crowded = np.zeros(prefix.max() + 1, dtype=bool)
    crowded[prefix[collides]] = True
    inside = np.flatnonzero(crowded[prefix])
    inside = inside[np.argsort(prefix[inside], kind="stable")]
    for items in np.split(inside, np.flatnonzero(np.diff(prefix[inside])) + 1):
        if len(items):
            yield items[collides[items]], items[~collides[items]]
