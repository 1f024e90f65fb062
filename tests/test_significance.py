"""Tests and intervals against enumeration, closed forms and scipy."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from studylib.analysis.significance import (
    between_groups,
    bootstrap_interval,
    compare,
    holm,
    least_difference,
    randomisation_test,
    relative,
)


def test_randomisation_against_all_sign_flips():
    difference = np.array([0.3, -0.1, 0.4, 0.2, -0.05, 0.6, 0.1, 0.2])
    flips = np.array(list(product([-1, 1], repeat=len(difference))))
    exact = (np.abs(flips @ difference) >= abs(difference.sum()) - 1e-12).mean()
    assert abs(randomisation_test(difference) - exact) < 0.01


def test_users_without_a_difference_change_no_p():
    difference = np.array([1.0, 1, 1, -1, 1, 1])
    padded = np.concatenate([difference, np.zeros(1000)])
    assert randomisation_test(difference) == randomisation_test(padded)


def test_false_alarms_are_as_rare_as_promised():
    rng = np.random.default_rng(0)
    found = [randomisation_test(rng.standard_normal(50), permutations=500) for _ in range(300)]
    assert 0.02 < np.mean(np.array(found) < 0.05) < 0.09
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_bootstrap_interval_is_the_normal_one_for_many_users():
    values = np.random.default_rng(1).integers(0, 2, 4000).astype(float)
    low, high = bootstrap_interval(values)
    error = stats.sem(values)
    assert abs(low - (values.mean() - 1.96 * error)) < 0.1 * error
    assert abs(high - (values.mean() + 1.96 * error)) < 0.1 * error


def test_holm_against_scipy_free_hand_work():
    assert holm([0.01, 0.02, 0.03, 0.5]) == pytest.approx([0.04, 0.06, 0.06, 0.5])
    assert holm([0.5]) == [0.5]
    assert holm([]) == []


def test_comparison_averages_seeds_per_user_first():
    a, b = np.array([[1.0, 0, 1], [1, 0, 0]]), np.array([[0.0, 0, 1], [0, 1, 0]])
    found = compare(a, b)
    assert found.difference == pytest.approx((1 - 0.5 + 0) / 3)
    assert found.low <= found.difference <= found.high


def test_an_interval_over_users_and_seeds_holds_what_it_promises():
    """Five seeds on each side, whose means differ by as much as users do: 95 in 100 intervals hold the truth."""
    draw, held, by_users, alarms = np.random.default_rng(0), 0, 0, 0
    for _ in range(400):
        user = draw.normal(0, 0.3, 400)
        a, b = (user + draw.normal(0, 0.02, (5, 1)) + draw.normal(0, 0.3, (5, 400)) for _ in range(2))
        found = compare(a, b)
        held += found.low < 0 < found.high
        alarms += found.p < 0.05
        by_users += abs(found.difference) < 1.96 * found.by_users
    assert 368 <= held <= 396
    assert alarms <= 400 - held, "p never tells apart what the interval does not"
    assert by_users < 360, "users alone promise too much"


def test_the_same_seeds_on_both_sides_are_pairs():
    """Seeds that move both sides alike change no difference; one seed on each side says nothing of seeds."""
    draw = np.random.default_rng(1)
    b = draw.normal(0, 1, (1, 50)) + draw.normal(0, 1, (3, 1))
    assert compare(b + 0.5, b).by_seeds == pytest.approx(0)
    assert compare(b[:2] + 0.5, b).by_seeds > 0.1, "other seeds are no pairs"
    alone = compare(b[:1] + draw.normal(0.5, 1, (1, 50)), b[:1])
    assert np.isnan(alone.by_seeds)
    assert alone.high - alone.difference == pytest.approx(stats.t.ppf(0.975, 49) * alone.by_users)


def test_sides_of_unequal_seeds_vary_alike():
    """The literal standard error of Student's test for two samples; of one seed and five it is the five's spread."""
    draw = np.random.default_rng(2)
    five = draw.normal(0, 1, (1, 50)) + draw.normal(0, 1, (5, 1))
    for few in (1, 2):
        by_seeds = [compare(a, b).by_seeds for a, b in ((five[:few] + 3, five), (five, five[:few] + 3))]
        means = [side.mean(1) for side in (five[:few], five)]
        squares = sum(float(np.square(side - side.mean()).sum()) for side in means)
        assert by_seeds == pytest.approx([np.sqrt(squares / (few + 3) * (1 / few + 1 / 5))] * 2)
    other = draw.normal(0, 1, (2, 50)) + draw.normal(0, 1, (2, 1))
    ours = stats.ttest_ind(five.mean(1), other.mean(1))
    assert compare(five, other).by_seeds == pytest.approx((five.mean() - other.mean()) / ours.statistic)


def test_the_interval_of_a_relative_change_holds_what_it_promises():
    """Half of a mean that itself varies by seed and user: 95 in 100 intervals hold -50 %."""
    draw, held = np.random.default_rng(3), 0
    for _ in range(400):
        user = draw.normal(0, 0.3, 300)
        a, b = (mean * (1 + user + draw.normal(0, 0.05, (5, 1)) + draw.normal(0, 0.3, (5, 300))) for mean in (0.5, 1.0))
        found = relative(a, b)
        held += found.low < -0.5 < found.high
    assert 368 <= held <= 396


def test_a_relative_change_is_told_apart_where_the_difference_is():
    """Both bounds, literally: at the bound the difference's own interval ends at 0."""
    draw, differ = np.random.default_rng(5), 0
    for _ in range(50):
        b = np.abs(draw.normal(1, 0.6, (3, 60)) + draw.normal(0, 0.05, (3, 1)))
        a = b * draw.normal(0.97, 0.1, (3, 60)) + draw.normal(0, 0.2, (3, 60))
        found, difference = relative(a, b), compare(a, b)
        assert (found.low <= 0 <= found.high) == (difference.low <= 0 <= difference.high)
        assert compare(a, (1 + found.low) * b).low == pytest.approx(0, abs=1e-6)
        assert compare(a, (1 + found.high) * b).high == pytest.approx(0, abs=1e-6)
        differ += difference.low > 0 or difference.high < 0
    assert 5 < differ < 50
    assert relative(b, draw.normal(0.001, 1, (3, 60))).high == np.inf, "what may be nothing divides by nothing"


