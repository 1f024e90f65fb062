"""A toy data set on disk with a planted rule, and folders of its own for every test."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # as a trial's process: sums of another order are other bytes

import numpy as np
import pytest
import torch

from studylib import paths
from studylib.data import Dataset, atomic

torch.set_num_threads(1)  # where something imported torch before this line

ITEMS, USERS = 40, 60


def toy(seed: int = 0, users: int = USERS) -> Dataset:
    """Item i is followed by i + 1 (around a circle of 40): the withheld item is the only right answer."""
    rng = np.random.default_rng(seed)
    sequences = tuple((rng.integers(ITEMS) + np.arange(rng.integers(5, 9))) % ITEMS for _ in range(users))
    items = tuple({"title": f"thing number {item}", "description": f"{item} mm"} for item in range(ITEMS))
    return Dataset("Toy", tuple(f"u{user}" for user in range(users)), sequences, ITEMS, items)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """STUDY_RESULTS, STUDY_CACHE and STUDY_FIGURES below the test's own folder; STUDY_DATA with the toy in it."""
    for name in ("RESULTS", "CACHE", "FIGURES", "DATA"):
        monkeypatch.setenv(f"STUDY_{name}", str(tmp_path / name.lower()))
    folder = atomic.write(toy(), tmp_path / "data" / "Toy")
    angle = 2 * np.pi * np.arange(ITEMS) / ITEMS
    np.save(folder / "Toy.circle.npy", np.stack([np.cos(angle), np.sin(angle)], 1).astype("f4"))
    return tmp_path


@pytest.fixture(scope="session")
def real_data():
    """The folder of a real data set by name; the test is left out, saying why, where it is not there."""

    def find(name: str):
        folder = paths.data_root() / name
        if not folder.is_dir():
            pytest.skip(f"left out: no {name} in {paths.data_root()}; set STUDY_DATA to run it")
        return folder

    return find


@pytest.fixture
def own_folders(tmp_path, monkeypatch):
    """A cache and a folder of models of the test's own; no hub."""
    monkeypatch.setenv("STUDY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STUDY_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("STUDY_TRUST_REMOTE_CODE", raising=False)
