"""Several embedding spaces in one plane: 000's Figure 1."""

import warnings

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from studylib.analysis.geometry import Space, centred, unit
from studylib.analysis.spaces import common_width
from studylib.errors import StudyError
from studylib.threads import torch_threads


def joint_projection(
    spaces: dict[str, Space],
    method: str = "umap",
    seed: int = 0,
    sample: int | None = None,
    centre: bool = False,
) -> pd.DataFrame:
    """All spaces in one plane, as in 000's Figure 1: columns ``space``, ``item``, ``x``, ``y``.

    Args:
        method: "umap" (000 does not say what it used), or "pca", which is linear and keeps distances honest.
        sample: so many items, drawn from ``seed``; the same ones of every space.
        centre: take the modality gap out first.

    A picture shows clusters that are there and some that are not: read it beside ``spaces.measures``.
    """
    common = common_width(spaces)
    items = np.arange(len(next(iter(common.values()))))
    if sample is not None and sample < len(items):
        items = np.sort(np.random.default_rng(seed).choice(items, sample, replace=False))
    if len(items) < 5 or min(x.shape[1] for x in common.values()) < 2:
        raise StudyError("joint projection: a plane needs five items and a width of two or more")
    stacked = np.concatenate([(centred(x) if centre else unit(x))[items] for x in common.values()])
    if method == "umap":
        from umap import UMAP  # seconds of compilation that nothing else here needs

        near = min(15, len(stacked) - 1)
        stacked = stacked.astype(np.float32)
        # Its own search for neighbours, from 4,096 points on, differs from run to run whatever the seed.
        search = NearestNeighbors(n_neighbors=near, algorithm="brute").fit(stacked)
        distances, neighbours = search.kneighbors(stacked)
        # numba sets OpenMP's threads for all; the warning is of new data, of which there is none.
        with torch_threads(), warnings.catch_warnings(action="ignore", category=UserWarning):
            umap = UMAP(n_neighbors=near, random_state=seed, n_jobs=1, precomputed_knn=(neighbours, distances))
            plane = umap.fit_transform(stacked)
    elif method == "pca":
        stacked -= stacked.mean(0)
        left, values, right = np.linalg.svd(stacked, full_matrices=False)
        largest = right[np.arange(2), np.abs(right[:2]).argmax(1)]
        plane = left[:, :2] * values[:2] * np.sign(largest)  # else the sign would depend on the LAPACK used
    else:
        raise StudyError(f'method "{method}": take "umap" or "pca"')
    names = np.repeat(list(common), len(items))
    return pd.DataFrame({"space": names, "item": np.tile(items, len(common)), "x": plane[:, 0], "y": plane[:, 1]})
