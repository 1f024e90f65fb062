"""The README's table of expected numbers is that of the finished trials, and made of what it says."""

import pandas as pd
import pytest

from studylib import paths, tables
from studylib.analysis import expected
from studylib.config import trial
from studylib.errors import StudyError
from studylib.files import put_between
from studylib.trials import run
from tests.test_trials import QUICK, TOKENIZER


def test_the_readme_has_todays_numbers():
    """``make ledger`` renews them."""
    readme = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    assert expected.into(readme, expected.expected(expected.read())) == readme


def test_every_row_is_there_once_and_baselines_come_last(folders):
    baseline = run([trial(data="Toy", generator={"name": "popularity"})])
    spec = dict(data="Toy", features="random", tokenizer=TOKENIZER, generator=QUICK, budget="smoke")
    rows = {"random": run([trial(**spec, seed=seed) for seed in (0, 1)]), "popularity": baseline}
    for name, groups in {"one": rows, "two": {"same": rows["random"], "first": rows["random"][:1]} | rows}.items():
        tables.save(tables.comparison(groups), name, "Toy", records=groups)
    found = expected.expected([expected.Part(data="Toy", tables={"one": "", "two": "again"})])
    assert found["Semantic IDs from"].tolist() == ["random", "again: first", "popularity"]
    assert found["data"].tolist() == ["Toy", "", ""]
    values = pd.Series([record["metrics"]["recall@10"] for record in rows["random"]])
    assert found["Recall@10"][0] == f"{values.mean():.4f} ± {values.std():.4f}"
    assert found["Recall@10"][1] == f"{values[0]:.4f}"
    table = tables.saved("one", "Toy")
    tables.save(table.assign(**{"recall@10": table["recall@10"] + 0.01}), "one", "Toy")
    with pytest.raises(StudyError, match="one of Toy: random is not what its trials have; redraw"):
        expected.expected([expected.Part(data="Toy", tables={"one": ""})])


def test_text_between_marks():
    document = "a\n<!-- it -->\nold\n<!-- end of it -->\nb"
    assert put_between(document, "it", "new \\1") == "a\n<!-- it -->\n\nnew \\1\n\n<!-- end of it -->\nb"
    for wrong in ("no marks", document + document):
        with pytest.raises(StudyError, match="needs one '<!-- it -->'"):
            put_between(wrong, "it", "new")
