"""What a trial may use beyond one CPU thread: a GPU, half precision, torch.compile, and several processes.

On a CPU precision and compile are left alone, so that nothing of this module costs anything there; the trial's record
says what it ran on. Several processes (``devices``) are started by torchrun and share every batch: each takes a part of
its pieces and the gradients are summed, so that the step is that of one process, dropout's draws and rounding aside.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

from studylib.config import TigerSettings

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Team:
    """The processes that train one trial together; ``first`` alone validates, reports and writes."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls) -> "Team":
        """The team that torchrun's environment describes, or a team of one."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        # A day: the others wait while the first process waits for a trial's lock, or validates.
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=timedelta(days=1))
        return cls(distributed.get_rank(), size)

    @property
    def first(self) -> bool:
        return self.rank == 0

    def leave(self) -> None:
        if self.size > 1:
            distributed.destroy_process_group()

    def share(self, pieces: Sequence) -> Sequence:
        """This process's part of a batch; may be empty when the batch is small."""
        return pieces[self.rank :: self.size]

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Each gradient becomes the sum over the team."""
        if self.size == 1:
            return
        parameters = list(parameters)
        flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in parameters])
        distributed.all_reduce(flat)
        for p, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            p.grad = part.view_as(p)

    def sum(self, value: float, device: torch.device) -> float:
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=device)
        distributed.all_reduce(total)
        return total.item()

    def once(self, work: Callable[[], float], device: torch.device) -> float:
        """What ``work`` gives in the first process, in all of them."""
        return self.sum(work() if self.first else 0.0, device)


def device() -> torch.device:
    """This process's GPU, if torch finds one."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


@dataclass(frozen=True)
class Arithmetic:
    """How losses are computed and gradients applied on a device."""

    precision: str
    scaler: torch.amp.GradScaler

    @classmethod
    def on(cls, where: torch.device, settings: TigerSettings) -> "Arithmetic":
        precision = settings.precision if where.type == "cuda" else "fp32"
        return cls(precision, _scaler(where, precision))

    @classmethod
    def plain(cls, where: torch.device) -> "Arithmetic":
        """Single precision."""
        return cls("fp32", _scaler(where, "fp32"))

    def context(self, where: torch.device) -> AbstractContextManager:
        return nullcontext() if self.precision == "fp32" else torch.autocast(where.type, DTYPES[self.precision])


def _scaler(where: torch.device, precision: str) -> torch.amp.GradScaler:
    """Half floats underflow where bfloat16 does not, so fp16 alone needs its loss scaled; a scaler that is not enabled
    hands everything through untouched.
    """
    return torch.amp.GradScaler(where.type, enabled=precision == "fp16")


def compiled(function: Callable, where: torch.device, settings: TigerSettings) -> Callable:
    """``function`` through torch.compile on a GPU, if the settings ask for it; lengths vary, so shapes are dynamic."""
    return torch.compile(function, dynamic=True) if settings.compile and where.type == "cuda" else function


def facts(where: torch.device, settings: TigerSettings) -> dict:
    """What a record says of where a trial ran, if its settings asked for anything; nothing otherwise."""
    asked = {name: getattr(settings, name) for name in ("precision", "compile", "devices")}
    if asked == {name: TigerSettings.model_fields[name].default for name in asked}:
        return {}
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu"
    return {"ran_on": {"device": name, "precision": Arithmetic.on(where, settings).precision}}
