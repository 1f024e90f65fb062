"""T5's layers (Raffel et al. 2020): RMSNorm before each block, no biases, ReLU, attention logits not scaled."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Size:
    """Width and depth. The papers': 128, 1024, 4, 4, 6, 64 (002, section 4 Setup)."""

    d_model: int = 96
    d_ff: int = 384
    encoder_layers: int = 2
    decoder_layers: int = 2
    heads: int = 4
    d_head: int = 24


class Dropout(nn.Module):
    """Dropout whose mask costs an eighth of the random numbers: one byte an element.

    So p is rounded to 1/256, and is at most 255/256.
    """

    def __init__(self, p: float):
        super().__init__()
        self.threshold = min(round(p * 256), 255)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.threshold:
            return x
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64, device=x.device)
        draws = words.random_(-(2**63), None).view(torch.uint8)[: x.numel()].view(x.shape)
        kept = torch.ge(draws, self.threshold, out=torch.empty_like(x))  # 0 or 1; no pass for a cast
        return x * kept.mul_(256 / (256 - self.threshold))


class RMSNorm(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.rms_norm(x, self.weight.shape, self.weight, eps=1e-6)


class Attention(nn.Module):
    """Multi-head attention; ``bias`` is added to the logits and carries both positions and masks (-inf)."""

    def __init__(self, size: Size, dropout: float):
        super().__init__()
        inner = size.heads * size.d_head
        self.heads, self.d_head = size.heads, size.d_head
        self.query = nn.Linear(size.d_model, inner, bias=False)
        self.key_value = nn.Linear(size.d_model, 2 * inner, bias=False)
        self.output = nn.Linear(inner, size.d_model, bias=False)
        self.dropout = Dropout(dropout)

    def keys_values(self, x: Float[Tensor, "batch pos d_model"]) -> tuple[Tensor, Tensor]:
        """Keys [batch, head, d_head, pos] (ready for the product) and values [batch, head, pos, d_head]."""
        key, value = self.key_value(x).unflatten(-1, (2, self.heads, self.d_head)).unbind(-3)
        return key.permute(0, 2, 3, 1), value.transpose(1, 2)

    def forward(
        self, x: Float[Tensor, "batch pos d_model"], keys: Tensor, values: Tensor, bias: Tensor | None
    ) -> Tensor:
        query = self.query(x).unflatten(-1, (self.heads, self.d_head)).transpose(1, 2)
        logits = query @ keys
        if bias is not None:
            logits = logits + bias
        weights = self.dropout(torch.softmax(logits, dim=-1))
        return self.output((weights @ values).transpose(1, 2).flatten(2))


class FeedForward(nn.Sequential):
    def __init__(self, size: Size, dropout: float):
        super().__init__(
            nn.Linear(size.d_model, size.d_ff, bias=False),
            nn.ReLU(),
            Dropout(dropout),
            nn.Linear(size.d_ff, size.d_model, bias=False),
        )


class EncoderLayer(nn.Module):
    def __init__(self, size: Size, dropout: float):
        super().__init__()
        self.norm_attention, self.attention = RMSNorm(size.d_model), Attention(size, dropout)
        self.norm_feed_forward, self.feed_forward = RMSNorm(size.d_model), FeedForward(size, dropout)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        h = self.norm_attention(x)
        x = x + self.dropout(self.attention(h, *self.attention.keys_values(h), bias))
        return x + self.dropout(self.feed_forward(self.norm_feed_forward(x)))


class DecoderLayer(nn.Module):
    """Self-attention over one target's codes, cross-attention to the history.

    ``x`` is [batch, target, code, d_model]: the targets of one history never see each other (the self-attention folds
    them into the batch) and share the history's keys and values (the cross-attention folds them into the queries).
    """

    def __init__(self, size: Size, dropout: float):
        super().__init__()
        self.norm_attention, self.attention = RMSNorm(size.d_model), Attention(size, dropout)
        self.norm_cross, self.cross = RMSNorm(size.d_model), Attention(size, dropout)
        self.norm_feed_forward, self.feed_forward = RMSNorm(size.d_model), FeedForward(size, dropout)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor, memory: tuple[Tensor, Tensor], mask: Tensor | None, past=None):
        batch, targets, codes, width = x.shape
        h = self.norm_attention(x).flatten(0, 1)
        keys, values = self.attention.keys_values(h)
        if past is not None:
            keys, values = torch.cat([past[0], keys], -1), torch.cat([past[1], values], -2)
        x = x + self.dropout(self.attention(h, keys, values, bias)).view_as(x)
        h = self.norm_cross(x).view(batch, targets * codes, width)
        x = x + self.dropout(self.cross(h, *memory, mask)).view_as(x)
        return x + self.dropout(self.feed_forward(self.norm_feed_forward(x))), (keys, values)
