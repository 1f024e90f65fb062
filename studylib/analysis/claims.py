"""The ledger: what the papers claim, and what finished trials and measures say of it.

A claim of claims.yaml names a quantity with an interval and a condition on it:

- two rows of a saved table of trials (``first``, ``second``): the relative difference of their Recall@10 over the same
  users, seeds averaged, with a 95 % bootstrap interval; or
- one row of a saved table of measures (``where``), whose ``value``, ``low`` and ``high`` columns hold one.

Conditions: ``above`` a number, ``below`` it, or ``within`` plus and minus it. On a data set a claim is reproduced where
the whole interval fulfils the condition, contradicted where none of it does, undecided otherwise. Over data sets it is
what the decided ones agree on; where they disagree, it depends on the data.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from studylib import paths, tables
from studylib.analysis.significance import compare
from studylib.errors import StudyError
from studylib.files import read_yaml
from studylib.settings import Settings, checked

LEDGER = Path(__file__).with_name("claims.yaml")
METRIC = "recall@10"
REPRODUCED, CONTRADICTED, UNDECIDED, DEPENDS = "reproduced", "contradicted", "undecided", "depends on the data"
MARK_COLUMN = {"Unnamed: 0": ""}  # what pandas makes of a column without a name
MARKS = {REPRODUCED: "🟢", CONTRADICTED: "🔴", UNDECIDED: "⚪", DEPENDS: "🟡"}


class Claim(Settings):
    """One line of the ledger.

    Args:
        id: the paper's number and a letter.
        where: takeaway, table or figure of the paper.
        says: the claim in our words.
        data: the data sets that it is tested on.
        table: name of a saved table.
        first, second: its rows that are compared, by their names.
        where_row: the row of a table of measures, by the values of some columns.
        columns: of such a table: value, low and high.
        above, below, within: the condition, on relative differences (0.05 is 5 %) or on the measure itself.
        note: what our test of it leaves out.
    """

    id: str
    where: str
    says: str
    data: tuple[str, ...]
    table: str
    first: str = ""
    second: str = ""
    where_row: dict[str, str] = Field(default_factory=dict)
    columns: tuple[str, str, str] = ("value", "low", "high")
    above: float | None = None
    below: float | None = None
    within: float | None = None
    note: str = ""

    @model_validator(mode="after")
    def _one_condition(self):
        if sum(bound is not None for bound in (self.above, self.below, self.within)) != 1:
            raise ValueError("a claim has one condition: above, below or within")
        if bool(self.first and self.second) == bool(self.where_row):
            raise ValueError("a claim compares two rows (first, second) or reads one (where_row)")
        return self


@dataclass(frozen=True)
class Finding:
    """What one data set says of a claim."""

    claim: Claim
    data: str
    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    seeds: int = 0
    users: int = 0
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
            return UNDECIDED
        if least < self.low and self.high < most:
            return REPRODUCED
        return CONTRADICTED if self.high <= least or self.low >= most else UNDECIDED

    @property
    def users_needed(self) -> float:
        """Users that would decide it if the effect stayed as it is: an interval shrinks as one over their root."""
        if self.verdict != UNDECIDED or self.missing or not self.users:
            return np.nan
        distance = min(abs(self.value - bound) for bound in self.bounds if np.isfinite(bound))
        half = (self.high - self.low) / 2
        return self.users * (half / distance) ** 2 if distance else np.inf


def read(file: Path = LEDGER) -> list[Claim]:
    """The claims, checked.

    Raises:
        StudyError: a claim of another form, or two of one id.
    """
    claims, listed = [], read_yaml(file)
    listed = listed.get("claims") if isinstance(listed, dict) else None
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
        groups = tables.records_behind(claim.table, data)
    except StudyError:
        lost = (paths.results_of(data) / f"{claim.table}.csv").exists()
        what = "has lost a trial or its list of them: see `study verify`" if lost else "is not there"
        return Finding(claim, data, missing=f"{claim.table} of {data} {what}")
    for row in (claim.first, claim.second):
        if row not in groups:
            return Finding(claim, data, missing=f"{claim.table} of {data} has no row {row}")
    first, second = (tables.per_user(groups[row], METRIC) for row in (claim.first, claim.second))
    found, base = compare(first, second), second.mean()
    seeds = min(len(first), len(second))
    return Finding(claim, data, found.difference / base, found.low / base, found.high / base, seeds, first.shape[1])


def _measured(claim: Claim, data: str) -> Finding:
    table = tables.saved(claim.table, data)
    of_data = {"data": data} if "data" in table else {}  # a pooled table has rows of several data sets
    absent = [column for column in (*claim.where_row, *claim.columns) if column not in table]
    if absent:
        return Finding(claim, data, missing=f"{claim.table} of {data} has no column {absent[0]}")
    for column, value in (of_data | claim.where_row).items():
        table = table[table[column].astype(str) == value]
    if len(table) != 1:
        return Finding(claim, data, missing=f"{claim.table} of {data} has {len(table)} rows {claim.where_row}")
    row = table.iloc[0]
    users = int(row["users"]) if "users" in row else 0
    return Finding(claim, data, *(float(row[column]) for column in claim.columns), users=users)


def overall(findings: Sequence[Finding]) -> str:
    """One verdict over data sets."""
    decided = {finding.verdict for finding in findings} - {UNDECIDED}
    return UNDECIDED if not decided else decided.pop() if len(decided) == 1 else DEPENDS


def ledger(claims: Sequence[Claim]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table that is read, one row a claim; and one row a claim and data set, with effect and interval."""
    rows, details = [], []
    for claim in claims:
        findings = [find(claim, data) for data in claim.data]
        verdict = overall(findings)
        rows.append(
            {
                "": MARKS[verdict], "claim": claim.id, "where": claim.where, "says": claim.says, "verdict": verdict,
                "found": "; ".join(map(_said, findings)),
            }
        )  # fmt: skip
        for finding in findings:
            facts = {name: getattr(finding, name) for name in ("value", "low", "high", "seeds", "users", "missing")}
            details.append(
                {"claim": claim.id, "data": finding.data, "verdict": finding.verdict}
                | dict(zip(("above", "below"), finding.bounds, strict=True))
                | facts
                | {"users needed": finding.users_needed}
            )
    return pd.DataFrame(rows), pd.DataFrame(details)


