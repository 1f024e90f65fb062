"""Residual k-means against faiss and its own algebra; de-duplication; the Semantic-ID files."""

import json

import numpy as np
import pytest

from studylib import tokenizers
from studylib.bench import text_like
from studylib.config import TokenizerSettings
from studylib.errors import StudyError
from studylib.fusion import project
from studylib.semantic_ids import PrefixTree, SemanticIds
from studylib.tokenizers.collisions import deduplicate
from studylib.tokenizers.residual_kmeans import fit

X = text_like(2000, 64)


def test_codes_rebuild_the_embeddings_up_to_the_reported_error():
    result = fit(X, levels=3, codes=32)
    rebuilt = sum(book[level] for book, level in zip(result.codebooks, result.codes.T, strict=True))
    assert np.square(X - rebuilt).sum() / np.square(X).sum() == pytest.approx(result.error[-1], rel=1e-5)
    assert list(result.error) == sorted(result.error, reverse=True)


def test_every_item_has_its_nearest_centroid_at_every_level():
    result = fit(X, levels=2, codes=16)
    residual = X
    for book, codes in zip(result.codebooks, result.codes.T, strict=True):
        distances = np.square(residual[:, None] - book[None]).sum(-1)
        chosen = distances[np.arange(len(X)), codes]
        np.testing.assert_allclose(chosen, distances.min(1), rtol=1e-4, atol=1e-5)
        residual = residual - book[codes]


def test_no_worse_than_faiss():
    faiss = pytest.importorskip("faiss", reason="faiss-cpu (extra dev) is the oracle of this test")
    residual = X
    for level in range(3):
        clustering = faiss.Kmeans(X.shape[1], 32, niter=25, seed=level + 1, min_points_per_centroid=1)
        clustering.train(residual)
        residual = residual - clustering.centroids[clustering.index.search(residual, 1)[1][:, 0]]
    theirs = np.square(residual).sum() / np.square(X).sum()
    assert fit(X, levels=3, codes=32).error[-1] <= theirs * 1.02


def test_normalised_residuals_rebuild_too():
    plain, normalised = fit(X, codes=32), fit(X, codes=32, normalise_residuals=True)
    assert normalised.error[0] == pytest.approx(plain.error[0])  # the input has unit length already
    assert 0 < normalised.error[2] < normalised.error[1] < normalised.error[0]


def test_same_seed_same_codes_other_seed_other_codes():
    assert (fit(X, codes=32, seed=3).codes == fit(X, codes=32, seed=3).codes).all()
    assert (fit(X, codes=32, seed=3).codes != fit(X, codes=32, seed=4).codes).any()


def test_fewer_different_rows_than_codes():
    """Eight different rows and ten codes: nothing is left over, and the empty codes do no harm."""
    x = np.repeat(np.eye(8, dtype="f4"), 5, axis=0)
    result = fit(x, levels=2, codes=10)
    assert result.error[-1] == pytest.approx(0, abs=1e-6)
    assert len(np.unique(result.codes[:, 0])) >= 8


def test_embeddings_that_cannot_be_tokenized():
    with pytest.raises(StudyError, match=r"5 items cannot fill 8 codes.*fewer"):
        fit(np.ones((5, 3)), codes=8)
    bad = X.copy()
    bad[7, 3] = np.nan
    with pytest.raises(StudyError, match=r"row 7 is not finite.*encode"):
        fit(bad, codes=8)


def test_projection_keeps_angles_and_is_fixed():
    projected = project(X, 64)
    np.testing.assert_allclose(projected @ projected.T, X @ X.T / np.linalg.norm(X, axis=1)[:, None] ** 2, atol=1e-3)
    low = project(X, 16)
    assert low.shape == (2000, 16)
    np.testing.assert_allclose(np.linalg.norm(low, axis=1), 1, rtol=1e-5)
    assert (low == project(X, 16)).all()
    with pytest.raises(StudyError, match=r"row 1 is all zeros.*encode"):
        project(np.array([[1.0, 2], [0, 0]]), 2)


