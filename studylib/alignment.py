"""Alignment before training: the generator learns to translate an item's codes from one modality to another.

000, Eq. 11: [IMAGE, image codes] -> [TEXT, text codes] and back, in 004's words contrastive modality alignment. It sees
each item's codes and no user. The weights are then trained on next items as any other. 004 (appendix A.2) aligns for as
many steps as it then trains, from a pretrained T5; here both start from random weights.
"""

from collections.abc import Callable
from itertools import permutations

import torch

from studylib.config import TigerSettings
from studylib.models.tiger import Tiger
from studylib.semantic_ids import SemanticIds

BATCH = 128  # items a step
AT_ONCE = 4096  # items that are translated together where nothing is learnt
LINES = 10  # of progress


def align(
    model: Tiger,
    ids: SemanticIds,
    settings: TigerSettings,
    seed: int,
    log: Callable[[str], None] = lambda line: print(line, flush=True),
) -> list[float]:
    """Train ``settings.alignment`` steps of translation in place; returns each step's loss.

    Every step takes one direction between two modalities, in turn, and a batch of items drawn anew.
    """
    codes = torch.as_tensor(ids.codes, device=model.offsets.device)
    directions = list(permutations([list(part) for part in ids.parts], 2))
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.alignment_lr, weight_decay=settings.weight_decay)
    torch.manual_seed(seed)
    draws, losses = torch.Generator().manual_seed(seed), []
    model.train()
    for step in range(settings.alignment):
        source, target = directions[step % len(directions)]
        items = codes[torch.randint(len(codes), (min(BATCH, len(codes)),), generator=draws)]
        hidden = model.translate(items[:, source], source, items[:, target], target)
        loss = model.loss(hidden, items[:, target], target) / len(items)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
        if (step + 1) % max(1, settings.alignment // LINES) == 0:
            log(f"alignment step {step + 1}/{settings.alignment}  loss {losses[-1]:.4f}")
    return losses


@torch.inference_mode()
def translated(model: Tiger, ids: SemanticIds) -> list[dict[str, float]]:
    """How well ``model`` translates now, over all items: a row for each direction, in the order of ``align``.

    ``right``: the share of the written modality's codes that are the likeliest after the right ones before them; marks,
    levels of a single code, are not counted. ``without reading``: the same when the codes that are read are
    dealt out at random: what the codes before tell by themselves.
    """
    codes = torch.as_tensor(ids.codes, device=model.offsets.device)
    others = codes[torch.randperm(len(codes), generator=torch.Generator().manual_seed(0))]
    model.eval()
    rows = []
    for source, target in permutations([list(part) for part in ids.parts], 2):
        shares = [_right(model, ids, read[:, source], source, codes[:, target], target) for read in (codes, others)]
        rows.append(dict(zip(("right", "without reading"), shares, strict=True)))
    return rows


def _right(model: Tiger, ids: SemanticIds, read, source: list[int], wanted, target: list[int]) -> float:
    told, right = [(place, level) for place, level in enumerate(target) if ids.sizes[level] > 1], 0
    for some, theirs in zip(read.split(AT_ONCE), wanted.split(AT_ONCE), strict=True):
        hidden = model.translate(some, source, theirs, target)
        for place, level in told:
            right += (model.logits(hidden[:, place], level).argmax(-1) == theirs[:, place]).sum().item()
    return round(right / (len(read) * len(told)), 4)
