"""Tokenizers against faiss, vector-quantize-pytorch and their own algebra; the Semantic-ID files."""

import json

import numpy as np
import pytest
import torch

from studylib import tokenizers
from studylib.bench.tokenizing import text_like
from studylib.config import TokenizerSettings, trial
from studylib.errors import StudyError
from studylib.fusion import project
from studylib.semantic_ids import PrefixTree, SemanticIds
from studylib.tokenizers import balanced_kmeans, opq, r_vq, residual, rq_vae
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


def test_normalised_residuals_lower_the_error_level_by_level():
    """That codes rebuild it: test_the_error_after_matching_is_that_of_the_new_codes."""
    plain, normalised = fit(X, codes=32), fit(X, codes=32, normalise_residuals=True)
    assert normalised.error[0] == pytest.approx(plain.error[0])  # the input has unit length already
    assert 0 < normalised.error[2] < normalised.error[1] < normalised.error[0]


def test_normalised_residuals_use_the_later_levels_more_evenly():
    """Items whose distances to their centroids differ tenfold: without it the near ones share one code of level 2."""
    rng = np.random.default_rng(0)
    length = np.where(np.arange(2000) % 2, 0.5, 0.05)[:, None]
    x = np.eye(16, dtype="f4")[rng.integers(0, 16, 2000)] + length * rng.standard_normal((2000, 16)) / 4
    chosen = TokenizerSettings(levels=2, codes=32, dims=16, collisions="none")
    plain, even = (
        tokenizers.fit(x, chosen.model_copy(update={"normalise_residuals": how}), 0) for how in (False, True)
    )
    assert even.quality()["perplexity"][1] > 1.2 * plain.quality()["perplexity"][1]


@pytest.mark.parametrize("name", ["residual-kmeans", "r-vq"])
def test_items_alone_with_their_code_do_not_become_a_centroid_of_the_next_level(name):
    """Their residual is zero, and the origin is nearer to most unit residuals than any other unit residual is."""
    rng = np.random.default_rng(0)
    kinds = np.repeat(np.eye(20, 64, dtype="f4"), 30, axis=0) + rng.normal(0, 0.01, (600, 64)).astype("f4")
    lonely = np.eye(64, dtype="f4")[20:]
    chosen = TokenizerSettings(name=name, codes=80, dims=64, normalise_residuals=True, collisions="none")
    result = tokenizers.quantise(np.concatenate([kinds, lonely]), chosen, seed=0)
    if name == "residual-kmeans":  # the others' codes are no means of their items alone
        assert (np.bincount(result.codes[:, 0])[result.codes[600:, 0]] == 1).sum() >= 40
    for level in (1, 2):
        assert np.bincount(result.codes[:600, level]).max() < 100


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


# -- all tokenizers ---------------------------------------------------------------------------------------------

NAMES = ["residual-kmeans", "r-vq", "rq-vae", "cost", "opq", "balanced-kmeans"]
SMALL = X[:400]


def small(name: str, **more) -> TokenizerSettings:
    if name == "opq":
        pytest.importorskip("faiss", reason="OPQ's rotation is found by faiss-cpu (extra dev)")
    return TokenizerSettings(**{"name": name, "levels": 2, "codes": 16, "dims": 17, "iterations": 3} | more)


@pytest.mark.parametrize("name", NAMES)
def test_every_tokenizer_through_the_door(name):
    ids = tokenizers.fit(SMALL, small(name), seed=1)
    assert ids.codes.shape == (400, 3)
    assert ids.sizes[:2] == (16, 16)
    assert ids.collisions == 0
    assert 0 < ids.error[1] < ids.error[0] < 1
    assert (ids.codes == tokenizers.fit(SMALL, small(name), seed=1).codes).all()
    assert (ids.codes != tokenizers.fit(SMALL, small(name), seed=2).codes).any()


@pytest.mark.parametrize("name", NAMES)
def test_the_report_follows_every_level(name):
    ids = tokenizers.fit(SMALL, small(name, collisions="none"), seed=0)
    *rows, resolved = ids.report
    assert {row["level"] for row in rows} == {1, 2}
    for level in (1, 2):
        own = [row for row in rows if row["level"] == level]
        assert [row["epoch"] for row in own] == list(range(1, len(own) + 1))
        assert all(1 <= row["perplexity"] <= row["usage"] + 1e-3 <= 16 + 1e-3 for row in own)
        assert all(0 <= row["collisions"] <= 400 and 0 < row["error"] < 1.5 for row in own)
    assert own[-1]["error"] == pytest.approx(ids.error[-1], rel=0.3)
    assert resolved == {"collisions": "none", "before": ids.collisions, "after": ids.collisions, "rounds": 0}
    json.dumps(ids.report)


