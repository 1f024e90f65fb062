"""What the notebooks vary: by name, what it changes in a trial and what a reader calls it.

Of the rows that are asked for the first is the reference. 002 (GRID) is the source of tokenizers, shapes, collisions
and generators; rows of these that it does not have say so.
"""

import re
from dataclasses import dataclass, field, replace

from studylib.errors import StudyError
from studylib.methods import method


@dataclass(frozen=True)
class Choice:
    """One row: ``tokenizer``, ``generator`` and ``page`` are the settings that differ from the notebook's own.

    ``text_first``: of fused modalities the text leads, in place of the image.
    ``aligned``: the generator first learns to translate between modalities, as the notebook's ``alignment`` says.
    ``against``: the row that it is compared with, if that is there, in place of the table's reference.
    ``target``: of stacked modalities the one that is written, if not the notebook's own.
    ``names``: what parameters call the row; ``choices`` fills it in, and a row of two choices has both.
    """

    label: str
    tokenizer: dict = field(default_factory=dict)
    generator: dict = field(default_factory=dict)
    fusion: str = "none"
    text_first: bool = False
    aligned: bool = False
    page: dict = field(default_factory=dict)
    against: str = ""
    target: str = ""
    names: tuple[str, ...] = ()


AS_IT_IS = Choice("as it is")

# LETTER's own alignment, 0.02, is for many more steps than a small catalogue takes. Of that, 0.1, 0.3 and 1 the second
# and third are best on Scientific's validation (one seed), and the smaller of these is kept. All four differ by less
# than five seeds of it do (`tokenizer_epochs` of 10), so validation rules out none.
_LETTER = {"name": "letter", "alignment": 0.1, "batch": 64}
_RANKING = {"temperature": 0.7}  # LETTER's ranking-guided generation loss: any temperature below 1

_NORMALISED = {"normalise_residuals": True}  # 002, section 4: "to prevent collapse"

# 002, Table 1; LETTER and its ablations, CoST, OPQ and balanced assignment are the study's own rows.
TOKENIZERS = {
    "residual-kmeans": Choice("residual k-means", {"name": "residual-kmeans"}),
    "residual-kmeans:normalised": Choice(
        "residual k-means, residuals normalised", {"name": "residual-kmeans"} | _NORMALISED
    ),
    "r-vq": Choice("R-VQ, moving averages", {"name": "r-vq"}),
    "r-vq:gradient": Choice("R-VQ, gradient", {"name": "r-vq", "update": "gradient"}),
    "rq-vae": Choice("RQ-VAE", {"name": "rq-vae"}),
    # LETTER without either of its losses, with as many steps as the rows of LETTER below.
    "rq-vae:64": Choice("RQ-VAE, batches of 64", {"name": "rq-vae", "batch": 64}),
    # On a small catalogue 25 passes are a hundred steps, and end where k-means began.
    "rq-vae:long": Choice("RQ-VAE, six times as long, wider", {"name": "rq-vae", "iterations": 150, "latent": 128}),
    "letter": Choice("LETTER", _LETTER, _RANKING),
    "letter:no-ranking": Choice("LETTER, no ranking loss", _LETTER, against="letter"),
    "letter:no-alignment": Choice("LETTER, no alignment", _LETTER | {"alignment": 0.0}, _RANKING, against="letter"),
    "letter:no-diversity": Choice("LETTER, no diversity", _LETTER | {"diversity": 0.0}, _RANKING, against="letter"),
    **{
        f"letter:{weight:g}": Choice(
            f"LETTER, alignment {weight:g}", _LETTER | {"alignment": weight}, _RANKING, against="letter"
        )
        for weight in (0.02, 0.3, 1)
    },
    "cost": Choice("CoST-style", {"name": "cost"}),
    "balanced-kmeans": Choice("residual k-means, balanced", {"name": "balanced-kmeans"}),
    "opq": Choice("OPQ (codes without order)", {"name": "opq"}),
}

# 002, Table 7 has the first two; items that share an ID are scored by expectation (see studylib/metrics.py).
COLLISIONS = {
    "dedup": Choice("a level that numbers them", {"collisions": "dedup"}),
    "dedup:normalised": Choice(
        "a level that numbers them, residuals normalised", {"collisions": "dedup"} | _NORMALISED
    ),
    "none": Choice("left to collide", {"collisions": "none"}),
    "none:normalised": Choice(
        "left to collide, residuals normalised", {"collisions": "none"} | _NORMALISED, against="dedup:normalised"
    ),
    "matching": Choice("matched to free codes", {"collisions": "matching"}),
    "sinkhorn": Choice("Sinkhorn on the last level", {"collisions": "sinkhorn"}),
}

