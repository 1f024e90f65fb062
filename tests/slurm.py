"""The study of ``tests/slurm.sh``, which has made a Slurm: ``python -m tests.slurm FOLDER``.

FOLDER holds slurm.yaml and slurmctld.log, and gets the study. As ``study selftest``, with one more way: ``scancel``.
"""

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from studylib.errors import StudyError
from studylib.selftest import LONGEST, RUNNER, SEEDS, Bench

GRACE = 30  # seconds in which the last jobs have to go


def main(folder: Path) -> int:
    bench = Bench(folder)
    print(f"slurm: {SEEDS} trials undisturbed in {bench.seconds:.1f} s", flush=True)
    problems, _ = bench.attempt(cancel_job, random.Random(0))
    jobs = (folder / "slurmctld.log").read_text().count("_slurm_rpc_submit_batch_job: JobId=")
    if jobs <= 2:
        problems.append("the cancelled job was not replaced")
    if not eventually(lambda: not slurm("squeue", "--noheader")):
        problems.append("the engine left jobs behind")
    why = f": {'; '.join(problems)}" if problems else ""
    print(f"slurm: {SEEDS} trials, 1 job cancelled, {jobs} jobs in all, {len(problems)} problems{why}", flush=True)
    return 1 if problems else 0


def cancel_job(bench: Bench, place: str, moment: random.Random) -> dict[str, int]:
    """Cancel the job of a trial in the middle of its training, when another trial is finished."""
    process = bench.start(RUNNER.format(engine=str(bench.folder / "slurm.yaml")), place)
    try:
        deadline, found, before = time.monotonic() + LONGEST, [], {}
        while not (found and before):
            if process.poll() is not None or time.monotonic() > deadline:
                raise StudyError("no moment came at which one trial was finished and another was running")
            time.sleep(0.1)
            before = bench.written(place)
            found = running(bench, place)
        slurm("scancel", moment.choice(found))
        print(f"slurm: job cancelled, {len(before)} of {SEEDS} trials finished", flush=True)
        if process.wait(LONGEST):
            raise StudyError("the runner failed although only one of its jobs was cancelled")
        return before
    finally:
        process.kill()


def running(bench: Bench, place: str) -> list[str]:
    """The Slurm jobs whose trial trains at this moment."""
    jobs = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if "studylib.trial" not in command or str(bench.folder / place) not in " ".join(command):
                continue
            log = Path(command[command.index("studylib.trial") + 1]) / "log.txt"
            if "epoch" in log.read_text():
                jobs.append(process.environ()["SLURM_JOB_ID"])
        except psutil.Error:
            continue
    return jobs


def slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def eventually(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + GRACE
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
