"""A small catalogue with texts, and what tests of encoders ask for."""

from importlib.util import find_spec

import numpy as np
import pytest

from studylib.data.dataset import Dataset
from studylib.encoders import registry

WORDS = [
    "steel",
    "brass",
    "nylon",
    "ruler",
    "clamp",
    "bolt",
    "5",
    "mm",
    "10",
    "mm",
    "1/4",
    "inch",
    "pack",
    "of",
    "20",
    "heat",
    "resistant",
]


def quiet(_line):
    return None


def shop(n_items=20, folder=None):
    draw = np.random.default_rng(3)
    items = tuple(
        {"title": f"{' '.join(draw.choice(WORDS, 4))} {item}", "brand": str(draw.choice(WORDS))}
        for item in range(n_items)
    )
    return Dataset("shop", ("ann",), (np.array([0, 1, 2]),), n_items, items=items, folder=folder)


def needs(name):
    row = registry.encoder(name)
    absent = [module for module in (*row.needs, row.module) if module and find_spec(module) is None]
    return pytest.mark.skipif(bool(absent), reason=f"{name} wants {absent}: pip install -e .[encoders]")
