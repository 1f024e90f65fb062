"""Notebooks run unattended, one data set after the other, or copied with parameters to be opened."""

import ast
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from studylib import paths, trials
from studylib.data.registry import find
from studylib.encoders.registry import encoder
from studylib.engines import check_name
from studylib.errors import NothingToDo, StudyError
from studylib.files import check_regular, check_writable, shown, write_bytes
from studylib.keys import is_encoder
from studylib.notebook import Parameters, check


@dataclass(frozen=True)
class Ran:
    """One notebook on one data set: how long it took, what became of its trials, and why it failed or was skipped."""

    notebook: str
    data: str
    seconds: float
    trained: int = 0
    reused: int = 0
    failed: int = 0
    error: str = ""
    skipped: str = ""

    @property
    def state(self) -> str:
        return "failed" if self.error else "skipped" if self.skipped else "done"


ENCODERS_IN = (
    "features", "texts", "also", "stand_ins", "controls", "placeholders", "encoders", "resized", "readers",
    "modalities",
)  # fmt: skip
NEEDS = re.compile(r'parameters\.need\("(\w+)"\)')  # lists that a notebook says it cannot do without


def execute_all(
    notebooks: Sequence[Path], givens: Sequence[dict], log: Callable[[str], None] = lambda line: print(line, flush=True)
) -> list[Ran]:
    """Every notebook with every set of parameters; one that fails does not keep the others from running.

    One that has no row to run with some parameters (there are data sets without texts to embed) is skipped and named.

    Raises:
        StudyError: a notebook is missing or parameters are wrong, before the first kernel starts.
    """
    skipped = {}
    for number, given in enumerate(givens):
        for file in notebooks:
            try:
                ready(file, given)
            except NothingToDo as nothing:
                skipped[number, file] = str(nothing)
    rows = []
    for number, given in enumerate(givens):
        checked_given = check(given, "parameters")
        data = paths.name_of(checked_given.data)
        if checked_given.budget != "cpu" and checked_given.generator:
            own = ", ".join(f"{name} {value}" for name, value in checked_given.generator.items())
            log(f"{data}: budget {checked_given.budget}, but for what 'generator' says: {own}")
        for file in notebooks:
            if (number, file) in skipped:
                log(f"{file.name} on {data}: skipped: {skipped[number, file]}")
                rows.append(Ran(file.stem, data, 0.0, skipped=skipped[number, file]))
                continue
            started, error = time.monotonic(), ""
            with tempfile.TemporaryDirectory() as folder:
                tally = Path(folder) / "tally.jsonl"
                os.environ[trials.TALLY] = str(tally)
                try:
                    execute(file, given, paths.results_of(data) / "notebooks", log)
                except StudyError as failure:
                    error = str(failure)
                    log(f"{file.name} on {data}: failed: {error}")
                finally:
                    del os.environ[trials.TALLY]
                lines = tally.read_text().splitlines() if tally.exists() else []
            counts = [json.loads(line) for line in lines]
            total = {name: sum(row[name] for row in counts) for name in ("trained", "reused", "failed")}
            rows.append(Ran(file.stem, data, time.monotonic() - started, **total, error=error))
    return rows


def summary(rows: Sequence[Ran]) -> str:
    """The table that ends an unattended run."""
    from tabulate import tabulate

    return tabulate(
        [
            (row.notebook, row.data, row.state, f"{row.seconds:.0f} s", row.trained, row.reused, row.failed)
            for row in rows
        ],
        headers=("notebook", "data", "state", "time", "trials trained", "reused", "failed"),
    )  # fmt: skip


def ready(notebook: Path, given: dict) -> dict:
    """The parameters that the notebook takes.

    Raises:
        StudyError: no such notebook, or wrong parameters.
        NothingToDo: a list of rows is empty that the notebook needs, or what it reads embeddings of has none.
    """
    takes = taken(notebook)
    parameters_checked = check(_own(notebook, takes) | given, "parameters")
    code = _code(notebook)
    for table in NEEDS.findall(code):
        parameters_checked.need(table)
    if "parameters.spaces()" in code:
        parameters_checked.spaces()
    if parameters_checked.train:
        for name in _encoders_named(parameters_checked, takes):
            encoder(name)
    if "seeds" in takes:  # it runs trials
        if "fused_shapes" in takes:
            parameters_checked.fused_by_shape()
        if "features" in takes:
            parameters_checked.trials()
        parameters_checked.content(parameters_checked.reference)
        parameters_checked.baseline_trials()
        if parameters_checked.train:
            find(parameters_checked.data)
            check_name(parameters_checked.engine)
    if "datasets" in takes and (parameters_checked.train or "train" not in takes):
        for name in parameters_checked.datasets:
            # 06b reads the trials behind a table, and leaves out by itself, with the reason, what has none.
            if "texts" not in takes or (paths.results_of(name) / "table_2.trials.json").exists():
                find(name)
    return {name: value for name, value in given.items() if name in takes}