BLOCK = re.compile(r"(<!-- ledger -->\n).*?(<!-- end of ledger -->)", re.DOTALL)


def into(document: str, ledger: pd.DataFrame) -> str:
    """A document with the ledger between its two marks, in short: mark, where, and what is claimed.

    Raises:
        StudyError: the marks are not there.
    """
    short = ledger.fillna("")[["", "claim", "where", "says"]].to_markdown(index=False)
    found, times = BLOCK.subn(lambda marks: f"{marks[1]}\n{short}\n\n{marks[2]}", document)
    if times != 1:
        raise StudyError(
            "the document needs one '<!-- ledger -->' and one '<!-- end of ledger -->' on lines of their own"
        )
    return found


def _said(finding: Finding) -> str:
    if finding.missing:
        return finding.missing
    form = "{:+.3f}".format if finding.claim.where_row else "{:+.1%}".format
    said = f"{finding.data} {form(finding.value)} [{form(finding.low)}, {form(finding.high)}]"
    if finding.seeds:
        said += f", {finding.seeds} seed{'s' * (finding.seeds > 1)}"
    needed = finding.users_needed
    if needed == needed:
        said += f", about {needed:,.0f} users would decide" if needed < 100 * finding.users else ", too near to decide"
    return said


if __name__ == "__main__":  # python -m studylib.analysis.claims README.md
    file = Path(sys.argv[1])
    file.write_text(
        into(file.read_text(encoding="utf-8"), tables.saved("ledger", "claims").rename(columns=MARK_COLUMN)),
        encoding="utf-8",
    )
