"""Tuning the baselines, and MSCGRec: a small stated grid, chosen by validation Recall@10; test is never looked at."""

from itertools import product
from pathlib import Path

import pandas as pd

from studylib import notebook, results, trials
from studylib.config import ItemKnnSettings, Trial, trial
from studylib.data import load
from studylib.metrics import Ranks, best_epoch
from studylib.models.baselines import ItemKnn, full_ranks

# Of what is trained the first point, then one or two of its settings changed: all combinations would be over a hundred.
GRIDS: dict[str, tuple[dict, ...]] = {
    "sasrec": (
        {"d_model": 64, "layers": 1, "dropout": 0.5, "lr": 2e-3, "augmentation": "every"},
        {"d_model": 32}, {"d_model": 128}, {"layers": 2}, {"layers": 3}, {"dropout": 0.3}, {"dropout": 0.7},
        {"lr": 1e-3}, {"lr": 4e-3}, {"augmentation": "both-ways"}, {"d_model": 128, "dropout": 0.3},
        {"d_model": 128, "augmentation": "both-ways"}, {"layers": 2, "augmentation": "both-ways"},
    ),
    "gru4rec": (
        {"d_model": 64, "layers": 1, "dropout": 0.5, "lr": 2e-3, "augmentation": "every"},
        {"d_model": 32}, {"d_model": 128}, {"layers": 2}, {"dropout": 0.3}, {"dropout": 0.7}, {"lr": 1e-3},
        {"lr": 4e-3}, {"augmentation": "both-ways"}, {"d_model": 128, "augmentation": "both-ways"},
    ),
    # A count takes seconds: all combinations. Damping 0.5, recency 1 and no decay are the plain cosine.
    "item-knn": tuple(
        {"window": window, "damping": damping, "recency": recency, "distance_decay": decay}
        for decay, window, damping, recency in product((True, False), (3, 10), (0.0, 0.25, 0.5), (0.6, 0.8, 1.0))
    ),
    # The first point is what all generators have. Histories of three IDs an item say more of a user, and may overfit
    # sooner than those of one, so these are shorter, or have more dropout.
    "mscgrec": (
        {}, {"dropout": 0.3}, {"epochs": 20}, {"epochs": 20, "dropout": 0.2}, {"epochs": 20, "dropout": 0.3},
        {"epochs": 20, "history": 20}, {"epochs": 20, "lr": 1e-3},
    ),
}  # fmt: skip


def points(name: str, own: dict | None = None) -> list[dict]:
    """The grid, every setting that it varies written out; the first point is ``own`` if that is given.

    >>> len(points("sasrec")), points("sasrec")[1]
    (13, {'d_model': 32, 'layers': 1, 'dropout': 0.5, 'lr': 0.002, 'augmentation': 'every'})
    """
    first = own or GRIDS[name][0]
    made = [first | point for point in GRIDS[name]]
    return [point for number, point in enumerate(made) if point not in made[:number]]


def tune(name: str, data: str, seed: int = 0, jobs: int = 0) -> pd.DataFrame:
    """Train, or count, the grid and rank it, best first: settings, best validation Recall@10, and its epoch if trained.

    Points that are finished are not trained again. The table goes to results/<data>/tuning_<name>.*, so that these
    trials are in use.

    Args:
        data: a data set; of MSCGRec a file of parameters, whose first row of ``mscgrec`` is tuned: with what the grid
            varies as in all generators of the file, then varied, then as in the file's ``stacked_generator``, whose
            other settings stay. All users validate, as the baselines' do.

    Raises:
        StudyError: no such data set or file, or trials failed.
    """
    if name == "mscgrec":
        parameters = notebook.check(notebook.read_parameters(Path(data)), data)
        data = parameters.data
        users = {"validation_users": len(load(data).users)}
        grid = [point | users for point in _points_of_mscgrec(parameters, seed)]
        wanted = [_stacked(parameters, point, seed) for point in grid]
    else:
        grid = points(name)
        wanted = [trial(data=data, generator={"name": name, **point}, seed=seed) for point in grid]
    records = [] if name == "item-knn" else trials.run(wanted, jobs=jobs)
    found = [_best_epoch(record) for record in records] or _counted(data, grid)
    table = pd.DataFrame([point | best for point, best in zip(grid, found, strict=True)])
    table = table.sort_values("validation recall@10", ascending=False, kind="stable", ignore_index=True)
    results.save(table, f"tuning_{name}", data, records=records)
    return table


def _points_of_mscgrec(parameters: notebook.Parameters, seed: int) -> list[dict]:
    varied = sorted(set().union(*GRIDS["mscgrec"]))
    others = {name: value for name, value in parameters.stacked_generator.items() if name not in varied}
    of_all, own = (
        {name: getattr(_stacked(row, {}, seed).generator, name) for name in varied}
        for row in (parameters.model_copy(update={"stacked_generator": others}), parameters)
    )
    grid = points("mscgrec", of_all)
    return grid if own in grid else [*grid, own]


def _stacked(parameters: notebook.Parameters, point: dict, seed: int) -> Trial:
    changed = {"stacked_generator": parameters.stacked_generator | point, "seeds": seed + 1, "fewer_seeds": {}}
    changed["mscgrec"] = parameters.mscgrec[:1]
    return next(iter(parameters.model_copy(update=changed).stacked().values()))[seed]


def _best_epoch(record: dict) -> dict:
    best = best_epoch(record["epochs"])
    return {"validation recall@10": best["recall@10"], "epoch": best["epoch"]}


def _counted(data: str, grid: list[dict]) -> list[dict]:
    dataset = load(data)
    valid, found = dataset.valid, []
    for point in grid:
        model = ItemKnn(dataset.training, dataset.n_items, ItemKnnSettings(**point))
        ranks = Ranks.of(full_ranks(model, valid.histories, valid.targets, leave_out_seen=False))
        found.append({"validation recall@10": round(float(ranks.recall(10).mean()), 6)})
    return found


def winner(table: pd.DataFrame) -> dict:
    """The settings of the best point, by name."""
    return table.drop(columns=["validation recall@10", "epoch"], errors="ignore").to_dict("records")[0]
