"""``study selftest``: processes are killed at random moments, and what is left must be as if nothing had happened.

A small study (random Semantic IDs, a tiny generator, planted data of its own) is first run undisturbed. Then it is run
again and again into an empty store, and at a random moment a SIGKILL goes to

    trial    the process of one trial; its runner tries it again
    runner   the process that runs the trials
    kernel   the kernel of a notebook that runs them
    worker   a worker of a Dask cluster; the cluster gives its trial to another

After the kill the same command is given again where the runner itself died. Passed: every trial is there, its record
and codes have the bytes of the undisturbed run, and what was finished at the kill was neither lost nor trained again.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from studylib import notebook, paths
from studylib.config import Trial
from studylib.data import atomic, planted
from studylib.errors import StudyError

SEEDS = 2
GENERATOR = {
    "d_model": 16, "d_ff": 32, "heads": 2, "d_head": 8, "encoder_layers": 1, "decoder_layers": 1, "epochs": 12,
    "validate_every": 1, "targets_per_step": 32, "patience": 99,
}  # fmt: skip
AGAIN = 4
LONGEST = 600  # seconds for one run; a run that hangs has failed
PARAMETERS = {
    "data": "planted-small", "features": ["random"], "reference": "random", "codes": 8, "seeds": SEEDS,
    "generator": GENERATOR, "jobs": 2, "baselines": {"item-knn": {}, "popularity": {}},
}  # fmt: skip


def study() -> list[Trial]:
    """The trials of the small study, as the notebook makes them."""
    return notebook.check(PARAMETERS, "selftest").trials()


RUNNER = "from studylib import selftest, trials; trials.run(selftest.study(), jobs=2, engine={engine!r})"
NOTEBOOK = (
    "import sys; from pathlib import Path; from studylib import selftest, unattended; "
    "rows = unattended.execute_all([Path({file!r})], [selftest.PARAMETERS]); sys.exit(any(row.error for row in rows))"
)


def main(moments: int, seed: int, only: str | None = None) -> int:
    """Kill ``moments`` times in each way; prints a line a way, returns 1 if one failed."""
    if moments < 1:
        raise StudyError(f"selftest: --moments {moments}; at least one")
    ways = {"trial": kill_trial, "runner": kill_runner, "kernel": kill_kernel, "worker": kill_worker}
    if only not in (None, *ways):
        raise StudyError(f"selftest: --only {only!r} is none of {', '.join(ways)}")
    failures = 0
    with tempfile.TemporaryDirectory(prefix="study-selftest-") as folder:
        bench = Bench(Path(folder))
        print(f"undisturbed: {len(study())} trials in {bench.seconds:.1f} s", flush=True)
        for name, kill in ways.items():
            if only in (None, name):
                problems, finished, killed = [], 0, 0
                for moment in range(moments):
                    for again in range(AGAIN):  # a moment may come after the end; then there is another
                        draw = random.Random(f"{seed} {name} {moment} {again}")
                        found, before, hit = bench.attempt(kill, draw)
                        if hit or found:
                            break
                    problems += found
                    finished += before
                    killed += hit
                if not killed:
                    problems.append("nothing was killed")
                failures += len(problems)
                print(
                    f"{name}: {killed} kills in {moments} runs, {finished} trials finished before them, "
                    f"{len(problems)} problems{': ' + '; '.join(problems[:3]) if problems else ''}",
                    flush=True,
                )
    return 1 if failures else 0


class Bench:
    """A folder with a data set, the bytes of an undisturbed run, and stores to disturb."""

    def __init__(self, folder: Path):
        self.folder = folder
        data, _, _ = planted.generate(planted.Knobs(users=120, items=48, shortest=5, longest=8))
        renamed = type(data)("planted-small", data.users, data.sequences, data.n_items, data.items, data.keys)
        atomic.write(renamed, folder / "data" / "planted-small")
        began = time.monotonic()
        self.run(RUNNER.format(engine=""), "undisturbed")
        self.seconds = time.monotonic() - began
        self.expected = self.bytes_in("undisturbed")

    def environment(self, place: str) -> dict[str, str]:
        roots = {name: str(self.folder / place / name.lower()) for name in ("RESULTS", "CACHE", "FIGURES")}
        roots["DATA"] = str(self.folder / "data")
        found = os.environ | {f"STUDY_{name}": path for name, path in roots.items()}
        return found | {"PYTHONPATH": str(paths.ROOT), "OMP_NUM_THREADS": "1"}

    def start(self, code: str, place: str) -> subprocess.Popen:
        (self.folder / place).mkdir(exist_ok=True)
        with (self.folder / place / "log.txt").open("ab") as log:
            command = [sys.executable, "-c", code]
            return subprocess.Popen(command, stdout=log, stderr=log, env=self.environment(place), cwd=self.folder)

    def run(self, code: str, place: str) -> None:
        """Run to the end; the study must succeed."""
        status = self.wait(self.start(code, place))
        if status:
            log = (self.folder / place / "log.txt").read_text(errors="replace").strip().splitlines()
            raise StudyError(f"selftest: the small study failed: {log[-1] if log else 'no log'}")

    def files(self, place: str) -> Iterator[Path]:
        yield from sorted((self.folder / place / "results" / "trials").glob("*/record.json"))
        yield from sorted((self.folder / place / "results" / "trials").glob("*/codes.npy"))

    def bytes_in(self, place: str) -> dict[str, bytes]:
        return {f"{file.parent.name}/{file.name}": file.read_bytes() for file in self.files(place)}

    def written(self, place: str) -> dict[str, int]:
        """When each finished record was written; a trial that is trained again is written again."""
        return {f.parent.name: f.stat().st_mtime_ns for f in self.files(place) if f.name == "record.json"}

    def attempt(self, kill: Callable, moment: random.Random) -> tuple[list[str], int, bool]:
        """One run with one kill: what is wrong afterwards, how many trials were finished at it, was there a victim."""
        place = "disturbed"
        shutil.rmtree(self.folder / place, ignore_errors=True)
        try:
            before, hit = kill(self, place, moment)
        except StudyError as error:
            return [str(error)], 0, False
        problems = []
        after = self.bytes_in(place)
        if set(after) != set(self.expected):
            problems.append(f"files {sorted(set(after) ^ set(self.expected))} differ")
        problems += [f"{name}: other bytes" for name in after if after[name] != self.expected.get(name)]
        written = self.written(place)
        problems += [f"{key}: trained again" for key, when in before.items() if written.get(key) != when]
        return problems, len(before), hit

    def wait(self, process: subprocess.Popen) -> int:
        """Exit status of a run, which is not waited for for ever."""
        try:
            return process.wait(LONGEST)
        except subprocess.TimeoutExpired:
            process.kill()
            raise StudyError(f"a run of the small study hung for {LONGEST} s") from None


def kill_runner(bench: Bench, place: str, moment: random.Random) -> tuple[dict[str, int], bool]:
    code = RUNNER.format(engine="")
    process = bench.start(code, place)
    pause(bench, place, process, moment)
    hit = process.poll() is None
    process.kill()
    process.wait()
    before = bench.written(place)
    bench.run(code, place)
    return before, hit


def kill_trial(bench: Bench, place: str, moment: random.Random) -> tuple[dict[str, int], bool]:
    process = bench.start(RUNNER.format(engine=""), place)
    before, hit = strike(bench, place, process, lambda: descendants(process.pid, "studylib.trial"), moment)
    if bench.wait(process):
        raise StudyError("the runner failed although only one of its trials was killed")
    return before, hit


def kill_kernel(bench: Bench, place: str, moment: random.Random) -> tuple[dict[str, int], bool]:
    code = NOTEBOOK.format(file=str(paths.ROOT / "notebooks" / "02_unimodal.ipynb"))
    process = bench.start(code, place)
    before, hit = strike(bench, place, process, lambda: descendants(process.pid, "ipykernel_launcher"), moment)
    status = bench.wait(process)
    if status not in (0, 1):
        raise StudyError(f"the kernel was killed, and the run ended with status {status}")
    hit = hit and status == 1  # killed when its last cell had run, it had nothing left to fail at
    before |= bench.written(place)  # trials outlive the kernel that started them
    bench.run(code, place)
    return before, hit


def kill_worker(bench: Bench, place: str, moment: random.Random) -> tuple[dict[str, int], bool]:
    with dask_cluster(bench, place) as (address, workers):
        process = bench.start(RUNNER.format(engine=address), place)
        before, hit = strike(bench, place, process, workers, moment)
        if bench.wait(process):
            raise StudyError("the runner failed although only one worker of two was killed")
    return before, hit


def pause(bench: Bench, place: str, process: subprocess.Popen, moment: random.Random) -> None:
    """Wait for a random moment: so many trials are finished, and some of another's time has passed.

    Counted in trials, not in seconds from the start, so that kills fall as late as early on a machine that has become
    slower since the undisturbed run.
    """
    share = bench.seconds / len(study())
    finished = moment.randrange(len(study()))
    while process.poll() is None and len(bench.written(place)) < finished:
        time.sleep(0.02)
    time.sleep(moment.uniform(0, 2 * share))


def strike(
    bench: Bench, place: str, process: subprocess.Popen, victims: Callable[[], list[psutil.Process]],
    moment: random.Random,
) -> tuple[dict[str, int], bool]:  # fmt: skip
    """SIGKILL to one of ``victims`` at a random moment of a run, or as soon after it as there is one.

    Returns when each trial that was finished by then had been written, and whether there was a victim at all.
    """
    pause(bench, place, process, moment)
    while process.poll() is None:
        before = bench.written(place)
        for victim in moment.sample(found := victims(), len(found)):
            try:
                victim.send_signal(signal.SIGKILL)
                return before, True
            except psutil.NoSuchProcess:
                continue  # it ended by itself between the look and the kill
        time.sleep(0.02)
    return bench.written(place), False


@contextmanager
def dask_cluster(bench: Bench, place: str) -> Iterator[tuple[str, Callable[[], list[psutil.Process]]]]:
    """A scheduler and two workers of one thread each; yields its address and the processes that may be killed."""
    from distributed import LocalCluster

    environment = bench.environment(place)
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, env=environment, silence_logs=50
    ) as cluster:
        yield (
            cluster.scheduler_address,
            lambda: [psutil.Process(nanny.pid) for nanny in cluster.workers.values() if nanny.pid],
        )


def descendants(pid: int, word: str) -> list[psutil.Process]:
    """The processes below ``pid`` whose command holds ``word``."""
    found = []
    with suppress(psutil.NoSuchProcess):  # they come and go while they are looked at
        for process in psutil.Process(pid).children(recursive=True):
            if word in " ".join(process.cmdline()):
                found.append(process)
    return found
