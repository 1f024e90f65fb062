"""LETTER: its two terms against literal loops, what each does to the codes, and what is left of it without them."""

import numpy as np
import pytest
import torch

from studylib.bench.tokenizing import text_like
from studylib.errors import StudyError
from studylib.tokenizers import letter, rq_vae

X = text_like(400, 24)
RNG = np.random.default_rng(0)
H = RNG.standard_normal((400, 8)).astype("f4")
SMALL = {"levels": 2, "codes": 16, "iterations": 3, "latent": 8, "hidden": 16, "batch": 64, "clusters": 4}


def perplexity(codes: np.ndarray) -> float:
    p = np.bincount(codes) / len(codes)
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum()))


# -- the terms --------------------------------------------------------------------------------------------------


def test_alignment_is_that_of_a_double_loop():
    latent, collaborative = RNG.standard_normal((7, 5)), RNG.standard_normal((7, 5))
    total = 0.0
    for i in range(7):
        others = 0.0
        for j in range(7):
            others += np.exp(latent[i] @ collaborative[j])
        total -= np.log(np.exp(latent[i] @ collaborative[i]) / others)
    ours = letter.alignment_loss(torch.tensor(latent), torch.tensor(collaborative))
    assert ours.item() == pytest.approx(total / 7)


def test_diversity_is_that_of_a_double_loop():
    book, codes, others = RNG.standard_normal((6, 4)), np.array([0, 5, 0, 3, 2]), np.array([1, 2, 4, -1, 5])
    total = 0.0
    for i, plus in zip(codes, others, strict=True):
        if plus < 0:  # alone in its group
            continue
        below = 0.0
        for j in range(6):
            if j != i:
                below += np.exp(book[i] @ book[j])
        total -= np.log(np.exp(book[i] @ book[plus]) / below)
    ours = letter.diversity_loss(torch.tensor(book), torch.tensor(codes), torch.tensor(others))
    assert ours.item() == pytest.approx(total / 4)


def test_diversity_is_summed_over_levels_and_terms_are_weighted():
    torch.manual_seed(0)
    model = rq_vae.RqVae(torch.ones(6), levels=3, codes=5, latent=4, hidden=6)
    torch.nn.init.normal_(model.codebooks)
    h, batch, latent = torch.randn(8, 4), torch.arange(8), torch.randn(8, 4)
    codes = [torch.randint(5, (8,)) for _ in range(3)]

    def terms(**weights):
        made = letter.Regularisation(h, weights, 2, seed=0)
        made.start(model, latent, None)
        made.refresh(model)
        return made

    both = terms(alignment=2.0, diversity=3.0)
    groups, draws = both.groups, torch.Generator().set_state(both.generator.get_state())
    apart = [
        letter.diversity_loss(book, own, letter.others_of_group(group, own, draws)).item()
        for book, own, group in zip(model.codebooks, codes, groups, strict=True)
    ]
    assert len({round(value, 4) for value in apart}) == 3  # a level left out, or counted twice, would show
    expected = 2 * letter.alignment_loss(both.to_collaborative(latent), h).item() + 3 * sum(apart)
    assert both(model, batch, latent, codes).item() == pytest.approx(expected, rel=1e-5)


def test_how_long_collaborative_embeddings_are_or_where_their_middle_is_changes_nothing():
    """Powers of two scale floats exactly; a shift adds the same to every product of a row."""
    h = H.copy()
    h[::3] = 0
    scaled = letter.unit_variance(h)
    known = scaled[h.any(1)]
    assert known.var(axis=0).mean() == pytest.approx(1)
    np.testing.assert_allclose(known / h[h.any(1)], known[0, 0] / h[1, 0], rtol=1e-5)  # one number for all
    assert not scaled[::3].any()
    strong = SMALL | {"alignment": 1}
    assert (letter.fit(X, h, **strong).codes == letter.fit(X, h / 64, **strong).codes).all()
    shifted = torch.tensor(h[1::3] + 5)
    latent = torch.randn(len(shifted), 8)
    assert letter.alignment_loss(latent, shifted).item() == pytest.approx(
        letter.alignment_loss(latent, shifted - 5).item(), rel=1e-4
    )


def test_rows_that_are_all_alike_are_left_as_they_are():
    for h in (np.ones((4, 2)), np.zeros((4, 2)), np.full((7, 4), 0.1), np.full((7, 4), 0.1, "f4")):
        assert (letter.unit_variance(h) == h).all()


