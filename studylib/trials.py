"""The trial store and the runner: a finished trial is never run again, a half-written one is never believed.

    results/trials/<key>/record.json   what was measured: the same bytes for the same config, data and machine
    results/trials/<key>/cost.json     what it cost: CPU seconds, memory
    results/trials/<key>/codes.npy     the Semantic IDs that were used, if the trial made them
    .cache/trials/<key>/               log, lock, checkpoint and weights: what can be made again

One trial is one process (studylib/trial.py), so a crash costs that trial alone. The process holds a lock that the
kernel frees at its death, so two runners never train the same trial at once.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from studylib import paths
from studylib.config import Trial
from studylib.data import Dataset, load
from studylib.encoders import embed, embeddings, registry
from studylib.errors import StudyError
from studylib.files import write_bytes, write_json
from studylib.settings import checked

FORMAT = 1  # raise it when a change of code changes what a config means: older records then no longer answer for it
TRIES = 2  # of a trial whose process dies; one that reports bad input is not tried again


def canonical(value) -> bytes:
    """JSON that is the same for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def content_fingerprint(trial: Trial, data: Dataset) -> str:
    """sha256 over all that the trial reads: sequences, text, the pictures or files it uses, the encoder's weights."""
    digest = sha256(data.fingerprint.encode())
    features = trial.features.removeprefix("shuffled:")
    for file in _files_read(data, features):
        digest.update(sha256(file.read_bytes()).digest())
    if features != "none" and not features.startswith(("index:", "features:")):
        digest.update(embeddings.identity(registry.encoder(features), trial.page).encode())
    return digest.hexdigest()


def _files_read(data: Dataset, features: str) -> list[Path]:
    if features.startswith("index:"):
        return [index_file(data, features)]
    if features == "none":
        return []
    if features.startswith("features:"):
        return [embeddings.feature_file(data, features.removeprefix("features:"))]
    return data.pictures if registry.encoder(features).kind == "image" else []


def index_file(data: Dataset, features: str) -> Path:
    """The file behind ``index:<name>``: a path, or NAME.<name>.json in the data set's folder."""
    name = features.removeprefix("index:")
    choices = [Path(name), *([data.folder / f"{data.name}.{name}.json"] if data.folder else [])]
    for file in choices:
        if file.is_file():
            return file
    raise StudyError(f"{features}: no such index; looked for {' and '.join(map(str, choices))}")


def key_of(trial: Trial, data: Dataset) -> str:
    """16 hex digits of the hash of the config, the data's fingerprint and the code's format."""
    content = content_fingerprint(trial, data)
    return sha256(canonical([FORMAT, trial.model_dump(mode="json"), content])).hexdigest()[:16]


# -- the store ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Store:
    """Finished trials in a folder."""

    root: Path

    @classmethod
    def default(cls) -> "Store":
        return cls(paths.results_root() / "trials")

    def folder(self, key: str) -> Path:
        return self.root / key

    def record(self, key: str) -> dict | None:
        """The finished trial, or None.

        A record that is damaged is named on stdout and counts as not there.
        """
        file = self.folder(key) / "record.json"
        if not file.exists():
            return None
        try:
            record = json.loads(file.read_bytes())
            if record.pop("checksum") != sha256(canonical(record)).hexdigest():
                raise ValueError("the checksum does not fit")
        except (ValueError, KeyError, AttributeError) as error:
            print(f"{file}: damaged record ({error}); the trial will be run again", flush=True)
            return None
        return record

    def write(self, record: dict, cost: dict, codes: bytes | None) -> None:
        """Write a finished trial; the record comes last, so that it stands for the whole."""
        folder = self.folder(record["key"])
        if codes is not None:
            write_bytes(folder / "codes.npy", codes)
        write_json(folder / "cost.json", cost)
        write_json(folder / "record.json", record | {"checksum": sha256(canonical(record)).hexdigest()})

    def keys(self) -> list[str]:
        return sorted(file.parent.name for file in self.root.glob("*/record.json"))

    def records(self) -> Iterator[dict]:
        """Every finished trial, with its cost under ``cost``."""
        for key in self.keys():
            record = self.record(key)
            if record is not None:
                yield record | {"cost": self.cost(key)}

    def cost(self, key: str) -> dict:
        file = self.folder(key) / "cost.json"
        return json.loads(file.read_bytes()) if file.exists() else {}


def work_folder(key: str) -> Path:
    """Log, lock, checkpoint and weights of a trial."""
    return paths.cache_root() / "trials" / key


# -- running ---------------------------------------------------------------------------------------------------------


