"""The ledger: what the papers claim, and what finished trials and measures say of it.

A claim of claims.yaml names a quantity with an interval and a condition on it:

- two rows of a saved table of trials (``first``, ``second``): the relative difference of their Recall@10 over the same
  users, with a 95 % interval over users and seeds; or
- one row of a saved table of measures (``where_row``), whose ``value``, ``low`` and ``high`` columns hold one.

Conditions: ``above`` a number, ``below`` it, or ``within`` plus and minus it. On a data set a claim is reproduced where
the whole interval fulfils the condition, contradicted where none of it does, undecided otherwise, and always if there
is one seed. Over data sets it is what the decided ones agree on; where they disagree, it depends on the data.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from studylib import paths, results, tables
from studylib.analysis.significance import relative
from studylib.errors import StudyError
from studylib.files import put_between, read_yaml, write_bytes
from studylib.settings import Settings, checked
from studylib.tables import METRIC

LEDGER = Path(__file__).with_name("claims.yaml")
NORMAL = 1.96  # standard errors of half a 95 % interval
REPRODUCED, CONTRADICTED, UNDECIDED, DEPENDS = "reproduced", "contradicted", "undecided", "depends on the data"
NOT_RUN = "not run"
MARK_COLUMN = {"Unnamed: 0": ""}  # what pandas makes of a column without a name
MARKS = {REPRODUCED: "🟢", CONTRADICTED: "🔴", UNDECIDED: "⚪", DEPENDS: "🟡", NOT_RUN: "➖"}


class Claim(Settings):
    """One line of the ledger.

    Args:
        id: the paper's number and a letter.
        where: takeaway, table or figure of the paper.
        says: the claim in our words.
        data: the data sets that it is tested on.
        table: name of a saved table.
        first, second: its rows that are compared, by their names.
        rule: which items are ranked for that, see ``tables.RULES``.
        where_row: the row of a table of measures, by the values of some columns.
        columns: of such a table: value, low and high.
        above, below, within: the condition, on relative differences (0.05 is 5 %) or on the measure itself.
        fixed: whether bound and rows were fixed before or after trials of the table were there.
        note: what our test of it leaves out.
    """

    id: str
    where: str
    says: str
    data: tuple[str, ...]
    table: str
    first: str = ""
    second: str = ""
    rule: Literal[tuple(tables.RULES)] = "every item"
    where_row: dict[str, str] = Field(default_factory=dict)
    columns: tuple[str, str, str] = ("value", "low", "high")
    above: float | None = None
    below: float | None = None
    within: float | None = None
    fixed: Literal["before", "after"] = "before"
    note: str = ""

    @model_validator(mode="after")
    def _one_condition(self):
        if sum(bound is not None for bound in (self.above, self.below, self.within)) != 1:
            raise ValueError("a claim has one condition: above, below or within")
        if bool(self.first and self.second) == bool(self.where_row):
            raise ValueError("a claim compares two rows (first, second) or reads one (where_row)")
        return self

    @property
    def compares(self) -> str:
        """What stands against what, as the tables name it."""
        return (
            f"{self.first} against {self.second}" if self.first else ", ".join((self.table, *self.where_row.values()))
        )


@dataclass(frozen=True)
class Finding:
    """What one data set says of a claim; ``by_users`` and ``by_seeds`` are standard errors."""

    claim: Claim
    data: str
    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    seeds: int = 0
    users: int = 0
    by_users: float = np.nan
    by_seeds: float = np.nan
    missing: str = ""

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """The open interval of values that fulfil the condition."""
        if self.claim.within is not None:
            return -self.claim.within, self.claim.within
        return (self.claim.above, np.inf) if self.claim.above is not None else (-np.inf, self.claim.below)

    @property
    def verdict(self) -> str:
        least, most = self.bounds
        if self.missing:
            return NOT_RUN
        if self.seeds == 1:
            return UNDECIDED
        if least < self.low and self.high < most:
            return REPRODUCED
        return CONTRADICTED if self.high <= least or self.low >= most else UNDECIDED

    @property
    def decided(self) -> bool:
        return self.verdict in (REPRODUCED, CONTRADICTED)

    @property
    def needed(self) -> tuple[float, str]:
        """How many seeds would decide it, or, if none, users with seeds without end; if the effect stays."""
        if self.verdict != UNDECIDED or self.seeds == 1 or not np.isfinite(self.by_seeds):
            return np.nan, ""
        distance = min(abs(self.value - bound) for bound in self.bounds if np.isfinite(bound))
        room = (distance / NORMAL) ** 2 - self.by_users**2
        if room > 0:
            return max(self.seeds + 1, np.ceil(self.seeds * self.by_seeds**2 / room)), "seeds"
        return (self.users * (NORMAL * self.by_users / distance) ** 2 if distance else np.inf), "users"


def read(file: Path = LEDGER) -> list[Claim]:
    """The claims, checked.

    Raises:
        StudyError: a claim of another form, or two of one id.
    """
    claims, listed = [], read_yaml(file).get("claims")
    if not isinstance(listed, list) or not all(isinstance(given, dict) for given in listed):
        raise StudyError(f"{file}: no list 'claims' of mappings; see studylib/analysis/claims.yaml")
    for number, given in enumerate(listed):
        try:
            claims.append(checked(Claim, given))
        except StudyError as error:
            raise StudyError(f"{file}: claim {number + 1}: {error}") from None
    ids = [claim.id for claim in claims]
    if len(set(ids)) < len(ids):
        raise StudyError(f"{file}: {next(one for one in ids if ids.count(one) > 1)}: two claims of one id; rename one")
    return claims


def find(claim: Claim, data: str) -> Finding:
    """What is known on one data set; what is not there is said in ``missing``."""
    try:
        if claim.where_row:
            return _measured(claim, data)
        groups = results.records_behind(claim.table, data)
    except StudyError:
        lost = (paths.results_of(data) / f"{claim.table}.csv").exists()
        what = "has lost a trial or its list of them: see `study verify`" if lost else "is not there"
        return Finding(claim, data, missing=f"{claim.table} of {data} {what}")
    for row in (claim.first, claim.second):
        if row not in groups:
            return Finding(claim, data, missing=f"{claim.table} of {data} has no row {row}")
    first, second = tables.paired(groups[claim.first], groups[claim.second], METRIC, claim.rule)
    found, seeds = relative(first, second), min(len(first), len(second))
    return Finding(
        claim, data, found.difference, found.low, found.high, seeds, first.shape[1], found.by_users, found.by_seeds
    )


def _measured(claim: Claim, data: str) -> Finding:
    table = results.saved(claim.table, data)
    of_data = {"data": data} if "data" in table else {}  # a pooled table has rows of several data sets
    absent = [column for column in (*claim.where_row, *claim.columns) if column not in table]
    if absent:
        return Finding(claim, data, missing=f"{claim.table} of {data} has no column {absent[0]}")
    for column, value in (of_data | claim.where_row).items():
        table = table[table[column].astype(str) == value]
    if len(table) != 1:
        return Finding(claim, data, missing=f"{claim.table} of {data} has {len(table)} rows {claim.where_row}")
    row = table.iloc[0]
    seeds, users = (int(row[name]) if name in row else 0 for name in ("seeds", "users"))
    return Finding(claim, data, *(float(row[column]) for column in claim.columns), seeds, users)


def overall(findings: Sequence[Finding]) -> str:
    """One verdict over data sets."""
    decided = {finding.verdict for finding in findings if finding.decided}
    if not decided:
        return NOT_RUN if all(finding.missing for finding in findings) else UNDECIDED
    return decided.pop() if len(decided) == 1 else DEPENDS


def ledger(claims: Sequence[Claim]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table that is read, one row a claim; and one row a claim and data set, with effect and interval."""
    rows, details = [], []
    for claim in claims:
        findings = [find(claim, data) for data in claim.data]
        verdict = overall(findings)
        rows.append(
            {
                "": MARKS[verdict], "claim": claim.id, "where": claim.where, "says": claim.says,
                "compares": claim.compares, "fixed": claim.fixed, "verdict": verdict,
                "decided on": ", ".join(found.data for found in findings if found.decided),
                "found": "; ".join([*map(_said, findings), *([claim.note] if claim.note else [])]),
            }
        )  # fmt: skip
        for finding in findings:
            facts = {name: getattr(finding, name) for name in ("value", "low", "high", "seeds", "users", "missing")}
            details.append(
                {"claim": claim.id, "data": finding.data, "verdict": finding.verdict}
                | dict(zip(("above", "below"), finding.bounds, strict=True))
                | facts
                | dict(zip(("needed", "of"), finding.needed, strict=True))
            )
    return pd.DataFrame(rows), pd.DataFrame(details)