def test_another_code_of_the_group_is_any_but_the_code_itself():
    group = torch.tensor([2, 0, 2, 1, 0, 2, 3])
    codes = torch.arange(7).repeat(600)
    others = letter.others_of_group(group, codes, torch.Generator().manual_seed(0))
    for code in range(7):
        drawn = others[codes == code]
        allowed = [other for other in range(7) if group[other] == group[code] and other != code]
        assert sorted(set(drawn.tolist())) == (allowed or [-1])
        if allowed:
            assert min(np.bincount(drawn)[allowed]) > 600 / len(allowed) * 0.8


def test_codes_that_are_all_alone_in_their_groups_have_nothing_to_be_pulled_to():
    book = torch.randn(4, 3, requires_grad=True)
    value = letter.diversity_loss(book, torch.tensor([0, 1]), torch.tensor([-1, -1]))
    value.backward()
    assert value.item() == 0
    assert not book.grad.any()
    each_its_own = SMALL | {"clusters": 16}
    plain = letter.fit(X, H, **each_its_own, alignment=0, diversity=0)
    assert (letter.fit(X, H, **each_its_own, alignment=0, diversity=1).codes == plain.codes).all()


def test_the_gradients_are_where_they_belong():
    """L_CF reaches encoder and map straight through the codes, L_Div the codebooks alone."""
    x = torch.tensor(X)
    whitening = rq_vae.Whitening.of(x)
    torch.manual_seed(0)
    model = rq_vae.RqVae(whitening.spread, 2, 16, 6, 12)
    model.start(whitening.white(x), torch.Generator().manual_seed(0))
    for weights, moved, still in (
        ({"alignment": 1.0, "diversity": 0.0}, model.encoder.linear.weight, model.codebooks),
        ({"alignment": 0.0, "diversity": 1.0}, model.codebooks, model.encoder.linear.weight),
    ):
        terms = letter.Regularisation(torch.tensor(H), weights, 4, seed=0)
        terms.start(model, whitening.white(x), None)
        terms.refresh(model)
        latent = model.encoder(whitening.white(x)[:64])
        codes, _, vectors = model.quantise(latent)
        straight = latent + (sum(vectors) - latent).detach()
        model.zero_grad()
        terms(model, torch.arange(64), straight, codes).backward()
        assert moved.grad.any()
        assert still.grad is None or not still.grad.any()
        assert all(parameter.grad.any() for parameter in terms.parameters())
        assert len(list(terms.parameters())) == (weights["alignment"] > 0)  # 6 latents, 8 collaborative dimensions


# -- what they do -----------------------------------------------------------------------------------------------


def test_without_weights_it_is_rq_vae():
    shape = {name: value for name, value in SMALL.items() if name not in ("iterations", "clusters")}
    theirs = rq_vae.fit(X, iterations=3, seed=5, **shape)
    ours = letter.fit(X, H, seed=5, **SMALL, alignment=0, diversity=0)
    assert (ours.codes == theirs.codes).all()
    assert (ours.error, ours.report) == (theirs.error, theirs.report)
    for one, other in zip((*ours.codebooks, ours.last), (*theirs.codebooks, theirs.last), strict=True):
        np.testing.assert_array_equal(one, other)


def test_alignment_brings_together_what_is_bought_together():
    """The eight collaborative groups are in the text, but in 0.25 % of its energy: RQ-VAE's first codes ignore them."""
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the oracle of this test")
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 8, 800)
    hint = 0.05 * (rng.standard_normal((8, 8))[truth] / 8**0.5 + 0.1 * rng.standard_normal((800, 8)))
    x = np.hstack([text_like(800, 24), hint]).astype("f4")
    h = rng.standard_normal((8, 16))[truth] + 0.1 * rng.standard_normal((800, 16))
    h *= 2 / np.linalg.norm(h, axis=1, keepdims=True)
    together = truth[:, None] == truth
    agreement, share = [], []
    for weight in (0, 1):
        result = letter.fit(
            x, h, levels=2, codes=16, latent=16, hidden=64, lr=3e-3, batch=64, alignment=weight, diversity=0
        )
        first = result.codes[:, 0]
        agreement.append(metrics.adjusted_mutual_info_score(truth, first))
        share.append((first[:, None] == first)[together].mean())
        assert len(np.unique(first)) == 16
    assert abs(agreement[0]) < 0.02
    assert agreement[1] > 0.5
    assert share[1] > 4 * share[0]
    assert result.report[-1]["alignment"] < result.report[0]["alignment"] / 1.5