@pytest.mark.parametrize("name", NAMES)
def test_every_tokenizer_refuses_what_is_not_finite_and_too_few_items(name):
    bad = SMALL.copy()
    bad[7, 3] = np.nan
    with pytest.raises(StudyError, match=r"row 7 is not finite.*encode"):
        tokenizers.fit(bad, small(name), seed=0)
    with pytest.raises(StudyError, match=r"10 items cannot fill 16 codes.*fewer"):
        tokenizers.fit(SMALL[:10], small(name), seed=0)


@pytest.mark.parametrize("name", NAMES)
def test_many_rows_are_fitted_on_a_sample_and_assigned_in_chunks(name, monkeypatch):
    chosen = small(name, collisions="none", iterations=5)
    every = tokenizers.fit(X, chosen, seed=0)
    monkeypatch.setattr(residual, "SAMPLE", 1200)
    for module in (residual, rq_vae, opq, tokenizers):
        monkeypatch.setattr(module, "CHUNK", 700)
    sampled = tokenizers.fit(X, chosen, seed=0)
    assert sampled.codes.shape == every.codes.shape
    assert sampled.error[-1] == pytest.approx(every.error[-1], rel=0.1)
    zero = X.copy()
    zero[1999] = 0
    with pytest.raises(StudyError, match=r"row 1999 is all zeros.*encode"):
        tokenizers.fit(zero, chosen, seed=0)


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_are_all_alike_do_not_end_in_nan(name):
    x = np.repeat(np.eye(3, 20, dtype="f4"), 20, axis=0)
    ids = tokenizers.fit(x, small(name, codes=8), seed=0)
    assert ids.collisions == 0
    assert np.isfinite(ids.error).all()


def test_a_collapsed_level_is_refused(monkeypatch):
    settings = TokenizerSettings(codes=32, dims=16, iterations=2)
    found = tokenizers.quantise(X, settings, 0)
    found.codes[:, 0] = 0
    monkeypatch.setattr(tokenizers, "quantise", lambda *_: found)
    with pytest.raises(StudyError, match=r"level 1 collapsed, it uses 1 of 32 codes;.*collapse to less"):
        tokenizers.fit(X, settings, 0)
    assert tokenizers.fit(X, settings.model_copy(update={"collapse": 0.0}), 0).usage[0] == 1
    assert tokenizers.fit(np.repeat(X[:20], 100, axis=0), settings, 0).usage[0] == 1  # 20 rows have no 32 codes


@pytest.mark.parametrize(
    ("name", "setting", "readers"),
    [
        ("rq-vae", {"normalise_residuals": True}, "residual-kmeans, balanced-kmeans, r-vq"),
        ("residual-kmeans", {"decay": 0.5}, "r-vq"),
        ("opq", {"lr": 0.1}, "r-vq, rq-vae, letter, cost"),
        ("rq-vae", {"diversity": 1.0}, "letter"),
    ],
)
def test_a_setting_that_the_tokenizer_does_not_read_is_refused(name, setting, readers):
    with pytest.raises(StudyError, match=f"{next(iter(setting))} is read by {readers}, not by {name}"):
        trial(data="planted", features="minilm", tokenizer={"name": name} | setting)


def test_embeddings_that_are_no_table_of_numbers():
    for wrong in (X[0], X[None], X.astype(complex), X.astype(str)):
        with pytest.raises(StudyError, match=r"tokenizer: embeddings of shape .*; give real numbers \[items, dims\]"):
            tokenizers.fit(wrong, TokenizerSettings(codes=32, dims=16), seed=0)


@pytest.mark.parametrize("changes", [{"name": "rq-vae"}, {"name": "r-vq", "update": "gradient"}])
def test_a_fit_that_diverged_is_refused(changes):
    with pytest.raises(StudyError, match=r"tokenizer (r-vq|rq-vae): the fit diverged, .* give a smaller lr than 10"):
        tokenizers.fit(X, TokenizerSettings(codes=32, dims=16, iterations=10, lr=10, collapse=0, **changes), 0)


def test_new_settings_leave_old_descriptions_alone():
    assert TokenizerSettings().model_dump() == {
        "name": "residual-kmeans", "levels": 3, "codes": 256, "dims": 128, "iterations": 25,
        "normalise_residuals": False, "collisions": "dedup",
    }  # fmt: skip
    assert TokenizerSettings(name="r-vq", decay=0.9).model_dump()["decay"] == 0.9


# -- R-VQ -------------------------------------------------------------------------------------------------------


