"""What every generator has in common: tokens of codes, one softmax a level, and the three calls that others make.

Training calls ``predict``; search calls ``read`` once a history and ``step`` once a level. What ``read`` returns is the
generator's own business.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

START = 0  # the token that starts the decoder and fills the end of short histories


class Generator(nn.Module):
    """A model that writes the codes of the next item.

    Args:
        levels: codebook size of each level of the Semantic ID.
        d_model: width of the token embeddings and of the hidden states.
        softmax: ``"level"``, one softmax over a level's own codes; ``"vocabulary"``, one over all tokens (T5's); or
            ``"tree"``, one over the codes that may follow in the prefix tree (001, Eq. 6).
        target: the levels that are written, all of them by default; a history is read with all its levels.

    ``temperature`` divides the logits in the loss, and only there: the ranking-guided generation loss of LETTER (Wang
    et al., 2024). Below 1 it weighs the codes that come close to the right one more than those that are far behind.
    """

    temperature = 1.0

    def __init__(self, levels: Sequence[int], d_model: int, softmax: str, target: Sequence[int] | None = None):
        super().__init__()
        self.levels, self.softmax = tuple(levels), softmax
        self.target = tuple(range(len(self.levels))) if target is None else tuple(target)
        offsets = torch.tensor([0, *levels]).cumsum(0) + 1
        self.register_buffer("offsets", offsets[:-1], persistent=False)
        self.vocabulary = int(offsets[-1])
        self.embedding = nn.Embedding(self.vocabulary, d_model)
        self.head = nn.Linear(d_model, self.vocabulary, bias=False)
        self.users: nn.Embedding | None = None

    def add_users(self, tokens: int) -> None:
        """A table of user tokens, the last parameters to be made, so that without them nothing else changes."""
        if tokens:
            self.users = nn.Embedding(tokens, self.embedding.embedding_dim)

    @abstractmethod
    def predict(
        self,
        history: Int[Tensor, "batch item level"],
        lengths: Int[Tensor, " batch"],
        targets: Int[Tensor, "batch target level"],
        users: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch target level d_model"]:
        """Hidden states from which the targets' codes are predicted, for training.

        One target a row follows its whole history; as many targets as items follow one item more each (one pass).
        """

    @abstractmethod
    def read(self, history: Tensor, lengths: Tensor, users: Tensor | None = None, missing: Sequence[int] = ()) -> Any:
        """All that search needs of histories (oldest item first, filled at the end), computed once.

        ``missing``: modalities that no item of the histories has.

        Raises:
            StudyError: modalities are missing that the model has no masks for.
        """

    @abstractmethod
    def step(self, tokens: Int[Tensor, "batch beam token"], place: int, memory: Any, past: list | None):
        """Hidden states [batch, beam, token, d_model] after some more tokens of each beam, and the beams' grown memory.

        ``place`` counts the tokens before them, the start among them: it is the level that the first one predicts.

        ``past``: per layer (keys, values) with batch and beam folded, None at the start.
        """

    def tokens(self, codes: Int[Tensor, "... level"], levels: Sequence[int]) -> Int[Tensor, "... level"]:
        """Tokens of the codes of these levels."""
        return codes + self.offsets[list(levels)]

    def logits(self, hidden: Float[Tensor, "... d_model"], level: int) -> Float[Tensor, "... code"]:
        """Of the codes of ``level``, before any softmax."""
        first = int(self.offsets[level])
        return nn.functional.linear(hidden, self.head.weight[first : first + self.levels[level]])

    def log_probabilities(self, hidden: Float[Tensor, "... d_model"], place: int) -> Float[Tensor, "... code"]:
        """log p(code | what came before) over the codes of the ``place``-th level that is written.

        With the softmax ``"tree"`` these are logits: who knows the prefix normalises over what may follow it.
        """
        level = self.target[place]
        if self.softmax == "tree":
            return self.logits(hidden, level)
        if self.softmax == "level":
            return torch.log_softmax(self.logits(hidden, level), -1)
        first = int(self.offsets[level])
        return torch.log_softmax(self.head(hidden), -1)[..., first : first + self.levels[level]]

    def loss(
        self,
        hidden: Float[Tensor, "target level d_model"],
        targets: Int[Tensor, "target level"],
        levels: Sequence[int] | None = None,
        forbidden: Sequence[Bool[Tensor, "target code"]] | None = None,
    ) -> Tensor:
        """Sum over targets of the mean over ``levels`` (those that are written, by default) of -log p(code).

        p is taken at ``temperature``.

        ``forbidden``: for the softmax ``"tree"``, at each level the codes that may not follow each target's prefix
        (``TensorTree.forbidden``): what is left are the children of 001, Eq. 6.
        """
        total, levels = hidden.new_zeros(()), self.target if levels is None else levels
        hidden = hidden / self.temperature  # logits are linear in it
        for place, level in enumerate(levels):
            if self.softmax == "vocabulary":
                logits, code = self.head(hidden[:, place]), targets[:, place] + self.offsets[level]
            else:
                logits, code = self.logits(hidden[:, place], level), targets[:, place]
            if forbidden is not None:
                logits = logits.masked_fill(forbidden[place], -torch.inf)
            total = total + nn.functional.cross_entropy(logits, code, reduction="sum")
        return total / len(levels)


def user_tokens(names: Sequence[str], tokens: int) -> Int[np.ndarray, " users"] | None:
    """Every user's token: a hash of the name into a fixed number of tokens (TIGER; 002, Table 4); None without any.

    >>> user_tokens(["u1", "u2"], 1).tolist()
    [0, 0]
    """
    return np.array([crc32(name.encode()) % tokens for name in names], dtype=np.int64) if tokens else None


def padding(lengths: Int[Tensor, " batch"], longest: int) -> Float[Tensor, "batch 1 1 longest"]:
    """Added to attention logits: minus infinity at the filling behind ``lengths`` tokens."""
    outside = torch.arange(longest, device=lengths.device)[None, :] >= lengths[:, None]
    return torch.zeros(outside.shape, device=lengths.device).masked_fill(outside, -torch.inf)[:, None, None]
