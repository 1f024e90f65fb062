"""What each collision choice promises: brute force for the matching, random codes for all of them."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studylib import tokenizers
from studylib.bench.tokenizing import text_like
from studylib.config import TokenizerSettings
from studylib.errors import StudyError
from studylib.tokenizers import collisions, residual_kmeans
from studylib.tokenizers.collisions import balanced, count, deduplicate, match, resolve, sinkhorn


def crowd(items: int, seed: int = 0) -> np.ndarray:
    """Vectors that nearly agree in groups, so that coarse codebooks make many of them collide."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((6, 8))[rng.integers(0, 6, items)] + 0.05 * rng.standard_normal((items, 8))


@given(seed=st.integers(0, 10_000), items=st.integers(1, 60), levels=st.integers(1, 3), size=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_counting_is_that_of_a_dictionary(seed, items, levels, size):
    codes = np.random.default_rng(seed).integers(0, size, (items, levels))
    rows = [tuple(row) for row in codes.tolist()]
    assert count(codes) == sum(rows.count(row) > 1 for row in rows)
    assert count(deduplicate(codes)[0]) == 0


@given(seed=st.integers(0, 10_000), items=st.integers(2, 40), levels=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_matching_leaves_no_collision_and_touches_nobody_else(seed, items, levels):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, (items, levels))
    cost = rng.random((items, 40))
    found = match(codes, 40, lambda chosen: cost[chosen])
    assert count(found) == 0
    assert (found[:, :-1] == codes[:, :-1]).all()
    alone = np.array([(codes == row).all(1).sum() == 1 for row in codes])
    assert (found[alone] == codes[alone]).all()


@pytest.mark.parametrize("seed", range(10))
def test_matching_is_the_cheapest_there_is(seed):
    """Four colliding items, one that keeps its code, six codes: against all ways to share out the five free ones."""
    cost = np.random.default_rng(seed).random((5, 6))
    found = match(np.array([[0, 2], [0, 2], [0, 2], [0, 2], [0, 4]]), 6, lambda items: cost[items])
    assert found[4].tolist() == [0, 4]
    ours = cost[np.arange(4), found[:4, 1]].sum()
    assert ours == pytest.approx(min(cost[np.arange(4), list(way)].sum() for way in permutations([0, 1, 2, 3, 5], 4)))


def test_with_normalised_residuals_matching_is_the_cheapest_in_the_space_of_the_input():
    """No two items of one prefix that were moved could change codes and lower the reported error."""
    x = text_like(800, 24)
    result = residual_kmeans.fit(x, levels=2, codes=64, normalise_residuals=True)
    codes, _, error, _ = resolve(result, (64, 64), "matching")
    moved = np.flatnonzero(codes[:, 1] != result.codes[:, 1])
    pairs = [(a, b) for a in moved for b in moved if a < b and codes[a, 0] == codes[b, 0]]
    assert pairs
    for a, b in pairs:
        other = codes[:, 1].copy()
        other[[a, b]] = other[[b, a]]
        assert result.error_of(other) >= error[-1] - 1e-9


def test_a_prefix_with_more_items_than_codes_is_refused():
    with pytest.raises(StudyError, match=r"matching: 5 items share the prefix \[1\].*4 codes; set more codes.*dedup"):
        match(np.array([[1, 2]] * 5), 4, lambda items: np.zeros((len(items), 4)))


@given(seed=st.integers(0, 10_000), items=st.integers(2, 40))
@settings(max_examples=40, deadline=None)
def test_sinkhorn_never_makes_it_worse_and_keeps_prefixes(seed, items):
    rng = np.random.default_rng(seed)
    codes, cost = rng.integers(0, 3, (items, 2)), rng.random((items, 16))
    found, rounds = sinkhorn(codes, lambda chosen: cost[chosen])
    assert count(found) <= count(codes)
    assert (found[:, 0] == codes[:, 0]).all()
    assert 0 <= rounds <= collisions.ROUNDS


def test_the_plan_is_balanced():
    plan = balanced(np.random.default_rng(0).random((12, 4)))
    np.testing.assert_allclose(plan.sum(1), 1)
    np.testing.assert_allclose(plan.sum(0), 3, rtol=0.15)


def test_sinkhorn_parts_items_that_differ_but_not_equal_ones():
    rng = np.random.default_rng(0)
    cost = rng.random((8, 64))
    assert count(sinkhorn(np.zeros((8, 2), dtype=int), lambda items: cost[items])[0]) == 0
    same = np.tile(cost[:1], (8, 1))
    assert count(sinkhorn(np.zeros((8, 2), dtype=int), lambda items: same[items])[0]) == 8


@pytest.mark.parametrize("seed", range(5))
def test_sinkhorn_sends_few_items_to_near_ones_of_many_codes(seed):
    """As near as the cheapest assignment, within a tenth; a code that nobody wants is no reason to go there."""
    rng = np.random.default_rng(seed)
    cost = np.square(rng.normal(0, 0.2, (6, 1, 4)) - rng.standard_normal((256, 4))).sum(-1)
    crowded = np.zeros((6, 2), dtype=int)
    moved, cheapest = sinkhorn(crowded, lambda items: cost[items])[0], match(crowded, 256, lambda items: cost[items])
    assert count(moved) == 0
    assert cost[np.arange(6), moved[:, 1]].sum() <= 1.1 * cost[np.arange(6), cheapest[:, 1]].sum()


@pytest.mark.parametrize("choice", ["dedup", "sinkhorn", "matching", "none"])
@pytest.mark.parametrize("seed", range(3))
def test_each_choice_keeps_its_promise_through_the_door(choice, seed):
    chosen = TokenizerSettings(levels=2, codes=16, dims=8, collisions=choice, iterations=5)
    if choice == "matching":
        chosen = chosen.model_copy(update={"codes": 64})
    ids = tokenizers.fit(crowd(300, seed), chosen, seed)
    row = ids.report[-1]
    assert row["collisions"] == choice
    assert row["after"] == ids.collisions <= row["before"]
    assert ids.levels == (3 if choice == "dedup" else 2)
    if choice in ("dedup", "matching"):
        assert ids.collisions == 0
    if choice == "none":
        assert row["after"] == row["before"]


@pytest.mark.parametrize("normalise", [False, True])
def test_the_error_after_matching_is_that_of_the_new_codes(normalise):
    x = crowd(120).astype("f4")
    result = residual_kmeans.fit(x, levels=2, codes=40, normalise_residuals=normalise)
    codes, _, error, row = resolve(result, (40, 40), "matching")
    assert row["before"] > 0
    rebuilt, residual, scale = np.zeros_like(x), x, np.ones((len(x), 1), dtype="f4")
    for book, column in zip(result.codebooks, codes.T, strict=True):
        if normalise:
            length = np.linalg.norm(residual, axis=1, keepdims=True)
            residual, scale = residual / np.maximum(length, 1e-12), scale * length
        rebuilt, residual = rebuilt + scale * book[column], residual - book[column]
    assert error[-1] == pytest.approx(np.square(x - rebuilt).sum() / np.square(x).sum(), rel=1e-3)
    assert error[-1] >= result.error[-1]
    assert error[0] == result.error[0]
