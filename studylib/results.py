"""Tables in results/: written with the trials behind them, never over those of others, and read again."""

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import pandas as pd

from studylib import paths
from studylib.config import BUDGETS
from studylib.errors import StudyError
from studylib.files import write_bytes, write_json
from studylib.store import Store
from studylib.tables import by_method


def saved(name: str, data: str, of: dict[str, Sequence[str]] | None = None) -> pd.DataFrame:
    """A table as ``save`` wrote it.

    Args:
        of: by column, which values it has to have, in their order: other rows may be asked for than it was made of.

    Raises:
        StudyError: it has not been made, or of other rows.
    """
    file = paths.results_of(data) / f"{name}.csv"
    if not file.exists():
        raise StudyError(f"{file}: not there; run the notebook that makes it with train: true")
    table = pd.read_csv(file)
    for column, wanted in (of or {}).items():
        if (found := list(table[column].unique())) != list(wanted):
            raise StudyError(
                f"{file}: of {', '.join(map(str, found))}, not of {', '.join(map(str, wanted))}; run the notebook that "
                "makes it with train: true"
            )
    return table


def records_behind(name: str, data: str) -> dict[str, list[dict]]:
    """The records of the trials that a saved table was made from, by its rows, in the order of their seeds.

    Raises:
        StudyError: there is no such table, or one of its trials is lost.
    """
    file, store = paths.results_of(data) / f"{name}.trials.json", Store.default()
    if not file.exists():
        raise StudyError(f"{file}: not there; run the notebook that makes {name} on {data} first")
    groups = {}
    for row, keys in json.loads(file.read_text()).items():
        groups[row] = [store.record(key) for key in keys]
        if None in groups[row]:
            lost = keys[groups[row].index(None)]
            raise StudyError(f"{file}: trial {lost} is not in the store; run the notebook that makes {name} again")
        groups[row].sort(key=lambda record: record["trial"]["seed"])  # keys have no order; tests pair by seed
    return groups


def _check_not_anothers(file: Path, records: Sequence[dict]) -> None:
    """Two folders of one name, or a quick look after a long run, must not write over what is there.

    Raises:
        StudyError: the list is of another data set's trials, or of a larger budget's.
    """
    keys = chain.from_iterable(json.loads(file.read_text()).values()) if file.exists() else ()
    before = [found for key in keys if (found := Store.default().record(key))]
    cure = "set STUDY_RESULTS and STUDY_FIGURES to folders of their own, or remove the table"
    folders = {paths.name_of(record["trial"]["data"]): record for record in before}
    for record in records:
        old = folders.get(paths.name_of(record["trial"]["data"]), record)
        (was, data), (held, holds) = ((one["trial"]["data"], one["data"]["fingerprint"]) for one in (old, record))
        if was != held and data != holds:
            raise StudyError(f"{file}: is of {was}, which has the same name as {held}; {cure}")
    sizes = list(BUDGETS)
    old, new = (max(map(sizes.index, _budgets(rows)), default=0) for rows in (before, records))
    if old > new and _budgets(records):
        raise StudyError(f"{file}: is of budget {sizes[old]}, larger than {sizes[new]}; {cure}")


def _budgets(records: Sequence[dict]) -> list[str]:
    """Of the generators: what is counted or read without content has no budget to speak of."""
    return [record["trial"]["budget"] for record in records if record["trial"]["generator"]["name"] == "tiger"]


def save(
    table: pd.DataFrame,
    name: str,
    data: str,
    printed: pd.DataFrame | None = None,
    records: Sequence[dict] | dict[str, Sequence[dict]] = (),
) -> pd.DataFrame:
    """Write results/<data>/<name>.csv (full precision) and .md and .tex (as printed); returns the table as printed.

    The keys of the trials that it was made from (``records``, or groups of them by row) go to <name>.trials.json, by
    row: what no such list names may be removed.

    Raises:
        StudyError: the table that is there is of another data set of this name, or of a larger budget.
    """
    folder = paths.results_of(data)
    printed = table if printed is None else printed
    groups = records if isinstance(records, dict) else by_method(records)
    if groups:
        _check_not_anothers(folder / f"{name}.trials.json", [*chain.from_iterable(groups.values())])
    write_bytes(folder / f"{name}.csv", table.to_csv(index=False).encode())
    write_bytes(folder / f"{name}.md", (printed.to_markdown(index=False) + "\n").encode())
    latex = printed.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1)
    write_bytes(folder / f"{name}.tex", latex.to_latex(hrules=True).encode())
    if groups:
        keys = {row: sorted(record["key"] for record in group) for row, group in groups.items()}
        write_json(folder / f"{name}.trials.json", keys)
    return printed
