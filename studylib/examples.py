"""Training examples: users' sequences cut into pieces, in one pass or sliding windows, and pieces as batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from studylib.config import NextItemSettings, TigerSettings


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