def test_diversity_leaves_the_use_of_codes_as_even_as_it_was():
    """In the skewed case below it does not make it more even: k-means and restarts have done that before it."""
    rng = np.random.default_rng(0)
    size = np.arange(1, 33) ** -1.5
    x = rng.standard_normal((32, 24))[rng.choice(32, 1000, p=size / size.sum())] + 0.3 * rng.standard_normal((1000, 24))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype("f4")
    shape = SMALL | {"codes": 32, "iterations": 10, "latent": 24}
    evenness, loss = [], []
    for weight in (0, 0.0001, 1):
        result = letter.fit(x, np.zeros((1000, 8)), **shape, alignment=0, diversity=weight)
        evenness.append([perplexity(column) for column in result.codes.T])
        loss.append(result.report[-1].get("diversity"))
    assert evenness[1] == pytest.approx(evenness[0], rel=0.02)
    assert loss[2] < loss[1]


def test_same_seed_same_codes_other_seed_other_codes():
    strong = SMALL | {"alignment": 1, "diversity": 1}
    first, again = letter.fit(X, H, seed=3, **strong), letter.fit(X, H, seed=3, **strong)
    assert (first.codes == again.codes).all()
    assert first.report == again.report
    assert (first.codes != letter.fit(X, H, seed=4, **strong).codes).any()


def test_the_report_has_both_terms_of_each_epoch():
    report = letter.fit(X, H, **SMALL).report
    assert [(row["epoch"], row["level"]) for row in report] == [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)]
    assert all(row["alignment"] > 0 and row["diversity"] > 0 for row in report)
    assert "diversity" not in letter.fit(X, H, **SMALL, diversity=0).report[0]


# -- items without collaborative embedding, and malformed input --------------------------------------------------


def test_items_without_collaborative_embedding_are_left_out():
    h = H.copy()
    h[::2] = 0
    result = letter.fit(X, h, **SMALL, alignment=1)
    assert np.isfinite(result.error).all()
    terms = letter.Regularisation(torch.tensor(h), {"alignment": 2.0, "diversity": 0.0}, 4, seed=0)
    terms.refresh(None)
    latent = torch.randn(6, 8)
    ours = terms(None, torch.arange(6), latent, [])
    assert ours.item() == pytest.approx(2 * letter.alignment_loss(latent[1::2], torch.tensor(h[1:6:2])).item())
    assert terms(None, torch.arange(0, 12, 2), latent, []) == 0


def test_no_item_with_a_collaborative_embedding_leaves_rq_vae():
    plain = letter.fit(X, H, **SMALL, alignment=0, diversity=0)
    assert (letter.fit(X, np.zeros((400, 8)), **SMALL, alignment=1, diversity=0).codes == plain.codes).all()


def test_rows_that_are_sampled_bring_their_own_collaborative_embedding(monkeypatch):
    rows = torch.arange(100, 400)
    monkeypatch.setattr(rq_vae, "sample_rows", lambda *_: rows)
    monkeypatch.setattr(letter, "unit_variance", lambda h: h)  # it alone reads all rows
    sampled, h = letter.fit(X, H, **SMALL, alignment=1), H.copy()
    h[:100] = 0  # of the rows left out: nothing reads them
    again = letter.fit(X, h, **SMALL, alignment=1)
    assert (sampled.codes == again.codes).all()
    assert sampled.report == again.report
    h[100:] = 0
    assert "alignment" not in letter.fit(X, h, **SMALL, alignment=1).report[0]


def test_what_cannot_be_tokenized():
    with pytest.raises(StudyError, match=r"letter: 399 collaborative embeddings for 400 items; take those of the same"):
        letter.fit(X, H[:-1], **SMALL)
    bad = H.copy()
    bad[7, 3] = np.nan
    with pytest.raises(StudyError, match=r"letter: collaborative embedding 7 is not finite;.*set the row to zeros"):
        letter.fit(X, bad, **SMALL)
    with pytest.raises(StudyError, match=r"letter: 16 codes cannot fill 17 clusters; set clusters to fewer"):
        letter.fit(X, H, **SMALL | {"clusters": 17})
    with pytest.raises(StudyError, match=r"10 items cannot fill 16 codes.*fewer"):
        letter.fit(X[:10], H[:10], **SMALL)
