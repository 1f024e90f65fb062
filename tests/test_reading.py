"""Reading error by hand and against the slow table; transcripts, costs and agreement of pages."""

from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studylib.ablations import choices, page_references
from studylib.analysis import reading
from studylib.data.dataset import Dataset
from studylib.encoders import transcript
from studylib.errors import StudyError
from studylib.render import Page, render

absent = [module for module in ("onnx", "onnxruntime", "rapidocr") if find_spec(module) is None]
needs_reader = pytest.mark.skipif(bool(absent), reason=f"ppocr-v6 wants {absent}: pip install -e .[encoders]")
TITLES = [
    "Digital multimeter 600 V CAT III",
    "Hex bolt M8 x 40 mm",
    "Nitrile gloves, box of 100",
    "PLA filament 1.75 mm",
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STUDY_MODELS", str(tmp_path / "models"))


def shop() -> Dataset:
    return Dataset("shop", ("ann",), (np.array([0, 1, 2]),), 4, tuple({"title": title} for title in TITLES))


def literal_edits(read: str, drawn: str) -> int:
    """Levenshtein's table, a cell at a time."""
    table = [[max(row, column) for column in range(len(drawn) + 1)] for row in range(len(read) + 1)]
    for row, one in enumerate(read, 1):
        for column, other in enumerate(drawn, 1):
            changed = table[row - 1][column - 1] + (one != other)
            table[row][column] = min(changed, table[row - 1][column] + 1, table[row][column - 1] + 1)
    return table[-1][-1]


# -- reading error -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "drawn", "wrong"),
    [
        ("", "", 0),
        ("150 mm", "150 mm", 0),
        ("15O mm", "150 mm", 1),  # O for 0
        ("150mm", "150 mm", 1),  # the space
        ("1150 mm", "150 mm", 1),  # a letter too many
        ("", "bolt", 4),
        ("bolt", "", 4),
        ("XYZprintingRFPLCXU500B", "XYZprinting RFPLCXUS00B", 2),  # space lost, 5 for S
        ("sitting", "kitten", 3),
        ("±0,5 µm", "±0.5 µm", 1),
    ],
)
def test_edits_by_hand(read, drawn, wrong):
    assert reading.edits(read, drawn) == wrong


@settings(max_examples=100, deadline=None)
@given(st.text("ab 1µ", max_size=12), st.text("ab 1µ", max_size=12))
def test_edits_against_the_literal_table(read, drawn):
    assert reading.edits(read, drawn) == literal_edits(read, drawn) == reading.edits(drawn, read)


def test_error_rate_by_hand():
    assert reading.error_rate(["Steel ruler", "15O mm"], ["Steel ruler", "150 mm"]) == 1 / 17
    assert reading.error_rate(["made up at length"], ["ab"]) > 1
    assert reading.error_rate([""], ["abc"]) == 1


@pytest.mark.parametrize(("read", "drawn"), [(["a"], ["a", "b"]), ([""], [""]), ([], [])])
def test_error_rate_wants_the_lines_of_one_page(read, drawn):
    with pytest.raises(
        StudyError, match=r"reading error: .* lines read, .* drawn; give both of one page that has text"
    ):
        reading.error_rate(read, drawn)


# -- transcripts -------------------------------------------------------------------------------------------------------


def test_greedy_reading_by_hand():
    letters = ["", "l", "o", "c", " "]
    assert transcript.greedy(np.array([0, 0, 3, 3, 1, 0, 1, 4, 4, 2, 0]), letters) == "cll o"
    assert transcript.greedy(np.array([0, 0]), letters) == ""
    assert transcript.greedy(np.array([], dtype=int), letters) == ""


@needs_reader
def test_large_letters_are_read_without_a_mistake():
    pages = [render([title], Page()) for title in TITLES]
    assert reading.transcripts(pages) == TITLES
    assert reading.transcripts(pages[:1], "ppocr-v6") == TITLES[:1]


