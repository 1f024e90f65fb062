"""Embedding spaces measured: what 000's Figure 1 suggests by eye, in numbers that have a chance level.

A space is a float array [items, dims], row = item id. Of one space: how narrow a cone it is (``mean_cosine``), how
many directions it uses (``participation_ratio``), how far it spreads (``dispersion``). Of two: how far apart they lie
(``modality_gap``), whether the same items are alike in both (``linear_cka``, ``mutual_knn``, ``relational_rank``, at
any widths), whether a linear map that is fitted on some items finds the others (``aligned_rank``).

``modality_gap`` compares across spaces, so it needs one width: the caller projects first with
``studylib.fusion.project``. It says something of two encoders that were trained towards one space, as CLIP's two were.
The axes of any other two are unrelated, and what one projection gives is an accident of it. So ``spaces.measures``
takes many projections, and the same with one of the spaces turned at random.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from studylib.errors import StudyError

Space = Float[np.ndarray, "items dims"]
ANCHORS = 256  # of ``relational_rank``
PENALTIES = 10.0 ** np.arange(-4, 3)  # of ``aligned_rank``'s ridge regression, in mean squares of a direction
ROWS = 512  # of an items x items matrix held at a time: 80 MB at 20,000 items


def unit(x: Space, name: str = "embeddings") -> Space:
    """Rows at unit length, as float64; ``name`` is what an error calls them.

    Raises:
        StudyError: not [items, dims] with two items or more, a value that is no number, or a row without direction.
    """
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise StudyError(f"{name} of shape {x.shape}: give [items, dims] with two items or more")
    if not np.isfinite(x).all():
        row = int(np.flatnonzero(~np.isfinite(x).all(1))[0])
        raise StudyError(f"{name}: row {row} has a value that is not a finite number; encode that item again")
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    if not norms.all():
        row = int(np.flatnonzero(norms == 0)[0])
        raise StudyError(f"{name}: row {row} is all zeros (or, centred, the mean of all); encode that item again")
    return x / norms


def off_mean(x: Space, name: str = "embeddings") -> Space:
    """Rows less their mean, as float64.

    Raises:
        StudyError: as ``unit``, or all rows are the same.
    """
    unit(x, name)  # only for what it refuses
    if (x == x[0]).all():
        raise StudyError(f"{name}: all {len(x)} rows are the same, so there is nothing to measure; check the encoder")
    return x - np.mean(x, axis=0, dtype=np.float64)


def centred(x: Space) -> Space:
    """Unit rows, their mean taken off, at unit length again: the space without its place on the sphere."""
    x = unit(x)
    return unit(x - x.mean(0))


# -- one space -------------------------------------------------------------------------------------------------


def mean_cosine(x: Space) -> float:
    """Mean cosine of two different items (Ethayarajh, 2019): 0 if all directions are taken alike, 1 for one direction.

    (||sum of unit rows||^2 - n) / (n (n - 1)), which is exact and needs no pairs.

    >>> mean_cosine(np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])).__round__(4)
    0.3333
    """
    x = unit(x)
    return float((np.square(x.sum(0)).sum() - len(x)) / (len(x) * (len(x) - 1)))


def participation_ratio(x: Space) -> float:
    """How many directions the items vary in: (sum l)^2 / sum l^2, l the eigenvalues of the covariance; 1 to ``dims``.

    Gao et al., 2017. Finite samples of even noise stay below ``dims``: about 1 / (1 / dims + 1 / items).

    >>> participation_ratio(np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    2.0
    """
    x = off_mean(x)
    products = x.T @ x if x.shape[1] < len(x) else x @ x.T  # the same eigenvalues but for zeros
    return float(np.trace(products) ** 2 / np.square(products).sum())


def dispersion(x: Space) -> float:
    """Mean distance of the unit rows from their centroid, 0 to 1.

    The mean *squared* distance is (1 - 1/n) (1 - mean cosine): a narrow cone is not dispersed. So text can hardly have
    both "higher dispersion and stronger anisotropy" (000, Figure 1) where anisotropy is the cone; it can where it is a
    low participation ratio.

    >>> dispersion(np.array([[1.0, 0.0], [0.0, 1.0]])).__round__(4)
    0.7071
    """
    x = unit(x)
    return float(np.linalg.norm(x - x.mean(0), axis=1).mean())


# -- two spaces ------------------------------------------------------------------------------------------------


def modality_gap(x: Space, y: Space) -> float:
    """Distance between the centroids of the unit rows (Liang et al., 2022), 0 to 2; small if both are ``centred``.

    Needs one width (``studylib.fusion.project``). Which row is which item does not enter; and where the axes of the two
    are unrelated it is about sqrt(mean cosine of x + mean cosine of y), which says nothing of the pair.

    >>> modality_gap(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 1.0], [0.0, 3.0]])).__round__(4)
    1.4142
    """
    x, y = _paired(x, y, same_width=True)
    return float(np.linalg.norm(x.mean(0) - y.mean(0)))


def linear_cka(x: Space, y: Space) -> float:
    """Linear centred kernel alignment, ||Y'X||^2 / (||X'X|| ||Y'Y||) of centred columns (Kornblith et al., 2019).

    1 for the same space up to rotation and scale. Not 0 by chance: its mean over all permutations of y's rows is
    sqrt(participation ratio of x * that of y) / (items - 1).
    """
    return float(cka_values(x, y).mean())


def cka_values(x: Space, y: Space) -> Float[np.ndarray, " items"]:
    """``linear_cka``, plus what each item changes in it to first order (its influence; the mean of these is 0).

    So it is a mean over items too, for ``bootstrap_interval``, which could not draw items twice: an item is most like
    its own copy, and so copies raise CKA. Of ||Y'X||^2 / items^2, the influence of item i is twice the mean over all j
    of <x_i, x_j> <y_i, y_j>, less its own mean.
    """
    _paired(x, y)
    x, y = off_mean(x), off_mean(y)
    if len(x) < max(x.shape[1], y.shape[1]):  # the same numbers from items x items products
        kernels = x @ x.T, y @ y.T
        both, one, other = ((kernels[a] * kernels[b]).mean(1) for a, b in ((0, 1), (0, 0), (1, 1)))
    else:
        both, one, other = (((a @ (a.T @ b)) * b).sum(1) / len(x) for a, b in ((x, y), (x, x), (y, y)))
    scale = np.sqrt(one.mean() * other.mean())
    return 2 * both / scale - both.mean() / scale * (one / one.mean() + other / other.mean() - 1)


def neighbours(x: Space, k: int) -> np.ndarray:
    """Each item's ``k`` nearest others by cosine, int [items, k], in no order."""
    x = unit(x)
    if not 1 <= k < len(x):
        raise StudyError(f"{len(x)} items have no {k} neighbours each; take k from 1 to {len(x) - 1}")
    found = np.empty((len(x), k), dtype=np.int64)
    for start, cosines in _cosines(x, x):
        cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = -np.inf
        found[start : start + len(cosines)] = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
    return found


