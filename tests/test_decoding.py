"""Search along the prefix tree against exact scoring, and what seen items and collisions do to it."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from studylib import evaluation, training
from studylib.config import TigerSettings
from studylib.data import Split
from studylib.decoding import TensorTree, beam_search
from studylib.evaluation import Searcher, padded
from studylib.fusion import late
from studylib.models.layers import Size
from studylib.models.tiger import Tiger
from studylib.semantic_ids import SemanticIds
from tests.exact import score_all

RNG = np.random.default_rng(0)
UNIQUE = SemanticIds(np.unique(RNG.integers(0, 6, (80, 3)), axis=0), (6, 6, 6))
COLLIDING = SemanticIds(RNG.integers(0, 3, (40, 3)), (3, 3, 3))
USERS = [RNG.integers(0, 40, RNG.integers(1, 7)) for _ in range(9)]


def generator(ids: SemanticIds, **options) -> Tiger:
    torch.manual_seed(1)
    return Tiger(ids.sizes, Size(16, 32, 1, 2, 2, 8), dropout=0.0, **options).eval()


@pytest.mark.parametrize("ids", [UNIQUE, COLLIDING], ids=["unique", "colliding"])
@pytest.mark.parametrize("constrained", [True, False])
def test_search_with_all_beams_is_exact(ids, constrained):
    model = generator(ids)
    items, lengths = padded(USERS)
    codes = torch.as_tensor(ids.codes)[items]
    exact = score_all(model, ids, codes, lengths)
    found, _ = beam_search(model, TensorTree(ids.tree), codes, lengths, beams=10_000, constrained=constrained)
    assert (found.leaves >= 0).sum(1).tolist() == [len(ids.tree.group_sizes)] * len(USERS)
    for user in range(len(USERS)):
        leaves = found.leaves[user][found.leaves[user] >= 0]
        torch.testing.assert_close(
            found.scores[user][found.leaves[user] >= 0], exact[user][leaves], rtol=1e-5, atol=1e-5
        )
        torch.testing.assert_close(exact[user][leaves], exact[user].sort(descending=True).values, rtol=1e-5, atol=1e-5)


def test_probabilities_of_a_full_tree_sum_to_one():
    ids = SemanticIds(np.stack(np.meshgrid(*[np.arange(3)] * 3), -1).reshape(-1, 3), (3, 3, 3))
    items, lengths = padded(USERS)
    scores = score_all(generator(ids), ids, torch.as_tensor(ids.codes)[items % 27], lengths)
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(len(USERS)), rtol=1e-4, atol=1e-4)


def test_narrow_search_finds_a_prefix_of_its_own_kind():
    """Every leaf of a narrow search exists, is found once, and comes in falling order."""
    items, lengths = padded(USERS)
    found, _ = beam_search(generator(UNIQUE), TensorTree(UNIQUE.tree), torch.as_tensor(UNIQUE.codes)[items], lengths, 5)
    for leaves, scores in zip(found.leaves.tolist(), found.scores, strict=True):
        assert len(set(leaves)) == 5
        assert all(0 <= leaf < len(UNIQUE.codes) for leaf in leaves)
        assert (scores.diff() <= 0).all()


def test_the_batch_a_user_is_in_changes_nothing():
    searcher = Searcher(generator(UNIQUE), UNIQUE, beams=10)
    split = Split(tuple(USERS), np.arange(len(USERS)))
    together = searcher.ranks(split)[0]
    alone = [searcher.ranks(Split((history,), np.array([user])))[0].first[0] for user, history in enumerate(USERS)]
    np.testing.assert_array_equal(together.first, alone)


def test_seen_items_are_left_out():
    searcher = Searcher(generator(COLLIDING), COLLIDING, beams=40)
    for history in USERS:
        every = [item for item, _ in searcher.recommend(history, 40, seen=True)]
        unseen = [item for item, _ in searcher.recommend(history, 40)]
        assert sorted(every) == list(range(40))
        assert unseen == [item for item in every if item not in history]


def test_one_drawn_item_for_each_id_is_the_mean_of_all_draws():
    """Of all draws of one item for each ID: how often the target is among the first three items shown."""
    searcher, history = Searcher(generator(COLLIDING), COLLIDING, beams=40), USERS[0]
    *_, picked = searcher.answers(Split((history,) * 40, np.arange(40)))
    leaf_of = COLLIDING.tree.leaf_of
    order = list(dict.fromkeys(leaf_of[item] for item, _ in searcher.recommend(history, 40, seen=True)))
    first = [np.flatnonzero(leaf_of == leaf) for leaf in order[:3]]
    shown = np.zeros(40)
    draws = list(product(*first))
    for draw in draws:
        shown[list(draw)] += 1 / len(draws)
    np.testing.assert_allclose(picked.recall(3), shown)
    assert 0 < shown[shown > 0].min() < 1


def test_what_is_no_items_id_takes_no_place_among_drawn_items():
    """Free search with all beams ends in the same order as the tree's, with IDs between that no item has."""
    ids = SemanticIds(RNG.integers(0, 6, (40, 3)) // 2 * 2, (6, 6, 6))
    split = Split(tuple(USERS), np.arange(len(USERS)))
    places = [Searcher(generator(ids), ids, beams=216, search=how).answers(split)[3].first for how in ("tree", "free")]
    assert (places[0] == places[1]).all()
    assert places[0].max() < len(ids.tree.group_sizes)


def test_parts_of_free_search_are_found_among_all_that_can_be_written():
    """All 27 sequences of three levels, in the order of their exact probability: the first with the part's codes."""
    split, model = Split(tuple(USERS), np.arange(len(USERS))), generator(COLLIDING)
    every = SemanticIds(np.array(list(product(range(3), repeat=3))), (3, 3, 3))
    ids = replace(COLLIDING, parts=((0,), (1, 2)))
    parts = Searcher(model, ids, beams=27, search="free").answers(split)[2]
    items, lengths = padded(USERS)
    exact = score_all(model, every, torch.as_tensor(COLLIDING.codes)[items], lengths).numpy()
    written = every.codes[every.tree.items[every.tree.group_first[:-1]]]
    for user, target in enumerate(split.targets):
        best_first = written[np.argsort(-exact[user], kind="stable")]
        for ranks, levels in zip(parts, ([0], [1, 2], [0, 1, 2]), strict=True):
            right = (best_first[:, levels] == COLLIDING.codes[target, levels]).all(1)
            assert ranks.first[user] == right.argmax()


def test_rank_of_a_shared_id_is_an_expectation_over_its_group():
    searcher = Searcher(generator(COLLIDING), COLLIDING, beams=40)
    history = USERS[0]
    order = [item for item, _ in searcher.recommend(history, 40, seen=True)]
    groups = COLLIDING.tree.group_sizes[COLLIDING.tree.leaf_of]
    every, unseen = searcher.ranks(Split((history,) * 40, np.arange(40)))
    np.testing.assert_array_equal(every.group, groups)
    for target in range(40):
        same = np.flatnonzero(COLLIDING.tree.leaf_of == COLLIDING.tree.leaf_of[target])
        assert every.first[target] == min(order.index(item) for item in same)
        if target in history:
            assert unseen.recall(1000)[target] == 0
        else:
            assert unseen.group[target] == len(set(same) - set(history))


@pytest.mark.parametrize("together", [50, 10_000])
def test_exact_search_ranks_as_every_items_score_does(monkeypatch, together):
    """However few users a batch has, and with a modality hidden too."""
    monkeypatch.setattr(evaluation, "BEAMS_PER_BATCH", together)
    split, model = Split(tuple(USERS), np.arange(len(USERS))), generator(COLLIDING, parts=((0,), (1, 2)))
    items, lengths = padded(USERS)
    found = []
    for missing in ((), (0,)):
        exact, _ = Searcher(model, COLLIDING, beams=5, search="exact", missing=missing).ranks(split)
        scores = score_all(model, COLLIDING, torch.as_tensor(COLLIDING.codes)[items], lengths, missing=missing)
        of_items = scores[:, torch.as_tensor(COLLIDING.tree.leaf_of)]
        ahead = (of_items > of_items.gather(1, torch.arange(len(USERS))[:, None]) + 1e-6).sum(1)
        assert exact.first.tolist() == ahead.tolist()
        found.append(exact.first.tolist())
    assert found[0] != found[1]


@torch.no_grad()
@pytest.mark.parametrize("softmax", ["level", "vocabulary", "tree"])
@pytest.mark.parametrize("layout", ["late", "delimited"])
@pytest.mark.parametrize("architecture", ["encoder-decoder", "decoder-only"])
def test_levels_without_a_choice_are_read_in_one_piece(architecture, layout, softmax):
    """The same leaves and scores as level by level, which a tree that hides its single children makes search do."""
    codes = np.random.default_rng(4).integers(0, 4, (40, 3))
    parts = [SemanticIds(np.unique(codes, axis=0), (4, 4, 4)) for _ in range(2)]
    parts[1] = SemanticIds(parts[0].codes[::-1].copy(), (4, 4, 4))
    ids = late.combine(parts, layout)
    settings = TigerSettings(d_model=16, d_ff=16, heads=2, d_head=8, softmax=softmax, architecture=architecture)
    model = training.build(settings, ids, 0).eval()
    tree, level_by_level = TensorTree(ids.tree), TensorTree(ids.tree)
    assert tree.widest[-3:] == [1, 1, 1]
    level_by_level.widest = [max(2, width) for width in tree.widest]
    items, lengths = padded([np.arange(3), np.arange(5)])
    histories, seen = torch.as_tensor(ids.codes)[items], torch.as_tensor([[0, 1], [2, -1]])
    calls = []
    steps = model.step
    model.step = lambda tokens, *rest: calls.append(tokens.shape[-1]) or steps(tokens, *rest)
    quick = beam_search(model, tree, histories, lengths, 6, seen)
    fewer = len(calls)
    slow = beam_search(model, level_by_level, histories, lengths, 6, seen)
    assert fewer < len(calls) - fewer == ids.levels
    for one, other in zip(quick, slow, strict=True):
        assert torch.equal(one.leaves, other.leaves)
        torch.testing.assert_close(one.scores, other.scores, rtol=1e-4, atol=1e-5)