def test_deduplication_makes_ids_unique_and_numbers_each_group():
    codes = np.random.default_rng(0).integers(0, 3, (500, 3))
    longer, size = deduplicate(codes)
    assert len(np.unique(longer, axis=0)) == 500
    assert (longer[:, :3] == codes).all()
    assert size == np.unique(codes, axis=0, return_counts=True)[1].max() == longer[:, 3].max() + 1


def test_the_door_to_all_tokenizers():
    ids = tokenizers.fit(X, TokenizerSettings(codes=32, dims=16), seed=0)
    assert ids.levels == 4
    assert ids.collisions == 0
    assert ids.sizes[:3] == (32, 32, 32)
    plain = tokenizers.fit(X, TokenizerSettings(codes=4, dims=16, collisions="none"), seed=0)
    assert plain.levels == 3
    assert plain.collisions > 0


# -- Semantic IDs -----------------------------------------------------------------------------------------------


def test_tree_holds_every_id_and_nothing_else():
    codes = np.random.default_rng(1).integers(0, 5, (300, 3))
    tree = PrefixTree.build(codes)
    found = []

    def walk(node: int, depth: int, prefix: tuple) -> None:
        if depth == 3:
            found.extend((*prefix, int(item)) for item in tree.group(node))
            return
        for child in range(tree.first[depth][node], tree.first[depth][node + 1]):
            walk(child, depth + 1, (*prefix, int(tree.code[depth][child])))

    walk(0, 0, ())
    assert sorted(found) == sorted((*map(int, row), item) for item, row in enumerate(codes))
    assert (tree.group_sizes[tree.leaf_of] == [sum((codes == row).all(1)) for row in codes]).all()


def test_index_files_round_trip(tmp_path):
    ids = SemanticIds(np.random.default_rng(2).integers(0, 9, (40, 3)), (9, 9, 9))
    ids.save(tmp_path / "X.index.json")
    again = SemanticIds.load(tmp_path / "X.index.json", 40, sizes=(9, 9, 9))
    assert (again.codes == ids.codes).all()
    assert json.loads((tmp_path / "X.index.json").read_text())["3"] == ids.tokens(3)


def test_entropy_of_known_codes():
    ids = SemanticIds(np.array([[0, 0], [1, 0], [2, 0], [3, 0]]), (4, 8))
    assert ids.entropy == (2.0, 0.0)
    assert ids.quality() == {
        "usage": [4, 1], "perplexity": [4.0, 1.0], "collision_rate": 0.0, "relative_error": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"0": ["<a_1>"], "2": ["<a_1>"]}', "item 1 is missing"),
        ('{"0": ["<a_1>"], "1": ["<a_1>", "<b_2>"]}', "item 1 has 2 codes, item 0 has 1"),
        ('{"0": ["<b_1>"]}', "item 0: token '<b_1>' should look like '<a_12>'"),
        ('{"0": "<a_1>"}', "item 0: expected a list of tokens"),
        ('{"0": []}', "item 0: expected a list of tokens"),
        ('{"0": ["<a_-1>"]}', "item 0: token '<a_-1>'"),
        ('{"0": ["<a_1>"], "0": ["<a_2>"]}', "'0' stands twice"),
        ("{}", "no item"),
        ("[]", "not an object"),
    ],
)
def test_malformed_index_files(tmp_path, content, complaint):
    file = tmp_path / "X.index.json"
    file.write_text(content)
    with pytest.raises(StudyError) as error:
        SemanticIds.load(file)
    assert str(file) in str(error.value)
    assert complaint in str(error.value)


def test_index_of_another_data_set(tmp_path):
    SemanticIds(np.zeros((3, 1), dtype=int), (1,)).save(tmp_path / "i.json")
    with pytest.raises(StudyError, match=r"3 items, but the data set has 4.*take the index"):
        SemanticIds.load(tmp_path / "i.json", 4)
    with pytest.raises(StudyError, match=r"item 0, level 1: code 5 is outside 0..3"):
        SemanticIds(np.array([[5]]), (4,))
