"""The state of a training, in one safetensors file that is replaced whole after every epoch."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from studylib.files import write_bytes


def keep(
    file: Path | None, model: torch.nn.Module, optimiser: torch.optim.Optimizer, best: dict, history: list, spent: float
) -> None:
    """Write weights, best weights, the optimiser's moments, the epochs and CPU seconds so far; None keeps nothing."""
    if file is None:
        return
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best/{name}": value for name, value in best.items()}
    for number, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{number}/{name}": value for name, value in state.items()}
    facts = {"history": json.dumps(history), "cpu_seconds": repr(spent)}
    write_bytes(file, save({name: value.contiguous() for name, value in tensors.items()}, facts))


def seconds(file: Path | None) -> float:
    """CPU seconds that earlier processes spent on this training."""
    if file is None or not file.exists():
        return 0.0
    try:
        with safe_open(file, "pt") as stored:
            return float(stored.metadata()["cpu_seconds"])
    except (SafetensorError, KeyError, TypeError, ValueError):
        return 0.0  # restore will say that it is damaged


def restore(file: Path | None, model: torch.nn.Module, optimiser: torch.optim.Optimizer, best: dict) -> list:
    """Put the state back, ``best`` included; returns the epochs so far, none if there is no readable checkpoint."""
    if file is None or not file.exists():
        return []
    try:
        with safe_open(file, "pt") as stored:
            history = json.loads(stored.metadata()["history"])
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        print(f"{file}: damaged checkpoint ({error}); training starts again from epoch 1")
        file.unlink()
        return []
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
    return history