# 002, Tables 4, 5, 6, 8; one pass, positions, exact scoring, both ways, history and size are the study's own rows.
GENERATORS = {
    "base": Choice("encoder-decoder, tree search"),
    **{
        f"user-tokens-{count}": Choice(f"{count:,} user tokens", generator={"user_tokens": count})
        for count in (2000, 4000, 6000, 8000)
    },
    "decoder-only": Choice("decoder only", generator={"architecture": "decoder-only", "training": "one-pass"}),
    # Where the reference reads both ways, a last item is held against what is read as it is: forwards.
    "no-augmentation": Choice("last item the only target", generator={"augmentation": "none"}, against="one-way"),
    "both-ways": Choice("sequences read both ways", generator={"augmentation": "both-ways"}),
    "one-way": Choice("sequences read forwards only", generator={"augmentation": "every"}),
    "no-cross-positions": Choice("no positions in cross-attention", generator={"cross_positions": "none"}),
    "one-pass": Choice("one pass", generator={"training": "one-pass"}),  # for the paper budget, which takes windows
    "windows": Choice("sliding windows", generator={"training": "windows", "cross_positions": "none"}),
    "free": Choice("free search", generator={"search": "free"}),
    "exact": Choice("every item scored", generator={"search": "exact"}),
    "history-5": Choice("history of 5 items", generator={"history": 5}),
    "small": Choice("half the width", generator={"d_model": 48, "d_ff": 192, "d_head": 12}),
    "large": Choice("twice the width", generator={"d_model": 192, "d_ff": 768, "d_head": 48}),
}


# 000, section 2.3.1: the gate is the paper's, tokenized by residual k-means or LETTER, of which RQ-VAE is what is left
# without its two losses; mean and concatenation learn nothing.
EARLY = {
    "gate": Choice("gate", fusion="gate"),
    "mean": Choice("mean", fusion="mean"),
    "concatenation": Choice("concatenation", fusion="concatenation"),
    **{
        name: replace(
            TOKENIZERS[name],
            label=f"gate, {TOKENIZERS[name].label}",
            fusion="gate",
            against=against,
        )
        for name, against in (
            ("rq-vae", ""),
            ("rq-vae:64", ""),
            ("letter", "rq-vae:64"),
            ("letter:no-ranking", "rq-vae:64"),
        )
    },
}

# 000, section 2.3.2: A, B, C, the image first; the last two are C's halves, as in 004's Figure 5.
LATE = {
    "A": Choice("A concatenated", fusion="late"),
    "A:text-first": Choice("A concatenated, text first", fusion="late", text_first=True),  # the study's own row
    "B": Choice("B interleaved", fusion="interleaved"),
    "C": Choice("C delimited and aligned", fusion="delimited", aligned=True),
    "delimited": Choice("delimited only", fusion="delimited"),
    "aligned": Choice("aligned only", fusion="late", aligned=True),
}
# Published IDs have a level that makes each modality's unique, so that the first of two names the item already. Of as
# many levels as 000 gives each (L 3) it takes both.
LATE |= {
    f"{name}:3": replace(LATE[name], label=f"{LATE[name].label}, 3 levels each", tokenizer={"leading": 3})
    for name in ("A", "B", "C")
}

# 001, Table 3a: a history carries every modality, one is written; without what 001 adds, or with its masking. T5's
# positions have bins for what lies ahead, which a causal encoder never sees; MSCGRec's have none, so the row with bins
# for both sides stands between the two.
_MSCGREC = {"softmax": "tree", "positions": "two-part-past"}
MSCGREC = {
    "full": Choice("MSCGRec", generator=_MSCGREC, fusion="stacked"),
    "both-sides": Choice(
        "MSCGRec, bins for both sides", generator=_MSCGREC | {"positions": "two-part"}, fusion="stacked"
    ),
    "t5-positions": Choice(
        "MSCGRec, T5's positions", generator=_MSCGREC | {"positions": "t5"}, fusion="stacked", against="both-sides"
    ),
    # 001's plain loss runs over all codes; over those of a level, other levels' codes are ruled out already.
    "unconstrained": Choice(
        "MSCGRec, unconstrained loss", generator=_MSCGREC | {"softmax": "vocabulary"}, fusion="stacked"
    ),
    "by-level": Choice("MSCGRec, loss over a level", generator=_MSCGREC | {"softmax": "level"}, fusion="stacked"),
    "masked": Choice("MSCGRec, masked", generator=_MSCGREC | {"masking": 0.75}, fusion="stacked"),
    # As MQL4GRec has it (Zhai et al., 2025, in 001's Table 2): each modality a language with codes of its own, and
    # translation between them learnt first, here as for late fusion (studylib/alignment.py), so with T5's positions.
    "translated": Choice(
        "MSCGRec, T5's positions, translated first",
        generator=_MSCGREC | {"positions": "t5"},
        fusion="stacked",
        aligned=True,
        against="t5-positions",
    ),
    # The same settings, loss and positions, but histories carry what is written and nothing else: the study's own row,
    # which says what the other modalities are good for.
    "alone": Choice("MSCGRec, written modality alone", generator=_MSCGREC),
}