def into(document: str, ledger: pd.DataFrame) -> str:
    """A document with the ledger between its two marks, in short: mark, where, and what is claimed.

    Raises:
        StudyError: the marks are not there.
    """
    short = ledger.fillna("")[["", "claim", "where", "says", "decided on", "fixed"]].to_markdown(index=False)
    return put_between(document, "ledger", short)


def _said(finding: Finding) -> str:
    if finding.missing:
        return finding.missing
    form = "{:+.3f}".format if finding.claim.where_row else "{:+.1%}".format
    said = f"{finding.data} {form(finding.value)} [{form(finding.low)}, {form(finding.high)}]"
    if finding.seeds:
        said += ", one seed: a second is missing" if finding.seeds == 1 else f", {finding.seeds} seeds"
    number, what = finding.needed
    if what:
        enough = number < 100 * (finding.seeds if what == "seeds" else finding.users)
        without_end = ", with seeds without end" if what == "users" else ""
        said += f", about {number:,.0f} {what} would decide{without_end}" if enough else ", too near to decide"
    return said


if __name__ == "__main__":  # python -m studylib.analysis.claims README.md
    file = Path(sys.argv[1])
    ledger = results.saved("ledger", "claims").rename(columns=MARK_COLUMN)
    write_bytes(file, into(file.read_text(encoding="utf-8"), ledger).encode())
