"""Parameters of the notebooks, checked, and their unattended execution.

Papermill takes a misspelt parameter silently and passes YAML's ``1e-3`` as text. So every notebook's parameters are
fields of one model, ``Parameters``; a notebook's first code after its parameters cell checks them, and ``execute``
checks them before a kernel starts. A name that another notebook uses is allowed: one file of parameters serves all.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml
from pydantic import Field, field_validator, model_validator

from studylib.config import BUDGETS, Trial, trial
from studylib.errors import StudyError
from studylib.settings import Settings, checked


class Parameters(Settings):
    """All parameters that any notebook takes."""

    data: str = "planted"
    datasets: tuple[str, ...] = ("planted",)
    features: tuple[str, ...] = ("minilm", "ppocr-v6")
    reference: str = "minilm"
    codes: int = Field(256, ge=2)
    seeds: int = Field(3, ge=1, le=100)
    budget: str = "cpu"
    generator: dict[str, str | int | float | bool] = Field(default_factory=dict)
    jobs: int = Field(0, ge=0)
    train: bool = True

    @field_validator("budget")
    @classmethod
    def _budget(cls, value: str) -> str:
        if value not in BUDGETS:
            raise ValueError(f"must be one of {', '.join(BUDGETS)}")
        return value

    @model_validator(mode="after")
    def _features(self):
        if len(set(self.features)) < len(self.features):
            raise ValueError("features must differ from each other")
        return self

    def trials(self) -> list[Trial]:
        """One trial per kind of features and seed, then the two baselines, which have no seed to vary.

        Raises:
            StudyError: the reference is none of the features, or a setting of the generator does not exist.
        """
        if self.reference not in self.features:
            raise StudyError(f"reference: {self.reference!r} is none of the features {', '.join(self.features)}")
        content = [
            trial(
                data=self.data,
                features=features,
                tokenizer={"codes": self.codes},
                generator=self.generator,
                budget=self.budget,
                seed=seed,
            )
            for features in self.features
            for seed in range(self.seeds)
        ]
        return content + [trial(data=self.data, generator={"name": name}) for name in ("item-knn", "popularity")]


def parameters(namespace: dict) -> Parameters:
    """The parameters of the notebook that calls this with ``globals()``, checked.

    Raises:
        StudyError: a name that no notebook knows, or a value of the wrong type; names it.
    """
    plain = (str, int, float, bool, list, dict, tuple, type(None))
    given = {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_") and isinstance(value, plain) and name not in ("In", "Out")
    }
    if "_parameters_checked" in namespace:  # run again by hand: other cells have made names of their own by now
        given = {name: value for name, value in given.items() if name in Parameters.model_fields}
    found = check(given, "the parameters cell")
    namespace["_parameters_checked"] = True
    return found


def check(given: dict, where: str) -> Parameters:
    """``given`` as parameters; unknown names and wrong values are refused with the names that there are."""
    for name in given:
        if name not in Parameters.model_fields:
            raise StudyError(f"{where}: unknown parameter {name!r}; choose from {', '.join(Parameters.model_fields)}")
    try:
        return checked(Parameters, given)
    except StudyError as error:
        raise StudyError(f"{where}: {error}") from None


def read_parameters(file: Path) -> dict:
    """A YAML file of parameters, checked.

    Raises:
        StudyError: no such file, not YAML, or a parameter that no notebook takes.
    """
    try:
        given = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError(f"{file}: {error.strerror}; give one of the files in params/") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{file}: not YAML ({error}); write lines of 'name: value'") from None
    if not isinstance(given, dict):
        raise StudyError(f"{file}: expected lines of 'name: value'")
    check(given, str(file))
    return given


def execute(notebook: Path, given: dict, folder: Path, log: Callable[[str], None] = print) -> Path:
    """Run a notebook with parameters; the executed copy appears in ``folder`` once it has run to its end.

    Raises:
        StudyError: the parameters are wrong (before a kernel starts), or a cell failed (the partial copy is named).
    """
    import papermill
    from traitlets.config import Config

    if not notebook.is_file():
        raise StudyError(f"{notebook}: no such notebook; choose one of notebooks/*.ipynb")
    parameters_checked = check(given, "parameters")
    takes = papermill.inspect_notebook(str(notebook))
    if "features" in takes:
        parameters_checked.trials()
    folder.mkdir(parents=True, exist_ok=True)
    partial, final = folder / f"{notebook.stem}.partial.ipynb", folder / notebook.name
    own = {name: value for name, value in given.items() if name in takes}
    # Kernels that start side by side race for TCP ports; sockets in the file system do not.
    ipc = Config({"KernelManager": {"transport": "ipc"}})
    started = time.monotonic()
    try:
        papermill.execute_notebook(
            str(notebook), str(partial), parameters=own, progress_bar=False, kernel_name="python3", config=ipc,
            stdout_file=sys.stdout,
        )  # fmt: skip
    except papermill.PapermillExecutionError as error:
        raise StudyError(f"{notebook.name}: {error.ename}: {error.evalue} (cells so far: {partial})") from None
    os.replace(partial, final)
    log(f"{notebook.name}: done in {time.monotonic() - started:.0f} s -> {final}")
    return final
