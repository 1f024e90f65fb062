"""A decoder-only generator: one causal transformer over the codes of the whole sequence (002, Table 5).

As in Llama: RMSNorm before each block, rotary positions, gated feed-forward (SiLU), no biases; with weights of
transformers' Llama it gives the same logits (tests/test_decoder_only.py). Every code is predicted from the token before
it, so a user's sequence is one pass by nature. It has as many layers as encoder and decoder have together.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from studylib.errors import StudyError
from studylib.models.generator import START, Generator, padding
from studylib.models.layers import Dropout, RMSNorm, Size

BASE = 10_000.0  # of the rotary frequencies


@dataclass(frozen=True)
class Memory:
    """Of read histories: each layer's (keys, values), the mask of the filling, lengths in tokens, last hidden state."""

    keys_values: list[tuple[Tensor, Tensor]]
    mask: Float[Tensor, "batch 1 1 token"]
    lengths: Int[Tensor, " batch"]
    last: Float[Tensor, "batch d_model"]


class Layer(nn.Module):
    """Self-attention and gated feed-forward."""

    def __init__(self, size: Size, dropout: float):
        super().__init__()
        inner = size.heads * size.d_head
        self.shape = (size.heads, size.d_head)
        self.norm_attention, self.norm_feed_forward = RMSNorm(size.d_model), RMSNorm(size.d_model)
        self.query_key_value = nn.Linear(size.d_model, 3 * inner, bias=False)
        self.output = nn.Linear(inner, size.d_model, bias=False)
        self.gate_up = nn.Linear(size.d_model, 2 * size.d_ff, bias=False)
        self.down = nn.Linear(size.d_ff, size.d_model, bias=False)
        self.dropout = Dropout(dropout)

    def heads(self, x: Float[Tensor, "... pos d_model"], positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys (both rotated to ``positions`` [..., pos]) and values, each [..., head, pos, d_head]."""
        parts = self.query_key_value(self.norm_attention(x)).unflatten(-1, (3, *self.shape)).unbind(-3)
        query, key, value = (part.transpose(-2, -3) for part in parts)
        return rotated(query, positions), rotated(key, positions), value

    def attend_back(self, query: Tensor, key: Tensor, value: Tensor) -> Float[Tensor, "... head pos d_head"]:
        """Each position attends to itself and what stands before it; in training some weights are dropped."""
        if not self.training:
            return nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        future = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).triu(1)
        return self.dropout(torch.softmax(logits.masked_fill(future, -torch.inf), -1)) @ value

    def rest(self, x: Tensor, attended: Float[Tensor, "... head pos d_head"]) -> Tensor:
        """What follows the attention."""
        x = x + self.dropout(self.output(attended.transpose(-2, -3).flatten(-2)))
        gate, up = self.gate_up(self.norm_feed_forward(x)).chunk(2, -1)
        return x + self.dropout(self.down(self.dropout(nn.functional.silu(gate) * up)))


class DecoderOnly(Generator):
    """The generator; arguments as in Tiger. A user token takes the place of the token that starts a sequence."""

    def __init__(
        self, levels: tuple[int, ...], size: Size, dropout: float = 0.1, softmax: str = "level", user_tokens: int = 0
    ):
        super().__init__(levels, size.d_model, softmax)
        self.size = size
        layers = size.encoder_layers + size.decoder_layers
        self.layers = nn.ModuleList(Layer(size, dropout) for _ in range(layers))
        self.norm, self.dropout = RMSNorm(size.d_model), Dropout(dropout)
        self._initialise()
        self.add_users(user_tokens)

    @torch.no_grad()
    def _initialise(self) -> None:
        """Every block keeps the variance of what it reads; those that add to the stream share it between them."""
        for layer in self.layers:
            for part in (layer.query_key_value, layer.gate_up):
                part.weight.normal_(0, part.in_features**-0.5)
            for part in (layer.output, layer.down):
                part.weight.normal_(0, (2 * len(self.layers) * part.in_features) ** -0.5)
        self.embedding.weight.normal_(0, 1.0)
        self.head.weight.normal_(0, self.size.d_model**-0.5)

    def _first(self, batch: int, users: Tensor | None, device) -> Float[Tensor, "batch 1 d_model"]:
        if self.users is not None:
            return self.users(users)[:, None]
        return self.embedding(torch.full((batch, 1), START, device=device))

    def _run(self, codes: Int[Tensor, "batch item level"], users: Tensor | None, ahead: bool):
        """Hidden states of the start and all codes (``ahead``: but the last), and each layer's keys and values."""
        tokens = (codes + self.offsets).flatten(1)
        tokens = tokens[:, :-1] if ahead else tokens
        x = self.dropout(torch.cat([self._first(len(codes), users, codes.device), self.embedding(tokens)], 1))
        positions, kept = torch.arange(x.shape[1], device=codes.device), []
        for layer in self.layers:
            query, key, value = layer.heads(x, positions)
            kept.append((key, value))
            x = layer.rest(x, layer.attend_back(query, key, value))
        return self.norm(x), kept

    def predict(self, history, lengths, targets, users=None):
        whole = torch.cat([history[:, :1], targets], 1)  # target n is the item after item n
        hidden, _ = self._run(whole, users, ahead=True)
        return self.dropout(hidden.unflatten(1, (-1, len(self.levels)))[:, 1:])

    def read(self, history, lengths, users=None, missing=()):
        if missing:
            raise StudyError("a decoder-only generator has no masks, so no modality can be missing; use another")
        hidden, kept = self._run(history, users, ahead=False)
        tokens = 1 + lengths * len(self.levels)
        last = hidden[torch.arange(len(hidden), device=hidden.device), tokens - 1]
        return Memory(kept, padding(tokens, hidden.shape[1]), tokens, last)

    def step(self, tokens, place, memory, past):
        users, beams, _ = tokens.shape
        first = []
        if place == 0:  # the history's last hidden state predicts the first code, in place of a start token's
            first, tokens, place = [memory.last[:, None, None].expand(-1, beams, 1, -1)], tokens[..., 1:], 1
        if not tokens.shape[-1]:
            return first[0], []
        x = self.embedding(tokens)
        own = place - 1 + torch.arange(tokens.shape[-1], device=tokens.device)
        positions = (memory.lengths[:, None] + own)[:, None].expand(-1, beams, -1)
        before = torch.arange(int(own[-1]) + 1, device=tokens.device)
        future = torch.zeros(len(own), len(before), device=tokens.device)
        future = future.masked_fill(before[None, :] > own[:, None], -torch.inf)
        grown = []
        for number, layer in enumerate(self.layers):
            query, key, value = layer.heads(x, positions)
            if past:
                old = (part.unflatten(0, (users, beams)) for part in past[number])
                key, value = (torch.cat([before, new], -2) for before, new in zip(old, (key, value), strict=True))
            grown.append((key.flatten(0, 1), value.flatten(0, 1)))
            x = layer.rest(x, attend(query, key, value, future, memory, number))
        return torch.cat([*first, self.norm(x)], 2), grown


def rotated(x: Float[Tensor, "... head pos d_head"], positions: Tensor) -> Tensor:
    """Rotary positions: each pair (i, i + d/2) turned by position x BASE^(-2i/d)."""
    half = x.shape[-1] // 2
    frequencies = BASE ** (-torch.arange(half, device=x.device) / half)
    angles = positions[..., None, :, None] * frequencies
    cos, sin = angles.cos(), angles.sin()
    left, right = x.chunk(2, -1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], -1)


def attend(query, key, value, own: Tensor, memory: Memory, number: int) -> Tensor:
    """Attention of targets' codes to the history and to what stands before them in their own target.

    ``query``, ``key``, ``value``: [batch, target, head, code, d_head]; targets share the history's keys and values,
    which are folded into the queries, and never see each other. ``own`` masks the targets' logits.
    """
    keys, values = memory.keys_values[number]
    _, targets, _, codes, d_head = query.shape
    folded = query.transpose(1, 2).flatten(2, 3) * d_head**-0.5
    there = folded @ keys.transpose(-1, -2) + memory.mask
    here = (query @ key.transpose(-1, -2) * d_head**-0.5 + own).transpose(1, 2).flatten(2, 3)
    weights = torch.softmax(torch.cat([there, here], -1), -1)
    there, here = weights.split([there.shape[-1], here.shape[-1]], -1)
    attended = (there @ values).unflatten(2, (targets, codes)).transpose(1, 2)
    return attended + here.unflatten(2, (targets, codes)).transpose(1, 2) @ value