def mutual_knn(x: Space, y: Space, k: int = 10) -> Float[np.ndarray, " items"]:
    """Share of each item's ``k`` nearest others that are the same items in both spaces (Huh et al., 2024).

    Chance is k / (items - 1). One value an item, for ``bootstrap_interval``.
    """
    _paired(x, y)
    pairs = zip(neighbours(x, k), neighbours(y, k), strict=True)
    return np.array([len(np.intersect1d(one, other, assume_unique=True)) / k for one, other in pairs])


def own_rank(x: Space, y: Space) -> Float[np.ndarray, " items"]:
    """The rank, from 1, at which each row of x finds its own row among all rows of y by cosine; ties share a mean rank.

    Needs one width, and axes that mean the same. Chance: median (items + 1) / 2, mean reciprocal rank
    (1 + 1/2 + ... + 1/items) / items. In ``bootstrap_interval(1 / ranks)`` the other items stay fixed.

    >>> own_rank(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 0.1], [1.0, 0.0]])).tolist()
    [2.0, 2.0]
    """
    x, y = _paired(x, y, same_width=True)
    found = np.empty(len(x))
    for start, cosines in _cosines(x, y):
        own = cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))][:, None]
        ahead, up_to = (np.count_nonzero(at, axis=1) for at in (cosines > own + 1e-9, cosines >= own - 1e-9))
        found[start : start + len(cosines)] = (1 + ahead + up_to) / 2  # itself is one of those up to itself
    return found