def test_a_fixed_share_has_no_interval():
    b = np.abs(np.random.default_rng(4).normal(1, 0.5, (3, 40)))
    found = relative(0.25 * b, b)
    assert (found.difference, found.low, found.high) == pytest.approx((-0.75, -0.75, -0.75))
    assert found.p == compare(0.25 * b, b).p < 0.05
    assert compare(0.25 * b, b).high - compare(0.25 * b, b).low > 0.1, "the difference itself varies with b"
    assert np.isnan(relative(b, 0 * b).low)


def test_other_users_are_refused():
    with pytest.raises(ValueError, match="same users"):
        compare(np.zeros((1, 3)), np.zeros((1, 4)))


def per_user(rng: np.random.Generator, seeds: int, users: np.ndarray) -> np.ndarray:
    """A group's metric by seed and user: ``users`` plus what it, its users, and its seeds have of their own."""
    own, noise = 0.3 * rng.standard_normal((1, len(users))), rng.standard_normal((seeds, len(users)))
    return users + own + noise + 0.05 * rng.standard_normal((seeds, 1))


def test_two_groups_are_compared_as_a_pair_is():
    rng = np.random.default_rng(0)
    five, one = (per_user(rng, seeds, rng.standard_normal(80)) for seeds in (5, 1))
    found, pair = between_groups([five, one]), compare(five, one)
    error = np.hypot(pair.by_users, pair.by_seeds)
    assert (found["p"], found["pairs"]) == (pair.p, 1)
    assert found["sd of means"] == pytest.approx(abs(pair.difference) / np.sqrt(2))
    assert found["sd by chance"] == pytest.approx(error / np.sqrt(2))
    assert found["least difference"] == least_difference(error, pair.free) > 2.81 * error
    assert found["sd of a seed"] == pytest.approx(five.mean(1).std(ddof=1))
    assert found["seeds free"] == 4
    assert between_groups([one, five]) == pytest.approx(found)


@pytest.mark.parametrize("free", [1, 3, 30])
def test_the_least_difference_is_found_four_times_in_five(free):
    rng = np.random.default_rng(0)
    error = np.sqrt(rng.chisquare(free, 40_000) / free)  # as a test sees it, truly 1
    t = (least_difference(1.0, free) + rng.standard_normal(40_000)) / error
    assert (np.abs(t) > stats.t.ppf(0.975, free)).mean() == pytest.approx(0.8, abs=0.01)


def test_a_pair_of_one_seed_each_says_nothing_of_seeds():
    rng = np.random.default_rng(0)
    one, other, two = (per_user(rng, seeds, rng.standard_normal(20)) for seeds in (1, 1, 2))
    assert np.isnan(list(between_groups([one, other]).values())).all()
    assert between_groups([one, other, two])["pairs"] == 2


def test_equal_groups_differ_by_what_chance_promises():
    """Where only users and seeds differ: no less than the variance of the means, and few false alarms. More than it,
    since what one user of one seed has alone counts among users and among seeds."""
    rng, found = np.random.default_rng(0), []
    for _ in range(80):
        users = rng.standard_normal(60)
        found.append(between_groups([per_user(rng, seeds, users) for seeds in (4, 4, 3)]))
    variance = np.square([[row["sd of means"], row["sd by chance"]] for row in found]).mean(0)
    assert 0.9 < variance[1] / variance[0] < 1.8
    assert np.mean([row["p"] < 0.05 for row in found]) < 0.09
