"""What README and docs tell people to type: Python blocks run, and every command is one that exists."""

import os
import re
import shlex
import sys
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
import transformers as hf

from studylib import paths, tokenizers
from studylib.analysis import claims
from studylib.cli import main, parser
from studylib.config import TokenizerSettings
from studylib.data import load
from studylib.encoders import embed, registry
from studylib.encoders.registry import Encoder
from studylib.tokenizers import collisions
from tests.test_encoders_hub import SMALL, tokenizer

DOCUMENTS = [paths.ROOT / "README.md", *sorted((paths.ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(study [a-z][^`]*)`")
LINES = 30


def blocks(name: str, kind: str) -> list[str]:
    return [text for found, text in BLOCK.findall((paths.ROOT / name).read_text()) if found == kind]


def commands() -> list[str]:
    found = []
    for file in DOCUMENTS:
        text = file.read_text()
        for kind, block in BLOCK.findall(text):
            if not kind:
                found += [line.removeprefix(".venv/bin/") for line in block.replace("\\\n", " ").splitlines()]
        found += INLINE.findall(BLOCK.sub("", text).replace("\n", " "))
    cut = [line.split("#")[0].split("|")[0].strip() for line in found]
    return sorted({line for line in cut if line.startswith("study ") and "…" not in line and "..." not in line})


@pytest.mark.parametrize("command", commands())
def test_every_command_is_understood(command):
    words = shlex.split(command)[1:]
    if len(words) > 1:
        parser().parse_args(words)
    for word in words:
        if re.fullmatch(r"(notebooks|params|tests)/[\w./*]+", word):
            assert list(paths.ROOT.glob(word)), word
    help_of = words[0]
    assert help_of in parser().format_help()


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z]+):", (paths.ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = {
        found for file in DOCUMENTS for found in re.findall(r"(?:^|`)make ([a-z]+)", file.read_text(), re.MULTILINE)
    }
    assert {"study", "test"} <= asked <= targets


def test_every_file_that_is_named_is_there():
    for file in DOCUMENTS:
        for target in re.findall(r"\]\((?!http)([^)#]+)", file.read_text()):
            assert (file.parent / target).exists(), f"{file.name}: {target}"


def test_the_ledger_in_the_readme_is_the_ledger():
    readme = (paths.ROOT / "README.md").read_text()
    ledger = pd.read_csv(paths.ROOT / "results" / "claims" / "ledger.csv").rename(columns=claims.MARK_COLUMN)
    assert claims.into(readme, ledger) == readme


def test_examples_are_short():
    for text in blocks("docs/extending.md", "python"):
        assert len(text.splitlines()) < LINES


def test_a_data_set_of_your_own(folders, monkeypatch, capsys):
    monkeypatch.chdir(folders)
    exec(blocks("docs/extending.md", "python")[0], {})
    assert main(["check", "data/Mine"]) == 0
    assert '"users": 40, "items": 20' in capsys.readouterr().out


def test_vectors_of_your_own(folders, monkeypatch):
    monkeypatch.chdir(folders)
    data, vectors, *_ = blocks("docs/extending.md", "python")
    exec(data, {})
    exec(vectors, {})
    assert embed(load("data/Mine"), "features:mine.npy").matrix.shape == (20, 64)


def test_an_encoder_of_your_own(folders, monkeypatch):
    monkeypatch.chdir(folders)
    data, _, backend, row, *_ = blocks("docs/extending.md", "python")
    exec(data, {})
    module = ModuleType("studylib.encoders.letters")
    exec(backend, module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(registry.ENCODERS, "letters", eval(row, {"Encoder": Encoder}))
    found = embed(load("data/Mine"), "letters")
    assert found.matrix.shape == (20, 26)
    assert found.matrix[0][ord("e") - ord("a")] == load("data/Mine").text(0).lower().count("e")
    assert os.listdir(folders / "cache" / "embeddings") == ["letters"]


def test_an_encoder_of_the_hub(folders, monkeypatch):
    """With a tiny model in its folder, of fewer positions than the row would read."""
    monkeypatch.chdir(folders)
    monkeypatch.setenv("STUDY_MODELS", str(folders / "models"))
    data, _, _, _, row, _ = blocks("docs/extending.md", "python")
    exec(data, {})
    config = hf.BertConfig(vocab_size=20, max_position_embeddings=6, **SMALL)
    torch.manual_seed(1)
    hf.BertModel(config).save_pretrained(folders / "models" / "gte-small")
    tokenizer().save_pretrained(folders / "models" / "gte-small")
    monkeypatch.setitem(registry.ENCODERS, "gte-small", eval(row, {"Encoder": Encoder}))
    assert registry.ENCODERS["gte-small"].hub == "thenlper/gte-small"
    found = embed(load("data/Mine"), "gte-small").matrix
    assert found.shape == (20, SMALL["hidden_size"])
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)


def test_a_tokenizer_of_your_own():
    module: dict = {}
    exec(blocks("docs/extending.md", "python")[-1], module)
    x = tokenizers.projected(np.random.default_rng(0).standard_normal((300, 40)), TokenizerSettings())
    result = module["fit"](x, levels=3, codes=16, seed=1)
    assert result.codes.shape == (300, 3)
    assert list(result.error) == sorted(result.error, reverse=True)
    assert result.error_of(result.codes[:, -1]) == pytest.approx(result.error[-1])
    codes, *_ = collisions.resolve(result, (16, 16, 16), "dedup")
    assert len(np.unique(codes, axis=0)) == 300