def test_one_step_of_moving_averages_is_that_of_vector_quantize_pytorch():
    package = pytest.importorskip("vector_quantize_pytorch", reason="the oracle of this test (extra dev)")
    x, start = torch.tensor(X[:256]), torch.tensor(X[300:316])
    theirs = package.VectorQuantize(dim=64, codebook_size=16, decay=0.9, threshold_ema_dead_code=0)
    theirs._codebook.embed.data.copy_(start[None])
    theirs._codebook.embed_avg.data.copy_(start[None])
    theirs.train()
    _, nearest, _ = theirs(x[None])
    ours = r_vq.MovingAverages(start.clone(), decay=0.9)
    assert (residual.assign(x, start, x.square().sum(1))[0] == nearest[0]).all()
    ours.step(x, nearest[0])
    torch.testing.assert_close(ours.centroids, theirs._codebook.embed[0])


def test_one_gradient_step_is_that_of_the_codebook_loss():
    x, start = torch.tensor(X[:256]), torch.tensor(X[300:316])
    nearest, _ = residual.assign(x, start, x.square().sum(1))
    book = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([book], lr=1e-2)
    (0.5 * (x - book[nearest]).square().sum(1).mean()).backward()
    optimiser.step()
    ours = r_vq.Gradient(start.clone(), lr=1e-2)
    ours.step(x, nearest)
    torch.testing.assert_close(ours.centroids.grad, book.grad)
    torch.testing.assert_close(ours.centroids, book.detach())


@pytest.mark.parametrize("update", ["ema", "gradient"])
@pytest.mark.parametrize("normalise", [False, True])
def test_learned_codebooks_come_close_to_k_means(update, normalise):
    ours = r_vq.fit(X, codes=32, update=update, normalise_residuals=normalise, batch=128)
    assert ours.error[-1] <= fit(X, codes=32, normalise_residuals=normalise).error[-1] * 1.1


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_dead_codes_come_back(update, monkeypatch):
    """A start with all codes but one far from every row: without the restart one code would serve all."""
    far = torch.full((16, 64), 50.0)
    far[0] = 0
    monkeypatch.setattr(r_vq, "plus_plus", lambda *_: far.clone())
    assert len(np.unique(r_vq.fit(X, levels=1, codes=16, iterations=15, update=update, lr=0.01).codes)) >= 15
    monkeypatch.setattr(r_vq, "restart_dead", lambda *_: [])
    assert len(np.unique(r_vq.fit(X, levels=1, codes=16, iterations=15, update=update, lr=0.01).codes)) == 1


def test_residual_codes_are_comparable_to_those_of_faiss():
    faiss = pytest.importorskip("faiss", reason="faiss-cpu (extra dev) is the oracle of this test")
    theirs = faiss.ResidualQuantizer(64, 3, 5)
    theirs.max_beam_size, theirs.train_type, theirs.cp.niter = 1, faiss.ResidualQuantizer.Train_default, 25
    theirs.train(X)
    error = np.square(X - theirs.decode(theirs.compute_codes(X))).sum() / np.square(X).sum()
    for tokenizer in (r_vq, balanced_kmeans):
        assert tokenizer.fit(X, codes=32).error[-1] <= error * 1.1
    assert fit(X, codes=32).error[-1] <= error * 1.02


# -- RQ-VAE -----------------------------------------------------------------------------------------------------


def test_whitening_whitens_and_can_be_undone():
    x = torch.tensor(X)
    whitening = rq_vae.Whitening.of(x)
    white = whitening.white(x)
    torch.testing.assert_close(white.T @ white / len(x), torch.eye(64), atol=1e-3, rtol=0)
    torch.testing.assert_close(whitening.original(white), x, atol=1e-5, rtol=1e-4)


def tiny_vae() -> tuple[rq_vae.RqVae, torch.Tensor, torch.Tensor]:
    x = torch.tensor(X[:200])
    whitening = rq_vae.Whitening.of(x)
    torch.manual_seed(0)
    model, white = rq_vae.RqVae(whitening.spread, 2, 8, 16, 12), whitening.white(x)
    model.start(white, torch.Generator().manual_seed(0))
    return model, white, whitening.spread


def test_a_code_of_an_autoencoder_that_no_item_takes_comes_back():
    model, white, _ = tiny_vae()
    with torch.no_grad():
        model.codebooks[0, 1:] = 50.0
    optimiser = torch.optim.Adam(model.parameters())
    rq_vae.loss(model, white).backward()
    optimiser.step()
    taken = model.quantise(model.encoder(white))[0]
    counts = [torch.bincount(codes, minlength=8).float() for codes in taken]
    assert (counts[0] > 0).sum() == 1
    rq_vae.restart(model, optimiser, white, counts, torch.Generator().manual_seed(0))
    assert len(model.quantise(model.encoder(white))[0][0].unique()) == 8
    assert not optimiser.state[model.codebooks]["exp_avg"][0, 1:].any()


