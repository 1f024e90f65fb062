"""Users whom two models both hit: by hand, by chance, and what must not be paired."""

import numpy as np
import pytest

from studylib.analysis.hits import beyond_seeds, identical_hits, of_all_rows
from studylib.errors import StudyError
from studylib.metrics import Ranks


def trial(ranks, group=None, features="none", seed=0) -> dict:
    return {"ranks": Ranks.of(ranks, group).pack(), "trial": {"generator": {}, "features": features, "seed": seed}}


def test_hits_by_hand():
    """Users hit within 2: a and b by the first, b, c and d by the second; b by both."""
    first, second = trial([0, 1, 2, None, None]), trial([None, 0, 1, 0, 5])
    row = identical_hits([first], [second], k=2)
    assert row["overlap"] == pytest.approx(1 / 4)
    assert row["of first"] == pytest.approx(1 / 2)
    assert row["of second"] == pytest.approx(1 / 3)
    assert (row["first rate"], row["second rate"], row["pairs"]) == pytest.approx((2 / 5, 3 / 5, 1))
    both = 2 / 5 * 3 / 5
    assert row["overlap by chance"] == pytest.approx(both / (2 / 5 + 3 / 5 - both))
    assert row["of first by chance"] == pytest.approx(3 / 5)
    assert row["of second by chance"] == pytest.approx(2 / 5)


def test_a_shared_id_is_an_expected_hit():
    """Two items share the ID at rank 0: within 1 the user is hit in one of two orders, on both sides apart."""
    row = identical_hits([trial([0], [2])], [trial([0], [2])], k=1)
    assert row["of first"] == pytest.approx(1 / 2)
    assert row["overlap"] == pytest.approx((1 / 4) / (3 / 4))


def test_independent_models_share_what_chance_says():
    rng = np.random.default_rng(6)
    models = [[trial(rng.integers(0, 50, 20_000).tolist()) for _ in range(2)] for _ in range(2)]
    row = identical_hits(*models, k=10, resamples=100)
    assert row["pairs"] == 4
    assert row["overlap"] == pytest.approx(row["overlap by chance"], abs=0.01)
    assert row["low"] < row["overlap"] < row["high"] < row["low"] + 0.02


def test_a_model_against_itself_pairs_different_seeds():
    seeds = [trial([0, 0, None, None]), trial([0, None, 0, None])]
    row = identical_hits(seeds, seeds)
    assert row["pairs"] == 2
    assert row["overlap"] == pytest.approx(1 / 3)
    read_again = [dict(record, key=str(number)) for number, record in enumerate(seeds)]
    assert identical_hits(read_again, [dict(record) for record in read_again])["pairs"] == 2


def test_codes_of_one_seed_do_not_meet():
    """A fused model hits its half's own users where the seed is the same, and others' elsewhere."""
    hits = ([0, None, None], [None, 0, None])
    fused = [trial(ranks, features="picture+text", seed=seed) for seed, ranks in enumerate(hits)]
    half = [trial(ranks, features="text", seed=seed) for seed, ranks in enumerate(hits)]
    row = identical_hits(fused, half, resamples=5)
    assert (row["overlap"], row["pairs"], row["equal seeds"]) == (0, 2, False)
    row = identical_hits(fused[:1], half[:1], resamples=5)
    assert (row["overlap"], row["pairs"], row["equal seeds"]) == (1, 1, True)
    ready = [[trial(ranks, features="index:ready", seed=seed) for seed, ranks in enumerate(hits)] for _ in range(2)]
    assert identical_hits(*ready, resamples=5)["pairs"] == 4, "ready codes are the same with every seed"


def test_what_is_shared_beyond_two_seeds_is_drawn_on_the_same_users():
    """Two seeds of the half hit the first three of users a to d and b to d; the model hits what the first seed does."""
    half = [trial([0, 0, 0, None]), trial([None, 0, 0, 0])]
    model = [trial([0, 0, 0, None], features="other")]
    found = beyond_seeds(model, half, resamples=500)
    assert found["difference"] == pytest.approx((1 + 2 / 4) / 2 - 2 / 4)
    assert found["low"] >= 0  # whoever is drawn, one of the two pairs is the half's own and the other shares all
    assert beyond_seeds(half, half) == {"two seeds": pytest.approx(1 / 2), "difference": 0, "low": 0, "high": 0}


def test_popularity_that_hits_nobody_leaves_the_others_their_table(capsys):
    rows = {"a": [trial([0, 1]), trial([0, None])], "popularity": [trial([None, None])], "b": [trial([1, 2])]}
    table = of_all_rows(rows)
    assert set(table["first"]) | set(table["second"]) == {"a", "b"}
    assert "popularity: a trial hits no user within 5" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ([trial([0, 1])], [trial([0])], "one data set"),
        ([trial([0, 1])], [trial([None, None])], "hits no user"),
        ([], [trial([0])], "without trials"),
    ],
)
def test_hits_that_cannot_be_compared(first, second, says):
    with pytest.raises(StudyError, match=says):
        identical_hits(first, second)


def test_one_seed_cannot_meet_itself():
    one = [trial([0, 1])]
    with pytest.raises(StudyError, match="two seeds"):
        identical_hits(one, one)