def _own(notebook: Path, takes: dict) -> dict:
    """The values that the notebook's own parameters cell has."""
    found = {}
    for name, row in takes.items():
        try:
            found[name] = ast.literal_eval(row["default"])
        except (ValueError, SyntaxError):
            raise StudyError(
                f"{notebook}: parameter {name}: {shown(row['default'])} is no plain value; write a number, text or list"
            ) from None
    return found


def _encoders_named(parameters: Parameters, takes: dict) -> list[str]:
    """The encoders among a notebook's rows, whose names are looked up before a kernel starts."""
    names = [getattr(parameters, row) for row in ("reference", "image", "encoder") if row in takes]
    for row in ENCODERS_IN:
        names += getattr(parameters, row) if row in takes else ()
    names = [name.removeprefix("shuffled:") for name in names]
    return [name for name in names if is_encoder(name)]


def taken(notebook: Path) -> dict:
    """The parameters that a notebook has.

    Raises:
        StudyError: no such notebook.
    """
    import papermill

    check_regular(notebook, "choose one of notebooks/*.ipynb")
    try:
        return papermill.inspect_notebook(str(notebook))
    except (ValueError, OSError, KeyError, AttributeError) as error:
        raise StudyError(
            f"{notebook}: no notebook that can be read ({error}); choose one of notebooks/*.ipynb"
        ) from None


def check_taken(names: set[str], notebooks: Sequence[Path]) -> None:
    """A file of parameters serves all notebooks, and each takes what it has; what is given by hand is meant for one.

    Raises:
        StudyError: a name that none of these notebooks takes.
    """
    takes = [set(taken(notebook)) for notebook in notebooks]
    for name in sorted(names & set(Parameters.model_fields) - set().union(*takes)):
        raise StudyError(
            f"-p {name}: none of {', '.join(file.name for file in notebooks)} takes it; they take "
            f"{', '.join(sorted(set().union(*takes)))}"
        )


def _code(notebook: Path) -> str:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def copies(notebooks: Sequence[Path], given: dict, folder: Path, log: Callable[[str], None] = print) -> None:
    """Write each notebook with these parameters into ``folder``, not run, to be opened; a copy that is there stays.

    One that has nothing to run with them is left out and named.

    Raises:
        StudyError: the parameters are wrong, or nothing can be written.
    """
    import nbformat
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    takes = {}
    for notebook in notebooks:
        try:
            takes[notebook] = ready(notebook, given)
        except NothingToDo as nothing:
            log(f"{notebook.name}: skipped: {nothing}")
    for notebook, own in takes.items():
        copy = folder / notebook.name
        if copy.exists():
            log(f"{copy}: kept as it is; remove it for a new one")
            continue
        book = parameterize_notebook(load_notebook_node(str(notebook)), own)
        write_bytes(copy, nbformat.writes(book).encode())


def execute(notebook: Path, given: dict, folder: Path, log: Callable[[str], None] = print) -> Path:
    """Run a notebook with parameters; the executed copy appears in ``folder`` once it has run to its end.

    Raises:
        StudyError: the parameters are wrong (before a kernel starts), or a cell failed or the kernel died (the partial
            copy is named).
    """
    own = ready(notebook, given)
    import papermill
    from nbclient.exceptions import DeadKernelError
    from traitlets.config import Config

    # A name of its own: two runs of one notebook must not rename each other's half-written copy.
    partial = folder / f".{notebook.stem}.{uuid4().hex[:12]}.partial.ipynb"
    final, failed = folder / notebook.name, folder / f"{notebook.stem}.failed.ipynb"
    # Kernels that start side by side race for TCP ports. Sockets in the file system do not, if each run has its own.
    sockets = tempfile.TemporaryDirectory(prefix="study-")
    ipc = Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets.name}/kernel"}})
    started = time.monotonic()
    check_writable(folder)
    # As `make` sets it: threads that wait for each other beside trials take minutes for what takes seconds.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        papermill.execute_notebook(
            str(notebook), str(partial), parameters=own, progress_bar=False, kernel_name="python3", config=ipc,
            stdout_file=sys.stdout,
        )  # fmt: skip
        os.replace(partial, final)
    except papermill.PapermillExecutionError as error:
        os.replace(partial, failed)
        raise StudyError(f"{notebook.name}: {error.ename}: {error.evalue} (cells so far: {failed})") from None
    except DeadKernelError:
        os.replace(partial, failed)
        raise StudyError(
            f"{notebook.name}: its kernel died, killed or out of memory; run it again, finished trials are kept "
            f"(cells so far: {failed})"
        ) from None
    except (OSError, RuntimeError) as error:  # a full disk, or no kernel that starts
        raise StudyError(f"{notebook.name}: {error}; free some space, or run 'make install' again") from None
    finally:
        partial.unlink(missing_ok=True)
        sockets.cleanup()
    failed.unlink(missing_ok=True)
    log(f"{notebook.name}: done in {time.monotonic() - started:.0f} s -> {final}")
    return final
