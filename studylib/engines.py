"""Where trials run: processes on this machine, the workers of a Dask cluster, or Slurm jobs.

An engine is a ``concurrent.futures.Executor`` whose workers do nothing but wait for a trial's process, so a trial that
crashes takes nobody with it. The name of an engine is a notebook parameter:

    ""                    this machine: as many trials at a time as there are GPUs, or else cores
    "tcp://host:8786"     a Dask scheduler, by its address
    "my-cluster.yaml"     Slurm jobs made as the file says (dask-jobqueue)
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Event, Lock

from pydantic import Field

from studylib import paths
from studylib.config import Trial
from studylib.errors import StudyError
from studylib.files import LOCK, is_locked, read_yaml, write_bytes
from studylib.settings import Settings, checked
from studylib.store import Store

TRIES = 2  # of a trial whose process dies; one that reports bad input is not tried again
FINISHED, ELSEWHERE, HELD = "finished", "finished by another runner", "trained by another runner now"
BAD_INPUT, FOUND = 2, 3  # exit statuses of a trial: it complained in one line; it found itself finished
FOLDER = "STUDY_FOLDER"  # the runner's working folder, in the environment of its workers
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
FULL = 1 << 20  # bytes left on a disk that is as good as full
MANY = 1000
ANSWER = 20  # seconds that a scheduler has to answer


# -- one process -----------------------------------------------------------------------------------------------------


class Gpus:
    """The GPUs that this process sees, lent to trials in turn."""

    def __init__(self, ids: list[str]):
        self.ids, self._free, self._change = ids, list(ids), Condition()

    @classmethod
    def found(cls) -> "Gpus":
        import torch

        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        count = torch.cuda.device_count()
        return cls(visible.split(",")[:count] if visible else [str(number) for number in range(count)])

    @contextmanager
    def lend(self, count: int) -> Iterator[dict[str, str]]:
        """Environment variables that show a process ``count`` GPUs of its own; none where there is no GPU.

        Raises:
            StudyError: there are fewer at all.
        """
        if not self.ids:
            yield {}
            return
        if count > len(self.ids):
            raise StudyError(f"generator devices: {count} asked for, but this machine shows {len(self.ids)}; ask fewer")
        with self._change:
            self._change.wait_for(lambda: len(self._free) >= count)
            taken, self._free = self._free[:count], self._free[count:]
        try:
            yield {"CUDA_VISIBLE_DEVICES": ",".join(taken)}
        finally:
            with self._change:
                self._free += taken
                self._change.notify_all()


class Children:
    """The trial processes of this process, so that they can be stopped with it."""

    def __init__(self):
        self._running: set[subprocess.Popen] = set()
        self.stopped = Event()

    def run(self, command: list[str], log: Path, environment: dict[str, str]) -> int:
        """Exit status of ``command``, whose output is appended to ``log``."""
        log.parent.mkdir(parents=True, exist_ok=True)
        folder = environment.get(FOLDER)
        with (
            log.open("ab") as out,
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, cwd=folder
            ) as process,
        ):
            self._running.add(process)
            try:
                if self.stopped.is_set():  # stopped between the start and the entry above
                    process.terminate()
                return process.wait()
            finally:
                self._running.discard(process)

    def stop(self) -> None:
        self.stopped.set()
        for process in list(self._running):
            process.terminate()


CHILDREN = Children()
_gpus: Gpus | None = None
_gpus_lock = Lock()  # several workers of one process ask at once, and two pools would lend a GPU twice


def gpus() -> Gpus:
    """The one pool of this process."""
    global _gpus
    with _gpus_lock:
        _gpus = _gpus or Gpus.found()
        return _gpus


def study_environment() -> dict[str, str]:
    """What a worker elsewhere must be told: where data, results and caches are, and what relative paths start from."""
    roots = {"DATA": paths.data_root, "MODELS": paths.models_root, "CACHE": paths.cache_root}
    roots |= {"RESULTS": paths.results_root, "FIGURES": paths.figures_root}
    found = {name: value for name, value in os.environ.items() if name.startswith("STUDY_")}
    return found | {f"STUDY_{name}": str(root().resolve()) for name, root in roots.items()} | {FOLDER: os.getcwd()}


def run_trial(key: str, trial: str, store: str, environment: dict[str, str] | None = None, wait: bool = True) -> str:
    """Run one trial in a process of its own; returns how it ended: ``FINISHED``, ``ELSEWHERE``, or why not.

    Without ``wait`` one that another runner trains is left to it: ``HELD``.

    Called by an engine's worker, perhaps on another machine and beside other runners' trials: ``environment`` is
    ``study_environment()`` of the runner, and goes to the trial's process alone.
    """
    environment = environment or study_environment()
    work = Path(environment["STUDY_CACHE"]) / "trials" / key
    log, devices = work / "log.txt", Trial.model_validate_json(trial).generator.model_dump().get("devices", 1)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(devices)] if devices > 1 else []
    command = [sys.executable, *launcher, "-m", "studylib.trial", str(work), store]
    status = begin = 0
    if not wait and is_locked(work / LOCK):
        return HELD
    try:
        write_bytes(work / "trial.json", trial.encode())
        with gpus().lend(devices) as own:
            begin = _size(log)
            for _ in range(TRIES):
                status = CHILDREN.run(command, log, _alone() | environment | ONE_THREAD | same_code() | own)
                # torchrun gives 1 for whatever became of its processes; a complaint is the last line in the log then.
                complained = status == BAD_INPUT or (devices > 1 and reason(log, begin).startswith("error: "))
                if status in (0, FOUND) or complained or CHILDREN.stopped.is_set():
                    break
    except (OSError, StudyError) as error:
        return f"failed: {error}"
    if status in (0, FOUND):
        return FINISHED if status == 0 else ELSEWHERE
    if CHILDREN.stopped.is_set():
        return "stopped"
    if shutil.disk_usage(work).free < FULL:  # then the log may hold nothing either
        return f"failed with status {status}: {work}: No space left on device; free some"
    return f"failed with status {status}: {reason(log, begin)}"


def train_again(key: str, trial: Trial) -> None:
    """Train a trial for what it leaves on this machine alone: its weights, or SASRec's item embeddings.

    Its record goes beside the published store if that has one: another machine may give other bytes, and a record is
    never written over.

    Raises:
        StudyError: it failed; says why.
    """
    store = Store.default()
    root = store.root if store.record(key) is None else paths.cache_root() / "retrained"
    outcome = run_trial(key, trial.model_dump_json(), str(root.resolve()))
    if outcome not in (FINISHED, ELSEWHERE):
        raise StudyError(f"{key}: {outcome}")


def _alone() -> dict[str, str]:
    """This process's environment, but for what torchrun tells the members of a team.

    A trial on several devices may need another one first (SASRec's item embeddings), which must not join its team.
    """
    of_team = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    parts = ("LOCAL_", "GROUP_", "ROLE_", "TORCHELASTIC_")
    return {name: value for name, value in os.environ.items() if name not in of_team and not name.startswith(parts)}


def same_code() -> dict[str, str]:
    """What makes a child import this very studylib, whatever lies in the folder that it starts in.

    Without it ``python -m`` looks there first: for another checkout's studylib, or a user's own tokenize.py.
    """
    found = {"PYTHONSAFEPATH": "1"}
    if (paths.ROOT / "pyproject.toml").exists():  # a checkout, installed or not
        found["PYTHONPATH"] = os.pathsep.join([str(paths.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return found


def run_embedding(data: str, features: str, page: str, environment: dict[str, str]) -> str:
    """Fill the cache with the embeddings of a data set, in a process of its own; as ``run_trial``."""
    name = f"{paths.name_of(data)}.{Path(features).name}.txt".replace(":", ".")
    log = Path(environment["STUDY_CACHE"]) / "embeddings" / "logs" / name
    command = [sys.executable, "-m", "studylib.cli", "embed", data, features, "--page", page]
    try:
        with gpus().lend(1) as own:
            begin = _size(log)
            status = CHILDREN.run(command, log, os.environ | environment | ONE_THREAD | same_code() | own)
    except (OSError, StudyError) as error:
        return f"failed: {error}"
    return FINISHED if status == 0 else f"failed with status {status}: {reason(log, begin)}"


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def reason(log: Path, begin: int = 0) -> str:
    """What a log says of a failure from byte ``begin`` on (before it are older ones): its last complaint or line."""
    lines = log.read_bytes()[begin:].decode(errors="replace").strip().splitlines() if log.exists() else []
    complaints = [line for line in lines if line.startswith(("error: ", "study: error: "))]
    return (complaints or lines or ["no log"])[-1][:300]


# -- engines ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Engine:
    """Workers that run trials.

    Args:
        executor: takes ``run_trial`` and ``run_embedding`` with their arguments.
        slots: trials at a time.
        remote: the workers are elsewhere, so that work of the runner's own is better done there too.
        trouble: what keeps the engine from going on, in words; "" while it runs.
    """

    executor: Executor
    slots: int
    remote: bool = False
    trouble: Callable[[], str] = lambda: ""


class SlurmSettings(Settings):
    """The Slurm jobs that dask-jobqueue asks for; one job is one worker, which runs one trial at a time."""

    jobs: int = Field(4, ge=1, le=10_000)  # Slurm jobs at a time
    cores: int = Field(1, ge=1)
    memory: str = "8GB"
    walltime: str = "08:00:00"
    queue: str | None = None
    account: str | None = None
    directives: tuple[str, ...] = ()  # further lines of #SBATCH, e.g. "--gres=gpu:1"
    skip: tuple[str, ...] = ()  # lines of #SBATCH to leave out, e.g. "--mem" where memory is not managed
    prologue: tuple[str, ...] = ()  # shell lines before the worker starts, e.g. "module load cuda"
    interface: str | None = None  # the network interface, where the default is not the cluster's


def cores() -> int:
    """Cores that this process may use; macOS does not say which, so there it is all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def open_engine(name: str, jobs: int = 0) -> Iterator[Engine]:
    """The engine of that name; ``jobs`` trials at a time here (0: one per GPU, or else core).

    Raises:
        StudyError: no such engine, its package is not installed, or nobody answers at its address.
    """
    if not name:
        jobs = jobs or len(gpus().ids) or cores()
        pool = ThreadPoolExecutor(jobs)
        try:
            yield Engine(pool, jobs)
        except BaseException:  # an interrupt as well: nobody waits for the trials any more
            CHILDREN.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            CHILDREN.stopped.clear()  # a trial may be run without an engine next
        return
    check_name(name)
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise StudyError(f"engine {name}: dask is not installed; pip install -e '.[cluster]'") from None
    with _dask(name) if "://" in name else _slurm(Path(name)) as engine:
        yield engine


def check_name(name: str) -> None:
    """Raise StudyError if no engine can have that name."""
    if name.endswith((".yaml", ".yml")):
        checked(SlurmSettings, read_yaml(settings_file(Path(name))))
    elif name and "://" not in name:
        raise StudyError(f"engine {name!r}: write '' for this machine, tcp://host:port, or a .yaml file for Slurm")


@contextmanager
def _dask(address: str) -> Iterator[Engine]:
    from distributed import Client

    try:
        client = Client(address, timeout=ANSWER)
    except (OSError, ValueError) as error:
        raise StudyError(
            f"engine {address}: no Dask scheduler answers there ({type(error).__name__}); start one with "
            "'dask scheduler' and workers with 'dask worker ADDRESS', or correct the address"
        ) from None
    with client:
        yield _of_client(client, address)


@contextmanager
def _slurm(file: Path) -> Iterator[Engine]:
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise StudyError(f"engine {file}: dask-jobqueue is not installed; pip install -e '.[cluster]'") from None
    import dask
    from distributed import Client

    settings = checked(SlurmSettings, read_yaml(settings_file(file)))
    if not shutil.which("sbatch"):
        raise StudyError(f"engine {file}: there is no sbatch on this machine; run this on a login node of the cluster")
    # A trial that is longer than a job's walltime goes on in the next; Dask would give it up after three.
    dask.config.set({"distributed.scheduler.allowed-failures": MANY})
    with SLURMCluster(
        queue=settings.queue, account=settings.account, cores=1, job_cpu=settings.cores, processes=1,
        memory=settings.memory, walltime=settings.walltime, job_extra_directives=list(settings.directives),
        job_directives_skip=list(settings.skip), job_script_prologue=list(settings.prologue),
        interface=settings.interface, log_directory=str(paths.cache_root() / "slurm"), python=sys.executable,
    ) as cluster, Client(cluster) as client:  # fmt: skip
        # adapt, because a job that Slurm cancels is then replaced; scale() would wait for it for ever
        cluster.adapt(minimum=settings.jobs, maximum=settings.jobs)
        yield _of_client(client, str(file), settings.jobs)


def settings_file(file: Path) -> Path:
    """``file`` as given, or below the repository: a notebook in JupyterLab starts in its own folder."""
    return file if file.exists() or not (paths.ROOT / file).exists() else paths.ROOT / file


def _of_client(client, name: str, slots: int = 0) -> Engine:
    def threads() -> int:
        return sum(client.nthreads().values())

    def trouble() -> str:
        return "" if threads() else f"{name}: no worker is connected; trials wait for one"

    return Engine(client.get_executor(pure=False), slots or max(1, threads()), True, trouble)
