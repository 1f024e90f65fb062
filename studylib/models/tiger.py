"""TIGER: a T5-style encoder-decoder that reads the codes of a history and writes those of the next item.

Its layers and positions are T5's (``layers``, ``positions``), the latter shared by the layers of a stack; with weights
of transformers' T5 it gives the same logits (tests/test_tiger.py).

Two readings of a history:

- ``causal``: bidirectional within an item, causal between items. A user's whole sequence is then encoded once and every
  position is a target (one pass), because the encoding of an item cannot depend on what came after it.
- ``bidirectional``: T5's own. Every prefix of the history must be encoded again (sliding windows), as in the papers.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from studylib.errors import StudyError
from studylib.models.generator import START, Generator, padding
from studylib.models.layers import Attention, DecoderLayer, Dropout, EncoderLayer, FeedForward, RMSNorm, Size
from studylib.models.positions import BUCKETS, bucket, position_bias, two_part_bias


class Tiger(Generator):
    """The encoder-decoder generator.

    Args:
        levels, softmax, target: as in Generator.
        size: width and depth.
        causal: the encoder is causal between items (one-pass training); False is T5's bidirectional encoder.
        dropout: everywhere T5 has it.
        user_tokens: size of the table of user tokens, one of which stands before the history; 0 for none.
        positions: the encoder's, ``"t5"``, ``"two-part"`` or, for a causal encoder, ``"two-part-past"``
            (see ``two_part_bias``).
        parts: the levels of each modality, if histories may lack some: their codes become learned mask tokens.
        masking: share of a history's items that lose one modality, drawn anew at each training step.
        cross_positions: the cross-attention's: ``"none"`` as in T5, or ``"items"``, a bias by how many items back.
            T5's bidirectional encoder can put "I am of the last item" into an encoding. An encoder that is causal
            between items cannot: each of its items is encoded as if it were the last.
    """

    def __init__(
        self, levels: tuple[int, ...], size: Size, causal: bool = True, dropout: float = 0.1, softmax: str = "level",
        user_tokens: int = 0, target: tuple[int, ...] | None = None, positions: str = "t5",
        parts: tuple[tuple[int, ...], ...] = (), masking: float = 0.0, cross_positions: str = "none",
    ):  # fmt: skip
        super().__init__(levels, size.d_model, softmax, target)
        self.size, self.causal, self.positions, self.parts, self.masking = size, causal, positions, parts, masking
        self.encoder_positions = nn.Embedding(BUCKETS, size.heads)
        self.decoder_positions = nn.Embedding(BUCKETS, size.heads)
        self.encoder = nn.ModuleList(EncoderLayer(size, dropout) for _ in range(size.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(size, dropout) for _ in range(size.decoder_layers))
        self.encoder_norm, self.decoder_norm = RMSNorm(size.d_model), RMSNorm(size.d_model)
        self.dropout = Dropout(dropout)
        self._initialise()
        self.add_users(user_tokens)
        self.masks = nn.Embedding(len(levels), size.d_model) if parts else None
        self.cross_positions = nn.Embedding(BUCKETS, size.heads) if cross_positions == "items" else None
        if self.cross_positions is not None:
            nn.init.normal_(self.cross_positions.weight, 0, size.d_model**-0.5)

    @torch.no_grad()
    def _initialise(self) -> None:
        """T5's initialisation, 1 for the embedding; the output table, which is not bound to it, starts small."""
        d_model, d_ff, d_head = self.size.d_model, self.size.d_ff, self.size.d_head
        for module in self.modules():
            if isinstance(module, Attention):
                module.query.weight.normal_(0, (d_model * d_head) ** -0.5)
                module.key_value.weight.normal_(0, d_model**-0.5)
                module.output.weight.normal_(0, (self.size.heads * d_head) ** -0.5)
            elif isinstance(module, FeedForward):
                module[0].weight.normal_(0, d_model**-0.5)
                module[3].weight.normal_(0, d_ff**-0.5)
        self.embedding.weight.normal_(0, 1.0)
        self.head.weight.normal_(0, d_model**-0.5)
        self.encoder_positions.weight.normal_(0, d_model**-0.5)
        self.decoder_positions.weight.normal_(0, d_model**-0.5)

    # -- reading the history -----------------------------------------------------------------------------------

    def encode(
        self,
        codes: Int[Tensor, "batch item level"],
        lengths: Int[Tensor, " batch"] | None = None,
        users: Int[Tensor, " batch"] | None = None,
        missing: Sequence[int] = (),
    ) -> Float[Tensor, "batch token d_model"]:
        """Encode histories, oldest item first, filled at the end; ``lengths`` (items) is needed if not causal.

        ``missing``: modalities that no item of the histories has.

        Raises:
            StudyError: modalities are missing that the model has no masks for.
        """
        self._check_missing(missing)
        x = self.embedding(codes + self.offsets)
        if self.masks is not None:
            x = torch.where(self._masked(codes.shape[:2], missing, codes.device)[..., None], self.masks.weight, x)
        x = x.flatten(1, 2)
        if self.users is not None:
            x = torch.cat([self.users(users)[:, None], x], 1)
        positions = torch.arange(x.shape[1], device=codes.device)
        item = self._item_of(positions)
        if self.positions.startswith("two-part"):
            place = (positions - self._before) % len(self.levels)
            both = self.positions == "two-part"
            bias = two_part_bias(self.encoder_positions, item, place, len(self.levels), bidirectional=both)
        else:
            bias = position_bias(self.encoder_positions, positions, positions, bidirectional=True)
        if self.causal:
            bias = bias.masked_fill(item[None, :] > item[:, None], -math.inf)
        elif lengths is not None:
            bias = bias + padding(self._before + lengths * len(self.levels), x.shape[1])
        return self._encode(x, bias)

    def _encode(self, x: Float[Tensor, "batch token d_model"], bias: Tensor) -> Float[Tensor, "batch token d_model"]:
        x = self.dropout(x)
        for layer in self.encoder:
            x = layer(x, bias)
        return self.dropout(self.encoder_norm(x))

    def _check_missing(self, missing: Sequence[int]) -> None:
        for number in missing:
            if not 0 <= number < len(self.parts):
                known = f"of the modalities 0 to {len(self.parts) - 1}" if self.parts else "without masks"
                raise StudyError(f"missing modality {number}: a generator {known} cannot leave it out; choose another "
                                 "number, or train with masking")  # fmt: skip

    def _masked(self, shape: tuple[int, int], missing: Sequence[int], device) -> Tensor:
        """Which levels of which items are masked, bool [batch, item, level]: those missing, or drawn in training."""
        levels = torch.zeros(len(self.parts), len(self.levels), dtype=torch.bool, device=device)
        for number, part in enumerate(self.parts):
            levels[number, list(part)] = True
        masked = levels[list(missing)].any(0).expand(*shape, -1)
        if self.training and self.masking:
            lost = torch.randint(len(self.parts), shape, device=device)
            masked = masked | (levels[lost] & (torch.rand(shape, device=device) < self.masking)[..., None])
        return masked

    def _item_of(self, positions: Tensor) -> Tensor:
        """The item that an encoder position belongs to; -1 for the user token."""
        return torch.div(positions - self._before, len(self.levels), rounding_mode="floor")

    @property
    def _before(self) -> int:
        """Tokens before the history's first."""
        return int(self.users is not None)

    # -- writing the target ----------------------------------------------------------------------------------

    def decode(
        self, targets: Int[Tensor, "batch target level"], memory: Tensor, mask: Tensor | None
    ) -> Float[Tensor, "batch target level d_model"]:
        """Hidden states from which each code of each target is predicted (teacher forcing).

        ``mask`` is added to the cross-attention logits: see ``past_only`` and ``history_only``.
        """
        return self._decode(targets, self.start(memory), mask, self.target)

    def _decode(
        self, targets: Tensor, memory: list[tuple[Tensor, Tensor]], mask: Tensor | None, levels: Sequence[int]
    ) -> Tensor:
        start = torch.full_like(targets[..., :1], START)
        tokens = torch.cat([start, self.tokens(targets, levels)[..., :-1]], -1)
        positions = torch.arange(targets.shape[-1], device=targets.device)
        bias = position_bias(self.decoder_positions, positions, positions, bidirectional=False)
        bias = bias.masked_fill(positions[None, :] > positions[:, None], -math.inf)
        x = self.dropout(self.embedding(tokens))
        for layer, keys_values in zip(self.decoder, memory, strict=True):
            x, _ = layer(x, bias, keys_values, mask)
        return self.dropout(self.decoder_norm(x))

    def past_only(self, items: int, device=None) -> Float[Tensor, "1 head queries tokens"]:
        """One-pass mask: target n (the item after item n of the history) sees items 0..n."""
        last = torch.arange(items * len(self.target), device=device) // len(self.target)
        return self._up_to(last, items).transpose(0, 1)[None]

    def history_only(self, lengths: Int[Tensor, " batch"], items: int) -> Float[Tensor, "batch head 1 tokens"]:
        """Mask of the filling behind histories of ``lengths`` items."""
        return self._up_to(lengths - 1, items)[:, :, None]

    def _up_to(self, last: Int[Tensor, " query"], items: int) -> Float[Tensor, "query head tokens"]:
        """What each query sees of a history of ``items``: its items up to ``last``, by how far back they are."""
        item = self._item_of(torch.arange(self._before + items * len(self.levels), device=last.device))
        distance = item[None, :] - last[:, None]
        if self.cross_positions is None:
            bias = torch.zeros(len(last), 1, len(item), device=last.device)
        else:
            bias = self.cross_positions(bucket(distance, BUCKETS, bidirectional=False)).transpose(1, 2)
        return bias.masked_fill((distance > 0)[:, None], -math.inf)

    def start(self, memory: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Each decoder layer's keys and values of the history, computed once a user."""
        return [layer.cross.keys_values(memory) for layer in self.decoder]

    # -- what others call -------------------------------------------------------------------------------------

    def predict(self, history, lengths, targets, users=None):
        memory, items = self.encode(history, lengths, users), history.shape[1]
        mask = self.past_only(items, history.device) if self.causal else self.history_only(lengths, items)
        return self.decode(targets, memory, mask)

    def read(self, history, lengths, users=None, missing=()):
        """The decoder layers' keys and values, and the mask of the filling."""
        memory = self.start(self.encode(history, lengths, users, missing))
        return memory, self.history_only(lengths, history.shape[1])

    def translate(
        self, codes: Int[Tensor, "batch source"], source: Sequence[int], targets: Int[Tensor, "batch target"],
        target: Sequence[int],
    ) -> Float[Tensor, "batch target d_model"]:  # fmt: skip
        """Hidden states that predict some levels of an item, ``target``, from others of it (000, Eq. 11)."""
        x = self.embedding(self.tokens(codes, source))
        positions = torch.arange(x.shape[1], device=codes.device)
        bias = position_bias(self.encoder_positions, positions, positions, bidirectional=True)
        memory = self.start(self._encode(x, bias))
        return self._decode(targets[:, None], memory, None, target)[:, 0]

    def step(self, tokens, place, memory, past):
        keys_values, mask = memory
        positions = torch.arange(place + tokens.shape[-1], device=tokens.device)
        own = positions[place:]
        bias = position_bias(self.decoder_positions, own, positions, bidirectional=False)
        bias = bias.masked_fill(positions[None, :] > own[:, None], -math.inf)
        x = self.embedding(tokens)
        grown = []
        for number, layer in enumerate(self.decoder):
            x, kept = layer(x, bias, keys_values[number], mask, past[number] if past else None)
            grown.append(kept)
        return self.decoder_norm(x), grown
