"""Verdicts by hand, the ledger's own file, and what is said where something is missing."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from studylib import paths, results, tables
from studylib.ablations import COLLISIONS, EARLY, GENERATORS, LATE, MSCGREC, TOKENIZERS, fused_label, page, shape
from studylib.analysis import claims
from studylib.analysis.claims import CONTRADICTED, DEPENDS, NOT_RUN, REPRODUCED, UNDECIDED, Claim, Finding
from studylib.config import trial
from studylib.errors import StudyError
from studylib.methods import METHODS
from studylib.notebook import AS_MSCGREC
from studylib.trials import run
from tests.test_trials import QUICK, TOKENIZER

ROWS = {"id": "0", "where": "here", "says": "so", "data": ("Toy",), "table": "t", "first": "a", "second": "b"}


def finding(low: float, high: float, **condition) -> Finding:
    return Finding(Claim(**ROWS, **condition), "Toy", (low + high) / 2, low, high, seeds=2, users=100)


@pytest.mark.parametrize(
    ("low", "high", "condition", "verdict"),
    [
        (0.01, 0.03, {"above": 0}, REPRODUCED),
        (-0.03, -0.01, {"above": 0}, CONTRADICTED),
        (-0.01, 0.03, {"above": 0}, UNDECIDED),
        (-0.01, 0.03, {"above": -0.02}, REPRODUCED),
        (-0.03, -0.01, {"below": 0}, REPRODUCED),
        (0.0, 0.0, {"below": 0}, CONTRADICTED),
        (-0.01, 0.01, {"within": 0.02}, REPRODUCED),
        (0.03, 0.05, {"within": 0.02}, CONTRADICTED),
        (-0.05, -0.02, {"within": 0.02}, CONTRADICTED),
        (0.01, 0.05, {"within": 0.02}, UNDECIDED),
    ],
)
def test_verdicts_by_hand(low, high, condition, verdict):
    assert finding(low, high, **condition).verdict == verdict


def test_one_seed_decides_nothing():
    assert replace(finding(0.01, 0.03, above=0), seeds=1).verdict == UNDECIDED
    assert replace(finding(0.01, 0.03, above=0), seeds=0).verdict == REPRODUCED, "a measure, which has no seeds"


def test_what_would_decide():
    """An effect of 1.96 units. Four seeds leave 0.8, of which enough are 1 - 0.36; users alone never reach 1.96."""
    open_ = replace(finding(-0.1, 2 * 1.96 + 0.1, above=0), seeds=4, by_users=0.6, by_seeds=0.96)
    assert open_.value == pytest.approx(1.96)
    assert open_.needed == (np.ceil(4 * 0.96**2 / 0.64), "seeds")
    assert replace(open_, seeds=1).needed[1] == "", "one seed says nothing of its own spread"
    number, what = replace(open_, by_users=2.0).needed
    assert (number, what) == (pytest.approx(400), "users")
    assert replace(finding(0.01, 0.06, above=0), by_users=0.1, by_seeds=0.1).needed[1] == ""
    assert replace(finding(-0.02, 0.02, above=0), by_users=0.1, by_seeds=0.1).needed == (np.inf, "users")


def test_over_data_sets():
    good, bad, open_ = finding(0.1, 0.2, above=0), finding(-0.2, -0.1, above=0), finding(-0.1, 0.1, above=0)
    assert claims.overall([good, open_]) == REPRODUCED
    assert claims.overall([good, bad, open_]) == DEPENDS
    assert claims.overall([open_]) == UNDECIDED
    absent = replace(good, missing="t of Toy is not there")
    assert claims.overall([absent]) == NOT_RUN
    assert claims.overall([absent, open_]) == UNDECIDED


def test_two_rows_of_a_table_of_trials(folders):
    records = run([trial(data="Toy", features=name, tokenizer=TOKENIZER, generator=QUICK)
                   for name in ("features:circle", "random")])  # fmt: skip
    groups = {"a": records[:1], "b": records[1:]}
    results.save(tables.comparison(groups), "t", "Toy", records=groups)
    found = claims.find(Claim(**ROWS, above=0), "Toy")
    one, other = (record["metrics"]["recall@10"] for record in records)
    assert found.value == pytest.approx((one - other) / other)
    assert found.low < found.value < found.high
    assert (found.seeds, found.users) == (1, 60)
    assert claims.find(Claim(**ROWS | {"first": "c"}, above=0), "Toy").missing == "t of Toy has no row c"
    assert claims.find(Claim(**ROWS | {"table": "u"}, above=0), "Toy").missing == "u of Toy is not there"


def test_one_row_of_a_table_of_measures(folders):
    table = pd.DataFrame(
        {"of": ["x", "y"], "prefix": [1, 1], "rho": [0.2, 0.3], "low": [0.1, -0.1], "high": [0.3, 0.7]}
    )
    results.save(table, "t", "Toy")
    own = {name: value for name, value in ROWS.items() if name not in ("first", "second")}
    own |= {"columns": ("rho", "low", "high"), "above": 0}
    assert claims.find(Claim(**own, where_row={"of": "x", "prefix": "1"}), "Toy").verdict == REPRODUCED
    assert claims.find(Claim(**own, where_row={"of": "y"}), "Toy").verdict == UNDECIDED
    assert "has 2 rows" in claims.find(Claim(**own, where_row={"prefix": "1"}), "Toy").missing
    pooled = pd.concat([table.assign(data="Toy"), table.assign(data="pooled", rho=-1.0)])
    results.save(pooled, "t", "Toy")
    assert claims.find(Claim(**own, where_row={"of": "x", "prefix": "1"}), "Toy").value == table["rho"].iloc[0]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("above: 0\n    below: 1", "one condition"),
        ("within: 0.1\n    where_row: {a: b}", "compares two rows"),
        ("over: 0", "unknown setting"),
    ],
)
def test_a_wrong_claim_is_named(tmp_path, change, complaint):
    file = tmp_path / "claims.yaml"
    head = (
        "claims:\n  - id: x\n    where: w\n    says: s\n    data: [d]\n    table: t\n    first: a\n    second: b\n    "
    )
    file.write_text(head + change)
    with pytest.raises(StudyError, match=f"claims.yaml: claim 1: .*{complaint}"):
        claims.read(file)


def test_the_ledger_asks_for_rows_that_notebooks_write():
    """A row that is renamed in the code must be renamed in the ledger."""
    known = {choice.label for table in (TOKENIZERS, COLLISIONS, GENERATORS, MSCGREC) for choice in table.values()}
    known |= {method.label for method in METHODS.values()} | {f"TIGER, {method.label}" for method in METHODS.values()}
    known |= {f"{row.label}, {method.label}" for row in TOKENIZERS.values() for method in METHODS.values()}
    known |= {f"{method.label}{AS_MSCGREC}" for method in METHODS.values()}
    known |= {shape(f"{n}x256").label for n in range(1, 6)}
    known |= {
        f"{method.label}, {page(name).label}"
        for method in METHODS.values()
        for name in ("1024", "256", "1024:varied", "256:varied")
    }
    for method in METHODS.values():
        known |= {fused_label(method.label, choice.label) for table in (EARLY, LATE) for choice in table.values()}
    ledger = claims.read()
    assert len(ledger) >= 20
    for claim in ledger:
        assert {claim.first, claim.second} <= known | {""}, claim.id
        assert "planted" not in claim.data
        assert any(claim.table in file.read_text() for file in (paths.ROOT / "notebooks").glob("*.ipynb")) or (
            claim.table in ("why", "geometry_closer")
        )


def test_what_is_behind_a_table_pairs_by_seed(monkeypatch):
    """Its list has the keys in alphabetical order, which is no order of seeds."""
    monkeypatch.setenv("STUDY_RESULTS", str(paths.ROOT / "results"))
    groups = results.records_behind("resolution", "planted")
    seeds = {tuple(record["trial"]["seed"] for record in group) for group in groups.values()}
    assert seeds == {(0, 1, 2, 3, 4), (0, 1), (0,)}


@pytest.mark.parametrize("text", ["claims: 3", "claims: [3]", "x: 1", "claims: null"])
def test_a_file_without_claims_is_named(tmp_path, text):
    (tmp_path / "claims.yaml").write_text(text)
    with pytest.raises(StudyError, match="no list 'claims' of mappings"):
        claims.read(tmp_path / "claims.yaml")


def test_the_committed_ledger_is_that_of_the_committed_tables():
    """``make ledger`` renews it, and the README's."""
    found, _ = claims.ledger(claims.read())
    committed = results.saved("ledger", "claims").rename(columns=claims.MARK_COLUMN).fillna("")
    assert found.to_dict("records") == committed.to_dict("records")
    readme = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    assert claims.into(readme, committed) == readme
