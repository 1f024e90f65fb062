"""Is everything as it was written, and what may go?"""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from studylib import paths
from studylib.errors import StudyError
from studylib.files import LOCK, is_locked, read_checked
from studylib.store import FORMAT, KEY, Store, unsealed, work_folder

FILES = {"record.json", "cost.json", "codes.npy", "codes.npy.sha256"}
A_DAY = 86_400  # seconds: a younger partial file may be somebody's that is being written


@dataclass(frozen=True)
class Problem:
    """``kind``: "damaged", "missing" or "foreign"; ``what`` says what to do about it."""

    kind: str
    file: str
    what: str


def verify() -> Iterator[Problem]:
    """All that is wrong with the store, the tables' lists of trials, and the embeddings kept and cached."""
    store = Store.default()
    yield from _verify_store(store)
    there = set(store.finished())
    for file, keys in used_by_tables().items():
        for key in sorted(keys - there):
            yield Problem("missing", str(file), f"trial {key} is not in the store; run its notebook again")
    for problem in _verify_store(Store(paths.cache_root() / "retrained")):
        yield replace(problem, what="remove that trial's folder; it is trained again when it is needed")
    cached = (paths.cache_root() / name for name in ("embeddings", "reading", "trials"))
    roots = (paths.results_root() / "embeddings", *cached)
    for array in sorted(file for root in roots for file in root.rglob("*.npy")):
        if not _fits(array):
            yield Problem("damaged", str(array), "it has no digest that fits; it will be computed again")
    yield from _verify_weights()


def _verify_weights() -> Iterator[Problem]:
    files = sorted((paths.cache_root() / "trials").glob("*/*.safetensors"))
    if not files:
        return
    from studylib import checkpoints

    for file in files:
        try:
            checkpoints.read(file)
        except checkpoints.Damaged:
            yield Problem("damaged", str(file), "cut off or changed; it will be trained again when it is needed")


def _verify_store(store: Store) -> Iterator[Problem]:
    for entry in sorted(store.root.iterdir()) if store.root.exists() else []:
        if not (entry.is_dir() and KEY.fullmatch(entry.name)):
            yield Problem("foreign", str(entry), "no trial has such a name; move it elsewhere")
            continue
        for file in sorted(entry.iterdir()):
            if file.name.endswith(".partial"):
                yield Problem("foreign", str(file), "left by a killed process; 'study gc' removes it")
            elif file.name not in FILES:
                yield Problem("foreign", str(file), "no part of a trial; move it elsewhere")
        yield from _verify_trial(entry)


def _verify_trial(folder: Path) -> Iterator[Problem]:
    record_file, cost, codes = (folder / name for name in ("record.json", "cost.json", "codes.npy"))
    if not record_file.exists():
        yield Problem("missing", str(record_file), "a trial that never finished; run its notebook again, or 'study gc'")
        return
    try:
        record = unsealed(record_file.read_bytes())
    except ValueError as error:
        yield Problem("damaged", str(record_file), f"{error}; run its notebook again")
        return
    if record.get("key") != folder.name:
        yield Problem("foreign", str(record_file), f"it is of trial {record.get('key')}; move it to that folder")
    if record.get("format") != FORMAT:
        yield Problem("foreign", str(record_file), f"of format {record.get('format')}, this code writes {FORMAT}")
    try:
        unsealed(cost.read_bytes())
    except FileNotFoundError:
        yield Problem("missing", str(cost), "no table of metrics needs it; its cost is unknown")
    except ValueError as error:
        yield Problem("damaged", str(cost), f"{error}; its cost is unknown")
    made_codes = record.get("semantic_ids") is not None and record["trial"]["tokenizer"]["name"] != "none"
    if made_codes and not codes.exists():
        yield Problem("missing", str(codes), "remove the trial's folder and run its notebook again")
    elif codes.exists() and not _fits(codes):
        yield Problem("damaged", str(codes), "remove the trial's folder and run its notebook again")


def _fits(file: Path) -> bool:
    """Has the file the digest that stands beside it?"""
    try:
        read_checked(file)
    except (FileNotFoundError, ValueError):
        return False
    return True


def used_by_tables() -> dict[Path, set[str]]:
    """Per table's list of trials, by row, the keys in it.

    Raises:
        StudyError: a list that cannot be read.
    """
    found = {}
    for file in sorted(paths.results_root().glob("*/*.trials.json")):
        try:
            rows = json.loads(file.read_text(encoding="utf-8"))
            found[file] = {key for keys in rows.values() for key in keys if KEY.fullmatch(key)}
        except (ValueError, TypeError, AttributeError) as error:
            raise StudyError(f"{file}: no list of trial keys ({error}); run its notebook again") from None
    return found


# -- what may go -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Garbage:
    """A file or folder that nothing needs, its size in bytes, and why."""

    path: Path
    size: int
    why: str


def garbage() -> Iterator[Garbage]:
    """Trials that no table uses, work folders without a finished trial, and partial files.

    Nothing younger than a day is among them: a study that is running, or that failed half-way, has no table yet. A
    data set none of whose tables has a list of trials keeps all its trials, for nothing says that they are not needed.
    """
    store, lists = Store.default(), used_by_tables()
    used, listed = set().union(*lists.values()), {file.parent.name for file in lists}
    kept = set()
    for record in store.records():
        key, data = record["key"], paths.name_of(record["trial"]["data"])
        if key in used or data not in listed or not _idle(store.folder(key), work_folder(key)):
            kept.add(key)
        else:
            yield _garbage(store.folder(key), "no table uses this trial")
    for folder in sorted(store.root.glob("*")):
        unfinished = KEY.fullmatch(folder.name) and not (folder / "record.json").exists()
        if unfinished and _idle(folder, work_folder(folder.name)):
            yield _garbage(folder, "a trial that never finished")
    for folder in sorted((paths.cache_root() / "trials").glob("*")):
        if folder.name not in kept and _idle(folder, folder):
            yield _garbage(folder, "log, checkpoint and weights of a trial that the store does not keep")
    for root in (paths.results_root(), paths.figures_root(), paths.cache_root()):
        for file in sorted(root.rglob(".*.partial*")) if root.exists() else []:
            if _age(file) > A_DAY:
                yield _garbage(file, "left by a killed process")


def _idle(folder: Path, work: Path) -> bool:
    """Has nothing in ``folder`` changed for a day, and does no process hold the lock of the trial's work folder?"""
    if min(map(_age, [folder, *folder.rglob("*")])) < A_DAY:
        return False
    return not is_locked(work / LOCK)


def remove(garbage: Sequence[Garbage]) -> list[Garbage]:
    """Remove what was found, as far as it is still there; what has come into use since is left, and returned."""
    left = []
    for found in garbage:
        if not found.path.exists():
            continue
        if found.path.is_dir() and _idle(found.path, work_folder(found.path.name)):
            shutil.rmtree(found.path, ignore_errors=True)
        elif found.path.is_file() and _age(found.path) > A_DAY:
            found.path.unlink(missing_ok=True)
        else:
            left.append(found)
    return left


def _garbage(path: Path, why: str) -> Garbage:
    files = path.rglob("*") if path.is_dir() else [path]
    return Garbage(path, sum(file.lstat().st_size for file in files), why)


def _age(path: Path) -> float:
    return time.time() - path.lstat().st_mtime
