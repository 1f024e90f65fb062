"""SASRec and GRU4Rec: a history of items in, a score for every item of the catalogue after each of its places.

Both score an item by the product of its embedding and the body's output, with one table of embeddings for input and
output, and both see at a place the items up to it and no later one. So one pass over a user's sequence makes every
place a training example. They differ in the body: causal self-attention (Kang and McAuley 2018) or a recurrent network
(Hidasi et al. 2016).
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from studylib.config import Gru4recSettings, SasrecSettings
from studylib.models.layers import Dropout


class NextItemModel(nn.Module):
    """What the two share: the table of items and the product with it.

    Args:
        n_items: size of the catalogue.
        width: of an item's embedding and of the body's output.
    """

    def __init__(self, n_items: int, width: int):
        super().__init__()
        self.items = nn.Embedding(n_items, width)

    def forward(self, items: Int[Tensor, "row pos"]) -> Float[Tensor, "row pos d_model"]:
        """What is known after each place. Rows may be filled behind: nothing there reaches an earlier place."""
        raise NotImplementedError

    def scores(self, known: Float[Tensor, "place d_model"]) -> Float[Tensor, "place item"]:
        """The whole catalogue's scores; their softmax is the probability of the next item."""
        return known @ self.items.weight.T

    @torch.no_grad()
    def _initialise(self) -> None:
        """Small normal weights, so that training starts from about equal scores."""
        for module in self.modules():
            if isinstance(module, nn.Embedding | nn.Linear):
                module.weight.normal_(0, 0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.zero_()


class Sasrec(NextItemModel):
    """A pre-norm causal transformer over item embeddings and learned positions.

    A position is a distance: attention to the item n places back has a learned bias of its own, per head. A test
    history ends two places later than anything of that user in training, so places counted from its start would be
    read where few users have trained them.
    """

    def __init__(self, n_items: int, settings: SasrecSettings):
        super().__init__(n_items, settings.d_model)
        self.distances = nn.Embedding(settings.history, settings.heads)
        self.blocks = nn.ModuleList(
            Block(settings.d_model, settings.heads, settings.dropout) for _ in range(settings.layers)
        )
        self.norm, self.dropout = nn.LayerNorm(settings.d_model), Dropout(settings.dropout)
        self._initialise()

    def forward(self, items: Int[Tensor, "row pos"]) -> Float[Tensor, "row pos d_model"]:
        x, bias = self.dropout(self.items(items)), self.bias(items.shape[1])
        for block in self.blocks:
            x = block(x, bias)
        return self.norm(x)

    def bias(self, longest: int) -> Float[Tensor, "head query key"]:
        """Each distance's bias; -inf for what comes later."""
        place = torch.arange(longest, device=self.distances.weight.device)
        back = place[:, None] - place[None, :]
        bias = self.distances(back.clamp(min=0)).permute(2, 0, 1)
        return bias.masked_fill(back < 0, -math.inf)


class Block(nn.Module):
    """Causal self-attention, then a feed-forward of four times the width; each adds to what it reads normalised."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_feed_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "row pos d_model"], bias: Float[Tensor, "head pos pos"]
    ) -> Float[Tensor, "row pos d_model"]:
        parts = self.query_key_value(self.norm_attention(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each [row, head, pos, d_head]
        attended = nn.functional.scaled_dot_product_attention(query, key, value, bias)
        x = x + self.dropout(self.output(attended.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.feed_forward(self.norm_feed_forward(x)))


class Gru4rec(NextItemModel):
    """A gated recurrent network over item embeddings."""

    def __init__(self, n_items: int, settings: Gru4recSettings):
        super().__init__(n_items, settings.d_model)
        self.recurrent = nn.GRU(settings.d_model, settings.d_model, settings.layers, batch_first=True)
        self.output = nn.Linear(settings.d_model, settings.d_model)
        self.norm, self.dropout = nn.LayerNorm(settings.d_model), Dropout(settings.dropout)
        self._initialise()

    def forward(self, items: Int[Tensor, "row pos"]) -> Float[Tensor, "row pos d_model"]:
        states, _ = self.recurrent(self.dropout(self.items(items)))
        return self.norm(self.output(self.dropout(states)))
