"""Grids of settings: ranked by validation alone, never trained twice, MSCGRec's above the parameters of a file."""

import json

import numpy as np
import pytest

from studylib import paths, tuning
from studylib.cli import main
from studylib.config import ItemKnnSettings
from studylib.data import load
from studylib.errors import StudyError
from studylib.models.baselines import ItemKnn
from studylib.store import Store
from tests.conftest import USERS


def test_a_grid_is_ranked_by_validation_alone_and_not_trained_twice(folders, monkeypatch, capsys):
    first = {"d_model": 8, "layers": 1, "dropout": 0.1, "lr": 1e-2}
    monkeypatch.setitem(tuning.GRIDS, "gru4rec", (first, {"lr": 1e-9}))
    assert main(["tune", "gru4rec", "Toy", "--jobs", "2"]) == 0
    printed = capsys.readouterr().out.replace(str(folders), "")
    assert "best on validation: {'d_model': 8, 'layers': 1, 'dropout': 0.1, 'lr': 0.01}" in printed
    assert "test" not in printed
    metrics = [value for record in Store.default().records() for value in record["metrics"].values() if value]
    assert not any(f"{value:.6g}" in printed for value in metrics if len(f"{value:.6g}") > 5)
    monkeypatch.setattr("studylib.trials.open_engine", lambda *_: pytest.fail("a finished point was run again"))
    table = tuning.tune("gru4rec", "Toy")
    assert table["validation recall@10"].is_monotonic_decreasing
    assert tuning.winner(table)["lr"] == 1e-2


def test_a_count_is_tuned_on_validation_too(folders, monkeypatch):
    grid = ({"window": 10, "damping": 0.5, "recency": 1.0, "distance_decay": False}, {"recency": 0.1})
    monkeypatch.setitem(tuning.GRIDS, "item-knn", grid)
    table, data = tuning.tune("item-knn", "Toy"), load("Toy")
    for point in table.to_dict("records"):
        settings = {name: point[name] for name in grid[0]}
        model, valid = ItemKnn(data.training, data.n_items, ItemKnnSettings(**settings)), data.valid
        hits = [
            target in np.argsort(-model.scores([history])[0], kind="stable")[:10]
            for history, target in zip(valid.histories, valid.targets, strict=True)
        ]
        assert point["validation recall@10"] == pytest.approx(np.mean(hits), abs=1e-6)
    assert ItemKnnSettings(**tuning.winner(table))
    assert (paths.results_of("Toy") / "tuning_item-knn.csv").exists()


PARAMETERS = """
data: Toy
modalities: ["features:circle", random, collaborative]
mscgrec: [masked, full]
fewer_seeds: {masked: 1}
codes: 8
budget: smoke
stacked_generator: {epochs: 1, validation_users: 9, lr: 3.0e-2}
baselines: {sasrec: {d_model: 8, epochs: 1}}
"""


def test_mscgrec_is_tuned_above_a_file_of_parameters(folders, monkeypatch, capsys):
    monkeypatch.setitem(tuning.GRIDS, "mscgrec", ({}, {"dropout": 0.3, "epochs": 2}, {"dropout": 0.1, "epochs": 4}))
    (folders / "toy.yaml").write_text(PARAMETERS)
    assert main(["tune", "mscgrec", str(folders / "toy.yaml"), "--seed", "1", "--jobs", "2"]) == 0
    printed = capsys.readouterr().out
    table = tuning.tune("mscgrec", str(folders / "toy.yaml"), seed=1)
    assert table["validation recall@10"].is_monotonic_decreasing
    assert f"best on validation: {tuning.winner(table)}" in printed
    assert tuning.winner(table)["validation_users"] == USERS
    keys = json.loads((paths.results_of("Toy") / "tuning_mscgrec.trials.json").read_text())
    records = [Store.default().record(key) for row in keys.values() for key in row]
    settings = [record["trial"]["generator"] for record in records]
    # As all generators have it, varied, one point twice and so once, and as the file's stacked_generator has it.
    assert sorted((found["dropout"], found["epochs"]) for found in settings) == [(0.1, 1), (0.1, 4), (0.3, 2)]
    names = ("lr", "validation_users", "masking")
    assert {tuple(found[name] for name in names) for found in settings} == {(0.03, USERS, 0.75)}
    assert {(record["trial"]["seed"], record["trial"]["fusion"]) for record in records} == {(1, "stacked")}


def test_mscgrec_is_tuned_of_a_file_alone(folders):
    with pytest.raises(StudyError, match="Toy: no such file; give a file of parameters"):
        tuning.tune("mscgrec", "Toy")
