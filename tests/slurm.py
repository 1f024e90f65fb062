"""The study of ``tests/slurm.sh``, which has made a Slurm: ``python -m tests.slurm FOLDER``.

FOLDER holds slurm.yaml and slurmctld.log, and gets the study. As ``study selftest``, with one more way: ``scancel``.
"""

import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from studylib import selftest
from studylib.errors import StudyError
from studylib.selftest import LONGEST, Bench

JOBS = 2  # as in slurm.yaml
SEEDS = JOBS + 1  # so that one trial at least is trained after another is finished
RUNNER = f"from studylib import selftest; selftest.PARAMETERS['seeds'] = {SEEDS}; {selftest.RUNNER}"
GRACE = 30  # seconds in which the last jobs have to go


def main(folder: Path) -> int:
    selftest.RUNNER = RUNNER  # the bench's undisturbed run is of the same trials
    bench = Bench(folder)
    trials = len(bench.written("undisturbed"))
    print(f"slurm: {trials} trials undisturbed in {bench.seconds:.1f} s", flush=True)
    problems, _, _ = bench.attempt(cancel_job, random.Random(0))
    jobs = (folder / "slurmctld.log").read_text().count("_slurm_rpc_submit_batch_job: JobId=")
    if jobs <= JOBS:
        problems.append("the cancelled job was not replaced")
    if not eventually(lambda: not slurm("squeue", "--noheader")):
        problems.append("the engine left jobs behind")
    said = f"{trials} trials, 1 job cancelled, {jobs} jobs in all, {len(problems)} problems"
    print(f"slurm: {said}{': ' + '; '.join(problems) if problems else ''}", flush=True)
    return 1 if problems else 0


def cancel_job(bench: Bench, place: str, moment: random.Random) -> tuple[dict[str, int], bool]:
    """Cancel the job of a trial that is in the middle of its training, when another trial is finished."""
    began = time.monotonic()
    process = bench.start(RUNNER.format(engine=str(bench.folder / "slurm.yaml")), place)
    try:
        before, found = {}, []
        while not (before and found):
            if process.poll() is not None or time.monotonic() > began + LONGEST:
                raise StudyError("no moment came at which one trial was finished and another was running")
            time.sleep(0.05)
            before = bench.written(place)
            found = list(in_training(bench.folder / place)) if before else []
        job, log = moment.choice(found)
        slurm("scancel", job)
        print(f"slurm: job {job} cancelled, {len(before)} trials finished before", flush=True)
        if status := process.wait(LONGEST):
            raise StudyError(f"the runner ended with status {status} although only one of its jobs was cancelled")
        if log.read_text().count("semantic ids:") < 2:  # what a trial's process says when it starts
            raise StudyError("the trial of the cancelled job went on as if nothing had happened")
        print(f"slurm: finished {time.monotonic() - began:.1f} s after the start", flush=True)
        return before, True
    except subprocess.TimeoutExpired:
        raise StudyError(f"the study hung for {LONGEST} s after a job was cancelled") from None
    finally:
        process.kill()


def in_training(folder: Path) -> Iterator[tuple[str, Path]]:
    """The Slurm job and the log of every trial whose training has begun and goes on for a while."""
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if "studylib.trial" in command and str(folder) in command[-1]:
                log = Path(command[-2]) / "log.txt"
                epochs = re.findall(r"^epoch (\d+)/(\d+)", log.read_text(), re.MULTILINE)
                if epochs and int(epochs[-1][0]) <= 0.75 * int(epochs[-1][1]):
                    yield process.environ()["SLURM_JOB_ID"], log
        except psutil.Error:
            continue  # it ended between the looks


def slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def eventually(true: Callable[[], bool]) -> bool:
    end = time.monotonic() + GRACE
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1])))
    except StudyError as error:  # of the undisturbed run
        sys.exit(f"slurm: {error}")
