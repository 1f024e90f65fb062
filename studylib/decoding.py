"""From a history to items: search along the prefix tree, which scores all items if no beam is dropped; free search."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from studylib.models.generator import START, Generator
from studylib.semantic_ids import PrefixTree

NEVER = float("-inf")


class TensorTree:
    """A prefix tree as tensors on the model's device; children are looked up for many nodes at once."""

    def __init__(self, tree: PrefixTree, device=None):
        self.first = [torch.as_tensor(first, device=device) for first in tree.first]
        self.code = [torch.as_tensor(code, device=device) for code in tree.code]
        self.widest = [int(np.diff(first).max()) for first in tree.first]
        self.group_sizes = torch.as_tensor(tree.group_sizes, device=device)
        self.leaf_of = torch.as_tensor(tree.leaf_of, device=device)

    def children(self, nodes: Int[Tensor, "..."], depth: int) -> tuple[Tensor, Tensor, Tensor]:
        """Child nodes, their codes and which of them exist, each [..., widest]; a node of -1 has no children."""
        known = nodes.clamp(min=0)
        start, end = self.first[depth][known], self.first[depth][known + 1]
        child = start[..., None] + torch.arange(self.widest[depth], device=nodes.device)
        exists = (child < end[..., None]) & (nodes >= 0)[..., None]
        child = child.clamp(max=len(self.code[depth]) - 1)
        return child, self.code[depth][child], exists

    def forbidden(self, codes: Int[Tensor, "id level"], sizes: Sequence[int]) -> list[Bool[Tensor, "id code"]]:
        """At each level, which of its ``sizes`` codes may not follow the prefix of each ID (one of the tree)."""
        node, found = torch.zeros(len(codes), dtype=torch.long, device=codes.device), []
        for depth, (code, size) in enumerate(zip(codes.T, sizes, strict=True)):
            child, following, exists = self.children(node, depth)
            others = torch.ones(len(codes), size + 1, dtype=torch.bool, device=codes.device)
            found.append(others.scatter_(1, torch.where(exists, following, size), False)[:, :size].contiguous())
            taken = ((following == code[:, None]) & exists).long().argmax(-1)
            node = child.gather(-1, taken[:, None])[:, 0]
        return found


@dataclass(frozen=True)
class Found:
    """Leaves of the prefix tree in falling order of score, [users, beams]; -1 where nothing was found.

    ``scores``: log-probabilities. ``sizes``: items that stand behind each leaf (without the excluded ones). ``codes``:
    of free search, what was written, also where it is no item's ID.
    """

    leaves: Int[Tensor, "users beams"]
    scores: Float[Tensor, "users beams"]
    sizes: Int[Tensor, "users beams"]
    codes: Int[Tensor, "users beams level"] | None = None


@torch.inference_mode()
def beam_search(
    model: Generator,
    tree: TensorTree,
    histories: Int[Tensor, "users item level"],
    lengths: Int[Tensor, " users"],
    beams: int = 20,
    seen: Int[Tensor, "users seen"] | None = None,
    constrained: bool = True,
    users: Int[Tensor, " users"] | None = None,
    missing: Sequence[int] = (),
    watch: Callable[[int, Tensor, Tensor], None] | None = None,
) -> tuple[Found, Found | None]:
    """Deterministic beam search for the next item's codes.

    Args:
        histories: codes, oldest item first, filled at the end; ``lengths`` counts the items.
        beams: prefixes kept at each level and leaves returned.
        seen: item ids to leave out of the second answer, filled with -1; None for no second answer.
        constrained: walk only prefixes that exist; otherwise any code may follow, and what is no item's ID is dropped
            at the end (002, Table 8).
        users: the users' tokens, for a generator that has some.
        missing: modalities that no item of the histories has, for a generator with mask tokens.
        watch: is told, after each level but the last, how many levels are written, the tree's nodes that the kept
            beams stand at, and their scores, each [users, beams].

    Returns:
        What was found, and what is found with the seen items left out. The two share every level but the last, so
        that one search answers both; prefixes whose items were all seen do use up beams before that level.
    """
    rows, last = len(histories), len(model.target) - 1
    memory = model.read(histories, lengths, users, missing)
    nodes = torch.zeros(rows, 1, dtype=torch.long, device=histories.device)
    scores = torch.zeros(rows, 1, device=histories.device)
    tokens, past, level = torch.full_like(nodes, START), None, 0
    written = None if constrained else nodes.new_empty(rows, 1, 0)  # codes of each beam; along the tree a node has them
    expand = _existing_children if constrained else _any_code
    while True:
        forced = _without_choice(tree, nodes, level, last) if constrained else []
        ahead = [code + model.offsets[model.target[level + step]] for step, (_, code) in enumerate(forced)]
        hidden, past = model.step(torch.stack([tokens, *ahead], -1), level, memory, past)
        for step, (nodes, code) in enumerate(forced):
            if model.softmax != "tree":  # which gives an only child all of the probability
                log_p = model.log_probabilities(hidden[:, :, step], level)
                scores = scores + log_p.gather(-1, code[..., None])[..., 0]
            level += 1
            if watch is not None:
                watch(level, nodes, scores)
        child, code, gained = expand(
            tree, nodes, level, model.log_probabilities(hidden[:, :, -1], level), model.softmax
        )
        candidate = scores[..., None] + gained
        if level == last:
            without_seen = None if seen is None else _finish(tree, child, candidate, beams, seen)[0]
            found, best = _finish(tree, child, candidate, beams, None)
            if written is not None:
                found = replace(found, codes=_longer(written, code, best, candidate.shape[-1]))
            return found, without_seen
        scores, best = _top(candidate, beams)
        if written is not None:
            written = _longer(written, code, best, candidate.shape[-1])
        nodes, code = child.flatten(1).gather(1, best), code.flatten(1).gather(1, best)
        nodes = torch.where(scores > NEVER, nodes, -1)
        if watch is not None:
            watch(level + 1, nodes, scores)
        parent = best // candidate.shape[-1]
        past = [tuple(_reorder(part, parent, rows) for part in layer) for layer in past]
        tokens, level = code + model.offsets[model.target[level]], level + 1


