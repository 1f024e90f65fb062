"""Training SASRec and GRU4Rec: full softmax over the catalogue, one pass a user, resumable to the same result."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from studylib import training
from studylib.accelerate import Arithmetic
from studylib.config import NextItemSettings
from studylib.data import Split
from studylib.evaluation import padded
from studylib.examples import Batch
from studylib.metrics import Ranks
from studylib.models.baselines import full_ranks
from studylib.models.sequential import Gru4rec, NextItemModel, Sasrec

EMBEDDINGS = "item_embeddings.npy"  # beside a finished trial's weights: float32 [items, d_model], with .sha256


@dataclass(frozen=True)
class Scorer:
    """A model as ``full_ranks`` takes it: histories in, the whole catalogue's scores out."""

    model: NextItemModel
    history: int = 50  # items, the newest

    @torch.no_grad()
    def scores(self, histories: Sequence[np.ndarray]) -> Float[np.ndarray, "users items"]:
        where = self.model.items.weight.device
        table, lengths = padded([history[-self.history :] for history in histories])
        known = self.model(table.to(where))
        return self.model.scores(known[torch.arange(len(lengths)), lengths - 1]).cpu().numpy()

    def ranks(self, split: Split, leave_out_seen: bool = False) -> Ranks:
        """Ranks of all users' targets among all items."""
        return Ranks.of(full_ranks(self, split.histories, split.targets, leave_out_seen))


def build(settings: NextItemSettings, n_items: int, seed: int) -> NextItemModel:
    """A freshly initialised model."""
    torch.manual_seed(seed)
    return {"sasrec": Sasrec, "gru4rec": Gru4rec}[settings.name](n_items, settings)


def loss(model: NextItemModel, batch: Batch) -> Tensor:
    """Mean over the batch's targets of -log p(target | the items before it), p a softmax over all items."""
    batch = batch.to(model.items.weight.device)
    known = model(batch.history)
    return torch.nn.functional.cross_entropy(model.scores(known[batch.counts]), batch.targets[batch.counts])


def train(
    model: NextItemModel,
    sequences: Sequence[np.ndarray],
    settings: NextItemSettings,
    seed: int,
    validate: Callable[[NextItemModel], float],
    log: Callable[[str], None] = print,
    checkpoint: Path | None = None,
) -> list[dict]:
    """Train ``model`` on ``sequences`` (the training split) and leave it with the best validation epoch's weights.

    The arguments, what is returned and what is raised: see ``training.fit``.
    """
    return training.fit(
        model, sequences, settings, seed,
        objective=lambda batch: loss(model, batch),
        optimiser=torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True),
        validate=lambda: validate(model),
        arithmetic=Arithmetic.plain(model.items.weight.device),
        log=log, checkpoint=checkpoint,
    )  # fmt: skip
