"""What an encoder must beat before its rows mean anything: raw pixels, and numbers that know nothing of the item."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from studylib.render import RenderedPage

RANDOM_SEED = 20260103
RANDOM_DIMS = 128


def pixels(_: None = None, side: int = 64) -> Callable[[Sequence[RenderedPage]], np.ndarray]:
    """The page itself, reduced to ``side`` x ``side`` and read row by row: page layout without any reading."""

    def rows(pages):
        small = [page.image.resize((side, side), Image.Resampling.BOX) for page in pages]
        return np.stack([np.asarray(image, dtype=np.float32).ravel() / 255 for image in small])

    return rows


def random(_: None = None) -> Callable[[Sequence[int]], np.ndarray]:
    """Gaussian rows, each from the item's number alone: Semantic IDs from them are random IDs."""
    return lambda items: np.stack(
        [np.random.default_rng([RANDOM_SEED, item]).standard_normal(RANDOM_DIMS, dtype=np.float32) for item in items]
    )
