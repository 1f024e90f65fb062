"""Spearman's correlation over several data sets at once, and quickly for thousands of resamples."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int


def spearman(x: Sequence[np.ndarray], y: Sequence[np.ndarray]) -> float:
    """Spearman's correlation over the rows of one or more data sets, one array each, ranks being taken within each.

    So what sets data sets apart makes no correlation. 0 where x or y is constant.

    >>> spearman([np.array([1, 2, 3])], [np.array([0.1, 0.5, 0.4])])
    0.5
    """
    return float(correlations([places(values[None]) for values in x], [places(values[None]) for values in y])[0])


def places(rows: Float[np.ndarray, "rows users"]) -> Int[np.ndarray, "rows users"]:
    """Every value's place among the row's distinct values: with them, a resample is ranked without sorting it.

    >>> places(np.array([[0.5, 0.1, 0.5]]))
    array([[1, 0, 1]])
    """
    return np.stack([np.unique(row, return_inverse=True)[1] for row in rows])


def correlations(
    x: Sequence[Int[np.ndarray, "rows users"]], y: Sequence[Int[np.ndarray, "one users"]]
) -> Float[np.ndarray, " rows"]:
    """``spearman`` of every row of x with y; one array of ``places`` a data set."""
    b = np.concatenate([_ranks(one[0]) for one in y])
    found = []
    for row in range(len(x[0])):
        a = np.concatenate([_ranks(one[row]) for one in x])
        scale = np.sqrt((a @ a) * (b @ b))
        found.append(a @ b / scale if scale > 0 else 0.0)
    return np.array(found).round(12)


def _ranks(places: Int[np.ndarray, " users"]) -> Float[np.ndarray, " users"]:
    """Centred ranks as shares of the users; equal values share their mean rank."""
    counts = np.bincount(places)
    return ((np.cumsum(counts) - (counts - 1) / 2)[places] - (len(places) + 1) / 2) / len(places)
