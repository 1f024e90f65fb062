"""Items whose codes agree: what is done about them."""

import numpy as np
from jaxtyping import Int


def deduplicate(codes: Int[np.ndarray, "items levels"]) -> tuple[Int[np.ndarray, "items levels_1"], int]:
    """Append a level with its own vocabulary that numbers the items sharing all codes (TIGER; 002, Table 7).

    Returns the longer codes, all different, and the size of the new level. Where no items collide the level is there
    all the same, with one code, so that IDs of all tokenizers have one length.

    >>> deduplicate(np.array([[5, 1], [5, 2], [5, 1]]))
    (array([[5, 1, 0],
           [5, 2, 0],
           [5, 1, 1]]), 2)
    """
    _, group = np.unique(codes, axis=0, return_inverse=True)
    order = np.argsort(group.ravel(), kind="stable")
    ordered = group.ravel()[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sizes = np.diff(np.append(starts, len(ordered)))
    number = np.empty(len(codes), dtype=np.int64)
    number[order] = np.arange(len(codes)) - np.repeat(starts, sizes)
    return np.column_stack([codes, number]), int(sizes.max())
