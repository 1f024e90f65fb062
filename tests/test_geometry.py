"""Measures of embedding spaces: hand work, invariances, chance levels, and pictures that repeat."""

import numpy as np
import pytest

from studylib.analysis import geometry
from studylib.analysis.geometry import (
    aligned_rank,
    centred,
    cka_values,
    dispersion,
    linear_cka,
    mean_cosine,
    modality_gap,
    mutual_knn,
    own_rank,
    participation_ratio,
    relational_rank,
)
from studylib.errors import StudyError


def gaussian(items: int, dims: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((items, dims))


def rotation(dims: int, seed: int = 9) -> np.ndarray:
    return np.linalg.qr(gaussian(dims, dims, seed))[0]


def two_views(items: int = 300) -> dict[str, np.ndarray]:
    """The same eight planted factors, seen through two unrelated maps of different widths, with a mean of their own."""
    factors = gaussian(items, 8)
    return {
        "text": factors @ gaussian(8, 24, 1) + 0.5 * gaussian(items, 24, 2) + 2,
        "image": factors @ gaussian(8, 16, 3) + 0.5 * gaussian(items, 16, 4) - 1,
    }


# -- one space -------------------------------------------------------------------------------------------------


def test_mean_cosine_against_all_pairs():
    x = gaussian(40, 5) + 1
    cosines = np.corrcoef(np.c_[x, -x])  # the rows' means are zero now, so that a correlation is a cosine
    assert mean_cosine(x) == pytest.approx(cosines[~np.eye(40, dtype=bool)].mean())
    assert mean_cosine(3 * x @ rotation(5)) == pytest.approx(mean_cosine(x))


def test_participation_ratio_counts_directions():
    x = np.vstack([np.eye(6), -np.eye(6)])
    assert participation_ratio(x) == pytest.approx(6)
    assert participation_ratio(x * [1, 1, 1, 0, 0, 0] + 5) == pytest.approx(3)
    wide = gaussian(10, 30)
    eigenvalues = np.linalg.eigvalsh(np.cov(wide.T))
    assert participation_ratio(wide) == pytest.approx(eigenvalues.sum() ** 2 / np.square(eigenvalues).sum())


def test_a_narrow_cone_is_not_dispersed():
    """Mean squared distance from the centroid = (1 - 1/n) (1 - mean cosine): one goes up as the other goes down."""
    x = gaussian(50, 4) + 1
    unit = geometry.unit(x)
    squared = np.square(unit - unit.mean(0)).sum(1).mean()
    assert squared == pytest.approx((1 - 1 / 50) * (1 - mean_cosine(x)))
    assert dispersion(x) <= np.sqrt(squared)
    assert dispersion(x + 5) < dispersion(x)
    assert mean_cosine(x + 5) > mean_cosine(x)


# -- two spaces ------------------------------------------------------------------------------------------------


def test_gap_is_where_spaces_lie_and_nothing_else():
    x = gaussian(200, 6)
    assert modality_gap(x + 3, x - 3) > 1.5
    assert modality_gap(centred(x + 3), centred(x - 3)) < 0.2
    assert modality_gap(x, x[::-1]) == pytest.approx(0, abs=1e-12)


def test_gap_between_unrelated_axes_is_the_two_cones():
    x, y = gaussian(500, 200) + 0.5, (gaussian(500, 200, 1) + 1) @ rotation(200)
    assert modality_gap(x, y) == pytest.approx(np.sqrt(mean_cosine(x) + mean_cosine(y)), rel=0.05)


def test_cka_knows_no_rotation_scale_or_place():
    x = gaussian(60, 8)
    assert linear_cka(x, 7 * x @ rotation(8) + 3) == pytest.approx(1)
    views = two_views()
    assert linear_cka(*views.values()) == pytest.approx(linear_cka(*reversed(views.values())))
    assert linear_cka(views["text"], views["image"] @ rotation(16)) == pytest.approx(linear_cka(*views.values()))


def test_cka_of_permuted_rows_is_the_directions_over_the_items():
    x, y = two_views(80).values()
    rng = np.random.default_rng(0)
    found = np.mean([linear_cka(x, y[rng.permutation(80)]) for _ in range(400)])
    assert found == pytest.approx(np.sqrt(participation_ratio(x) * participation_ratio(y)) / 79, rel=0.03)


def test_cka_by_hand():
    """Centred columns at right angles share nothing; [1 1 -1 -1] and [1 0 0 -1] have a squared correlation of 1/2."""
    a, b = np.array([[1.0, 1, -1, -1]]).T, np.array([[1.0, -1, 1, -1]]).T
    assert linear_cka(a, b) == 0
    assert linear_cka(a, np.array([[2.0, 1, 1, -0.0]]).T + 1) == pytest.approx(1 / 2)


def test_cka_is_the_literal_hsic():
    """Kornblith et al.'s Eq. 3 over HSIC, entry by entry: tr(K H L H) of n x n kernels, H taking off the means."""
    x, y = gaussian(9, 4), gaussian(9, 6, 1) + 2

    def hsic(first, second):
        k, other = ([[float(a @ b) for b in space] for a in space] for space in (first, second))
        h = [[(i == j) - 1 / 9 for j in range(9)] for i in range(9)]

        def product(a, b):
            return [[sum(a[i][m] * b[m][j] for m in range(9)) for j in range(9)] for i in range(9)]

        whole = product(product(k, h), product(other, h))
        return sum(whole[i][i] for i in range(9))

    assert linear_cka(x, y) == pytest.approx(hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y)))


