"""From embeddings to Semantic IDs: one tokenizer a file, one door to all of them."""

import numpy as np
from jaxtyping import Float

from studylib.config import READS, TokenizerSettings
from studylib.errors import StudyError
from studylib.fusion import project
from studylib.semantic_ids import SemanticIds
from studylib.tokenizers import balanced_kmeans, collisions, cost, letter, opq, r_vq, residual_kmeans, rq_vae
from studylib.tokenizers.residual import CHUNK, Quantised, sample_size

TOKENIZERS = {
    "residual-kmeans": residual_kmeans,
    "r-vq": r_vq,
    "rq-vae": rq_vae,
    "letter": letter,
    "cost": cost,
    "opq": opq,
    "balanced-kmeans": balanced_kmeans,
}
TITLES = {  # as records say where their IDs are from
    "residual-kmeans": "residual k-means",
    "r-vq": "R-VQ",
    "rq-vae": "RQ-VAE",
    "letter": "LETTER",
    "cost": "CoST-style",
    "opq": "OPQ",
    "balanced-kmeans": "balanced residual k-means",
}


def fit(
    embeddings: Float[np.ndarray, "items dims"],
    settings: TokenizerSettings,
    seed: int,
    collaborative: Float[np.ndarray, "items width"] | None = None,
) -> SemanticIds:
    """Project, normalise, quantise, resolve collisions.

    The projection is the same for every seed (000, Eq. 3: W is fixed); the seed starts the clustering. The report has
    one row for each iteration and level, and a last row with what was done about collisions. LETTER alone reads
    ``collaborative``, the items' embeddings by a model of who interacts with what.

    Raises:
        StudyError: the settings name no tokenizer; the embeddings are no table of finite real numbers; fewer items than
            codes; the fit diverged; level 1 collapsed; matching found a prefix with more items than codes.
    """
    if settings.name not in TOKENIZERS:
        raise StudyError(
            f"tokenizer: {settings.name!r} makes no Semantic IDs from embeddings; use one of {', '.join(TOKENIZERS)}"
        )
    if embeddings.ndim != 2 or embeddings.dtype.kind not in "fiu":
        raise StudyError(
            f"tokenizer: embeddings of shape {embeddings.shape} and type {embeddings.dtype}; give real numbers "
            "[items, dims]"
        )
    inputs = projected(embeddings, settings)
    result = quantise(inputs, settings, seed, collaborative)
    check_error(result.error, settings)
    check_collapse(result.codes[:, 0], inputs, settings)
    sizes = (settings.codes,) * settings.levels
    codes, sizes, error, row = collisions.resolve(result, sizes, settings.collisions)
    source = f"{TITLES[settings.name]}, seed {seed}"
    return SemanticIds(codes, sizes, error, source=source, report=(*result.report, row))


def quantise(
    inputs: Float[np.ndarray, "items dims"],
    settings: TokenizerSettings,
    seed: int,
    collaborative: Float[np.ndarray, "items width"] | None = None,
) -> Quantised:
    """Codes before anything is done about collisions."""
    shape = {name: getattr(settings, name) for name in ("levels", "codes", "iterations")}
    options = {name: getattr(settings, name) for name in READS.get(settings.name, ())}
    if settings.name == "letter":
        if collaborative is None:
            raise StudyError("tokenizer letter: no collaborative embeddings; give SASRec's, or take rq-vae")
        options["collaborative"] = collaborative
    return TOKENIZERS[settings.name].fit(inputs, seed=seed, **shape, **options)


def check_error(error: tuple[float, ...], settings: TokenizerSettings) -> None:
    """Refuse codes from which the embeddings are rebuilt worse than by zeros.

    Raises:
        StudyError: the relative error after the last level is above 1, or no number.
    """
    if not error[-1] <= 1:
        learned = "lr" in READS.get(settings.name, ())
        cure = f"give a smaller lr than {settings.lr:g}" if learned else "give fewer codes or more items"
        raise StudyError(f"tokenizer {settings.name}: the fit diverged, its relative error is {error[-1]:.3g}; {cure}")


def check_collapse(first: np.ndarray, embeddings: Float[np.ndarray, "items dims"], settings: TokenizerSettings) -> None:
    """Refuse IDs whose first level uses too few of its codes; fewer different items than codes cannot use them all.

    Raises:
        StudyError: level 1 uses less than the share ``collapse`` of its codes.
    """
    used = len(np.unique(first))
    if used >= settings.collapse * settings.codes:
        return
    if len(np.unique(embeddings, axis=0)) < settings.codes:
        return
    cure = "give more iterations or a smaller lr" if "lr" in READS.get(settings.name, ()) else "give more iterations"
    raise StudyError(
        f"tokenizer {settings.name}: level 1 collapsed, it uses {used} of {settings.codes} codes; look whether the "
        f"embeddings are nearly all alike, {cure}, or set collapse to less"
    )


def projected(
    embeddings: Float[np.ndarray, "items dims"], settings: TokenizerSettings
) -> Float[np.ndarray, "items width"]:
    """``project`` to the settings' width; it computes in double precision, so many rows go chunk by chunk."""
    if len(embeddings) <= sample_size(settings.codes):
        return project(embeddings, settings.dims)
    width = min(settings.dims, embeddings.shape[1])
    found = np.empty((len(embeddings), width), dtype=np.float32)
    for start in range(0, len(embeddings), CHUNK):
        part = embeddings[start : start + CHUNK]
        if not part.any(1).all():
            row = start + int(np.flatnonzero(~part.any(1))[0])
            raise StudyError(f"embeddings: row {row} is all zeros; encode that item again")
        found[start : start + CHUNK] = project(part, settings.dims)
    return found
