"""Training the generator: one loop, one-pass or sliding windows, resumable to the same result."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from studylib import checkpoints
from studylib.accelerate import Arithmetic, Team, compiled
from studylib.config import NextItemSettings, TigerSettings
from studylib.decoding import TensorTree
from studylib.errors import StudyError
from studylib.metrics import validated
from studylib.models.decoder_only import DecoderOnly
from studylib.models.generator import Generator
from studylib.models.layers import Size
from studylib.models.tiger import Tiger
from studylib.semantic_ids import PrefixTree, SemanticIds

ALONE = Team()


@dataclass(frozen=True)
class Batch:
    """Histories and the targets that follow, as item ids, filled with item 0.

    One pass: target n of a user follows items 0..n of that user's history. Windows: one target a row, after all of it.
    """

    history: Int[Tensor, "rows item"]
    lengths: Int[Tensor, " rows"]
    targets: Int[Tensor, "rows target"]
    counts: Tensor  # bool [rows, target]: the targets that exist and count here
    users: Int[Tensor, " rows"]  # numbers of the sequences

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Piece:
    """A stretch of a user's training sequence; the targets before ``first`` do not count in it."""

    items: np.ndarray
    first: int = 1
    user: int = 0

    @property
    def targets(self) -> int:
        return len(self.items) - self.first


