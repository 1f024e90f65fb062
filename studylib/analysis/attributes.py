"""How attribute-like a text is: numerals, units, separators and abbreviations against words (000, section 4.5).

000 shows examples only (Figure 6); this is our operational reading of its "numerals, units, and compact attribute
lists". Its "key-value style patterns" count by their values alone: a key ("Material:") is a word, for a colon ends as
many sentences' beginnings ("Please note:") as keys. A text is cut at white space into tokens, punctuation at a token's
edges aside, and each token is one of:

- ``numeral``: has a digit: 3.7, 1600DPI, #10-24, 1/4W
- ``unit``: a unit of measure after a numeral or another unit: oz, mm, ohm ("in" and "a" are words elsewhere)
- ``separator``: punctuation alone: / | - &
- ``abbreviation``: two to five capitals, or letters with inner full stops: PVC, LED, U.S.
- ``word``: anything else
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from studylib.data.dataset import Dataset
from studylib.errors import StudyError

UNITS = frozenset(
    """ah amp amps btu c cc cfm cm db deg dia f fl ft ft-lb g ga gal gauge gpm grit hp hz in inch inches k kg khz kohm
    kpa kv kw l lb lbs lumen lumens m ma mah mhz mic micron microns mil ml mm mv mw nm ohm ohms oz pc pcs pk pkg ply ppm
    psi pt px qt rpm sq thk v vac vdc volt volts w watt watts yd µl µm µf °c °f""".split()  # noqa: SIM905
)
# Of an item: what takeaway 7 may be about, and last what else sets text and page apart.
PROPERTIES = ("attribute density", "density without abbreviations", "tokens per word", "words", "share cut off")
KINDS = ("numeral", "unit", "separator", "abbreviation", "word")
TOKEN = re.compile(r"\S+")
EDGE = ".,;:()[]{}\"'!?"
ABBREVIATION = re.compile(r"[A-Z]{2,5}s?|(?:[A-Za-z]\.){2,}")


def kind(token: str, before: str = "word") -> str:
    """Which of ``KINDS`` a token is that follows one of kind ``before``.

    >>> [kind(token) for token in "Resistor , 1/4W PVC - (black)".split()]
    ['word', 'separator', 'numeral', 'abbreviation', 'separator', 'word']
    >>> kind("in"), kind("in", before="numeral")
    ('word', 'unit')
    """
    core = token.strip(EDGE)
    if not any(character.isalnum() or character == "°" for character in core):
        return "separator"
    if any(character.isdigit() for character in core):
        return "numeral"
    if core.lower() in UNITS and before in ("numeral", "unit"):
        return "unit"
    return "abbreviation" if ABBREVIATION.fullmatch(core) or ABBREVIATION.fullmatch(token) else "word"


def spans(text: str) -> list[tuple[int, int, str]]:
    """``(start, end, kind)`` of every token of a text."""
    found, before = [], "word"
    for match in TOKEN.finditer(text):
        before = kind(match[0], before)
        found.append((match.start(), match.end(), before))
    return found


def mean_density(texts: dict[str, list[str]]) -> pd.DataFrame:
    """One row a data set: ``density`` averaged over its items' texts.

    Raises:
        StudyError: there is no data set with text.
    """
    if not texts:
        raise StudyError("datasets: none of them has item text; name one that has NAME.item.json")
    means = {name: pd.DataFrame(map(density, rows)).mean() for name, rows in texts.items()}
    return pd.DataFrame(means).T.rename_axis("data set")


def representative(texts: list[str]) -> int:
    """The text of median attribute density among those whose length lies between the quartiles."""
    lengths = [len(text.split()) for text in texts]
    low, high = np.quantile(lengths, [0.25, 0.75])
    middling = [number for number, length in enumerate(lengths) if low <= length <= high] or range(len(texts))
    ordered = sorted(middling, key=lambda number: (density(texts[number])["attribute"], number))
    return ordered[len(ordered) // 2]


def density(text: str) -> dict[str, float]:
    """Share of each kind among the tokens, and ``attribute``: all but words. All zero for an empty text.

    >>> density("M4 x 16 mm bolt")["attribute"]
    0.6
    """
    counts = Counter(kind for _, _, kind in spans(text))
    total = max(1, sum(counts.values()))
    shares = {name: counts[name] / total for name in KINDS}
    return shares | {"attribute": sum(counts[name] for name in KINDS[:-1]) / total}


def subwords_of(name: str = "minilm") -> tuple[Callable[[str], list[int]], int]:
    """The subword tokens of a text as the text encoder ``name`` cuts it, without special ones; and how many it reads.

    Raises:
        StudyError: no text encoder of that name, or its weights are missing.
    """
    from studylib.encoders import pretrained, text, weights
    from studylib.encoders.registry import encoder

    if encoder(name).kind != "text":
        raise StudyError(f"{name}: no text encoder, so it cuts no words; choose one of kind text from 'study encoders'")
    path = weights.load(encoder(name)).path
    own = {"gguf_file": path.name} if path.is_file() else {}
    tokenizer = pretrained.load("AutoTokenizer", path.parent if own else path, **own)
    room = text.longest(encoder(name)) - tokenizer.num_special_tokens_to_add()
    return lambda words: tokenizer(words, add_special_tokens=False).input_ids, room


def item_properties(data: Dataset, tokenize: Callable[[str], Sequence], room: int) -> pd.DataFrame:
    """One row an item: ``attribute density`` (share of numerals, units, separators and abbreviations among its tokens),
    ``density without abbreviations``, for which capitals are easily taken, ``tokens per word`` (subword fragmentation,
    punctuation's own tokens included), ``words`` (between white space), and ``share cut off``, of its subword tokens:
    those after the first ``room``, which the text encoder never sees.
    """
    rows = []
    for item in range(data.n_items):
        text = data.text(item)
        words, tokens = len(text.split()), len(tokenize(text))
        cut = max(0, tokens - room) / max(1, tokens)
        found = density(text)
        dense = found["attribute"]
        rows.append((dense, dense - found["abbreviation"], tokens / max(1, words), words, cut))
    return pd.DataFrame(rows, columns=list(PROPERTIES), dtype=float)
