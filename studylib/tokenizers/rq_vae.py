"""RQ-VAE: residual quantisation of what an autoencoder keeps (Lee et al., 2022; the tokenizer of TIGER).

Loss = ||x - x^||^2 + sum over levels of ||sg[r] - e||^2 + 0.25 ||r - sg[e]||^2, with r what the levels before left
over of the latent, e its nearest code and sg the stopped gradient; the decoder's gradient passes the codes straight
through.

Three things keep it from collapsing. The input is whitened (002, section 4 Setup), yet the reconstruction is compared
in the original space: whitened, it would weigh the noisiest direction like the most telling one. Each half is a linear
map, at the start that onto the principal components, plus an MLP that starts at zero; so training begins at residual
k-means on principal components, every level with k-means on all latents. Codes that no item took are restarted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from studylib.tokenizers.residual import (
    CHUNK,
    Progress,
    Quantised,
    assign,
    checked,
    energy_of,
    restart_dead,
    sample_rows,
)
from studylib.tokenizers.residual_kmeans import kmeans

COMMITMENT = 0.25
START_ITERATIONS = 10  # of the k-means that a level begins with


@dataclass(frozen=True)
class Whitening:
    """x -> (x - mean) V / sqrt(variance), on the principal directions V that have any variance."""

    mean: Float[Tensor, " dims"]
    directions: Float[Tensor, "dims kept"]
    spread: Float[Tensor, " kept"]

    @classmethod
    def of(cls, x: Float[Tensor, "row dims"]) -> "Whitening":
        """In double precision; directions with less than a millionth of the largest variance are left out."""
        mean = torch.stack([part.double().sum(0) for part in x.split(CHUNK)]).sum(0) / len(x)
        covariance = sum((part.double() - mean).T @ (part.double() - mean) for part in x.split(CHUNK)) / len(x)
        variance, directions = torch.linalg.eigh(covariance)
        kept = (variance > max(float(variance[-1]) * 1e-6, 1e-12)).nonzero().flatten().flip(0)
        if not len(kept):  # all rows are one: any direction will do
            kept = torch.tensor([len(variance) - 1])
        # An eigenvector's sign is arbitrary: its largest entry is made positive, so that codes do not depend on LAPACK.
        directions = directions[:, kept]
        largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
        spread = variance[kept].clamp(min=1e-12).sqrt()
        return cls(mean.float(), (directions * largest.sign()).float(), spread.float())

    def white(self, x: Tensor) -> Float[Tensor, "row kept"]:
        return (x - self.mean) @ self.directions / self.spread

    def original(self, white: Tensor) -> Float[Tensor, "row dims"]:
        return (white * self.spread) @ self.directions.T + self.mean


class Half(nn.Module):
    """A linear map plus an MLP whose last layer starts at zero."""

    def __init__(self, linear: Float[Tensor, "to from"], hidden: int):
        super().__init__()
        width_to, width_from = linear.shape
        self.linear = nn.Linear(width_from, width_to)
        self.mlp = nn.Sequential(nn.Linear(width_from, hidden), nn.GELU(), nn.Linear(hidden, width_to))
        with torch.no_grad():
            self.linear.weight.copy_(linear)
            for bias in (self.linear.bias, self.mlp[2].bias, self.mlp[2].weight):
                bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.mlp(x)


class RqVae(nn.Module):
    """Encoder, codebooks [level, code, latent] and decoder; input and output are whitened.

    ``spread`` is what whitening divided by: whitened rows times it are rows minus their mean, turned.
    """

    def __init__(self, spread: Float[Tensor, " kept"], levels: int, codes: int, latent: int, hidden: int):
        super().__init__()
        latent = min(latent, len(spread))
        self.spread = spread
        # The latents start as the leading principal components in the original scale, the output as their whitening.
        leading = torch.eye(len(spread))[:latent]
        self.encoder = Half(leading * spread, hidden)
        self.decoder = Half((leading / spread).T, hidden)
        self.codebooks = nn.Parameter(torch.zeros(levels, codes, latent))

    @torch.no_grad()
    def start(self, white: Tensor, generator: torch.Generator) -> None:
        """Every level begins with k-means on what the levels before leave over of all latents."""
        residual = self.encoder(white)
        for book in self.codebooks:
            book.copy_(kmeans(residual, len(book), START_ITERATIONS, generator))
            residual = residual - book[assign(residual, book, residual.square().sum(1))[0]]

    def quantise(self, latent: Float[Tensor, "row latent"]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Of each level: codes, what was quantised, and its code vectors, all by nearest neighbour."""
        codes, residuals, vectors, residual = [], [], [], latent
        for book in self.codebooks:
            with torch.no_grad():
                nearest, _ = assign(residual, book, residual.square().sum(1))
            codes.append(nearest)
            residuals.append(residual)
            vectors.append(book[nearest])
            residual = residual - vectors[-1].detach()
        return codes, residuals, vectors


class Terms(nn.Module):
    """What a relative of RQ-VAE adds to its loss (see letter.py, cost.py); here nothing. Parameters are trained too."""

    def start(self, model: RqVae, white: Float[Tensor, "row kept"], rows: Int[Tensor, " row"] | None) -> None:
        """Before training on ``white``, which are ``rows`` of the items, None for all."""

    def refresh(self, model: RqVae) -> None:
        """Before every epoch."""

    def forward(
        self,
        model: RqVae,
        batch: Int[Tensor, " row"],
        latent: Float[Tensor, "row latent"],
        codes: list[Int[Tensor, " row"]],
    ) -> Float[Tensor, ""] | float:
        """To be added: ``batch`` counts within the rows trained on, ``latent`` is quantised, its gradient straight
        through."""
        return 0.0


