"""What raw rows go through, wherever they come from: texts without markup, and the k-core of the interactions."""

import html
import re

import numpy as np


def k_core(users: np.ndarray, items: np.ndarray, core: int) -> tuple[np.ndarray, int]:
    """The largest set of interactions in which every user and every item has at least ``core``.

    Returns a mask over the interactions and the rounds it took (one round drops users, then items).

    >>> k_core(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1]), core=2)
    (array([ True,  True,  True,  True, False]), 1)
    """
    alive = np.ones(len(users), dtype=bool)
    rounds = 0
    while True:
        before = int(alive.sum())
        for column in (users, items):
            counts = np.bincount(column[alive], minlength=int(column.max(initial=-1)) + 1)
            alive &= counts[column] >= core
        if int(alive.sum()) == before:
            return alive, rounds
        rounds += 1


def clean(text: str) -> str:
    """HTML entities unescaped (the dumps escape some twice), tags and line breaks made spaces.

    >>> clean("M4 &amp;amp; M5 bolt,<br />\\n<b>A2-70</b> if &lt;5 mm")
    'M4 & M5 bolt, A2-70 if <5 mm'
    """
    for _ in range(2):
        # Beyond 8 digits it is no character, and thousands of them are no number that Python would read.
        text = html.unescape(re.sub("&#[0-9]{9,};?", "\ufffd", text))
    text = re.sub(r"<!--[^<>]*-->|</?[A-Za-z][^<>]*>", " ", text)
    return " ".join(text.encode("utf-8", "replace").decode().split())
