"""From embeddings to Semantic IDs: one tokenizer a file, one door to all of them."""

import numpy as np
from jaxtyping import Float

from studylib.config import TokenizerSettings
from studylib.errors import StudyError
from studylib.fusion import project
from studylib.semantic_ids import SemanticIds
from studylib.tokenizers import collisions, residual_kmeans


def fit(embeddings: Float[np.ndarray, "items dims"], settings: TokenizerSettings, seed: int) -> SemanticIds:
    """Project, normalise, quantise, resolve collisions.

    The projection is the same for every seed (000, Eq. 3: W is fixed); the seed starts the clustering.

    Raises:
        StudyError: the settings name no tokenizer.
    """
    if settings.name != "residual-kmeans":
        raise StudyError(f"tokenizer: {settings.name!r} makes no Semantic IDs from embeddings; use residual-kmeans")
    projected = project(embeddings, settings.dims)
    result = residual_kmeans.fit(
        projected, settings.levels, settings.codes, settings.iterations, settings.normalise_residuals, seed
    )
    codes, sizes = result.codes, (settings.codes,) * settings.levels
    if settings.collisions == "dedup":
        codes, largest = collisions.deduplicate(codes)
        sizes = (*sizes, largest)
    return SemanticIds(codes, sizes, result.error, source=f"residual k-means, seed {seed}")
