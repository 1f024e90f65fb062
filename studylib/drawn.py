"""Tables of drawn pages (000): each size against another, a reader against what does not read, readers together."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from studylib import papers
from studylib.ablations import fused_label
from studylib.analysis.significance import between_groups
from studylib.methods import NO_RIVALS
from studylib.tables import METRIC, method_of, per_user

Groups = dict[str, Sequence[dict]]
Pairs = dict[str, tuple[Sequence[dict], Sequence[dict]]]
TRAINED, EVERY = "trained OCR encoders", "with contrasts and controls"


def on(row: str, page: str) -> str:
    """What a row on a page is called."""
    return f"{row}, {page}"


def references(rows: dict[str, dict], against: dict[str, str]) -> dict[str, str]:
    """What each row is called on each page that it has, and on the one that ``against`` names for that page."""
    return {on(row, page): on(row, other) for row, page, other in _compared(rows, against)}


def by_page(groups: Groups, rows: dict[str, dict], against: dict[str, str]) -> Pairs:
    """Pairs for ``tables.changes``: each row on each page that it has, and on the one that ``against`` names for it."""
    return {
        f"{row}: {page} against {other}": (groups[on(row, page)], groups[on(row, other)])
        for row, page, other in _compared(rows, against)
    }


def _compared(rows: dict[str, dict], against: dict[str, str]) -> list[tuple[str, str, str]]:
    """Each row, each of its pages, and the page that ``against`` names for it, if the row has both."""
    return [
        (row, page, other)
        for row, pages in rows.items()
        for page, other in against.items()
        if page in pages and other in pages
    ]


def by_reader(groups: Groups, first: str, others: Sequence[str], pages: Sequence[str]) -> Pairs:
    """Pairs for ``tables.changes``: a reader, and each of the ``others``, on the same page."""
    return {
        f"{first} against {other}: {page}": (groups[on(first, page)], groups[on(other, page)])
        for other in others
        for page in pages
    }


def readers_and_others(groups: Groups) -> Pairs:
    """Pairs for ``tables.contrasts``: each reader with each contrast and control."""
    kinds = {name: method_of(group[0]).kind for name, group in groups.items()}
    readers = [name for name, kind in kinds.items() if kind == "ocr"]
    others = [name for name, kind in kinds.items() if kind in NO_RIVALS]
    return {f"{one} against {other}": (groups[one], groups[other]) for one in readers for other in others}


def of_paper(data: str, reader: str) -> dict[str, dict[str, float]]:
    """By pair of ``by_page``, 000's changes (Table 3), where it has this data set; its fused row is of the gate."""
    rows = {"alone": reader, "early fusion": fused_label(reader, "gate")}
    printed = papers.resized(data)
    return {f"{row}: 256 px against 1024 px": printed[kind] for kind, row in rows.items() if kind in printed}


def between_encoders(groups: Groups) -> pd.DataFrame:
    """One row a set of ``groups``, with ``significance.between_groups`` of it: trained readers, and all with content.

    Columns besides: ``rows`` says which, ``encoders`` how many, ``mean`` is theirs. A set that has no two groups, or
    none of two seeds, has no row.
    """
    methods = {name: method_of(group[0]) for name, group in groups.items()}
    sets = {
        TRAINED: [name for name, found in methods.items() if found.kind == "ocr"],
        EVERY: [name for name, found in methods.items() if found.kind != "baseline"],
    }
    rows = []
    for said, names in sets.items():
        values = [per_user(groups[name], METRIC) for name in names]
        if len(values) > 1:
            means = {"encoders": len(values), "mean": np.mean([group.mean() for group in values])}
            rows.append({"rows": said} | means | between_groups(values))
    return pd.DataFrame(row for row in rows if not np.isnan(row["p"]))
