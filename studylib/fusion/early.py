"""Early fusion: the modalities' vectors become one, which is then tokenized (000, section 2.3.1).

``mean`` and ``concatenation`` have nothing to learn. ``gate`` is 000's Eqs. 4-6; the paper does not say what its gate
is trained for. Here it is trained so that both modalities can be read back from the fused vector by one linear map
each, which needs no interaction. Its lean is a matter of what an error counts: the loss adds squared errors, of which a
constant guess already leaves little where all vectors point much the same way. So read a gate beside the mean, and
beside one whose loss counts each modality's error as a share of what a constant leaves (``yardsticks``).
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from studylib.config import GATE
from studylib.errors import StudyError


def fuse(
    modalities: Sequence[Float[np.ndarray, "items dims"]], how: str, seed: int = 0
) -> tuple[Float[np.ndarray, "items width"], dict]:
    """One unit vector an item, and what there is to say about how it was made.

    Args:
        modalities: projected to one width and of unit length (000, Eq. 3).
        how: "mean", "concatenation" (as wide as all together) or "gate" (two modalities).

    Raises:
        StudyError: the modalities differ in shape; a gate between other than two; vectors that cancel each other.

    >>> fuse([np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])], "mean")[0].round(2).tolist()
    [[0.7099999785423279, 0.7099999785423279]]
    """
    shapes = {modality.shape for modality in modalities}
    if len(shapes) > 1:
        raise StudyError(f"fusion {how}: modalities of shapes {sorted(shapes)}; project them to one width first")
    facts = {}
    if how == "mean":
        fused = np.mean(modalities, axis=0)
    elif how == "concatenation":
        fused = np.concatenate(modalities, axis=1)
    else:
        if len(modalities) != 2:
            raise StudyError(f"fusion gate: {len(modalities)} modalities; it stands between two")
        fused, facts = _gated(*modalities, seed)
    length = np.linalg.norm(fused, axis=1, keepdims=True)
    if not length.all():
        row = int(np.flatnonzero(length == 0)[0])
        raise StudyError(f"fusion {how}: the modalities of item {row} cancel each other; take concatenation")
    return (fused / length).astype(np.float32), facts


def yardsticks(x: Float[np.ndarray, "items dims"], y: Float[np.ndarray, "items dims"]) -> dict:
    """What a gate between two modalities is read beside; all errors are squared distances, means over items.

    Returns:
        ``constant``: of each modality, what the best constant leaves. ``mean``: what the best linear maps leave of both
        together, read back from their plain mean, which learns nothing. ``alike``: the mean gate value of ``x`` if the
        loss counts each modality's error as a share of ``constant`` (seed 0).
    """
    constant = [float(np.square(modality - modality.mean(axis=0)).sum(axis=1).mean()) for modality in (x, y)]
    fused, both = fuse([x, y], "mean")[0], np.concatenate([x, y], axis=1)
    read = np.concatenate([fused, np.ones((len(x), 1))], axis=1)
    left = both - read @ np.linalg.lstsq(read, both, rcond=None)[0]
    alike = _gated(x, y, seed=0, counts=[1 / max(error, 1e-12) for error in constant])[1]["gate"][0]
    return {"constant": constant, "mean": float(np.square(left).sum(axis=1).mean()), "alike": alike}


class Gate(nn.Module):
    """z = norm(a * x + (1 - a) * y), a = sigmoid(MLP([x || y])) in (0, 1)^d (000, Eqs. 4 and 5)."""

    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(2 * width, GATE["hidden"]), nn.ReLU(), nn.Linear(GATE["hidden"], width))
        self.read_back = nn.ModuleList(nn.Linear(width, width) for _ in range(2))

    def weights(self, x: Float[Tensor, "row dims"], y: Float[Tensor, "row dims"]) -> Float[Tensor, "row dims"]:
        return torch.sigmoid(self.mlp(torch.cat([x, y], 1)))

    def forward(self, x: Float[Tensor, "row dims"], y: Float[Tensor, "row dims"]) -> Float[Tensor, "row dims"]:
        a = self.weights(x, y)
        return nn.functional.normalize(a * x + (1 - a) * y, dim=1)

    def loss(
        self, x: Float[Tensor, "row dims"], y: Float[Tensor, "row dims"], counts: Sequence[float] = (1.0, 1.0)
    ) -> Tensor:
        """Mean over rows of both modalities' squared distance to what is read back of them, times what each counts."""
        z = self(x, y)
        return sum(
            count * (read(z) - modality).square().sum(1).mean()
            for read, modality, count in zip(self.read_back, (x, y), counts, strict=True)
        )


def _gated(x: np.ndarray, y: np.ndarray, seed: int, counts: Sequence[float] = (1.0, 1.0)) -> tuple[np.ndarray, dict]:
    """Train a gate on all items; returns the fused vectors, each modality's mean gate value, and the error left."""
    x, y = (torch.as_tensor(np.ascontiguousarray(modality), dtype=torch.float32) for modality in (x, y))
    with torch.random.fork_rng(devices=[]):  # the generator's own draws must not depend on the fusion
        torch.manual_seed(seed)
        gate = Gate(x.shape[1])
        optimiser = torch.optim.Adam(gate.parameters(), lr=GATE["lr"])
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, GATE["steps"])
        for _ in range(GATE["steps"]):
            rows = torch.randint(len(x), (min(GATE["batch"], len(x)),))
            optimiser.zero_grad(set_to_none=True)
            gate.loss(x[rows], y[rows], counts).backward()
            optimiser.step()
            falling.step()
    with torch.no_grad():
        share, lost = float(gate.weights(x, y).mean()), float(gate.loss(x, y))
        fused = gate(x, y).numpy()
    return fused, {"gate": [round(share, 6), round(1 - share, 6)], "read_back_error": round(lost / 2, 6)}