def relational_rank(x: Space, y: Space, seed: int = 0) -> Float[np.ndarray, " others"]:
    """``own_rank`` where an item is described by its cosines to some other items, the anchors (Moschella et al., 2023).

    So widths and axes need not agree; the anchors are the only items that are told to be the same. ``ANCHORS`` of them,
    at most half of the items, are drawn from ``seed`` and not ranked themselves: an item's cosine with itself would
    give it away.
    """
    x, y = _paired(x, y)
    told, others = anchors_and_others(len(x), seed)
    profiles = [space[others] @ space[told].T for space in (x, y)]
    return own_rank(*(profile - profile.mean(0) for profile in profiles))


def anchors_and_others(items: int, seed: int = 0) -> tuple[Int[np.ndarray, " anchors"], Int[np.ndarray, " others"]]:
    """The items that ``relational_rank`` is told, and those that it ranks, in its order."""
    order = np.random.default_rng(seed).permutation(items)
    return tuple(np.split(order, [min(ANCHORS, items // 2)]))


def aligned_rank(
    x: Space, y: Space, products: Int[np.ndarray, " items"] | None = None, seed: int = 0
) -> Float[np.ndarray, " items"]:
    """``own_rank`` of y's rows among those of x, after the linear map to x that other items teach.

    Half of the products are told to be the same in both spaces: a ridge regression from y to x is fitted on them, and
    the rows of the other half, mapped, look for their own among x's rows of that half; then the halves change places.
    Its penalty is that of ``PENALTIES`` by which a quarter of the told half is found best when the rest of it is
    fitted. Both spaces less the mean of the told rows. Chance is as for ``own_rank``, of half the items.

    Args:
        products: of which product each item is a variant (default: each of its own); variants stay together, so that
            none is looked for that the map was taught.
    """
    x, y = _paired(x, y)
    kinds, product = np.unique(np.arange(len(x)) if products is None else products, return_inverse=True)
    if len(kinds) < 16:
        raise StudyError(f"{len(kinds)} products are too few to fit a map on half of them; give 16 or more")
    part = np.random.default_rng(seed).permutation(len(kinds))[product] * 8 // len(kinds)  # 0 to 7
    found = np.empty(len(x))
    for half in (part < 4, part >= 4):
        inner = half & (part % 4 > 0)
        tried = [(1 / _mapped_rank(x, y, inner, half & ~inner, penalty)).mean() for penalty in PENALTIES]
        found[~half] = _mapped_rank(x, y, half, ~half, PENALTIES[int(np.argmax(tried))])
    return found


def _mapped_rank(
    x: Space, y: Space, told: Bool[np.ndarray, " items"], asked: Bool[np.ndarray, " items"], penalty: float
) -> Float[np.ndarray, " asked"]:
    from sklearn.linear_model import Ridge  # half a second that only this needs

    x, y = x - x[told].mean(0), y - y[told].mean(0)
    scale = np.square(y[told]).sum() / min(y[told].shape)
    found = Ridge(alpha=penalty * scale).fit(y[told], x[told]).predict(y[asked])
    return own_rank(found, x[asked])


def _paired(x: Space, y: Space, same_width: bool = False) -> tuple[Space, Space]:
    x, y = unit(x), unit(y)
    if len(x) != len(y):
        raise StudyError(f"embeddings of {len(x)} and of {len(y)} items; give the same items in the same order")
    if same_width and x.shape[1] != y.shape[1]:
        raise StudyError(
            f"embeddings of widths {x.shape[1]} and {y.shape[1]}; give both to studylib.fusion.project first"
        )
    return x, y


def _cosines(x: Space, y: Space) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(x), ROWS):
        yield start, x[start : start + ROWS] @ y.T
