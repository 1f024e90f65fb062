"""Taking turns: what is compared runs in alternation, so that a machine that slows down slows all of it."""

import time
from collections.abc import Callable, Iterator

import numpy as np

TURNS = 3


def rates(jobs: dict[str, Callable[[], int]], seconds: float) -> dict[str, float]:
    """Things done per CPU second by each job; a job does some things and returns how many."""
    for job in jobs.values():
        job()  # warm up
    spent, done = dict.fromkeys(jobs, 0.0), dict.fromkeys(jobs, 0)
    turn = seconds * 0.7 / len(jobs) / TURNS
    for _ in range(TURNS):
        for name, job in jobs.items():
            began = time.process_time()
            while time.process_time() - began < turn:
                done[name] += job()
            spent[name] += time.process_time() - began
    return {name: done[name] / spent[name] for name in jobs}


def over_users(groups: list[np.ndarray], work: Callable[[np.ndarray], object]) -> Callable[[], int]:
    """One group of users after the other, in random order."""
    order = endless(lambda rng: (groups[i] for i in rng.permutation(len(groups))))

    def one() -> int:
        users = next(order)
        work(users)
        return len(users)

    return one


def endless(batches: Callable[[np.random.Generator], Iterator]) -> Iterator:
    order = np.random.default_rng(0)
    while True:
        yield from batches(order)