@pytest.mark.parametrize("items", [12, 60])  # fewer than the widest space has dims, and more
def test_an_items_share_of_cka_is_what_cka_changes_with_its_weight(items):
    """Kornblith et al.'s ratio where one item counts a little more than the others, by weighted means and products."""
    x, y = gaussian(items, 7) + 1, gaussian(items, 20, 1) * np.arange(1, 21)

    def weighted(weights):
        weights = weights / weights.sum()
        a, b = (space - weights @ space for space in (x, y))
        both, one, other = (np.square((p.T * weights) @ q).sum() for p, q in ((b, a), (a, a), (b, b)))
        return both / np.sqrt(one * other)

    values, more = cka_values(x, y), 1e-5
    assert values.mean() == pytest.approx(linear_cka(x, y)) == pytest.approx(weighted(np.ones(items)))
    for item in range(0, items, 5):
        heavier = weighted(np.ones(items) + more * items * (np.arange(items) == item))
        assert values[item] - values.mean() == pytest.approx((heavier - values.mean()) / more, rel=1e-2, abs=1e-3)


def test_the_interval_of_cka_is_its_spread_over_samples():
    """Samples of one population of items: what the influence of its items says of one is how all of them spread."""
    views = two_views(20_000).values()
    samples = [np.random.default_rng(seed).permutation(20_000)[:400] for seed in range(100)]
    found = [cka_values(*(view[sample] for view in views)) for sample in samples]
    spread, said = np.std([values.mean() for values in found], ddof=1), [np.std(values) / 20 for values in found]
    assert np.mean(said) == pytest.approx(spread, rel=0.2)  # of 100 samples a spread is known to 7 per cent


def test_mutual_neighbours_are_those_of_a_double_loop():
    x, y = (gaussian(30, 5, seed) for seed in range(2))

    def nearest(space, item, k):
        cosine = {
            other: space[item] @ space[other] / np.linalg.norm(space[item]) / np.linalg.norm(space[other])
            for other in range(30)
            if other != item
        }
        return set(sorted(cosine, key=cosine.get, reverse=True)[:k])

    for k in (1, 5, 12):
        expected = [len(nearest(x, item, k) & nearest(y, item, k)) / k for item in range(30)]
        assert mutual_knn(x, y, k).tolist() == pytest.approx(expected)


def test_the_participation_ratio_is_that_of_the_eigenvalues():
    x = gaussian(40, 6) * np.arange(1, 7)
    values = np.linalg.eigvalsh(np.cov(x.T))
    assert participation_ratio(x) == pytest.approx(sum(values) ** 2 / sum(value**2 for value in values))


def test_neighbours_by_hand():
    """Angles on a circle: in x items 0, 1, 2 stand together and 3, 4 apart; in y item 2 has gone over to 3 and 4."""
    x, y = (np.c_[np.cos(angles), np.sin(angles)] for angles in ([0, 0.1, 0.3, 2, 2.1], [0, 0.1, 1.9, 2, 2.3]))
    assert mutual_knn(x, y, k=1).tolist() == [1, 1, 0, 0, 1]
    assert mutual_knn(x, y, k=4).tolist() == [1, 1, 1, 1, 1]


def test_neighbours_know_no_rotation():
    x, y = two_views().values()
    assert (mutual_knn(x, 2 * x @ rotation(24)) == 1).all()
    assert (mutual_knn(x, y) == mutual_knn(x @ rotation(24), y @ rotation(16))).all()


def test_own_rank_by_hand():
    x = np.eye(3)
    assert own_rank(x, x).tolist() == [1, 1, 1]
    assert own_rank(x, x[[1, 2, 0]]).tolist() == [2.5, 2.5, 2.5]  # one is ahead, two stand at a cosine of 0
    assert own_rank(x, np.ones((3, 3))).tolist() == [2, 2, 2]  # nothing told apart is the middle, not the top