# The planted groups themselves as codes, one after the other, all read and all written: no code names an item by the
# way, so that what a modality is worth is what it says.
PLANTED = Choice("masked", {"collisions": "none"}, {"softmax": "tree", "masking": 0.75}, "late")

TABLES = {
    "tokenizers": TOKENIZERS, "collisions": COLLISIONS, "generators": GENERATORS, "early": EARLY, "late": LATE,
    "fusions": EARLY | LATE, "mscgrec": MSCGREC,
}  # fmt: skip


WRITING = re.compile(r"writing:(.+)")  # MSCGRec with another modality written: 001 chose which one on validation
SHAPE = re.compile(r"([1-9][0-9]?)x([1-9][0-9]{0,4})")  # levels x codes
PAGE = re.compile(r"([1-9][0-9]{1,3})(:direct|:varied)?")  # pixels, and how the page is drawn


def choices(table: str, names: tuple[str, ...]) -> dict[str, Choice]:
    """The rows of ``names`` in a table, in their order.

    ``shapes`` takes any levels x codes, as in 002's Table 3; ``pages`` any resolution, as in 000's Table 3; ``mscgrec``
    ``writing:`` any modality.

    Raises:
        StudyError: a name that the table does not have.

    >>> choices("shapes", ("4x256",))["4x256"].tokenizer
    {'levels': 4, 'codes': 256}
    """
    if table in ("shapes", "pages"):
        made = {name: (shape if table == "shapes" else page)(name) for name in names}
    else:
        for name in names:
            if name not in TABLES[table] and not (table == "mscgrec" and WRITING.fullmatch(name)):
                raise StudyError(f"{name!r} is none of {', '.join(TABLES[table])}; choose from these")
        made = {name: TABLES[table].get(name) or writing(name) for name in names}
    return {name: replace(choice, names=(name,)) for name, choice in made.items()}


def references(chosen: dict[str, Choice]) -> dict[str, str]:
    """Of the rows that have a reference of their own among the chosen ones, its label by theirs."""
    return {row.label: chosen[row.against].label for row in chosen.values() if row.against in chosen}


def is_choice(name: str) -> bool:
    """Whether a table has this name, or takes it as a shape or a page.

    >>> [is_choice(name) for name in ("opq", "5x256", "256:varied", "opk")]
    [True, True, True, False]
    """
    return any(name in rows for rows in TABLES.values()) or any(pattern.fullmatch(name) for pattern in (SHAPE, PAGE))


def writing(name: str) -> Choice:
    """MSCGRec whole, with another modality written.

    >>> writing("writing:minilm").label
    'MSCGRec, writing MiniLM-L6'
    """
    target = WRITING.fullmatch(name)[1]
    return replace(MSCGREC["full"], label=f"{MSCGREC['full'].label}, writing {method(target).label}", target=target)


def shape(name: str) -> Choice:
    """Levels and codes a level."""
    match = SHAPE.fullmatch(name)
    if not match:
        raise StudyError(f"{name!r} is no shape; write levels x codes, such as 3x256")
    levels, codes = int(match[1]), int(match[2])
    return Choice(f"{levels} × {codes}", {"levels": levels, "codes": codes})


def page(name: str) -> Choice:
    """A page's resolution, and in what its drawing differs from the study's own (see studylib/render.py).

    >>> page("256:varied").page, page("256:direct").label
    ({'resolution': 256, 'layout': 'varied'}, '256 px, drawn small')
    """
    match = PAGE.fullmatch(name)
    if not match:
        raise StudyError(f"{name!r} is no page; write its pixels, such as 256, 256:direct or 256:varied")
    settings, said = {
        None: ({}, ""),
        ":direct": ({"drawn": "direct"}, ", drawn small"),
        ":varied": ({"layout": "varied"}, ", varied"),
    }[match[2]]
    return Choice(f"{match[1]} px{said}", page={"resolution": int(match[1])} | settings)


def page_references(pages: dict[str, Choice]) -> dict[str, str]:
    """By label, what each page is compared with: the first of its layout, and that one with the first of all.

    >>> page_references(choices("pages", ("1024", "256", "1024:varied", "256:varied")))
    {'256 px': '1024 px', '1024 px, varied': '1024 px', '256 px, varied': '1024 px, varied'}
    """
    firsts: dict[str | None, str] = {}
    first, found = next(iter(pages.values())).label, {}
    for row in pages.values():
        other = firsts.setdefault(row.page.get("layout"), row.label)
        found[row.label] = first if other == row.label else other
    return {label: other for label, other in found.items() if label != first}


def fused_label(text: str, strategy: str) -> str:
    """What the row of a text fused with the image is called."""
    return f"{text} + image, {strategy}"
