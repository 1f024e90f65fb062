"""Training the generator, and the loop that it shares with SASRec and GRU4Rec: resumable to the same result."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from studylib import checkpoints
from studylib.accelerate import Arithmetic, Team, compiled
from studylib.config import NextItemSettings, TigerSettings, planned_epochs
from studylib.decoding import TensorTree
from studylib.errors import StudyError
from studylib.examples import Batch, batches, collate, pieces_of
from studylib.metrics import validated
from studylib.models.decoder_only import DecoderOnly
from studylib.models.generator import Generator
from studylib.models.layers import Size
from studylib.models.tiger import Tiger
from studylib.semantic_ids import PrefixTree, SemanticIds

ALONE = Team()


def loss(
    model: Generator,
    codes: Int[Tensor, "items level"],
    batch: Batch,
    user_tokens: Int[Tensor, " users"] | None = None,
    forbidden: list[Bool[Tensor, "item code"]] | None = None,
) -> Tensor:
    """Mean over the batch's targets of -log p(target's codes | history) / levels.

    ``forbidden``: for the softmax over the tree, of every item (``TensorTree.forbidden``).
    """
    batch = batch.to(codes.device)
    targets = codes[batch.targets][..., list(model.target)]
    users = None if user_tokens is None else user_tokens[batch.users]
    hidden = model.predict(codes[batch.history], batch.lengths, targets, users)
    if forbidden is not None:
        items = batch.targets[batch.counts]
        forbidden = [of_level[items] for of_level in forbidden]
    return model.loss(hidden[batch.counts], targets[batch.counts], forbidden=forbidden) / batch.counts.sum()


def build(settings: TigerSettings, ids: SemanticIds, seed: int) -> Generator:
    """A freshly initialised generator of these IDs.

    Raises:
        StudyError: a decoder-only generator of IDs that are read with more levels than are written.
    """
    torch.manual_seed(seed)
    size = Size(**{name: getattr(settings, name) for name in Size.__dataclass_fields__})
    if settings.architecture == "decoder-only":
        if ids.target is not None:
            raise StudyError("a decoder-only generator writes all that it reads: set architecture to encoder-decoder")
        model = DecoderOnly(ids.sizes, size, settings.dropout, settings.softmax, settings.user_tokens)
    else:
        model = Tiger(
            ids.sizes, size, settings.training == "one-pass", settings.dropout, settings.softmax, settings.user_tokens,
            ids.target, settings.positions, ids.parts if settings.masking else (), settings.masking,
            settings.cross_positions,
        )  # fmt: skip
    model.temperature = settings.temperature
    return model


def train(
    model: Generator,
    codes: Int[Tensor, "items level"],
    sequences: Sequence[np.ndarray],
    settings: TigerSettings,
    seed: int,
    validate: Callable[[Generator], float],
    log: Callable[[str], None] = print,
    checkpoint: Path | None = None,
    team: Team = ALONE,
    user_tokens: Int[Tensor, " users"] | None = None,
) -> list[dict]:
    """Train ``model`` on ``sequences`` (the training split) and leave it with the best validation epoch's weights.

    Args:
        codes: the items' Semantic IDs, on the model's device.
        user_tokens: the token of each sequence's user, for a generator that has some.

    The other arguments, what is returned and what is raised: see ``fit``.
    """
    forbidden = None
    if settings.softmax == "tree":
        written, sizes = codes[:, list(model.target)], [model.levels[level] for level in model.target]
        forbidden = TensorTree(PrefixTree.build(written.cpu().numpy()), codes.device).forbidden(written, sizes)
    step_loss = compiled(loss, codes.device, settings)
    return fit(
        model, sequences, settings, seed,
        objective=lambda batch: step_loss(model, codes, batch, user_tokens, forbidden),
        optimiser=torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay),
        validate=lambda: validate(model),
        windows=settings.training == "windows",
        arithmetic=Arithmetic.on(codes.device, settings),
        log=log, checkpoint=checkpoint, team=team,
    )  # fmt: skip


def fit(
    model: nn.Module,
    sequences: Sequence[np.ndarray],
    settings: TigerSettings | NextItemSettings,
    seed: int,
    objective: Callable[[Batch], Tensor],
    optimiser: torch.optim.Optimizer,
    validate: Callable[[], float],
    arithmetic: Arithmetic,
    windows: bool = False,
    log: Callable[[str], None] = print,
    checkpoint: Path | None = None,
    team: Team = ALONE,
) -> list[dict]:
    """Train ``model`` on ``sequences`` and leave it with the best validation epoch's weights.

    Args:
        objective: the mean loss over a batch's targets.
        optimiser: of the model's parameters; its rate follows ``learning_rate``.
        validate: Recall@10 on the validation split. It, never the loss, chooses the epoch and ends the training early;
            nothing else hangs on it.
        checkpoint: where the state is kept after every epoch; a training that was killed goes on from there and ends
            with the same weights, because every epoch draws from its own seed.
        team: the processes that share this training; every one of them calls this function alike.

    Returns:
        One dict an epoch: ``epoch, loss`` and, where it was validated, ``recall@10``.

    Raises:
        StudyError: there is nothing to train on.
        FloatingPointError: the loss is not finite; nothing is kept of that epoch.
    """
    pieces = pieces_of(settings, sequences, windows)
    if not pieces:
        raise StudyError(
            "training: no user has two items before the validation item; leave-one-out training needs some"
        )
    where = next(model.parameters()).device
    targets = sum(piece.targets for piece in pieces)
    steps_per_epoch = sum(1 for _ in batches(pieces, settings.targets_per_step, np.random.default_rng(0)))
    epochs = planned_epochs(settings.epochs, settings.targets, targets)
    best = {name: value.clone() for name, value in model.state_dict().items()}
    history, spent = checkpoints.restore(checkpoint, model, optimiser, best, arithmetic.scaler)
    while not finished(history, epochs, settings.patience):
        epoch, total = len(history), 0.0
        torch.manual_seed(seed * 1_000_003 + epoch + team.rank * 1_000_000_007)
        groups = batches(pieces, settings.targets_per_step, np.random.default_rng([seed, epoch]))
        model.train()
        for step, group in enumerate(groups, epoch * steps_per_epoch):
            optimiser.zero_grad(set_to_none=True)
            if share := team.share(group):
                batch = collate(share, windows)
                with arithmetic.context(where):
                    value = objective(batch)
                own = int(batch.counts.sum())
                # The team's gradients are summed: each counts by its part of the batch's targets.
                part = value if team.size == 1 else value * (own / sum(piece.targets for piece in group))
                arithmetic.scaler.scale(part).backward()
                total += value.item() * own
            team.sum_gradients(model.parameters())
            arithmetic.scaler.unscale_(optimiser)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for parameters in optimiser.param_groups:
                parameters["lr"] = learning_rate(settings, step, epochs * steps_per_epoch)
            arithmetic.scaler.step(optimiser)
            arithmetic.scaler.update()
        mean = team.sum(total, where) / targets
        if not math.isfinite(mean):
            raise FloatingPointError(f"epoch {epoch + 1}: the loss is {mean}; lower lr (now {settings.lr})")
        row = {"epoch": epoch + 1, "loss": round(mean, 6)}
        if (epoch + 1) % settings.validate_every == 0 or epoch + 1 == epochs:
            model.eval()
            row["recall@10"] = round(team.once(validate, where), 6)
            if all(row["recall@10"] > before["recall@10"] for before in validated(history)):
                best = {name: value.clone() for name, value in model.state_dict().items()}
        history.append(row)
        if not team.first:
            continue
        log(f"epoch {epoch + 1}/{epochs}  " + "  ".join(f"{name} {row[name]:.4f}" for name in list(row)[1:]))
        checkpoints.keep(checkpoint, model, optimiser, best, history, spent + time.process_time(), arithmetic.scaler)
    model.load_state_dict(best)
    model.eval()
    return history


def learning_rate(settings: TigerSettings | NextItemSettings, step: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to zero."""
    warm = max(1, round(settings.warmup * steps))
    if step < warm:
        return settings.lr * (step + 1) / warm
    return settings.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def finished(history: list[dict], epochs: int, patience: int) -> bool:
    """All epochs done, or ``patience`` validations without a better one."""
    recalls = [row["recall@10"] for row in validated(history)]
    return len(history) >= epochs or (len(recalls) - 1 - recalls.index(max(recalls)) >= patience if recalls else False)
