"""Semantic IDs: a short tuple of codes per item, their quality, and the prefix tree that search walks."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
from jaxtyping import Int

from studylib.data.atomic import item_table, read_json
from studylib.errors import StudyError
from studylib.files import shown, write_json

TOKEN = re.compile(r"<([a-zA-Z])_([0-9]{1,6})>")  # MQL4GRec writes picture codes in capitals


def token(level: int, code: int) -> str:
    """A code as the index files of the field write it: a letter for the level, counted from 0.

    Raises:
        StudyError: a level that has no letter.

    >>> token(0, 170)
    'a_170'
    """
    if not level < 26:
        raise StudyError(f"level {level + 1}: index files name levels by a letter, and have 26; use fewer levels")
    return f"{chr(97 + level)}_{code}"


@dataclass(frozen=True, eq=False)
class SemanticIds:
    """Codes of every item.

    Args:
        codes: int64 [items, levels], level 0 the coarsest.
        sizes: codebook size of each level; every code is below it.
        error: relative error of the tokenizer after each level (||x - x^||^2 / ||x||^2); None if unknown.
        report: how the tokenizer was fitted, one row for each iteration and level, and what was done about collisions
            (see studylib/tokenizers/residual.py, ``Progress``); nothing else depends on it.
        parts: the levels of each modality where several were put together (studylib/fusion/late.py).
        target: the levels that are written, where a history is read with more (001, Eq. 2); None: all of them.

    >>> ids = SemanticIds(np.array([[0, 1], [0, 0], [1, 0], [0, 1]]), (2, 2))
    >>> ids.collisions, ids.usage
    (2, (2, 2))
    """

    codes: Int[np.ndarray, "items levels"]
    sizes: tuple[int, ...]
    error: tuple[float, ...] | None = None
    source: str = "semantic ids"
    report: tuple[dict, ...] = field(default=(), repr=False)
    parts: tuple[tuple[int, ...], ...] = ()
    target: tuple[int, ...] | None = None

    def __post_init__(self):
        if self.codes.ndim != 2 or self.codes.shape[1] != len(self.sizes) or not len(self.codes):
            raise StudyError(f"{self.source}: codes of shape {self.codes.shape} do not fit {len(self.sizes)} levels")
        outside = (self.codes < 0) | (self.codes >= np.array(self.sizes))
        if outside.any():
            item, level = np.argwhere(outside)[0]
            raise StudyError(
                f"{self.source}: item {item}, level {level + 1}: code {self.codes[item, level]} is outside "
                f"0..{self.sizes[level] - 1}; give the codebook sizes that the tokenizer used"
            )

    @property
    def levels(self) -> int:
        return len(self.sizes)

    @cached_property
    def tree(self) -> "PrefixTree":
        return PrefixTree.build(self.codes)

    @cached_property
    def written(self) -> "SemanticIds":
        """The IDs that a generator writes and search walks: these themselves, or their target's levels."""
        if self.target is None:
            return self
        levels = list(self.target)
        return SemanticIds(self.codes[:, levels], tuple(self.sizes[level] for level in levels), source=self.source)

    def leading(self, levels: int) -> "SemanticIds":
        """The first levels alone, which several items may share.

        Raises:
            StudyError: it has fewer.
        """
        if levels > self.levels:
            raise StudyError(f"{self.source}: has {self.levels} levels, not {levels}; read as many at most")
        source = f"{levels} levels of {self.source}"
        return SemanticIds(self.codes[:, :levels], self.sizes[:levels], source=source)

    @property
    def digest(self) -> str:
        """sha256 over codes and codebook sizes: what a generator's weights belong to."""
        codes = np.ascontiguousarray(self.codes, dtype=np.int64)
        return sha256(repr(self.sizes).encode() + codes.tobytes()).hexdigest()

    # -- quality, which is reported of every level, every time -------------------------------------------------

    @property
    def usage(self) -> tuple[int, ...]:
        """How many different codes each level uses."""
        return tuple(len(np.unique(column)) for column in self.codes.T)

    @property
    def entropy(self) -> tuple[float, ...]:
        """Entropy of each level's codes in bits; 2 ** entropy is its perplexity."""
        found = []
        for column in self.codes.T:
            p = np.unique(column, return_counts=True)[1] / len(column)
            found.append(float(-(p * np.log2(p)).sum()))
        return tuple(found)

    @property
    def collisions(self) -> int:
        """Items that share all that is written of their ID with another item."""
        groups = self.written.tree.group_sizes
        return int(groups[groups > 1].sum())

    def quality(self) -> dict:
        """One row of a quality table."""
        return {
            "usage": list(self.usage),
            "perplexity": [round(2**bits, 2) for bits in self.entropy],
            "collision_rate": self.collisions / len(self.codes),
            "relative_error": None if self.error is None else [round(value, 6) for value in self.error],
        }

    # -- the X.index.json convention -----------------------------------------------------------------------

    def tokens(self, item: int) -> list[str]:
        """``["<a_170>", "<b_224>", ...]``"""
        return [f"<{token(level, code)}>" for level, code in enumerate(self.codes[item])]

    def save(self, file: str | Path) -> None:
        """Write ``{item id: tokens}``."""
        write_json(Path(file), {str(item): self.tokens(item) for item in range(len(self.codes))})

    @classmethod
    def load(cls, file: str | Path, n_items: int | None = None, sizes: tuple[int, ...] | None = None) -> "SemanticIds":
        """Read an index file; without ``sizes`` a level has one code more than its largest.

        Raises:
            StudyError: naming the item whose ID is malformed, or when the number of items is not ``n_items``.
        """
        file = Path(file)
        rows = item_table(file, read_json(file))
        if n_items is not None and len(rows) != n_items:
            raise StudyError(f"{file}: {len(rows)} items, but the data set has {n_items}; take the index made for it")
        codes = [_codes(file, item, tokens) for item, tokens in enumerate(rows)]
        if not codes:
            raise StudyError(f"{file}: no item; take the index made for the data set")
        for item, row in enumerate(codes):
            if len(row) != len(codes[0]):
                raise StudyError(
                    f"{file}: item {item} has {len(row)} codes, item 0 has {len(codes[0])}; make them equal"
                )
        table = np.array(codes, dtype=np.int64)
        return cls(table, sizes or tuple(int(size) for size in table.max(0) + 1), source=str(file))


