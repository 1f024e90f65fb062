"""Metrics against cases worked by hand."""

import numpy as np

from studylib.metrics import Ranks


def test_hand_worked():
    ranks = Ranks.of([0, 2, 9, 10, None])
    assert ranks.recall(10).tolist() == [1, 1, 1, 0, 0]
    np.testing.assert_allclose(ranks.ndcg(10), [1, 1 / 2, 1 / np.log2(11), 0, 0])
    np.testing.assert_allclose(ranks.mrr(10), [1, 1 / 3, 1 / 10, 0, 0])
    means = ranks.means((1, 10))
    assert means["recall@1"] == 0.2
    assert means["recall@10"] == 0.6
    np.testing.assert_allclose(means["mrr@10"], (1 + 1 / 3 + 1 / 10) / 5)


def test_a_shared_place_is_the_mean_over_all_orders():
    """A group of three behind eight items: places 9, 10 and 11."""
    shared = Ranks.of([8], [3])
    orders = Ranks.of([8, 9, 10])
    for k in (1, 5, 9, 10, 20):
        for metric in ("recall", "ndcg", "mrr"):
            np.testing.assert_allclose(getattr(shared, metric)(k)[0], getattr(orders, metric)(k).mean())


def test_bounds_and_order():
    rng = np.random.default_rng(0)
    ranks = Ranks.of(rng.integers(0, 40, 500).tolist(), rng.integers(1, 9, 500))
    for k in (1, 5, 10, 20):
        assert (ranks.mrr(k) <= ranks.ndcg(k) + 1e-12).all()
        assert (ranks.ndcg(k) <= ranks.recall(k) + 1e-12).all()
        assert (ranks.recall(k) <= ranks.recall(k + 1) + 1e-12).all()


def test_packing_gives_the_ranks_back():
    ranks = Ranks.of([0, None, 70_000, 5], [1, 1, 1, 4])
    again = Ranks.unpack(ranks.pack())
    assert again.first.tolist() == ranks.first.tolist() == [0, 65535, 65534, 5]
    assert again.group.tolist() == [1, 1, 1, 4]