def test_only_recognisers_give_transcripts():
    with pytest.raises(StudyError, match=r"craft: gives no transcript; choose one of ppocr-v6, ppocr-v4"):
        reading.transcripts([], "craft")
    with pytest.raises(StudyError, match=r"did you mean 'ppocr-v6'"):
        reading.transcripts([], "ppocr-v7")


@pytest.mark.skipif(find_spec("onnx") is None, reason="wants onnx")
def test_a_model_without_its_characters_is_refused(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    def value(name, *shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([node], "g", [value("x", 1, 3, 48, 32)], [value("y", 1, 3, 48, 32)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(tmp_path / "bare.onnx"))
    with pytest.raises(StudyError, match=r"bare\.onnx: no 'character' in its metadata; use the file"):
        transcript.reader(tmp_path / "bare.onnx")


# -- costs and agreement -----------------------------------------------------------------------------------------------


def test_samples_are_nested_and_the_same_every_time():
    assert reading.sample(100, 20) == reading.sample(100, 20)
    assert set(reading.sample(100, 5)) < set(reading.sample(100, 20))
    assert reading.sample(3, 20) == [0, 1, 2]


@needs_reader
def test_small_pages_cost_less_and_are_misread():
    lines = []
    pages = {"1024": Page(), "128": Page(resolution=128)}
    table = reading.costs(shop(), pages, items=2, name="pixels", progress=lines.append).set_index("page")
    assert table.loc["1024", "error"] == 0
    assert table.loc["128", "error"] > 0.2
    assert table.loc["128", "error low"] <= table.loc["128", "error"] <= table.loc["128", "error high"]
    assert table.loc["128", "bytes"] < table.loc["1024", "bytes"]
    assert (table[["render seconds", "encode seconds"]] >= 0).all(axis=None)
    assert lines[0].startswith("reading 1024 px of shop: 2 of 2 items")
    read = transcript.reader_named("ppocr-v6")
    small = [render([TITLES[item]], pages["128"]) for item in reading.sample(4, 2)]
    rates = [reading.error_rate(read([page])[0], page.lines) for page in small]
    assert table.loc["128", "error"] == pytest.approx(np.mean(rates))
    assert rates[0] != rates[1], "else a ratio of sums would be the same"


@needs_reader
def test_a_table_of_pages_says_what_they_cost_keep_and_how_many_are_drawn_smaller():
    """Pixels give no transcript, so the letters are PP-OCR's; of twelve texts one is too long for the font."""
    texts = [{"title": f"{number} mm bolt"} for number in range(11)] + [{"title": "ruler 150 mm " * 400}]
    data = Dataset("long", ("ann",), (np.arange(12),), 12, tuple(texts))
    pages = {"1024": Page(), "128": Page(resolution=128)}
    table = reading.page_costs(data, pages, "pixels", {"128": "1024"}, lambda line: None).set_index("page")
    assert table["shrunk"].tolist() == [1 / 12, 1 / 12]
    assert table["against"].tolist() == ["1024", "1024"]
    assert table.loc["1024", "agreement"] == 1
    assert 0.5 < table.loc["128", "agreement"] <= 1  # pixels are reduced to 64 x 64 in any case
    assert table.loc["1024", "error"] < table.loc["128", "error"]


def test_seconds_are_of_drawing_a_page_and_of_encoding_it_past_that(monkeypatch):
    clock = iter([10.0, 10.5, 12.25])  # half a second to draw, then to draw again and to encode
    monkeypatch.setattr(reading.time, "process_time", lambda: next(clock))
    encoded = []
    found = reading._measured(shop(), Page(), 2, encoded.extend, lambda pages: [["Nitrile gl0ves, box of 100"]])
    assert encoded == [2]
    drawn = dict(zip(reading.MEASURED, found, strict=True))
    assert (drawn["render seconds"], drawn["encode seconds"]) == (0.5, 1.25)
    assert (drawn["letters"], drawn["wrong letters"]) == (len(TITLES[2]), 1)
    assert drawn["bytes"] > 1000


@needs_reader
def test_what_was_measured_is_kept(monkeypatch):
    first = reading.measure(shop(), Page(), [0, 2], "pixels", progress=lambda line: None)
    assert first.index.tolist() == [0, 2]
    assert first["letters"].tolist() == [len(TITLES[0]), len(TITLES[2])]
    monkeypatch.setattr(transcript, "reader_named", lambda _: pytest.fail("read again"))
    again = reading.measure(shop(), Page(), [0, 2], "pixels", progress=lambda line: None)
    assert again.equals(first)
    with pytest.raises(pytest.fail.Exception):
        reading.measure(shop(), Page(layout="varied"), [0, 2], "pixels", progress=lambda line: None)


def test_what_reads_no_page_costs_none():
    with pytest.raises(StudyError, match=r"random: reads nothing, not pages; choose one of kind ocr"):
        reading.measure(shop(), Page(), [0], "random")


def test_agreement_with_itself_is_one_and_of_strangers_is_chance():
    rng = np.random.default_rng(0)
    base = rng.standard_normal((300, 16))
    matrices = {"1024": base, "near": base + 0.3 * rng.standard_normal(base.shape), "other": base[rng.permutation(300)]}
    table = reading.agreement(matrices, {"near": "1024", "other": "1024"}).set_index("page")
    assert table.loc["1024", "agreement"] == 1
    assert table.loc["other", "agreement"] == pytest.approx(10 / 299, abs=0.02)
    assert table.loc["other", "high"] < table.loc["near", "low"] < table.loc["near", "agreement"] < 1
    assert table["chance"].tolist() == [10 / 299] * 3


def test_a_page_agrees_with_the_one_of_its_own_layout():
    """A varied page is like nothing fixed, and a small one of it like the large one: layout is not size."""
    rng = np.random.default_rng(0)
    matrices = {"1024 px": rng.standard_normal((300, 16)), "1024 px, varied": rng.standard_normal((300, 16))}
    matrices["256 px, varied"] = matrices["1024 px, varied"] + 0.1 * rng.standard_normal((300, 16))
    against = page_references(choices("pages", ("1024", "1024:varied", "256:varied")))
    table = reading.agreement(matrices, against).set_index("page")
    assert table["against"].tolist() == ["1024 px", "1024 px", "1024 px, varied"]
    assert table.loc["256 px, varied", "agreement"] > 0.7 > 0.1 > table.loc["1024 px, varied", "agreement"]


def test_variants_of_a_product_are_drawn_together():
    rng = np.random.default_rng(0)
    base = rng.standard_normal((150, 8))
    matrices = {"1024": base, "256": base + 0.3 * rng.standard_normal(base.shape)}
    matrices = {name: matrix[np.arange(300) // 2] for name, matrix in matrices.items()}
    single, kept = (
        reading.agreement(matrices, {"256": "1024"}, products=products).set_index("page").loc["256"]
        for products in (None, np.arange(300) // 2)
    )
    assert single["agreement"] == pytest.approx(kept["agreement"])
    assert (kept["high"] - kept["low"]) / (single["high"] - single["low"]) == pytest.approx(np.sqrt(2), rel=0.1)


def test_agreement_wants_the_same_items():
    base = np.random.default_rng(0).standard_normal((30, 4))
    with pytest.raises(StudyError, match=r"agreement: no '1024' to compare with; give one of 256"):
        reading.agreement({"256": base}, {"256": "1024"})
    with pytest.raises(StudyError, match=r"20 and of 30 items; give the same items"):
        reading.agreement({"256": base[:20], "1024": base}, {"256": "1024"})
    with pytest.raises(StudyError, match=r"30 items have no 40 neighbours"):
        reading.agreement({"1024": base}, {}, k=40)
