"""Tables of drawn pages: which rows are compared, and which encoders count as readers."""

import numpy as np
import pytest

from studylib import drawn, wording
from studylib.analysis.significance import between_groups
from studylib.methods import METHODS
from studylib.tables import per_user
from tests.test_tables import record


def group(features: str, seeds: int, share: float) -> list[dict]:
    """Trials whose target is found by about ``share`` of 200 users."""
    rng = np.random.default_rng(len(features))
    return [
        record(features, seed, [0 if hit else None for hit in rng.random(200) < share], "tiger")
        for seed in range(seeds)
    ]


def test_a_page_is_compared_with_its_own_rows_and_readers_on_their_own_page():
    groups = {drawn.on(row, page): [(row, page)] for row in ("R", "pixels") for page in ("1024 px", "256 px")}
    rows = {row: {"1024 px": [], "256 px": []} for row in ("R", "pixels")}
    sizes = drawn.by_page(groups, rows, {"256 px": "1024 px"})
    assert list(sizes) == ["R: 256 px against 1024 px", "pixels: 256 px against 1024 px"]
    assert sizes["R: 256 px against 1024 px"] == ([("R", "256 px")], [("R", "1024 px")])
    del rows["pixels"]["256 px"]
    assert drawn.references(rows, {"256 px": "1024 px"}) == {"R, 256 px": "R, 1024 px"}
    assert list(drawn.by_page(groups, rows, {"256 px": "1024 px"})) == ["R: 256 px against 1024 px"]
    rows["pixels"] = {"256 px": []}  # nor is it compared with a page that it has not
    assert drawn.references(rows, {"256 px": "1024 px"}) == {"R, 256 px": "R, 1024 px"}
    readers = drawn.by_reader(groups, "R", ["pixels"], ["1024 px", "256 px"])
    assert readers["R against pixels: 256 px"] == ([("R", "256 px")], [("pixels", "256 px")])


def test_the_papers_changes_stand_at_the_rows_that_are_its():
    found = drawn.of_paper("Scientific", "PP-OCRv6")
    assert list(found) == [f"PP-OCRv6{row}: 256 px against 1024 px" for row in ("", " + image, gate")]
    assert found["PP-OCRv6: 256 px against 1024 px"]["recall@10"] == pytest.approx(-1.19, abs=0.01)
    assert drawn.of_paper("planted", "PP-OCRv6") == {}


def test_contrasts_and_controls_are_no_trained_readers():
    rows = {"ppocr-v6": 0.6, "ppocr-v4": 0.6, "craft": 0.1, "ppocr-v6-backbone": 0.9, "pixels": 0.2}
    groups = {METHODS[name].label: group(name, 2, share) for name, share in rows.items()}
    table = drawn.between_encoders(groups | {"popularity": [record("none", 0, [0] * 200, "popularity")]})
    assert table["rows"].tolist() == [drawn.TRAINED, drawn.EVERY]
    assert table["encoders"].tolist() == [2, 5]
    values = [per_user(groups[METHODS[name].label], "recall@10") for name in ("ppocr-v6", "ppocr-v4")]
    for name, value in between_groups(values).items():
        assert table.loc[0, name] == pytest.approx(value), name
    assert table.loc[0, "mean"] == pytest.approx(np.mean(values))
    assert table["p"].tolist()[0] > 0.05 > table["p"].tolist()[1]


def test_each_reader_is_held_against_each_row_that_is_none():
    rows = {"reader": "ppocr-v6", "detector": "craft", "text": "minilm", "other": "easyocr-crnn", "noise": "random"}
    groups = {name: [record(of, 0, [0, 1])] for name, of in rows.items()}
    pairs = drawn.readers_and_others(groups)
    assert [*pairs] == [f"{one} against {other}" for one in ("reader", "other") for other in ("detector", "noise")]
    assert pairs["other against noise"] == (groups["other"], groups["noise"])


def test_one_reader_or_one_seed_each_have_no_row():
    one = {METHODS[name].label: group(name, 2, 0.5) for name in ("ppocr-v6", "pixels")}
    assert drawn.between_encoders(one)["rows"].tolist() == [drawn.EVERY]
    assert wording.encoders_or_seeds(drawn.between_encoders(one), [0.1, 0.2]) == []
    single = {METHODS[name].label: group(name, 1, 0.5) for name in ("ppocr-v6", "ppocr-v4")}
    assert drawn.between_encoders(single).empty
    assert wording.encoders_or_seeds(drawn.between_encoders(single), [0.1, 0.2]) == []
