"""Every item scored without any search: what tests hold search against. Each ID is read
in one piece by ``step``, which test_decoder_only.py holds against training.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from studylib.decoding import TensorTree
from studylib.models.generator import START, Generator
from studylib.semantic_ids import SemanticIds


def written(
    model: Generator, targets: Int[Tensor, "user target level"], memory
) -> Float[Tensor, "user target level d"]:
    """Hidden states that predict the codes of given targets, all of a target's in one piece."""
    start = torch.full_like(targets[..., :1], START)
    before = targets[..., :-1] + model.offsets[list(model.target)][:-1]
    return model.step(torch.cat([start, before], -1), 0, memory, None)[0]


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
    hidden, total = written(model, targets, memory), 0.0
    forbidden = tree.forbidden(codes, ids.sizes) if tree else None
    for level in range(ids.levels):
        log_p = model.log_probabilities(hidden[:, :, level], level)
        total = total + log_p.gather(-1, targets[:, :, level, None])[..., 0]
        if forbidden:
            total = total - log_p.masked_fill(forbidden[level], -torch.inf).logsumexp(-1)
    return total
