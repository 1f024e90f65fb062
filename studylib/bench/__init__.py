"""Speed on one thread, in CPU seconds, against a named reference in the same run."""

from pathlib import Path

import torch

from studylib.bench import generator, pages, runner, tokenizing
from studylib.data import load
from studylib.errors import StudyError
from studylib.semantic_ids import SemanticIds


def run(
    what: str,
    data_set: str,
    index: Path | None,
    seconds: float,
    encoders: str,
    items: str = "",
    tokenizers: str = "residual-kmeans",
) -> dict:
    """One benchmark; returns the numbers that the command prints as its last line.

    Args:
        what: "train", "decode", "fused", "tree", "tokenize", "render", "encode" or "runner".
        data_set: a data set's name or folder ("tokenize" and "runner" have inputs of their own).
        index: a Semantic-ID index; None: random IDs of four levels of 256 codes.
        seconds: bound of the whole run.
        encoders: names with commas between, for "encode".
        items: numbers with commas between: "tokenize" prints a table of what each size costs instead.
        tokenizers: names with commas between, for that table.
    """
    torch.set_num_threads(1)
    if items and what != "tokenize":
        raise StudyError(f"bench {what}: --items is for tokenize; leave it out")
    if what == "tokenize" and items:
        return tokenizing.growth(items, tokenizers)
    if what == "tokenize":
        return tokenizing.tokenize(seconds)
    if what == "runner":
        return runner.runner()
    data = load(data_set)
    if what == "render":
        return pages.render(data, seconds)
    if what == "encode":
        return pages.encode(data, seconds, encoders.split(","))
    ids = SemanticIds.load(index, data.n_items) if index else generator.random_ids(data.n_items)
    return getattr(generator, what)(data, ids, seconds)
