"""Data sets: what an item says, what a user bought, in which order."""

from studylib.data.dataset import Dataset, Split
from studylib.data.registry import load

__all__ = ["Dataset", "Split", "load"]
