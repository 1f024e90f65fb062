"""Late fusion: each modality has its own Semantic IDs, and an item's are written one after the other (000, 2.3.2).

    late         A  [image codes, text codes]                              Eq. 8
    interleaved  B  [image 1, text 1, image 2, text 2, ...]                Eq. 9
    delimited    C  [IMAGE, image codes, SEPARATOR, TEXT, text codes]      Eq. 10

The modalities stand in the order in which the features are named. A delimiter is a level of one code, so the prefix
tree, the generator and the search need to know nothing of it: there is nothing to choose at it, and under a softmax of
its level nothing to learn. A loss is the mean over all levels, delimiters too: C's is no number to hold against A's.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from studylib.errors import StudyError
from studylib.semantic_ids import SemanticIds
from studylib.tokenizers import collisions


def combine(modalities: Sequence[SemanticIds], layout: str, deduplicate: bool = True) -> SemanticIds:
    """One Semantic ID of several; ``parts`` names the levels of each modality, delimiters in front included.

    Items that share the codes of all modalities get a last level that numbers them, if there are such items.

    Raises:
        StudyError: fewer than two modalities; they have different numbers of items.

    >>> ids = combine([SemanticIds(np.array([[5], [5]]), (6,)), SemanticIds(np.array([[1], [2]]), (3,))], "delimited")
    >>> ids.codes.tolist(), ids.sizes, ids.parts
    ([[0, 5, 0, 0, 1], [0, 5, 0, 0, 2]], (1, 6, 1, 1, 3), ((0, 1), (3, 4)))
    """
    if len(modalities) < 2:
        raise StudyError(f"fusion {layout}: one modality; name several features, joined by '+'")
    items = len(modalities[0].codes)
    for ids in modalities[1:]:
        if len(ids.codes) != items:
            raise StudyError(f"fusion {layout}: {len(ids.codes)} items in {ids.source}, {items} in the first modality")
    columns, sizes, parts = _interleaved(modalities) if layout == "interleaved" else _in_turn(modalities, layout)
    codes = np.column_stack(columns)
    if deduplicate and collisions.count(codes):
        codes, largest = collisions.deduplicate(codes)
        sizes = [*sizes, largest]
    source = f"{layout} of {' and '.join(ids.source for ids in modalities)}"
    return SemanticIds(codes, tuple(sizes), source=source, parts=tuple(map(tuple, parts)))


def stack(modalities: Sequence[SemanticIds], target: int, apart: bool = True) -> SemanticIds:
    """All modalities' codes for reading a history, one modality's for writing the next item (001, Eq. 2).

    ``apart``: every modality parts colliding items by itself (001: "a separate collision level per modality"); a ready
    index that does not gets such a level here. So even codes that mean nothing say which item it is. Otherwise the
    target's alone do: it must name items.

    Raises:
        StudyError: one modality; they have different numbers of items.
    """
    parts = []
    for number, ids in enumerate(modalities):
        codes, sizes = ids.codes, ids.sizes
        if collisions.count(codes) and (apart or number == target):
            codes, largest = collisions.deduplicate(codes)
            sizes = (*sizes, largest)
        parts.append(SemanticIds(codes, sizes, source=ids.source))
    whole = combine(parts, "late", deduplicate=False)
    return replace(whole, target=whole.parts[target], source=f"{whole.source}, writing {modalities[target].source}")


def _in_turn(modalities: Sequence[SemanticIds], layout: str) -> tuple[list, list, list]:
    columns, sizes, parts = [], [], []

    def delimiter():
        columns.append(np.zeros(len(modalities[0].codes), dtype=np.int64))
        sizes.append(1)

    for number, ids in enumerate(modalities):
        if layout == "delimited" and number:
            delimiter()  # SEPARATOR
        first = len(sizes)
        if layout == "delimited":
            delimiter()  # the modality's name
        columns.extend(ids.codes.T)
        sizes.extend(ids.sizes)
        parts.append(range(first, len(sizes)))
    return columns, sizes, parts


def _interleaved(modalities: Sequence[SemanticIds]) -> tuple[list, list, list]:
    columns, sizes, parts = [], [], [[] for _ in modalities]
    for level in range(max(ids.levels for ids in modalities)):
        for part, ids in zip(parts, modalities, strict=True):
            if level < ids.levels:  # the longer ID goes on alone
                part.append(len(sizes))
                columns.append(ids.codes[:, level])
                sizes.append(ids.sizes[level])
    return columns, sizes, parts
