"""The runner: a finished trial is never run again; one trial is one process, so a crash costs that trial alone.

The process (studylib/trial.py) holds a lock that the kernel frees at its death, so two runners never train the same
trial at once. Where processes run is the engine's business (studylib/engines.py), what is kept the store's.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import suppress
from functools import cache

from studylib.config import Trial
from studylib.data import Dataset, load
from studylib.encoders import embed
from studylib.engines import (
    ELSEWHERE,
    HELD,
    Engine,
    open_engine,
    run_embedding,
    run_trial,
    study_environment,
)  # fmt: skip
from studylib.errors import StudyError
from studylib.files import check_writable, shown
from studylib.keys import by_name, is_encoder, key_of
from studylib.store import FORMAT, Store, canonical, work_folder

TALLY = "STUDY_TALLY"  # a file that gets a line from every run: trials trained, reused, failed
TASK = "STUDY_TASK"  # "3/8": this runner is the third (from 0) of eight that share the work
PATIENCE = 60  # seconds without news before the engine is asked whether it is in trouble


def run(
    trials: Sequence[Trial],
    store: Store | None = None,
    jobs: int = 0,
    train: bool = True,
    engine: str = "",
    log: Callable[[str], None] = lambda line: print(line, flush=True),
) -> list[dict]:
    """Records of ``trials``, in their order; those that are not finished yet are run now.

    Args:
        jobs: trials at a time on this machine, one thread each; 0: one per GPU, or else core.
        train: False only reads what is finished, by config alone, and needs no data set.
        engine: where to run them: "" here, a Dask scheduler's address, or a .yaml file for Slurm.
        log: takes a progress line: trials done, running, time left.

    Raises:
        StudyError: some trials failed; the others are finished and kept, and each failure's log is named.
    """
    store = store or Store.default()
    if not train:
        return _read(trials, store)
    datasets = {name: load(name) for name in dict.fromkeys(trial.data for trial in trials)}
    keys = [key_of(trial, datasets[trial.data]) for trial in trials]
    missing = {key: trial for key, trial in zip(keys, trials, strict=True) if store.record(key) is None}
    reused = len(set(keys)) - len(missing)
    outcomes: dict[str, str] = {}
    if missing:
        log(f"trials: {reused} of {len(set(keys))} finished before, {len(missing)} to run")
        check_writable(store.root)
        with open_engine(engine, jobs) as where:
            prepare(list(missing.values()), datasets, where, log)
            outcomes = _run_all(missing, store, where, log)
    records = [store.record(key) for key in keys]
    failed = [key for key, record in zip(keys, records, strict=True) if record is None]
    elsewhere = sum(outcome == ELSEWHERE for outcome in outcomes.values())
    _tally(len(missing) - len(set(failed)) - elsewhere, reused + elsewhere, len(set(failed)))
    if failed:
        raise StudyError(
            f"{len(set(failed))} of {len(set(keys))} trials failed; the others are kept. First log: "
            f"{work_folder(failed[0]) / 'log.txt'} "
            f"({outcomes[failed[0]]})"
        )
    return [record | {"cost": store.cost(key)} for key, record in zip(keys, records, strict=True)]


def _tally(trained: int, reused: int, failed: int) -> None:
    if file := os.environ.get(TALLY):
        with open(file, "a") as out:
            out.write(json.dumps({"trained": trained, "reused": reused, "failed": failed}) + "\n")


def _read(trials: Sequence[Trial], store: Store) -> list[dict]:
    """The finished trials of these settings; no data are needed but to tell apart trials of two versions of them."""
    finished: dict[bytes, list[dict]] = {}
    for record in store.records():
        if record["format"] == FORMAT:
            finished.setdefault(canonical(by_name(record["trial"])), []).append(record)
    found, datasets = [], cache(load)
    for trial in trials:
        same = finished.get(canonical(by_name(trial.model_dump(mode="json"))), [])
        if len(same) > 1:
            with suppress(StudyError):  # no data set here
                current = key_of(trial, datasets(trial.data))
                same = [record for record in same if record["key"] == current] or same
        if len(same) != 1:
            cure = "run the notebook with train: true" if not same else (
                "they are of different data, or of code that has changed: delete the folders of all but one of "
                + ", ".join(row["key"] for row in same)
            )  # fmt: skip
            raise StudyError(
                f"{store.root}: {len(same)} finished trials of {trial.data} {trial.features} {trial.generator.name} "
                f"seed {trial.seed} (budget {trial.budget}), expected one; {cure}"
            )
        found.append(same[0])
    _tally(0, len({record["key"] for record in found}), 0)
    return found


def prepare(trials: Sequence[Trial], datasets: dict[str, Dataset], engine: Engine, log: Callable[[str], None]) -> None:
    """Encode what the trials need, once each, so that a trial's process finds its embeddings in the cache.

    What cannot be encoded is said; the trials that need it will fail for the same reason, and they alone.
    """
    wanted = dict.fromkeys(
        (trial.data, features.removeprefix("shuffled:"), trial.page)
        for trial in trials
        for features in trial.modalities
    )
    wanted = [row for row in wanted if is_encoder(row[1])]
    if not engine.remote:
        for data, features, page in wanted:
            try:
                embed(datasets[data], features, page, log)
            except StudyError as error:
                log(f"{features} on {datasets[data].name}: {error}")
        return
    environment = study_environment()
    pending = {
        engine.executor.submit(run_embedding, data, features, page.model_dump_json(), environment): features
        for data, features, page in wanted
    }
    for features, outcome in _as_they_end(pending, engine, log):
        log(f"{features}: {outcome}")


def own_share_first(keys: Sequence[str], task: str) -> list[str]:
    """The order in which one of several runners takes trials: its own share, then that of the next runner, and so on.

    Whose a trial is, its key says: runners that begin at different times find different trials missing.

    Raises:
        StudyError: ``task`` is not written "3/8".

    >>> own_share_first(["a1", "b2", "c3", "d4"], "1/3"), own_share_first(["a1", "b2"], "")
    (['b2', 'a1', 'd4', 'c3'], ['a1', 'b2'])
    """
    if not task:
        return list(keys)
    number, _, of = task.partition("/")
    if not (number.isdecimal() and of.isdecimal() and int(number) < int(of)):
        raise StudyError(f"task {shown(task)}: write 0/8 for the first of eight runners, 7/8 for the last")
    return sorted(keys, key=lambda key: (int(key, 16) - int(number)) % int(of))  # stable


def _run_all(trials: dict[str, Trial], store: Store, engine: Engine, log: Callable[[str], None]) -> dict[str, str]:
    """How each trial ended, by key; a line of progress after each, and of those that run after a while without."""
    started, environment, task = time.monotonic(), study_environment(), os.environ.get(TASK, "")
    outcomes: dict[str, str] = {}
    log(f"trials: each writes to {work_folder('KEY') / 'log.txt'}")
    waiting = own_share_first([*trials], task)
    # A runner that shares the work passes over what another one trains, and waits for it at the end alone.
    for wait_for_others in (False, True) if task else (True,):
        pending = {
            engine.executor.submit(
                run_trial, key, trials[key].model_dump_json(), str(store.root.resolve()), environment, wait_for_others
            ): key
            for key in waiting
        }
        waiting = []
        for key, outcome in _as_they_end(pending, engine, log, _epochs_of(pending.values(), started)):
            if outcome == HELD:
                waiting.append(key)
                continue
            outcomes[key] = outcome
            left, trial = len(trials) - len(outcomes), trials[key]
            minutes = (time.monotonic() - started) / len(outcomes) * left / 60
            log(
                f"trials: {len(outcomes)} of {len(trials)} done, {min(left, engine.slots)} running, "
                f"about {minutes:.1f} min left  |  {trial.data} {trial.features} {trial.generator.name} "
                f"seed {trial.seed}: {outcome}"
            )
    return outcomes


def _epochs_of(keys: Iterable[str], since: float) -> Callable[[], str]:
    """Tells the last epoch of every trial whose log was written to since ``since`` (of the monotonic clock)."""
    logs = {key: work_folder(key) / "log.txt" for key in keys}
    begun = time.time() - (time.monotonic() - since)

    def said() -> str:
        found = []
        for key, file in logs.items():
            with suppress(OSError):  # not begun
                lines = file.read_text(errors="replace").splitlines()
                if lines and file.stat().st_mtime >= begun and lines[-1].startswith("epoch "):
                    found.append(f"{key[:8]} {lines[-1].split('  ')[0]}")
        return ", ".join(found)

    return said


def _as_they_end(
    pending: dict[Future, str], engine: Engine, log: Callable[[str], None], news: Callable[[], str] = str
) -> Iterator[tuple[str, str]]:
    """Name and outcome of every piece of work as it ends; in between ``news``, and what an engine in trouble says."""
    pending = dict(pending)
    while pending:
        ended, _ = wait(pending, timeout=PATIENCE, return_when=FIRST_COMPLETED)
        if not ended and (said := engine.trouble() or news()):
            log(f"trials: {said}")
        for future in ended:
            yield pending.pop(future), _outcome(future)


def _outcome(future: Future) -> str:
    """What a worker said, or what became of the worker: a cluster may lose one for good."""
    try:
        return future.result()
    except CancelledError:
        return "failed: cancelled by the engine"
    except Exception as error:  # whatever a cluster's library raises for a lost worker; the trial alone has failed
        return f"failed: {type(error).__name__}: {error}"
