"""CoST-style: an RQ-VAE whose codes have to tell an item from the others (after Zhu et al., RecSys 2024).

Loss = RQ-VAE's + contrast * L_NCE. In a batch, what the codes rebuild of an item, x^, has to find the embedding x that
it was made from among those of the others,

    L_NCE = - mean over i of log( exp(cos(x^_i, x_i) / t) / sum over j of exp(cos(x^_i, x_j) / t) ),

x^ and x without the catalogue's mean. 001 (section 4.1) compares with CoST as "a contrastive loss that encourages
alignment of semantic embeddings before and after quantization"; it gives neither weights nor temperature.
Ours: 0.1 each. For embeddings of length one RQ-VAE's terms add up to less than one and L_NCE to a few, so that both
count; with ten times the weight, cosines alone decide, and the error grows by half.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from studylib.tokenizers import rq_vae
from studylib.tokenizers.residual import Quantised


def contrastive_loss(
    rebuilt: Float[Tensor, "row dims"], x: Float[Tensor, "row dims"], temperature: float
) -> Float[Tensor, ""]:
    """L_NCE of one batch.

    >>> contrastive_loss(torch.eye(2), 3 * torch.eye(2), temperature=0.01).item()
    0.0
    """
    similar = functional.normalize(rebuilt, dim=1) @ functional.normalize(x, dim=1).T
    return functional.cross_entropy(similar / temperature, torch.arange(len(x)))


class Contrast(rq_vae.Terms):
    """L_NCE, weighted."""

    def __init__(self, weight: float, temperature: float):
        super().__init__()
        self.weight, self.temperature = weight, temperature

    def start(self, model: rq_vae.RqVae, white: Tensor, rows: Tensor | None) -> None:
        self.x = white * model.spread  # an isometry away from the embeddings without their mean

    def forward(
        self, model: rq_vae.RqVae, batch: Int[Tensor, " row"], latent: Tensor, codes: list[Tensor]
    ) -> Tensor | float:
        if not self.weight:
            return 0.0
        rebuilt = model.decoder(latent) * model.spread
        return self.weight * contrastive_loss(rebuilt, self.x[batch], self.temperature)


def fit(
    embeddings: Float[np.ndarray, "items dims"],
    contrast: float = 0.1,
    contrast_temperature: float = 0.1,
    **settings: int | float,
) -> Quantised:
    """Quantise ``embeddings`` as ``rq_vae.fit`` does, with ``contrast`` times L_NCE in its loss; 0 gives RQ-VAE's.

    ``settings`` are those of ``rq_vae.fit``.

    Raises:
        StudyError: there are fewer items than codes, or a value is not finite.

    >>> fit(np.array([[0.0, 1], [0, 2], [4, 1], [4, 2]]), levels=2, codes=2, iterations=1).codes.shape
    (4, 2)
    """
    return rq_vae.fit(embeddings, terms=Contrast(contrast, contrast_temperature), **settings)
