"""The tables of expected numbers are those of the finished trials, and made of what they say."""

import pandas as pd
import pytest

from studylib import results, tables
from studylib.analysis import expected
from studylib.config import trial
from studylib.errors import StudyError
from studylib.files import put_between
from studylib.trials import run
from tests.test_trials import QUICK, TOKENIZER


def test_the_documents_have_todays_numbers():
    """``make ledger`` renews them."""
    renewed = expected.documents()
    assert [file.name for file in renewed] == ["README.md", "expected.md"]
    for file, text in renewed.items():
        assert file.read_text(encoding="utf-8") == text, file


def test_every_row_is_there_once_and_baselines_come_last(folders):
    baseline = run([trial(data="Toy", generator={"name": "popularity"})])
    spec = dict(data="Toy", features="random", tokenizer=TOKENIZER, generator=QUICK, budget="smoke")
    rows = {"random": run([trial(**spec, seed=seed) for seed in (0, 1)]), "popularity": baseline}
    for name, groups in {"one": rows, "two": {"same": rows["random"], "first": rows["random"][:1]} | rows}.items():
        results.save(tables.comparison(groups), name, "Toy", records=groups)
    part = expected.Part(data="Toy", tables={"one": "", "two": "again"}, first=["one"])
    assert expected.expected([part.short])["Semantic IDs from"].tolist() == ["random", "popularity"]
    found = expected.expected([part])
    assert found["Semantic IDs from"].tolist() == ["random", "again: first", "popularity"]
    assert found["data"].tolist() == ["Toy", "", ""]
    values = pd.Series([record["metrics"]["recall@10"] for record in rows["random"]])
    assert found["Recall@10"][0] == f"{values.mean():.4f} ± {values.std():.4f}"
    assert found["Recall@10"][1] == f"{values[0]:.4f}"
    table = results.saved("one", "Toy")
    results.save(table.assign(**{"recall@10": table["recall@10"] + 0.01}), "one", "Toy")
    with pytest.raises(StudyError, match="one of Toy: random is not what its trials have; redraw"):
        expected.expected([part])


def test_text_between_marks():
    document = "a\n<!-- it -->\nold\n<!-- end of it -->\nb"
    assert put_between(document, "it", "new \\1") == "a\n<!-- it -->\n\nnew \\1\n\n<!-- end of it -->\nb"
    for wrong in ("no marks", document + document):
        with pytest.raises(StudyError, match="needs one '<!-- it -->'"):
            put_between(wrong, "it", "new")
