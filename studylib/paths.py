"""The one place that knows the folders.

Each can be moved with an environment variable; none is created before something is written into it.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def data_root() -> Path:
    """Real data sets, one folder each (``STUDY_DATA``); nothing is ever written here."""
    return Path(os.environ.get("STUDY_DATA", ROOT.parent / "shared" / "data"))


def models_root() -> Path:
    """Local folders of pretrained weights, one a model (``STUDY_MODELS``)."""
    return Path(os.environ.get("STUDY_MODELS", ROOT / "models"))


def cache_root() -> Path:
    """What can be computed again: embeddings, checkpoints, trial logs (``STUDY_CACHE``)."""
    return Path(os.environ.get("STUDY_CACHE", ROOT / ".cache"))


def results_root() -> Path:
    """Tables by data set and ``trials/``, one folder per finished trial (``STUDY_RESULTS``)."""
    return Path(os.environ.get("STUDY_RESULTS", ROOT / "results"))


def name_of(data: str) -> str:
    """What a data set is called; one that is given as a folder, with a separator or dots, goes by the folder's name.

    >>> name_of("planted"), name_of("mine/Shop/")
    ('planted', 'Shop')
    """
    return Path(data).resolve().name if os.sep in data or data in (".", "..") else data


def results_of(data: str) -> Path:
    """Tables of a data set, by its name."""
    return results_root() / name_of(data)


def figures_of(data: str) -> Path:
    """Figures of a data set, by its name."""
    return figures_root() / name_of(data)


def figures_root() -> Path:
    """Figures by data set (``STUDY_FIGURES``)."""
    return Path(os.environ.get("STUDY_FIGURES", ROOT / "figures"))
