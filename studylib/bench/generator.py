"""The generator: training, decoding, IDs of two modalities, the softmax over the tree."""

import time
from collections.abc import Callable

import numpy as np
import torch

from studylib import examples, training
from studylib.bench.turns import endless, over_users, rates
from studylib.config import BUDGETS, TigerSettings
from studylib.data import Dataset
from studylib.decoding import TensorTree, beam_search
from studylib.evaluation import padded
from studylib.fusion import late
from studylib.models.t5 import to_t5
from studylib.semantic_ids import SemanticIds


def random_ids(n_items: int) -> SemanticIds:
    """IDs of four levels of 256 random codes: their shape costs what real ones cost."""
    return SemanticIds(np.random.default_rng(0).integers(0, 256, (n_items, 4)), (256,) * 4)


def train(data: Dataset, ids: SemanticIds, seconds: float) -> dict:
    """Targets per CPU second: the ``cpu`` budget, the papers' size in one pass, and transformers' T5 of that size.

    transformers' T5 is trained as the papers' code does it: on randomly batched sliding windows, padded to the longest.
    """
    paper = BUDGETS["paper"].model_copy(update={"training": "one-pass", "softmax": "level"})
    windows = examples.window_pieces(data.training, paper.history)
    found = rates(
        {
            "cpu_budget": _one_pass(data, ids, BUDGETS["cpu"]),
            "paper_size": _one_pass(data, ids, paper),
            "transformers": _transformers(windows, ids, BUDGETS["paper"]),
        },
        seconds,
    )
    return {name: round(rate, 2) for name, rate in found.items()} | {
        "ratio": round(found["paper_size"] / found["transformers"], 2)
    }


def _one_pass(data: Dataset, ids: SemanticIds, settings: TigerSettings) -> Callable[[], int]:
    model = training.build(settings, ids, seed=0).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    codes = torch.as_tensor(ids.codes)
    pieces = examples.one_pass_pieces(data.training, settings.history)
    groups = endless(lambda order: examples.batches(pieces, settings.targets_per_step, order))
    forbidden = None
    if settings.softmax == "tree":
        written = ids.written
        forbidden = TensorTree(written.tree).forbidden(torch.as_tensor(written.codes), written.sizes)

    def step() -> int:
        batch = examples.collate(next(groups), windows=False)
        loss = training.loss(model, codes, batch, forbidden=forbidden)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        return int(batch.counts.sum())

    return step


def _transformers(windows: list[examples.Piece], ids: SemanticIds, settings: TigerSettings) -> Callable[[], int]:
    model = to_t5(training.build(settings, ids, seed=0)).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    tokens = torch.as_tensor(ids.codes + np.cumsum([1, *ids.sizes[:-1]]))
    order = np.random.default_rng(0)

    def step() -> int:
        chosen = order.choice(len(windows), min(settings.targets_per_step, len(windows)), replace=False)
        batch = examples.collate([windows[i] for i in chosen], windows=True)
        history, mask = _padded_tokens(tokens, batch.history, batch.lengths)
        loss = model(input_ids=history, attention_mask=mask, labels=tokens[batch.targets[:, 0]]).loss
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        return len(chosen)

    return step


def _padded_tokens(tokens: torch.Tensor, history: torch.Tensor, lengths: torch.Tensor):
    mask = (torch.arange(history.shape[1]) < lengths[:, None]).repeat_interleave(tokens.shape[1], 1)
    return tokens[history].flatten(1) * mask, mask.long()