def loss(
    model: RqVae,
    white: Float[Tensor, "row kept"],
    more: Callable[[Tensor, list[Tensor]], Tensor | float] = lambda latent, codes: 0.0,
) -> Float[Tensor, ""]:
    """The loss in the module's first lines, averaged over rows, and ``more`` of the quantised latents and the codes.

    ||x - x^|| in the original space is the whitened difference, each direction times its spread.
    """
    latent = model.encoder(white)
    codes, residuals, vectors = model.quantise(latent)
    quantised = torch.stack(vectors).sum(0).detach()
    straight = latent + (quantised - latent).detach()
    rebuilt = model.decoder(straight)
    value = ((rebuilt - white) * model.spread).square().sum(1)
    for residual, vector in zip(residuals, vectors, strict=True):
        value = value + (residual.detach() - vector).square().sum(1)
        value = value + COMMITMENT * (residual - vector.detach()).square().sum(1)
    return value.mean() + more(straight, codes)


@torch.no_grad()
def encode(model: RqVae, whitening: Whitening, x: Float[Tensor, "row dims"]) -> tuple[Tensor, Tensor, Tensor]:
    """Codes [rows, levels], sum over rows of ||x - x^||^2 after each level [levels], what the last level quantised."""
    codes, last, squared = [], [], torch.zeros(len(model.codebooks), dtype=torch.double)
    for part in x.split(CHUNK):
        found, residuals, vectors = model.quantise(model.encoder(whitening.white(part)))
        codes.append(torch.stack(found, 1))
        last.append(residuals[-1])
        for level, total in enumerate(torch.stack(vectors).cumsum(0)):
            squared[level] += (part - whitening.original(model.decoder(total))).double().square().sum()
    return torch.cat(codes), squared, torch.cat(last)


@torch.no_grad()
def restart(model: RqVae, optimiser, white: Tensor, counts: list[Tensor], generator: torch.Generator) -> None:
    """Codes that no item takes move onto residuals of a sample of rows, and Adam forgets their moments."""
    rows = torch.randperm(len(white), generator=generator)[: 16 * model.codebooks.shape[1]]
    _, residuals, vectors = model.quantise(model.encoder(white[rows]))
    state = optimiser.state[model.codebooks]
    for level, (residual, vector) in enumerate(zip(residuals, vectors, strict=True)):
        distance = (residual - vector).square().sum(1)
        dead = restart_dead(model.codebooks[level], counts[level], residual, distance, generator)
        state["exp_avg"][level, dead], state["exp_avg_sq"][level, dead] = 0.0, 0.0


def fit(
    embeddings: Float[np.ndarray, "items dims"],
    levels: int = 3,
    codes: int = 256,
    iterations: int = 25,
    seed: int = 0,
    latent: int = 64,
    hidden: int = 256,
    lr: float = 1e-3,
    batch: int = 512,
    terms: Terms | None = None,
) -> Quantised:
    """Quantise ``embeddings`` through an autoencoder of ``latent`` dimensions with one ``hidden`` layer each way.

    Trained by Adam in ``iterations`` passes, at a rate that falls from ``lr`` to zero (002 takes AdaGrad at 1e-3, 15k
    steps and batches of 2048). The error is measured in the space of ``embeddings``, whitening undone. ``terms`` are
    added to the loss; None for RQ-VAE itself.

    Raises:
        StudyError: there are fewer items than codes, or a value is not finite.

    >>> result = fit(np.array([[0.0, 1], [0, 2], [4, 1], [4, 2]]), levels=2, codes=2, iterations=1)
    >>> result.codes.shape, result.codebooks[0].shape
    ((4, 2), (2, 2))
    """
    x = checked(embeddings, codes)
    rows = sample_rows(len(x), codes, seed)
    fitted = x if rows is None else x[rows]
    generator = torch.Generator().manual_seed(seed)
    whitening = Whitening.of(fitted)
    white = whitening.white(fitted)
    with torch.random.fork_rng(devices=[]):  # layers draw their start from the global generator
        torch.manual_seed(seed)
        model = RqVae(whitening.spread, levels, codes, latent, hidden)
    model.start(white, generator)
    terms = terms or Terms()
    terms.start(model, white, rows)
    optimiser = torch.optim.Adam([*model.parameters(), *terms.parameters()], lr=lr)
    steps = iterations * -(-len(white) // batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    progress = Progress(energy_of(fitted))
    for epoch in range(iterations):
        terms.refresh(model)
        for part in torch.randperm(len(white), generator=generator).split(batch):
            value = loss(model, white[part], partial(terms, model, part))
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            optimiser.step()
            schedule.step()
        taken, squared, _ = encode(model, whitening, fitted)
        progress.add_all(epoch, squared, taken)
        if epoch < iterations - 1:  # a restarted code needs an epoch to settle
            restart(model, optimiser, white, [torch.bincount(c, minlength=codes) for c in taken.T], generator)
    found, squared, last = encode(model, whitening, x)
    energy = energy_of(x)
    books = model.codebooks.detach()

    @torch.no_grad()
    def error_of(column: np.ndarray) -> float:
        total = torch.zeros((), dtype=torch.double)
        other = torch.cat([found[:, :-1], torch.as_tensor(column)[:, None]], 1)
        for part, code in zip(x.split(CHUNK), other.split(CHUNK), strict=True):
            vectors = sum(book[column] for book, column in zip(books, code.T, strict=True))
            total += (part - whitening.original(model.decoder(vectors))).double().square().sum()
        return float(total) / energy if energy else 0.0

    error = tuple(float(value) / energy if energy else 0.0 for value in squared)
    return Quantised(found.numpy(), list(books.numpy()), error, tuple(progress.rows), last.numpy(), error_of)
