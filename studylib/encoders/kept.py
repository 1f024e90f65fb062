"""Embeddings that took long to make, kept with the results, so that nobody has to make them twice.

    results/embeddings/<data>/<encoder>.<first 8 digits of what it read>.npy    float32 [items, dims], with .sha256
    results/embeddings/<data>/<encoder>.<the same>.json                         their provenance

What an encoder read is the hash of every item's content, the encoder, its weights and the page, so a kept matrix is
taken only where computing it would give the same one. ``study embed --keep`` writes it.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from studylib import paths
from studylib.encoders import cache
from studylib.files import write_json


def _file(data: str, name: str, items: str) -> Path:
    return paths.results_root() / "embeddings" / data / f"{name}.{items[:8]}.npy"


def read(data: str, name: str, items: str, say: Callable[[str], None]) -> tuple[np.ndarray, dict] | None:
    """The matrix and its provenance, or None if there is none of exactly these items; damage is named and ignored."""
    file = _file(data, name, items)
    matrix = cache.read(file, say)
    if matrix is None:
        return None
    try:
        provenance = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        return (matrix, provenance) if provenance["items"] == items else None
    except (OSError, ValueError, TypeError, KeyError) as error:
        say(f"{file.with_suffix('.json')}: cannot be read ({error}); computing the embeddings again")
        return None


def write(data: str, name: str, matrix: np.ndarray, provenance: dict) -> Path:
    """Keep a matrix as the encoder gave it, not yet centred."""
    file = _file(data, name, provenance["items"])
    write_json(file.with_suffix(".json"), provenance)
    cache.write(file, np.ascontiguousarray(matrix, dtype=np.float32))
    return file