def run(
    trials: Sequence[Trial],
    store: Store | None = None,
    jobs: int = 0,
    train: bool = True,
    executor: Executor | None = None,
    log: Callable[[str], None] = lambda line: print(line, flush=True),
) -> list[dict]:
    """Records of ``trials``, in their order; those that are not finished yet are run now.

    Args:
        jobs: trials at a time, one thread each; 0: one per core.
        train: False only reads what is finished, by config alone, and needs no data set.
        executor: any ``concurrent.futures.Executor``, e.g. a cluster's; by default threads that wait for processes.
        log: takes a progress line: trials done, running, time left.

    Raises:
        StudyError: some trials failed; the others are finished and kept, and each failure's log is named.
    """
    store = store or Store.default()
    if not train:
        finished = list(store.records())
        return [_finished(trial, store, finished) for trial in trials]
    datasets = {name: load(name) for name in dict.fromkeys(trial.data for trial in trials)}
    keys = [key_of(trial, datasets[trial.data]) for trial in trials]
    missing = {key: trial for key, trial in zip(keys, trials, strict=True) if store.record(key) is None}
    if missing:
        log(f"trials: {len(set(keys)) - len(missing)} of {len(set(keys))} finished before, {len(missing)} to run")
        prepare(list(missing.values()), datasets, log)
        jobs = jobs or len(os.sched_getaffinity(0))
        pool = executor or ThreadPoolExecutor(jobs)
        try:
            _wait({pool.submit(run_in_process, key, trial.model_dump_json(), str(store.root)): key
                   for key, trial in missing.items()}, missing, jobs, log)  # fmt: skip
        finally:
            if executor is None:
                pool.shutdown(cancel_futures=True)
    records = [store.record(key) for key in keys]
    failed = [key for key, record in zip(keys, records, strict=True) if record is None]
    if failed:
        raise StudyError(
            f"{len(set(failed))} of {len(set(keys))} trials failed; the others are kept. First log: "
            f"{work_folder(failed[0]) / 'log.txt'} ({last_line(failed[0])})"
        )
    return [record | {"cost": store.cost(key)} for key, record in zip(keys, records, strict=True)]


def _finished(trial: Trial, store: Store, records: list[dict]) -> dict:
    config = trial.model_dump(mode="json")
    found = [record for record in records if record["trial"] == config and record["format"] == FORMAT]
    if len(found) == 1:
        return found[0]
    cure = "run the notebook with train: true" if not found else (
        "they are of different data: delete the folders of all but one of " + ", ".join(row["key"] for row in found)
    )  # fmt: skip
    raise StudyError(
        f"{store.root}: {len(found)} finished trials of {trial.data} {trial.features} {trial.generator.name} "
        f"seed {trial.seed} (budget {trial.budget}), expected one; {cure}"
    )


def prepare(trials: Sequence[Trial], datasets: dict[str, Dataset], log: Callable[[str], None]) -> None:
    """Encode what the trials need, once each, so that a trial's process finds its embeddings in the cache."""
    for data, features, page in dict.fromkeys((trial.data, trial.features, trial.page) for trial in trials):
        if features != "none" and not features.startswith("index:"):
            embed(datasets[data], features, page, log)


def run_in_process(key: str, trial: str, store: str) -> str:
    """Run one trial in a process of its own; returns how it ended: "finished" or the reason why not."""
    work = work_folder(key)
    write_bytes(work / "trial.json", trial.encode())
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "studylib.trial", str(work), store]
    for _ in range(TRIES):
        with (work / "log.txt").open("ab") as log:
            status = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            ).returncode
        if status == 0:
            return "finished"
        if status == 2:
            break
    return f"failed with status {status}: {last_line(key)}"


def last_line(key: str) -> str:
    file = work_folder(key) / "log.txt"
    lines = file.read_text(errors="replace").strip().splitlines() if file.exists() else []
    return lines[-1][:300] if lines else "no log"


def _wait(futures: dict[Future, str], trials: dict[str, Trial], jobs: int, log: Callable[[str], None]) -> None:
    started = time.monotonic()
    for done, future in enumerate(as_completed(futures), 1):
        outcome, trial = future.result(), trials[futures[future]]
        left = len(futures) - done
        minutes = (time.monotonic() - started) / done * left / 60
        log(
            f"trials: {done} of {len(futures)} done, {min(left, jobs)} running, about {minutes:.1f} min left"
            f"  |  {trial.data} {trial.features} {trial.generator.name} seed {trial.seed}: {outcome}"
        )


def parse_trial(text: str) -> Trial:
    """A trial from its JSON."""
    return checked(Trial, json.loads(text))
