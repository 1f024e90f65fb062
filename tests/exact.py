"""Every item scored without any search: what tests hold search against."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from studylib.decoding import TensorTree
from studylib.models.generator import Generator
from studylib.semantic_ids import SemanticIds


@torch.inference_mode()
def score_all(
    model: Generator,
    ids: SemanticIds,
    histories: Int[Tensor, "users item level"],
    lengths: Int[Tensor, " users"],
    users: Int[Tensor, " users"] | None = None,
    missing: Sequence[int] = (),
) -> Float[Tensor, "users leaf"]:
    """log p of every Semantic ID, each written by itself."""
    codes = torch.as_tensor(ids.codes[ids.tree.items[ids.tree.group_first[:-1]]], device=histories.device)
    tree = TensorTree(ids.tree, histories.device) if model.softmax == "tree" else None
    memory = model.read(histories, lengths, users, missing)
    targets = codes[None].expand(len(histories), -1, -1)
    hidden, total = model.write(targets, memory), 0.0
    forbidden = tree.forbidden(codes, ids.sizes) if tree else None
    for level in range(ids.levels):
        log_p = model.log_probabilities(hidden[:, :, level], level)
        total = total + log_p.gather(-1, targets[:, :, level, None])[..., 0]
        if forbidden:
            total = total - log_p.masked_fill(forbidden[level], -torch.inf).logsumexp(-1)
    return total
