"""One item's journey, opened: what happens to it at each step between its text and a recommendation."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from studylib.analysis.geometry import unit
from studylib.config import Trial
from studylib.data import Dataset, load
from studylib.decoding import TensorTree, beam_search
from studylib.encoders import ocr, transcript, weights
from studylib.encoders.registry import encoder
from studylib.errors import StudyError
from studylib.evaluation import Searcher, padded
from studylib.keys import key_of
from studylib.recommend import with_weights
from studylib.render import Page, render
from studylib.semantic_ids import SemanticIds, token
from studylib.trials import run


@dataclass(frozen=True)
class Line:
    """A line of a page: its pixels as the recogniser gets them, the features it gives, and what it reads."""

    pixels: np.ndarray
    tokens: Float[np.ndarray, "token dims"]
    text: str


def trained(trial: Trial, item: int, user: int) -> tuple[Dataset, Searcher]:
    """A trial's data and its trained generator; run first if it is not finished.

    Raises:
        StudyError: the data set has no such item or user.
    """
    data = load(trial.data)
    for name, number, count in (("item", item, data.n_items), ("user", user, len(data.users))):
        if number >= count:
            raise StudyError(f"{name}: {trial.data} has {count}, counted from 0; choose another than {number}")
    run([trial], jobs=1)
    return data, with_weights(trial, data, key_of(trial, data))


def lines(data: Dataset, item: int, page: Page, reader: str = "ppocr-v6") -> list[Line]:
    """What the recogniser ``reader`` sees of an item's page and makes of it.

    Raises:
        StudyError: it is no recogniser that gives a transcript, or its weights are missing.
    """
    drawn = render(data.fields(item), page, item)
    texts = transcript.reader_named(reader)([drawn])[0]
    crops = ocr.line_crops(drawn, transcript.HEIGHT)
    tokens = ocr.line_tokens(crops, ocr.ppocr_recogniser(weights.load(encoder(reader)).path))
    return [Line(*one) for one in zip(crops, tokens, texts, strict=True)]


def neighbours(data: Dataset, matrix: Float[np.ndarray, "items dims"], item: int, count: int = 5) -> pd.DataFrame:
    """The items whose vectors point most nearly the same way: columns ``item``, ``cosine``, ``title``."""
    rows = unit(matrix)
    cosines = rows @ rows[item]
    nearest = [other for other in np.argsort(-cosines, kind="stable").tolist() if other != item][:count]
    return pd.DataFrame({"item": other, "cosine": cosines[other], "title": data.title(other)} for other in nearest)


def name(codes: tuple[int, ...]) -> str:
    """Codes as the index files write them.

    >>> name((170, 224, 251))
    'a_170 b_224 c_251'
    """
    return " ".join(token(level, code) for level, code in enumerate(codes))


def branches(ids: SemanticIds, item: int) -> pd.DataFrame:
    """The nodes of the prefix tree along an item's path and beside it.

    Columns: ``level`` from 1; ``prefix``, its codes; ``name`` of its last code; ``items`` below it; ``taken``, whether
    the item's path goes there.
    """
    tree, rows, node = ids.tree, [], 0
    for depth, code in enumerate(ids.codes[item].tolist()):
        children = range(tree.first[depth][node], tree.first[depth][node + 1])
        for child in children:
            prefix = tree.prefix(depth + 1, child)
            below, said = len(tree.below(depth + 1, child)), token(depth, prefix[-1])
            rows.append(
                {"level": depth + 1, "prefix": prefix, "name": said, "items": below, "taken": prefix[-1] == code}
            )
        node = next(child for child in children if tree.code[depth][child] == code)
    return pd.DataFrame(rows)


def beams(searcher: Searcher, history: np.ndarray, user: int, shown: int = 5) -> pd.DataFrame:
    """The best prefixes after each level of the search; ``user`` matters to a generator that has user tokens.

    Columns: ``level``; ``codes`` written so far; ``log p``; ``items`` that begin with them.
    """
    ids, rows = searcher.ids.written, []
    tree = ids.tree

    def note(level: int, nodes: torch.Tensor, scores: torch.Tensor) -> None:
        for node, score in list(zip(nodes[0].tolist(), scores[0].tolist(), strict=True))[:shown]:
            if node >= 0:
                codes, items = name(tree.prefix(level, node)), len(tree.below(level, node))
                rows.append({"level": level, "codes": codes, "log p": score, "items": items})

    table, lengths = padded([history[-searcher.history :]])
    codes = torch.as_tensor(searcher.ids.codes)[table]
    users = None if searcher.user_tokens is None else torch.as_tensor(searcher.user_tokens[[user]])
    found, _ = beam_search(searcher.model, TensorTree(tree), codes, lengths, searcher.beams, users=users, watch=note)
    note(ids.levels, found.leaves, found.scores)
    return pd.DataFrame(rows)
