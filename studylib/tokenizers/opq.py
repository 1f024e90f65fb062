"""OPQ: optimised product quantisation (Ge et al., 2013; the unordered codes of 003, section 4.1.3).

A rotation, then ``levels`` subspaces of equal width with ``codes`` centroids each. No code refines another: a prefix of
such an ID names some of an item's directions, not a coarser version of the item, so the upper levels of the prefix tree
mean less here than with residual codes, and which subspace comes first is arbitrary.
"""

import numpy as np
import torch
from jaxtyping import Float

from studylib.errors import StudyError
from studylib.tokenizers.residual import (
    CHUNK,
    Progress,
    Quantised,
    checked,
    energy_of,
    groups,
    nearest_code,
    sample_rows,
    subtract,
)
from studylib.tokenizers.residual_kmeans import kmeans


def rotation(x: Float[np.ndarray, "row dims"], levels: int, codes: int, iterations: int) -> Float[np.ndarray, "d d"]:
    """The orthonormal matrix A of OPQ, y = x A^T, found by faiss; ``dims`` must be a multiple of ``levels``.

    Raises:
        StudyError: faiss is not installed.
    """
    try:
        import faiss
    except ImportError:
        raise StudyError("tokenizer opq: faiss is not installed; pip install faiss-cpu (extra 'opq')") from None
    faiss.omp_set_num_threads(torch.get_num_threads())
    transform = faiss.OPQMatrix(x.shape[1], levels)
    transform.niter, transform.verbose = iterations, False
    # Its own quantiser takes a power of two; the codebooks proper are ours, of any size.
    transform.pq = inner = faiss.ProductQuantizer(x.shape[1], levels, max(1, min(8, codes.bit_length() - 1)))
    inner.cp.min_points_per_centroid, inner.cp.seed = 1, 1234
    transform.train(x)
    transform.pq = None  # it is ours, and would be freed twice
    return faiss.vector_to_array(transform.A).reshape(x.shape[1], x.shape[1]).copy()


def fit(
    embeddings: Float[np.ndarray, "items dims"],
    levels: int = 3,
    codes: int = 256,
    iterations: int = 25,
    seed: int = 0,
) -> Quantised:
    """Rotate, cut into ``levels`` subspaces, run k-means in each.

    ``error`` after a level counts what the later subspaces hold as lost. Dimensions that do not divide by ``levels``
    are filled up with zeros, which the rotation then mixes in. The rotation is the same for all seeds; the seed starts
    k-means.

    Raises:
        StudyError: there are fewer items than codes, a value is not finite, or faiss is not installed.
    """
    x = checked(embeddings, codes)
    if x.shape[1] % levels:
        x = torch.nn.functional.pad(x, (0, levels - x.shape[1] % levels))
    rows = sample_rows(len(x), codes, seed)
    matrix = torch.from_numpy(rotation((x if rows is None else x[rows]).numpy(), levels, codes, iterations))
    turned = torch.cat([part @ matrix.T for part in x.split(CHUNK)])
    parts = turned.chunk(levels, 1)
    fitted = parts if rows is None else [part[rows] for part in parts]
    generator = torch.Generator().manual_seed(seed)
    energy, lost = energy_of(turned), [energy_of(part) for part in parts]
    later = [energy_of(part) for part in fitted]  # falls, level by level, to what is left over
    progress, prefix = Progress(sum(later)), None
    found, books, error = [], [], []
    for level, part in enumerate(parts):
        others = sum(later) - later[level]

        def log(epoch, nearest, squared, level=level, others=others, prefix=prefix):
            progress.add(level, epoch, others + float(squared.double().sum()), nearest, prefix)

        centroids = kmeans(fitted[level].contiguous(), codes, iterations, generator, log)
        taken = nearest_code(part.contiguous(), centroids)
        lost[level] = energy_of(subtract(part, centroids, taken))
        taken_here = taken if rows is None else taken[rows]
        later[level] = energy_of(subtract(fitted[level], centroids, taken_here))
        prefix = groups(taken_here.numpy(), prefix)
        found.append(taken)
        books.append(centroids.numpy())
        error.append(sum(lost) / energy if energy else 0.0)

    def error_of(column: np.ndarray) -> float:
        last = energy_of(subtract(parts[-1], centroids, torch.as_tensor(column)))
        return (sum(lost[:-1]) + last) / energy if energy else 0.0

    codes_found = torch.stack(found, 1).numpy()
    return Quantised(codes_found, books, tuple(error), tuple(progress.rows), parts[-1].numpy(), error_of)
