"""Weights and the state of a training, in safetensors files that are replaced whole and carry their own digest."""

import json
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from studylib.files import write_bytes


class Damaged(ValueError):
    """A file that is cut off, or not as it was written."""


def write(file: Path, tensors: dict[str, Tensor], **facts: str) -> None:
    """Write ``tensors`` and ``facts`` (text) with a digest over both: a flipped bit is not taken for a weight."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_bytes(file, save(tensors, facts | {"sha256": _digest(tensors, facts)}))


def read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and facts of a file.

    Raises:
        Damaged: it is cut off or was changed since it was written; says so in one line.
    """
    try:
        with safe_open(file, "pt") as stored:
            facts = dict(stored.metadata() or {})
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise Damaged(f"{file}: cannot be read ({error})") from None
    if facts.pop("sha256", None) != _digest(tensors, facts):
        raise Damaged(f"{file}: changed since it was written")
    return tensors, facts


def _digest(tensors: dict[str, Tensor], facts: dict[str, str]) -> str:
    digest = sha256(json.dumps(facts, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def keep(
    file: Path | None, model: torch.nn.Module, optimiser: torch.optim.Optimizer, best: dict, history: list,
    spent: float, scaler: torch.amp.GradScaler | None = None,
) -> None:  # fmt: skip
    """Write weights, best weights, the optimiser's moments, the loss scale, the epochs and CPU seconds so far.

    None keeps nothing.
    """
    if file is None:
        return
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best/{name}": value for name, value in best.items()}
    for number, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{number}/{name}": value for name, value in state.items()}
    scale = json.dumps(scaler.state_dict() if scaler else {})
    write(file, tensors, history=json.dumps(history), cpu_seconds=repr(spent), scaler=scale)


def seconds(file: Path) -> float:
    """CPU seconds that earlier processes spent on this training; none where nothing readable is left of it."""
    try:
        return float(read(file)[1]["cpu_seconds"]) if file.exists() else 0.0
    except Damaged:
        return 0.0  # restore will say so


def restore(
    file: Path | None, model: torch.nn.Module, optimiser: torch.optim.Optimizer, best: dict,
    scaler: torch.amp.GradScaler | None = None,
) -> tuple[list, float]:  # fmt: skip
    """Put the state back, ``best`` included; returns the epochs and CPU seconds so far, none of either at first."""
    if file is None or not file.exists():
        return [], 0.0
    try:
        tensors, facts = read(file)
    except Damaged as error:
        print(f"{error}: damaged checkpoint; training starts again from epoch 1", flush=True)
        file.unlink(missing_ok=True)
        return [], 0.0
    parts: dict[str, dict] = {"model": {}, "best": {}}
    moments: dict[int, dict] = {}
    for name, value in tensors.items():
        part, rest = name.split("/", 1)
        if part == "optimiser":
            number, moment = rest.split("/")
            moments.setdefault(int(number), {})[moment] = value
        else:
            parts[part][rest] = value
    model.load_state_dict(parts["model"])
    best.update(parts["best"])
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
    if scaler:
        scaler.load_state_dict(json.loads(facts["scaler"]))
    return json.loads(facts["history"]), float(facts["cpu_seconds"])
