"""From a data set's name to the data set."""

import os
from pathlib import Path

from studylib import paths
from studylib.data import atomic
from studylib.data.dataset import Dataset
from studylib.errors import StudyError


def load(name: str | Path) -> Dataset:
    """``"planted"`` (generated), a name under ``STUDY_DATA``, or the path of a folder.

    ``"planted:text=0.6,image=0.2"`` is generated with other knobs (studylib/data/planted.py).

    Raises:
        StudyError: no such data set; the message says where it was looked for.
    """
    folder = find(name)
    if folder is None:
        from studylib.data import planted

        return planted.load(planted.knobs_of(str(name)))
    return atomic.read(folder)


def find(name: str | Path) -> Path | None:
    """The folder of that data set, not yet read; None for the generated one. Raises as ``load``."""
    if is_planted(name):
        from studylib.data import planted

        planted.knobs_of(str(name))
        return None
    for folder in (Path(name), paths.data_root() / name):
        # os.path, because Path.is_dir raises for a name that is too long; lexists, so that a bad link is complained of.
        if os.path.isdir(folder) and os.path.lexists(folder / f"{folder.resolve().name}.inter.json"):
            return folder
    raise StudyError(
        f"{name}: no such data set; it is neither 'planted', nor a folder with NAME.inter.json, "
        f"nor a folder of {paths.data_root()} (set STUDY_DATA to where your data sets lie)"
    )


def is_planted(name: str | Path) -> bool:
    """Is it the generated data set, with whatever knobs?"""
    return str(name).partition(":")[0] == "planted"