def _without_choice(tree: TensorTree, nodes: Tensor, level: int, last: int) -> list[tuple[Tensor, Tensor]]:
    """Nodes and codes, each [users, beams], of the levels from here on at which every prefix has one child at most."""
    forced = []
    while level < last and tree.widest[level] == 1:
        child, code, exists = tree.children(nodes, level)
        nodes = torch.where(exists, child, -1)[..., 0]
        forced.append((nodes, code[..., 0]))
        level += 1
    return forced


def _existing_children(
    tree: TensorTree, nodes: Tensor, level: int, log_p: Float[Tensor, "users beam code"], softmax: str
) -> tuple[Tensor, Tensor, Tensor]:
    """The nodes, codes and log-probabilities of each beam's children in the tree, each [users, beam, child]."""
    child, code, exists = tree.children(nodes, level)
    among = torch.where(exists, log_p.gather(-1, code), NEVER)
    if softmax == "tree":  # a beam that has ended has no child to be normalised over
        among = torch.log_softmax(among.masked_fill(~exists.any(-1, keepdim=True), 0), -1).masked_fill(~exists, NEVER)
    return child, code, among


def _any_code(
    tree: TensorTree, nodes: Tensor, level: int, log_p: Float[Tensor, "users beam code"], softmax: str
) -> tuple[Tensor, Tensor, Tensor]:
    """As ``_existing_children``, with every code of the level a child, at node -1 where no such prefix exists."""
    child, code, exists = tree.children(nodes, level)
    codes = log_p.shape[-1]
    every = torch.full((*nodes.shape, codes + 1), -1, device=nodes.device)
    every.scatter_(-1, torch.where(exists, code, codes), torch.where(exists, child, -1))
    any_code = torch.arange(codes, device=nodes.device).expand(*nodes.shape, codes)
    return every[..., :codes], any_code, torch.log_softmax(log_p, -1) if softmax == "tree" else log_p


def _top(candidate: Float[Tensor, "users beam child"], beams: int) -> tuple[Tensor, Tensor]:
    """The scores and places, over a user's beams and children, of the best ones; all if there are fewer."""
    return candidate.flatten(1).topk(min(beams, candidate[0].numel()), dim=1, sorted=True)


def _longer(
    written: Int[Tensor, "users beam level"], code: Int[Tensor, "users beam child"], best: Tensor, children: int
) -> Int[Tensor, "users kept longer"]:
    """The codes of the beams that each kept beam came from, and its own."""
    before = written.gather(1, (best // children)[..., None].expand(-1, -1, written.shape[-1]))
    return torch.cat([before, code.flatten(1).gather(1, best)[..., None]], -1)


def _reorder(part: Tensor, parent: Int[Tensor, "users kept"], users: int) -> Tensor:
    """Self-attention memory of the beams that each kept beam came from."""
    part = part.unflatten(0, (users, -1))
    rows = torch.arange(users, device=part.device)[:, None]
    return part[rows, parent].flatten(0, 1)


def _finish(
    tree: TensorTree, leaf: Tensor, candidate: Tensor, beams: int, seen: Tensor | None
) -> tuple[Found, Int[Tensor, "users kept"]]:
    """The best leaves, and their places over a user's beams and children."""
    sizes = tree.group_sizes[leaf.clamp(min=0)]
    if seen is not None:
        seen_leaves = torch.where(seen >= 0, tree.leaf_of[seen.clamp(min=0)], -1)
        seen_here = (leaf.flatten(1)[:, :, None] == seen_leaves[:, None, :]) & (seen_leaves >= 0)[:, None, :]
        sizes = sizes - seen_here.sum(-1).view_as(sizes)
        candidate = candidate.masked_fill(sizes == 0, NEVER)
    scores, best = _top(candidate, beams)
    leaves = torch.where(scores > NEVER, leaf.flatten(1).gather(1, best), -1)
    return Found(leaves, scores, torch.where(leaves >= 0, sizes.flatten(1).gather(1, best), 0)), best