def test_work_in_pieces_is_the_same_work(monkeypatch):
    x, y = gaussian(50, 6), gaussian(50, 6, 1)
    whole = own_rank(x, y), mutual_knn(x, y)
    monkeypatch.setattr(geometry, "ROWS", 7)
    for found, expected in zip((own_rank(x, y), mutual_knn(x, y)), whole, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_relations_find_what_axes_hide():
    text, image = two_views().values()
    assert np.median(own_rank(text[:, :16], image)) > 75  # of 300: unrelated axes
    assert np.median(relational_rank(text, image)) < 15  # of 150: who is like whom
    assert (relational_rank(text, text @ rotation(24)) == 1).all()


def test_no_item_gives_itself_away():
    ranks = relational_rank(gaussian(400, 20), gaussian(400, 20, 1))
    assert len(ranks) == 200
    assert abs(ranks.mean() - 100.5) < 4 * np.sqrt(200**2 / 12 / 200)


def test_a_map_that_some_items_teach_finds_the_others():
    text, image = two_views().values()
    ranks = aligned_rank(image, text)
    assert np.median(ranks) < 4  # of 150, where relations alone find it at 15
    assert (aligned_rank(text @ rotation(24), text) == 1).all()
    chance = aligned_rank(gaussian(400, 20), gaussian(400, 20, 1))
    assert abs(chance.mean() - 100.5) < 4 * np.sqrt(200**2 / 12 / 400)
    wide = aligned_rank(image, np.hstack([text, gaussian(300, 400, 7)]))  # more columns than items: the other formula
    assert np.median(wide) < 30


def test_a_map_is_the_ridge_regression_of_the_textbook():
    x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (gaussian(40, 5), gaussian(40, 7, 1)))
    told = np.arange(40) < 25
    a, b = y[told] - y[told].mean(0), x[told] - x[told].mean(0)
    penalty = 0.3 * np.square(a).sum() / 7
    stacked = np.vstack([a, np.sqrt(penalty) * np.eye(7)])
    weights = np.linalg.lstsq(stacked, np.vstack([b, np.zeros((7, 5))]), rcond=None)[0]
    literal = own_rank((y[~told] - y[told].mean(0)) @ weights, x[~told] - x[told].mean(0))
    assert geometry._mapped_rank(x, y, told, ~told, 0.3).tolist() == literal.tolist()


def test_the_penalty_is_searched_for(monkeypatch):
    """Wide noise wants much of it, a clean map none: the search does as well as the better end, in either case."""
    rng = np.random.default_rng(5)
    factors = rng.standard_normal((160, 6))
    seen = factors @ rng.standard_normal((6, 12))
    noisy = np.hstack([factors + rng.standard_normal((160, 6)), rng.standard_normal((160, 70))])
    clean = factors * 10.0 ** -np.arange(6)  # of which a penalty hides the last directions

    def found(y, penalties):
        monkeypatch.setattr(geometry, "PENALTIES", penalties)
        return (1 / aligned_rank(seen, y)).mean()

    grid, least, most = geometry.PENALTIES, geometry.PENALTIES[:1], geometry.PENALTIES[-1:]
    for y, better, worse in ((noisy, most, least), (clean, least, most)):
        assert found(y, better) > 1.15 * found(y, worse)
        assert found(y, grid) > 0.95 * found(y, better)


def test_no_variant_teaches_the_map_its_twin():
    """Every item twice, of unrelated spaces: a map that was taught the twin would find it again."""
    twice = np.arange(400) // 2
    x, y = gaussian(200, 90)[twice], gaussian(200, 90, 1)[twice]
    apart, taught = aligned_rank(x, y, twice), aligned_rank(x, y)
    assert np.median(taught) < 30 < 80 < np.median(apart)


# -- errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x: aligned_rank(x, x), "6 products are too few"),
        (lambda x: linear_cka(x, x[1:]), "same items in the same order"),
        (lambda x: own_rank(x, x[:, 1:]), "studylib.fusion.project"),
        (lambda x: modality_gap(x, x[:, 1:]), "widths 4 and 3"),
        (lambda x: mutual_knn(x, x, k=6), "6 items have no 6 neighbours"),
        (lambda x: mean_cosine(np.where(np.arange(6)[:, None] == 2, np.nan, x)), "row 2 .* not a finite number"),
        (lambda x: dispersion(np.where(np.arange(6)[:, None] == 2, 0, x)), "row 2 is all zeros"),
        (lambda x: participation_ratio(x[:1]), "two items or more"),
        (lambda x: participation_ratio(x[[0] * 6]), "all 6 rows are the same"),
        (lambda x: linear_cka(x, x[[0] * 6]), "all 6 rows are the same"),
    ],
)
def test_bad_input_is_named_with_its_cure(call, says):
    with pytest.raises(StudyError, match=says) as error:
        call(np.abs(gaussian(6, 4)) + 0.1)
    assert "\n" not in str(error.value)
