"""Training SASRec and GRU4Rec: full softmax over the catalogue, one pass a user, resumable to the same result."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from studylib import checkpoints
from studylib.config import NextItemSettings
from studylib.data import Split
from studylib.errors import StudyError
from studylib.evaluation import padded
from studylib.metrics import Ranks, validated
from studylib.models.baselines import full_ranks
from studylib.models.sequential import Gru4rec, NextItemModel, Sasrec
from studylib.training import (
    Batch,
    batches,
    collate,
    finished,
    learning_rate,
    pieces_of,
    planned_epochs,
)

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

    Args:
        validate: Recall@10 on the validation split; nothing but the choice of the epoch, and of the last one, hangs
            on it.
        checkpoint: where the state is kept after every epoch, as ``training.train`` does.

    Returns:
        One dict an epoch: ``epoch, loss`` and, where it was validated, ``recall@10``.

    Raises:
        StudyError: there is nothing to train on.
        FloatingPointError: the loss is not finite; nothing is kept of that epoch.
    """
    pieces = pieces_of(settings, sequences)
    if not pieces:
        raise StudyError(
            "training: no user has two items before the validation item; leave-one-out training needs some"
        )
    where, spent = model.items.weight.device, checkpoints.seconds(checkpoint)
    targets = sum(piece.targets for piece in pieces)
    steps_per_epoch = sum(1 for _ in batches(pieces, settings.targets_per_step, np.random.default_rng(0)))
    epochs = planned_epochs(settings, pieces)
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True)
    best = {name: value.clone() for name, value in model.state_dict().items()}
    history: list[dict] = checkpoints.restore(checkpoint, model, optimiser, best)
    while not finished(history, epochs, settings.patience):
        epoch, total = len(history), 0.0
        # Every epoch draws from its own seed, so that one begun after a restart draws the same.
        torch.manual_seed(seed * 1_000_003 + epoch)
        groups = batches(pieces, settings.targets_per_step, np.random.default_rng([seed, epoch]))
        model.train()
        for step, group in enumerate(groups, epoch * steps_per_epoch):
            batch = collate(group, windows=False).to(where)
            optimiser.zero_grad(set_to_none=True)
            value = loss(model, batch)
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for parameters in optimiser.param_groups:
                parameters["lr"] = learning_rate(settings, step, epochs * steps_per_epoch)
            optimiser.step()
            total += value.item() * int(batch.counts.sum())
        if not math.isfinite(total):
            raise FloatingPointError(f"epoch {epoch + 1}: the loss is {total}; lower lr (now {settings.lr})")
        row = {"epoch": epoch + 1, "loss": round(total / targets, 6)}
        if (epoch + 1) % settings.validate_every == 0 or epoch + 1 == epochs:
            model.eval()
            row["recall@10"] = round(validate(model), 6)
            if all(row["recall@10"] > before["recall@10"] for before in validated(history)):
                best = {name: value.clone() for name, value in model.state_dict().items()}
        history.append(row)
        log(f"epoch {epoch + 1}/{epochs}  " + "  ".join(f"{name} {row[name]:.4f}" for name in list(row)[1:]))
        checkpoints.keep(checkpoint, model, optimiser, best, history, spent + time.process_time())
    model.load_state_dict(best)
    model.eval()
    return history