def decode(data: Dataset, ids: SemanticIds, seconds: float, beams: int = 20) -> dict:
    """Users per CPU second with 20 beams on the prefix tree: the ``cpu`` budget, the papers' size, and transformers.

    The papers' size and transformers' ``generate`` (with ``prefix_allowed_tokens_fn``) share weights that were trained
    for a moment. Ours searches users of equal history length together, as it does in every trial; ``generate`` gets
    them as the papers' code does, in random order and padded to the longest. ``same_top10`` is the share of users whose
    ten items agree.
    """
    small = training.build(BUDGETS["cpu"], ids, seed=0).eval()
    large = training.build(BUDGETS["paper"], ids, seed=0)
    _train_a_moment(large, data, ids, seconds * 0.15)
    theirs = to_t5(large).eval()
    lengths = [min(len(history), 50) for history in data.test.histories]
    by_length = np.array_split(np.argsort(lengths, kind="stable"), -(-len(lengths) // 32))
    at_random = np.array_split(np.random.default_rng(0).permutation(len(lengths)), -(-len(lengths) // 32))
    found = rates(
        {
            "cpu_budget": over_users(by_length, lambda users: _search(small, ids, data, users, beams)),
            "paper_size": over_users(by_length, lambda users: _search(large, ids, data, users, beams)),
            "transformers": over_users(at_random, lambda users: generate(theirs, ids, *_histories(data, users), beams)),
        },
        seconds * 0.8,
    )
    users = at_random[0]
    items = ids.tree.items[ids.tree.group_first[_search(large, ids, data, users, beams)[:, :10].numpy()]]
    same = (ids.codes[items] == generate(theirs, ids, *_histories(data, users), beams)[:, :10]).all((1, 2))
    return {name: round(rate, 2) for name, rate in found.items()} | {
        "ratio": round(found["paper_size"] / found["transformers"], 2),
        "same_top10": round(float(same.mean()), 4),
    }


def _train_a_moment(model, data: Dataset, ids: SemanticIds, seconds: float) -> None:
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    codes, pieces = torch.as_tensor(ids.codes), examples.window_pieces(data.training, 10)
    groups = endless(lambda order: examples.batches(pieces, 64, order))
    began = time.process_time()
    while time.process_time() - began < seconds:
        loss = training.loss(model, codes, examples.collate(next(groups), windows=True))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    model.eval()


def _search(model, ids: SemanticIds, data: Dataset, users, beams: int) -> torch.Tensor:
    items, lengths = _histories(data, users)
    return beam_search(model, TensorTree(ids.tree), torch.as_tensor(ids.codes)[items], lengths, beams)[0].leaves


def _histories(data: Dataset, users) -> tuple[torch.Tensor, torch.Tensor]:
    return padded([data.test.histories[user][-50:] for user in users])


@torch.inference_mode()
def generate(model, ids: SemanticIds, items, lengths, beams: int) -> np.ndarray:
    """Codes [users, beams, levels] by transformers' constrained beam search."""
    offsets = np.cumsum([1, *ids.sizes[:-1]])
    tokens = torch.as_tensor(ids.codes + offsets)
    children: dict[tuple, list[int]] = {}
    for row in np.unique(ids.codes + offsets, axis=0).tolist():
        for depth in range(ids.levels):
            following = children.setdefault(tuple(row[:depth]), [])
            if not following or following[-1] != row[depth]:
                following.append(row[depth])
    history, mask = _padded_tokens(tokens, items, lengths)
    sequences = model.generate(
        input_ids=history,
        attention_mask=mask,
        num_beams=beams,
        num_return_sequences=beams,
        max_new_tokens=ids.levels,
        do_sample=False,
        prefix_allowed_tokens_fn=lambda _, prefix: children[tuple(prefix[1:].tolist())],
    )
    return sequences[:, 1:].reshape(len(items), beams, ids.levels).numpy() - offsets


def fused(data: Dataset, ids: SemanticIds, seconds: float) -> dict:
    """What an ID of two modalities costs, per target in training and per user in search, against one of one.

    ``late`` is twice as long as ``ids``, ``delimited`` has three levels of one code besides. The ``cpu`` budget.
    """
    other = SemanticIds(np.random.default_rng(1).permutation(ids.codes), ids.sizes)
    kinds = {"one": ids} | {name: late.combine([ids, other], name) for name in ("late", "delimited")}
    lengths = [min(len(history), 50) for history in data.test.histories]
    by_length = np.array_split(np.argsort(lengths, kind="stable"), -(-len(lengths) // 48))

    def search(kind: SemanticIds) -> Callable[[], int]:
        model = training.build(BUDGETS["cpu"], kind, seed=0).eval()
        return over_users(by_length, lambda users: _search(model, kind, data, users, BUDGETS["cpu"].beams))

    trained = rates({name: _one_pass(data, kind, BUDGETS["cpu"]) for name, kind in kinds.items()}, seconds / 2)
    searched = rates({name: search(kind) for name, kind in kinds.items()}, seconds / 2)
    return {
        f"{what}_{name}": round(found["one"] / found[name], 2)
        for what, found in (("training", trained), ("decoding", searched))
        for name in ("late", "delimited")
    } | {"targets_per_second": round(trained["one"], 1), "users_per_second": round(searched["one"], 1)}


def tree(data: Dataset, ids: SemanticIds, seconds: float) -> dict:
    """Training with the softmax over the prefix tree (001, Eq. 6) against the one over a level: time per target.

    ``stacked``: the same where an item of the history has three such IDs and the last of them is written, as MSCGRec's
    have; with the default IDs twelve levels are read and four written.
    """
    others = [SemanticIds(np.random.default_rng(seed).permutation(ids.codes), ids.sizes) for seed in (1, 2)]
    kinds = {"": ids, "stacked_": late.stack([*others, ids], target=2, apart=False)}
    jobs = {
        f"{kind}{softmax}": _one_pass(data, codes, BUDGETS["cpu"].model_copy(update={"softmax": softmax}))
        for kind, codes in kinds.items()
        for softmax in ("level", "tree")
    }
    found = rates(jobs, seconds)
    ratios = {f"{kind}ratio": round(found[f"{kind}level"] / found[f"{kind}tree"], 3) for kind in kinds}
    return {name: round(rate, 1) for name, rate in found.items()} | ratios