def _codes(file: Path, item: int, tokens) -> list[int]:
    if not isinstance(tokens, list) or not tokens:
        raise StudyError(f'{file}: item {item}: expected a list of tokens such as ["<a_170>", "<b_224>"]')
    row = []
    for level, token in enumerate(tokens):
        match = TOKEN.fullmatch(token) if isinstance(token, str) else None
        if not match or ord(match[1].lower()) - 97 != level:
            raise StudyError(
                f"{file}: item {item}: token {shown(token)} should look like '<{chr(97 + level)}_12>' "
                f"at level {level + 1}"
            )
        row.append(int(match[2]))
    return row


@dataclass(frozen=True, eq=False)
class PrefixTree:
    """All prefixes of all IDs, as flat integer arrays.

    Nodes of one depth are numbered in the order of their prefixes, so the children of node n at depth d are the nodes
    ``first[d][n] .. first[d][n + 1]`` of depth d + 1, and ``code[d]`` names the code on the edge to each. A leaf is a
    whole ID; its items are ``items[group_first[leaf] : group_first[leaf + 1]]``.

    >>> tree = PrefixTree.build(np.array([[0, 1], [0, 0], [1, 0], [0, 1]]))
    >>> tree.first[0], tree.code[0], tree.first[1], tree.code[1]
    (array([0, 2]), array([0, 1]), array([0, 2, 3]), array([0, 1, 0]))
    >>> tree.leaf_of, tree.group_sizes
    (array([1, 0, 2, 1]), array([1, 2, 1]))
    """

    first: Sequence[np.ndarray]
    code: Sequence[np.ndarray]
    items: np.ndarray
    group_first: np.ndarray
    leaf_of: np.ndarray

    @classmethod
    def build(cls, codes: Int[np.ndarray, "items levels"]) -> "PrefixTree":
        order = np.lexsort(codes.T[::-1])
        ordered = codes[order]
        new = np.zeros(len(codes), dtype=bool)  # does a new prefix begin at this row?
        new[0] = True
        parent_of_row = np.zeros(len(codes), dtype=np.int64)
        parents, first, code = 1, [], []
        for column in ordered.T:
            new[1:] |= column[1:] != column[:-1]
            starts = np.flatnonzero(new)
            first.append(np.searchsorted(parent_of_row[starts], np.arange(parents + 1)))
            code.append(column[starts])
            parent_of_row, parents = np.cumsum(new) - 1, len(starts)
        leaf_of = np.empty(len(codes), dtype=np.int64)
        leaf_of[order] = parent_of_row
        return cls(first, code, order, np.append(np.flatnonzero(new), len(codes)), leaf_of)

    @property
    def group_sizes(self) -> np.ndarray:
        """Items per leaf."""
        return np.diff(self.group_first)

    def prefix(self, depth: int, node: int) -> tuple[int, ...]:
        """The codes from the root to a node of this depth.

        >>> PrefixTree.build(np.array([[0, 1], [0, 0], [1, 0]])).prefix(2, 1)
        (0, 1)
        """
        codes = []
        for level in reversed(range(depth)):
            codes.append(int(self.code[level][node]))
            node = int(np.searchsorted(self.first[level], node, side="right")) - 1
        return tuple(reversed(codes))

    def below(self, depth: int, node: int) -> np.ndarray:
        """The items whose IDs begin with the prefix of a node of this depth.

        >>> PrefixTree.build(np.array([[0, 1], [0, 0], [1, 0]])).below(1, 0)
        array([0, 1])
        """
        start, end = node, node + 1
        for first in self.first[depth:]:
            start, end = first[start], first[end]
        return np.sort(self.items[self.group_first[start] : self.group_first[end]])

    def group(self, leaf: int) -> np.ndarray:
        """The items of a leaf, in ascending order."""
        return np.sort(self.items[self.group_first[leaf] : self.group_first[leaf + 1]])
