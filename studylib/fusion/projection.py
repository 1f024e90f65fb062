"""A common width for all modalities."""

import numpy as np
from jaxtyping import Float

from studylib.errors import StudyError


def project(embeddings: Float[np.ndarray, "items dims"], dims: int, seed: int = 0) -> Float[np.ndarray, "items width"]:
    """e~ = norm(W e), W fixed, with orthonormal columns, drawn from ``seed`` (000, Eq. 3).

    W is the identity when ``dims`` is not below the embeddings' own width: a projection cannot add information.

    Raises:
        StudyError: a row of zeros, which has no direction.

    >>> x = project(np.array([[3.0, 4.0], [1.0, 0.0]]), dims=2)
    >>> x.astype(float).round(2).tolist()
    [[0.6, 0.8], [1.0, 0.0]]
    """
    x = np.asarray(embeddings, dtype=np.float64)
    if dims < x.shape[1]:
        gaussian = np.random.default_rng(seed).standard_normal((x.shape[1], dims))
        orthonormal, triangular = np.linalg.qr(gaussian)
        x = x @ (orthonormal * np.sign(np.diag(triangular)))  # the sign makes W independent of the LAPACK used
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    if not norms.all():
        raise StudyError(f"embeddings: row {int(np.flatnonzero(norms == 0)[0])} is all zeros; encode that item again")
    return (x / norms).astype(np.float32)
