"""The tables of expected numbers: the rows of saved tables that expected.yaml names, each once.

Whoever trains a row again finds here what to expect of it. The README has the rows to read first, results/expected.md
has all; a test holds both to the finished trials.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from studylib import paths, results, tables
from studylib.errors import StudyError
from studylib.files import put_between, read_yaml, write_bytes
from studylib.settings import Settings, checked
from studylib.store import Store
from studylib.tables import METRIC

CHOSEN = Path(__file__).with_name("expected.yaml")


class Part(Settings):
    """The rows of some saved tables of one data set, baselines last; a table's name comes with what its rows vary.

    ``first``: the tables whose rows are read first.
    """

    data: str
    tables: dict[str, str]
    first: tuple[str, ...]

    @property
    def short(self) -> "Part":
        return self.model_copy(update={"tables": {name: self.tables[name] for name in self.first}})


def read(file: Path = CHOSEN) -> list[Part]:
    return [checked(Part, part) for part in read_yaml(file)["parts"]]


def expected(parts: Sequence[Part]) -> pd.DataFrame:
    """One line a row: data, what the IDs are from, seeds, Recall@10 with its spread, the paper's, cost of one trial.

    A row that several tables have, under whatever name, is printed for the first of them.

    Raises:
        StudyError: a table has not been saved, is of other trials than are there, or a trial of it is not there.
    """
    lines = []
    for part in parts:
        done, last = set(), []
        for table, about in part.tables.items():
            groups = results.records_behind(table, part.data)
            for name, drawn in results.saved(table, part.data).set_index("method").iterrows():
                if not np.isclose(drawn[METRIC], np.mean([record["metrics"][METRIC] for record in groups[name]])):
                    raise StudyError(f"{table} of {part.data}: {name} is not what its trials have; redraw its notebook")
                keys = frozenset(record["key"] for record in groups[name])
                if keys not in done:
                    done.add(keys)
                    baseline = tables.method_of(groups[name][0]).kind == "baseline"
                    paper = drawn.get("paper", np.nan)
                    (last if baseline else lines).append(_line(part.data, about, name, groups[name], paper))
        lines += last
    found = pd.DataFrame(lines)
    return found.assign(data=found["data"].where(found["data"] != found["data"].shift(), ""))


def _line(data: str, about: str, name: str, group: Sequence[dict], paper: float) -> dict[str, str]:
    values = [record["metrics"][METRIC] for record in group]
    costs = [cost["cpu_seconds"] for record in group if (cost := Store.default().cost(record["key"]))]
    seconds = np.mean(costs) if costs else np.nan
    return {
        "data": data,
        "Semantic IDs from": f"{about}: {name}" if about else name,
        "seeds": str(len(group)),
        "Recall@10": f"{np.mean(values):.4f}" + (f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""),
        "000": "" if pd.isna(paper) else f"{paper:.4f}",
        "CPU time": "" if np.isnan(seconds) else f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min",
    }


def into(document: str, lines: pd.DataFrame) -> str:
    """A document with the table between its two marks.

    Raises:
        StudyError: the marks are not there.
    """
    return put_between(document, "expected numbers", lines.to_markdown(index=False, disable_numparse=True))


def documents() -> dict[Path, str]:
    """What the README and results/expected.md are to say, by file."""
    parts = read()
    files = {
        paths.ROOT / "README.md": expected([part.short for part in parts]),
        paths.ROOT / "results" / "expected.md": expected(parts),
    }
    return {file: into(file.read_text(encoding="utf-8"), lines) for file, lines in files.items()}


if __name__ == "__main__":  # python -m studylib.analysis.expected
    for file, text in documents().items():
        write_bytes(file, text.encode())
