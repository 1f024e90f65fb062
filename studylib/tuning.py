"""Tuning SASRec and GRU4Rec: a small stated grid, chosen by validation Recall@10; the test split is never looked at."""

import pandas as pd

from studylib import tables, trials
from studylib.config import trial
from studylib.metrics import validated

# The first point, then one or two of its settings changed: all combinations would be over a hundred trials.
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
}  # fmt: skip


def points(name: str) -> list[dict]:
    """The grid, every setting that it varies written out.

    >>> len(points("sasrec")), points("sasrec")[1]
    (13, {'d_model': 32, 'layers': 1, 'dropout': 0.5, 'lr': 0.002, 'augmentation': 'every'})
    """
    first = GRIDS[name][0]
    return [first | point for point in GRIDS[name]]


def tune(name: str, data: str, seed: int = 0, jobs: int = 0) -> pd.DataFrame:
    """Train the grid and rank it, best first: settings, best validation Recall@10 and its epoch.

    Points that are finished are not trained again. The table goes to results/<data>/tuning_<name>.*, so that these
    trials are in use.

    Raises:
        StudyError: no such data set, or trials failed.
    """
    specs = [trial(data=data, generator={"name": name, **point}, seed=seed) for point in points(name)]
    records = trials.run(specs, jobs=jobs)
    rows = []
    for point, record in zip(points(name), records, strict=True):
        best = max(validated(record["epochs"]), key=lambda row: row["recall@10"])
        rows.append(point | {"validation recall@10": best["recall@10"], "epoch": best["epoch"]})
    table = pd.DataFrame(rows).sort_values("validation recall@10", ascending=False, kind="stable", ignore_index=True)
    tables.save(table, f"tuning_{name}", data, records=records)
    return table


def winner(table: pd.DataFrame) -> dict:
    """The settings of the best point, by name."""
    return table.drop(columns=["validation recall@10", "epoch"]).to_dict("records")[0]