def one_pass_pieces(sequences: Sequence[np.ndarray], longest: int) -> list[Piece]:
    """Cut sequences so that every item but a user's first is a target once, after at most ``longest`` others.

    >>> [(p.items.tolist(), p.first) for p in one_pass_pieces([np.arange(6)], longest=3)]
    [([0, 1, 2, 3], 1), ([2, 3, 4, 5], 2)]
    """
    pieces = []
    for user, sequence in enumerate(sequences):
        done = 1
        while done < len(sequence):
            begin = 0 if done == 1 else max(0, done - (longest + 1) // 2)
            end = min(len(sequence), begin + longest + 1)
            pieces.append(Piece(sequence[begin:end], done - begin, user))
            done = end
    return pieces


def window_pieces(sequences: Sequence[np.ndarray], longest: int) -> list[Piece]:
    """Every item but a user's first, after at most ``longest`` others: sliding windows (000, section 4.1.2).

    >>> [(p.items.tolist(), p.first) for p in window_pieces([np.arange(4)], longest=2)]
    [([0, 1], 1), ([0, 1, 2], 2), ([1, 2, 3], 2)]
    """
    return [
        Piece(sequence[max(0, end - longest) : end + 1], min(end, longest), user)
        for user, sequence in enumerate(sequences)
        for end in range(1, len(sequence))
    ]


def last_pieces(sequences: Sequence[np.ndarray], longest: int) -> list[Piece]:
    """Only a user's last training item, after at most ``longest`` others: no augmentation (002, Table 6).

    >>> [(p.items.tolist(), p.first) for p in last_pieces([np.arange(4), np.arange(1)], longest=2)]
    [([1, 2, 3], 2)]
    """
    return [
        Piece(sequence[-longest - 1 :], min(len(sequence) - 1, longest), user)
        for user, sequence in enumerate(sequences)
        if len(sequence) > 1
    ]


def pieces_of(
    settings: TigerSettings | NextItemSettings, sequences: Sequence[np.ndarray], windows: bool = False
) -> list[Piece]:
    """The pieces that these settings train on.

    ``both-ways`` adds every sequence backwards: the order of what was bought on one day says little, and which items
    go together is the same from either end (item-kNN counts both ways too).
    """
    if settings.augmentation == "none":
        return last_pieces(sequences, settings.history)
    cut = window_pieces if windows else one_pass_pieces
    pieces = cut(sequences, settings.history)
    if settings.augmentation == "both-ways":
        pieces += cut([sequence[::-1] for sequence in sequences], settings.history)
    return pieces


def batches(pieces: list[Piece], targets_per_step: int, order: np.random.Generator) -> Iterator[list[Piece]]:
    """Pieces of about equal length together, ``targets_per_step`` targets a batch, in random order."""
    shuffled = order.permutation(len(pieces))
    by_length = shuffled[np.argsort([len(pieces[i].items) for i in shuffled], kind="stable")]
    groups, group, targets = [], [], 0
    for i in by_length:
        group.append(pieces[i])
        targets += pieces[i].targets
        if targets >= targets_per_step:
            groups.append(group)
            group, targets = [], 0
    if group:
        groups.append(group)
    for i in order.permutation(len(groups)):
        yield groups[i]


def collate(pieces: list[Piece], windows: bool) -> Batch:
    """Pieces as one filled table."""
    longest = max(len(piece.items) for piece in pieces)
    table = np.zeros((len(pieces), longest), dtype=np.int64)
    lengths = np.array([len(piece.items) for piece in pieces])
    firsts = np.array([piece.first for piece in pieces])
    for row, piece in enumerate(pieces):
        table[row, : len(piece.items)] = piece.items
    history, place = torch.from_numpy(table), np.arange(1, longest)
    users = torch.tensor([piece.user for piece in pieces])
    if windows:
        targets = history.gather(1, torch.from_numpy(lengths - 1)[:, None])
        return Batch(
            history[:, :-1], torch.from_numpy(lengths - 1), targets, torch.ones_like(targets, dtype=torch.bool), users
        )
    counts = (place >= firsts[:, None]) & (place < lengths[:, None])
    return Batch(history[:, :-1], torch.from_numpy(lengths - 1), history[:, 1:], torch.from_numpy(counts), users)


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


def learning_rate(settings: TigerSettings, step: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to zero."""
    warm = max(1, round(settings.warmup * steps))
    if step < warm:
        return settings.lr * (step + 1) / warm
    return settings.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


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
        validate: Recall@10 on the validation split; the best epoch is chosen by it, never by the loss.
        checkpoint: where the state is kept after every epoch; a training that was killed goes on from there and ends
            with the same weights, because every epoch draws from its own seed.
        team: the processes that share this training; every one of them calls this function alike.
        user_tokens: the token of each sequence's user, for a generator that has some.

    Returns:
        One dict an epoch: ``epoch, loss`` and, where it was validated, ``recall@10``.

    Raises:
        StudyError: there is nothing to train on.
        FloatingPointError: the loss is not finite; nothing is kept of that epoch.
    """
    windows = settings.training == "windows"
    pieces = pieces_of(settings, sequences, windows)
    forbidden = None
    if settings.softmax == "tree":
        written, sizes = codes[:, list(model.target)], [model.levels[level] for level in model.target]
        forbidden = TensorTree(PrefixTree.build(written.cpu().numpy()), codes.device).forbidden(written, sizes)
    if not pieces:
        raise StudyError(
            "training: no user has two items before the validation item; leave-one-out training needs some"
        )
    spent = checkpoints.seconds(checkpoint)
    steps_per_epoch = sum(1 for _ in batches(pieces, settings.targets_per_step, np.random.default_rng(0)))
    epochs = planned_epochs(settings, pieces)
    steps = epochs * steps_per_epoch
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    arithmetic, step_loss = Arithmetic.on(codes.device, settings), compiled(loss, codes.device, settings)
    best = {name: value.clone() for name, value in model.state_dict().items()}
    history: list[dict] = checkpoints.restore(checkpoint, model, optimiser, best, arithmetic.scaler)
    while not finished(history, epochs, settings.patience):
        epoch = len(history)
        order = np.random.default_rng([seed, epoch])
        torch.manual_seed(seed * 1_000_003 + epoch + team.rank * 1_000_000_007)
        model.train()
        total, step = 0.0, epoch * steps_per_epoch
        for group in batches(pieces, settings.targets_per_step, order):
            optimiser.zero_grad(set_to_none=True)
            if share := team.share(group):
                batch = collate(share, windows)
                with arithmetic.context(codes.device):
                    value = step_loss(model, codes, batch, user_tokens, forbidden)
                own = int(batch.counts.sum())
                # The team's gradients are summed: each counts by its part of the batch's targets.
                part = value if team.size == 1 else value * (own / sum(piece.targets for piece in group))
                arithmetic.scaler.scale(part).backward()
                total += value.item() * own
            team.sum_gradients(model.parameters())
            arithmetic.scaler.unscale_(optimiser)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for parameters in optimiser.param_groups:
                parameters["lr"] = learning_rate(settings, step, steps)
            arithmetic.scaler.step(optimiser)
            arithmetic.scaler.update()
            step += 1
        mean = team.sum(total, codes.device) / sum(piece.targets for piece in pieces)
        if not math.isfinite(mean):
            raise FloatingPointError(f"epoch {epoch + 1}: the loss is {mean}; lower lr (now {settings.lr})")
        row = {"epoch": epoch + 1, "loss": round(mean, 6)}
        if (epoch + 1) % settings.validate_every == 0 or epoch + 1 == epochs:
            model.eval()
            row["recall@10"] = round(team.once(lambda: validate(model), codes.device), 6)
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


def planned_epochs(settings: TigerSettings, pieces: list[Piece]) -> int:
    """``epochs``, or as many as ``targets`` allows, at least one."""
    return max(1, min(settings.epochs, settings.targets // sum(piece.targets for piece in pieces)))


def finished(history: list[dict], epochs: int, patience: int) -> bool:
    """All epochs done, or ``patience`` validations without a better one."""
    recalls = [row["recall@10"] for row in validated(history)]
    return len(history) >= epochs or (len(recalls) - 1 - recalls.index(max(recalls)) >= patience if recalls else False)