def test_training_starts_at_k_means_on_principal_components():
    model, white, spread = tiny_vae()
    torch.testing.assert_close(model.encoder(white), (white * spread)[:, :16])
    torch.testing.assert_close(model.decoder(model.encoder(white))[:, :16], white[:, :16], atol=1e-4, rtol=1e-4)
    assert all(len(codes.unique()) == 8 for codes in model.quantise(model.encoder(white))[0])


def test_the_gradients_of_the_loss_are_where_they_belong():
    """The codebooks learn from ||sg[r] - e||^2 alone; the encoder from what is rebuilt, straight through, and 0.25 of
    ||r - sg[e]||^2."""
    model, white, spread = tiny_vae()
    rq_vae.loss(model, white).backward()
    latent = model.encoder(white).detach().requires_grad_()
    codes, residuals, _ = model.quantise(latent)
    for level, book in enumerate(model.codebooks.detach()):
        pull = torch.zeros_like(book).index_add_(0, codes[level], 2 * (book[codes[level]] - residuals[level].detach()))
        torch.testing.assert_close(model.codebooks.grad[level], pull / len(white))
    quantised = sum(book[column] for book, column in zip(model.codebooks.detach(), codes, strict=True))
    through = quantised.clone().requires_grad_()
    ((model.decoder(through) - white) * spread).square().sum(1).mean().backward()
    left, wanted = latent.detach(), through.grad
    for book, column in zip(model.codebooks.detach(), codes, strict=True):
        left = left - book[column]
        wanted = wanted + rq_vae.COMMITMENT * 2 * left / len(white)
    torch.testing.assert_close(model.encoder.linear.bias.grad, wanted.sum(0), atol=1e-5, rtol=1e-4)


def test_rq_vae_rebuilds_about_as_well_as_k_means_and_uses_its_codes():
    result = rq_vae.fit(X, codes=32, iterations=10, latent=48, hidden=32, batch=128)
    assert result.error[-1] <= fit(X, codes=32).error[-1] * 1.1
    assert len(np.unique(result.codes[:, 0])) >= 30
    assert result.error_of(result.codes[:, -1]) == pytest.approx(result.error[-1], rel=1e-5)
    first = next(row["error"] for row in result.report if row["level"] == 3)
    assert result.error[-1] < first


# -- OPQ and balanced k-means -----------------------------------------------------------------------------------


def test_opq_is_no_worse_than_that_of_faiss():
    faiss = pytest.importorskip("faiss", reason="faiss-cpu (extra dev) is the oracle of this test")
    x = X[:, :63].copy()
    theirs = faiss.IndexPreTransform(faiss.OPQMatrix(63, 3), faiss.IndexPQ(63, 3, 5))
    theirs.train(x)
    error = np.square(x - theirs.sa_decode(theirs.sa_encode(x))).sum() / np.square(x).sum()
    ours = opq.fit(x, codes=32)
    assert ours.error[-1] <= error * 1.05
    assert ours.error_of(ours.codes[:, -1]) == pytest.approx(ours.error[-1], rel=1e-5)
    turn = opq.rotation(x, 3, 32, 5)
    np.testing.assert_allclose(turn @ turn.T, np.eye(63), atol=1e-5)


@pytest.mark.parametrize(("items", "codes"), [(2000, 32), (333, 16), (50, 50), (17, 16)])
def test_balanced_codes_keep_to_their_capacity(items, codes):
    result = balanced_kmeans.fit(X[:items], levels=2, codes=codes, iterations=5)
    for column in result.codes.T:
        assert np.bincount(column).max() <= -(-items // codes)


@pytest.mark.parametrize("seed", range(5))
def test_balanced_assignment_comes_close_to_the_cheapest(seed):
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(seed)
    x, centroids = rng.standard_normal((80, 6)).astype("f4"), rng.standard_normal((8, 6)).astype("f4")
    cost = np.square(x[:, None] - centroids).sum(-1)
    rows, columns = linear_sum_assignment(np.repeat(cost, 10, axis=1))
    taken, squared, _ = balanced_kmeans.assign_balanced(torch.tensor(x), torch.tensor(centroids), torch.zeros(8))
    np.testing.assert_allclose(squared.numpy(), cost[np.arange(80), taken.numpy()], rtol=1e-3, atol=1e-4)
    assert np.bincount(taken).max() == 10
    assert squared.sum() <= cost[rows, columns // 10].sum() * 1.05


def test_balanced_capacity_holds_over_chunks(monkeypatch):
    monkeypatch.setattr(balanced_kmeans, "sample_size", lambda codes: 500)
    monkeypatch.setattr(balanced_kmeans, "PART", 95)
    x = torch.tensor(text_like(1003, 16))
    assert torch.bincount(balanced_kmeans.place(x, x[:10])).max() <= 101


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
