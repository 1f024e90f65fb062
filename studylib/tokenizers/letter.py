"""LETTER: an RQ-VAE whose codes also know who is bought with what (Wang et al., CIKM 2024).

Loss = RQ-VAE's + alignment * L_CF + diversity * L_Div, LETTER's alpha and beta; either at 0 is its ablation.

L_CF, collaborative regularisation: in a batch each item's quantised latent z^ has to find the item's collaborative
embedding h (of SASRec, from the training split alone) among those of the others,

    L_CF = - mean over i of log( exp <z^_i, h_i> / sum over j of exp <z^_i, h_j> ),

z^ passing through a linear map where the widths differ. Its gradient goes straight through the codes to the encoder.
How long h is, is the recommender's own affair (weight decay leaves SASRec's rows here about 0.4 long, and a softmax of
their products with the short z^ of this study is nearly flat), so h is scaled to unit variance first (our own step).
Items without a collaborative embedding are left out of it, as item and as other: only their content says what their
codes are. 004 (section 4.2) finds LETTER to fail where there are many of them.

L_Div, diversity regularisation: at each level, summed over levels as RQ-VAE's own terms are, the codes e are grouped by
balanced k-means, anew each epoch, and each item's code e_i is pulled to another, e_+, of its group, drawn at random:

    L_Div = - mean over i of log( exp <e_i, e_+> / sum over codes e_j other than e_i of exp <e_i, e_j> ).

Both are sums of inner products, so their force grows with the lengths of z^ and e, which are short where inputs are of
unit length. L_Div has little to cure here, where restarts and the start at k-means keep the codes' use even already; in
large weights it makes it less even.
"""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from studylib.errors import StudyError
from studylib.tokenizers import rq_vae
from studylib.tokenizers.balanced_kmeans import balanced_kmeans, place
from studylib.tokenizers.residual import Quantised

GROUPING = 10  # iterations of the k-means on a codebook, before each epoch


def alignment_loss(latent: Float[Tensor, "row width"], collaborative: Float[Tensor, "row width"]) -> Float[Tensor, ""]:
    """L_CF of one batch, all of whose items have a collaborative embedding.

    >>> alignment_loss(torch.eye(2) * 50, torch.eye(2)).item()
    0.0
    """
    return functional.cross_entropy(latent @ collaborative.T, torch.arange(len(latent)))


def others_of_group(
    group: Int[Tensor, " code"], codes: Int[Tensor, " row"], generator: torch.Generator
) -> Int[Tensor, " row"]:
    """For each of ``codes`` another code of its group, each as likely; -1 for a code alone in its group.

    >>> others_of_group(torch.tensor([0, 1, 0, 2]), torch.tensor([2, 0, 0, 3]), torch.Generator())
    tensor([ 0,  2,  2, -1])
    """
    size = torch.bincount(group)
    members = group.argsort(stable=True)  # group by group, one beginning where the one before ends
    begin = size.cumsum(0) - size
    rank = members.argsort() - begin[group]  # a code's place in its own group
    own = group[codes]
    step = 1 + (torch.rand(len(codes), generator=generator, dtype=torch.double) * (size[own] - 1)).long()
    other = members[begin[own] + (rank[codes] + step) % size[own]]
    return torch.where(size[own] > 1, other, -1)


def diversity_loss(
    book: Float[Tensor, "code latent"], codes: Int[Tensor, " row"], others: Int[Tensor, " row"]
) -> Float[Tensor, ""]:
    """L_Div of one batch and level; rows whose ``others`` is -1 are left out of the mean, which is 0 without rows."""
    codes, others = codes[others >= 0], others[others >= 0]
    similar = (book[codes] @ book.T).scatter(1, codes[:, None], -torch.inf)
    return functional.cross_entropy(similar, others, reduction="sum") / max(len(codes), 1)


def unit_variance(collaborative: Float[np.ndarray, "items width"]) -> Float[np.ndarray, "items width"]:
    """Divided by the root of the mean variance of its dimensions, over the rows that are not zeros.

    Their mean stays: it adds the same to every product of a softmax.

    >>> unit_variance(np.array([[1.0, 7.0], [3.0, 7.0], [0.0, 0.0]])).round(2).tolist()
    [[1.41, 9.9], [4.24, 9.9], [0.0, 0.0]]
    """
    known = collaborative[collaborative.any(1)]
    spread = float(np.sqrt(known.var(axis=0).mean())) if len(known) else 0.0
    # Rows that are alike but for rounding have no spread to divide by.
    return collaborative / spread if spread > 1e-6 * np.abs(known).max(initial=0) else collaborative


