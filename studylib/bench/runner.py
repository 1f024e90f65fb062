"""What surrounds a training: a process's start, and a thousand finished trials."""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from studylib.bench.turns import TURNS
from studylib.config import Trial, trial
from studylib.metrics import Ranks
from studylib.store import FORMAT, Store
from studylib.trials import run as run_trials


def runner(trials: int = 1000) -> dict:
    """CPU seconds of what surrounds a training, against a bare ``import torch`` in the same run.

    ``trial_start``: a trial's process up to the first line of its own; ``list``: ``study trials`` over a thousand
    finished trials; ``read``: the same thousand found by a notebook that has nothing left to train.
    """
    record = _a_record()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "trials")
        specs = [Trial(**record["trial"] | {"seed": seed}) for seed in range(trials)]
        for seed, spec in enumerate(specs):
            own = record | {"key": f"{seed:016x}", "trial": spec.model_dump(mode="json")}
            store.write(own, {"cpu_seconds": 1.0}, None)
        environment = os.environ | {"STUDY_RESULTS": folder}
        began = time.process_time()
        run_trials(specs, store, train=False)
        return {
            "import_torch": _cpu_seconds(["-c", "import torch"], environment),
            "trial_start": _cpu_seconds(["-c", "import studylib.trial"], environment),
            "list": _cpu_seconds(["-m", "studylib.cli", "trials"], environment),
            "read": round(time.process_time() - began, 3),
        }


def _a_record() -> dict:
    """A record as large as one of Scientific's: ranks of 2,843 users."""
    users = np.random.default_rng(0).integers(0, 400, 2843).astype(np.uint16)
    ranks = Ranks(users, np.ones_like(users))
    return {
        "key": "", "format": FORMAT, "trial": trial(data="bench", features="random").model_dump(mode="json"),
        "data": {"fingerprint": "0" * 64}, "epochs": [{"epoch": epoch, "loss": 1.0} for epoch in range(40)],
        "metrics": ranks.means(), "metrics_unseen": ranks.means(), "ranks": ranks.pack(), "ranks_unseen": ranks.pack(),
    }  # fmt: skip


def _cpu_seconds(arguments: list[str], environment: dict[str, str]) -> float:
    """Least CPU time of a fresh interpreter, of three."""
    spent = []
    for _ in range(TURNS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], env=environment, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return round(min(spent), 3)
