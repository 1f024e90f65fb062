"""What the committed tables of planted have to show, because it was planted: the kind of an item is in its text.

Stated here, after the first tables were there, and read in those that `make study` writes. Where all pages share one
template, a page can be compared with another place by place, so that pixels do as well as reading; varied layouts take
that away, and small varied pages take the reading away as well. The last test looks at pages drawn now, without any
training in between.
"""

from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest

from studylib import paths, results, tables
from studylib.ablations import choices, page_references
from studylib.analysis import reading
from studylib.analysis.geometry import neighbours
from studylib.analysis.significance import compare
from studylib.data import load
from studylib.data.planted import Knobs, generate
from studylib.encoders import embed
from studylib.render import Page, render


def saved(table: str, column: str) -> pd.Series:
    """A column of a committed table of planted; by its own folder, for other tests set STUDY_RESULTS."""
    return pd.read_csv(paths.ROOT / "results" / "planted" / f"{table}.csv", index_col=0)[column]


@pytest.fixture(scope="module")
def recall() -> pd.Series:
    return pd.concat([saved("table_4", "recall@10"), saved("resolution", "recall@10")]).groupby(level=0).first()


@pytest.fixture(scope="module")
def groups():
    """The records behind the tables of pages, by row."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_RESULTS", str(paths.ROOT / "results"))
        groups = results.records_behind("table_4", "planted") | results.records_behind("resolution", "planted")
        varied = results.records_behind("table_4_varied", "planted")
    return groups | {f"{name}, on varied pages": records for name, records in varied.items()}


@pytest.fixture(scope="module")
def told_apart(groups):
    """Whether the first of two rows finds more than the second, told apart over users and seeds, seed by seed."""

    def asked(more: str, less: str) -> bool:
        return compare(*tables.paired(groups[more], groups[less], "recall@10")).low > 0

    return asked


def test_whoever_reads_finds_more_than_names_do(recall, told_apart):
    """Shuffled rows give IDs that are names. A network that cannot read sees where ink is on the one template: more
    than names, less than any trained reader."""
    names, untrained = "PP-OCRv6, rows shuffled", "CRNN, random weights"
    trained = ["PP-OCRv6", "PP-OCRv4", "EasyOCR CRNN"]
    for reader in trained:
        assert told_apart(reader, names), reader
        assert told_apart(reader, untrained), reader
    assert recall[trained].min() > 1.2 * recall[names]
    assert recall[names] < recall[untrained] < recall[trained].min()


def test_pixels_do_as_well_as_reading_on_one_template_and_as_names_on_many(recall, told_apart):
    pixels, varied = "raw pixels 64x64", "raw pixels 64x64, 1024 px, varied"
    assert recall[pixels] > 0.95 * recall[["PP-OCRv6", "PP-OCRv4", "EasyOCR CRNN"]].max()
    assert told_apart(pixels, "PP-OCRv6, rows shuffled")
    for better in (pixels, "PP-OCRv6, 1024 px, varied"):
        assert recall[varied] < 0.75 * recall[better]
        assert told_apart(better, varied)
    assert recall[varied] < 1.1 * recall["PP-OCRv6, rows shuffled"]


def test_on_varied_pages_what_reads_finds_more_than_all_that_does_not(recall, told_apart):
    """Five seeds. What finds as much on the template without reading, pixels and a detector of text, falls to names."""
    varied, names = saved("table_4_varied", "recall@10"), "PP-OCRv6, rows shuffled"
    blind = ["CRNN, random weights", "raw pixels 64x64", "CRAFT (page)"]
    for reader in ("PP-OCRv6", "PP-OCRv4", "EasyOCR CRNN", "PP-OCRv6 transcript, MiniLM-L6"):
        assert varied[reader] > 0.9 * recall[reader]
        for other in (names, *blind):
            assert told_apart(f"{reader}, on varied pages", f"{other}, on varied pages"), (reader, other)
    for other in blind:
        assert varied[other] < 0.75 * recall[other]
        assert varied[other] < 1.1 * varied[names]


def test_size_costs_what_varied_layouts_lay_bare(recall, told_apart):
    """On a page of the one font no size costs what is found, whether letters are read or not; of the many, letters are
    lost first, and who is like whom, and then what is found."""
    for size in (512, 256, 128):
        assert abs(recall[f"PP-OCRv6, {size} px"] / recall["PP-OCRv6, 1024 px"] - 1) < 0.1, size
    assert told_apart("PP-OCRv6, 1024 px, varied", "PP-OCRv6, 128 px, varied")
    assert recall["PP-OCRv6, 256 px, varied"] > 0.85 * recall["PP-OCRv6, 1024 px, varied"]
    assert recall["PP-OCRv6, 256 px, varied"] > 1.2 * recall["PP-OCRv6, 128 px, varied"]
    agreement, error = saved("page_costs", "agreement"), saved("page_costs", "error")
    assert agreement["256 px, varied"] < 0.5 < 0.8 < agreement["256 px"]
    assert error["256 px, varied"] > 5 * error["256 px"]


def test_the_tables_are_of_the_planted_data_that_the_code_makes(groups):
    made = {record["data"]["fingerprint"] for group in groups.values() for record in group}
    assert made == {load("planted").fingerprint}


def letters_lost(data, page: Page, items) -> float:
    drawn = [render(data.fields(item), page, item) for item in items]
    read = reading.transcripts(drawn)
    pairs = zip(read, drawn, strict=True)
    return float(np.mean([reading.error_rate(lines.split("\n"), one.lines) for lines, one in pairs]))


def test_with_the_truth_as_codes_late_fusion_gains():
    """Users follow text and picture. Codes that are these groups lose nothing in an encoder or a tokenizer, so that
    what late fusion does not gain from them it could never gain from others. Random IDs gain as well: they name."""
    gain, low = (saved("late_fusion_true_codes_contrasts", column) for column in ("difference", "low"))
    over_text = gain[gain.index.str.endswith("against true text group alone")]
    assert len(over_text) == 2
    assert (over_text > 0).all()
    fused = "true text group + image, A concatenated, text first"
    assert low[f"{fused}, against true text group alone"] > 0
    assert gain[f"{fused}, against true text group + random IDs, A concatenated, text first"] > 0


@pytest.mark.skipif(find_spec("rapidocr") is None, reason="rapidocr is not installed")
def test_what_is_planted_is_found_on_pages_read_now(folders):
    """The kind of an item is in its text. So among its three nearest, a reader finds its kind on fixed and on varied
    pages, and pixels on fixed ones only; at 256 pixels letters and neighbours are kept on the one template, and lost
    on varied pages. Chance is one item in ten."""
    data, _, truth = generate(Knobs(users=20, items=40))
    chosen = choices("pages", ("1024", "256", "1024:varied", "256:varied"))
    pages = {page.label: Page(**page.page) for page in chosen.values()}
    kinds = np.asarray(truth.text_group)

    def same_kind(name: str, label: str) -> float:
        return float((kinds[neighbours(embed(data, name, pages[label]).matrix, 3)] == kinds[:, None]).mean())

    chance = float((kinds[:, None] == kinds).sum(1).mean() - 1) / 39
    for reader, varied in (("ppocr-v6", True), ("pixels", False)):
        assert same_kind(reader, "1024 px") > 3 * chance
        assert (same_kind(reader, "1024 px, varied") > 3 * chance) is varied, reader
    matrices = {label: embed(data, "ppocr-v6", page).matrix for label, page in pages.items()}
    agreement = reading.agreement(matrices, page_references(chosen)).set_index("page")["agreement"]
    assert agreement["256 px, varied"] + 0.2 < agreement["256 px"]
    error = {label: letters_lost(data, page, range(0, 40, 4)) for label, page in pages.items()}
    assert max(error["1024 px"], error["1024 px, varied"]) < 0.01
    assert error["256 px"] < 0.02 < error["256 px, varied"]