class Regularisation(rq_vae.Terms):
    """Both terms, weighted. One of weight 0 is not computed and draws nothing."""

    def __init__(self, collaborative: Float[Tensor, "item width"], weights: dict[str, float], clusters: int, seed: int):
        super().__init__()
        self.collaborative, self.known = collaborative, collaborative.any(1)
        self.weights, self.clusters, self.seed = weights, clusters, seed
        self.to_collaborative, self.groups = nn.Identity(), []
        self.generator = torch.Generator().manual_seed(seed)  # its own, so that what RQ-VAE draws stays the same
        self.epochs: list[dict[str, list[float]]] = []

    def start(self, model: rq_vae.RqVae, white: Tensor, rows: Tensor | None) -> None:
        if rows is not None:
            self.collaborative, self.known = self.collaborative[rows], self.known[rows]
        latent, width = model.codebooks.shape[2], self.collaborative.shape[1]
        if self.weights["alignment"] and latent != width:
            with torch.random.fork_rng(devices=[]):  # a layer draws its start from the global generator
                torch.manual_seed(self.seed)
                self.to_collaborative = nn.Linear(latent, width, bias=False)

    @torch.no_grad()
    def refresh(self, model: rq_vae.RqVae) -> None:
        self.epochs.append(defaultdict(list))
        if self.weights["diversity"]:
            means = [balanced_kmeans(book, self.clusters, GROUPING, self.generator) for book in model.codebooks]
            self.groups = [place(book, mean) for book, mean in zip(model.codebooks, means, strict=True)]

    def forward(self, model: rq_vae.RqVae, batch: Tensor, latent: Tensor, codes: list[Tensor]) -> Tensor | float:
        terms, known = {}, self.known[batch]
        if self.weights["alignment"] and known.any():
            mapped = self.to_collaborative(latent[known])
            terms["alignment"] = alignment_loss(mapped, self.collaborative[batch[known]])
        if self.weights["diversity"]:
            levels = zip(model.codebooks, codes, self.groups, strict=True)
            terms["diversity"] = sum(
                diversity_loss(book, own, others_of_group(group, own, self.generator)) for book, own, group in levels
            )
        for name, value in terms.items():
            self.epochs[-1][name].append(value.item())
        return sum(self.weights[name] * value for name, value in terms.items())

    def means(self, epoch: int) -> dict[str, float]:
        """Each term's mean over the batches of an epoch, counted from 1, before its weight."""
        return {name: round(float(np.mean(values)), 6) for name, values in self.epochs[epoch - 1].items()}


def fit(
    embeddings: Float[np.ndarray, "items dims"],
    collaborative: Float[np.ndarray, "items width"],
    codes: int = 256,
    seed: int = 0,
    alignment: float = 0.02,
    diversity: float = 0.0001,
    clusters: int = 10,
    **settings: int | float,
) -> Quantised:
    """Quantise ``embeddings`` as ``rq_vae.fit`` does, with both terms added to its loss.

    Args:
        collaborative: an item's embedding by a model of who interacts with what; all zeros where there is none.
        alignment: weight of L_CF; LETTER's alpha and its default.
        diversity: weight of L_Div; LETTER's beta and its default.
        clusters: groups of codes at each level.
        settings: the others of ``rq_vae.fit``.

    With both weights 0 the result is RQ-VAE's. The report has each term's mean over an epoch, before its weight.

    Raises:
        StudyError: there are fewer items than codes; a value is not finite; ``collaborative`` has another number of
            rows; there are more clusters than codes.

    >>> x, h = np.array([[0.0, 1], [0, 2], [4, 1], [4, 2]]), np.eye(4)
    >>> fit(x, h, levels=2, codes=2, iterations=1, clusters=1).codes.shape
    (4, 2)
    """
    if len(collaborative) != len(embeddings):
        raise StudyError(
            f"letter: {len(collaborative)} collaborative embeddings for {len(embeddings)} items; take those of the "
            "same data set"
        )
    finite = np.isfinite(collaborative).all(1)
    if not finite.all():
        raise StudyError(
            f"letter: collaborative embedding {int(finite.argmin())} is not finite; train the collaborative model "
            "again, or set the row to zeros"
        )
    if diversity and clusters > codes:
        raise StudyError(f"letter: {codes} codes cannot fill {clusters} clusters; set clusters to fewer")
    known = torch.as_tensor(np.ascontiguousarray(unit_variance(collaborative)), dtype=torch.float32)
    more = Regularisation(known, {"alignment": alignment, "diversity": diversity}, clusters, seed)
    result = rq_vae.fit(embeddings, codes=codes, seed=seed, terms=more, **settings)
    return replace(result, report=tuple(row | more.means(row["epoch"]) for row in result.report))
