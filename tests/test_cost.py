"""CoST-style tokenization: its term against a literal loop, and what it does to what the codes rebuild."""

import numpy as np
import pytest
import torch

from studylib.bench.tokenizing import text_like
from studylib.tokenizers import cost, rq_vae

X = text_like(800, 24)
SMALL = {"levels": 2, "codes": 16, "latent": 8, "hidden": 16, "batch": 100}


def test_the_term_is_that_of_a_double_loop():
    rebuilt, x = np.random.default_rng(0).standard_normal((2, 7, 5))
    cosine = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in x] for a in rebuilt]
    total = 0.0
    for i in range(7):
        others = 0.0
        for j in range(7):
            others += np.exp(cosine[i][j] / 0.3)
        total -= np.log(np.exp(cosine[i][i] / 0.3) / others)
    ours = cost.contrastive_loss(torch.tensor(rebuilt), torch.tensor(x), 0.3)
    assert ours.item() == pytest.approx(total / 7)


def test_without_weight_it_is_rq_vae():
    ours = cost.fit(X, iterations=3, seed=5, contrast=0.0, **SMALL)
    theirs = rq_vae.fit(X, iterations=3, seed=5, **SMALL)
    assert (ours.codes == theirs.codes).all()
    assert ours.error == theirs.error


class Kept(cost.Contrast):
    def start(self, model, white, rows):
        super().start(model, white, rows)
        self.kept = model, white  # in a tuple, so that the model is no part of the term

    def nearer(self) -> float:
        """How many other items are nearer to what an item's codes rebuild than the item itself, on average."""
        model, white = self.kept
        with torch.no_grad():
            vectors = model.quantise(model.encoder(white))[2]
            rebuilt = model.decoder(torch.stack(vectors).sum(0)) * model.spread
        similar = torch.nn.functional.normalize(rebuilt) @ torch.nn.functional.normalize(self.x).T
        return float((similar > similar.diagonal()[:, None]).sum(1).double().mean())


def test_what_the_codes_rebuild_tells_an_item_from_more_of_the_others():
    """And pays for it with a larger error."""
    plain, contrasted = Kept(0.0, 0.1), Kept(0.1, 0.1)
    errors = [rq_vae.fit(X, iterations=40, seed=0, terms=terms, **SMALL).error[-1] for terms in (plain, contrasted)]
    assert contrasted.nearer() < 0.85 * plain.nearer()
    assert errors[0] < errors[1] < 1.2 * errors[0]
