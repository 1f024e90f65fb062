"""The embedded data set: products and users generated from a seed, so that the truth is known.

Every product has a text group (what kind of thing its description says it is), a size, an image group (shape and colour
of its picture) and a hidden group, which nothing shows. A user's next product follows, in proportions that the knobs
give, from the last product's text (the next kind, at a near size), its picture (the same look), or its hidden group
(the next one; as a rule every product is a group, so that it has one successor); what is left is popularity. An
analysis that cannot recover these proportions is broken.
"""

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from pydantic import Field, model_validator

from studylib import paths
from studylib.data import atomic
from studylib.data.dataset import Dataset
from studylib.errors import StudyError
from studylib.settings import Settings, checked, later

VERSION = 2  # raise it when the same knobs give other data
CAUSES = ("text", "image", "collaborative", "popularity")

# What a user follows from, by the index that shows it (see ``Truth.codes``).
SHOWN = {"index:index_text": "text", "index:index_image": "image", "index:index_hidden": "collaborative"}

SIZES = 6  # of every kind of product: the number in its description that drives what follows

# Kind of product, category, sizes from small to large, range of l; and a description with places for d (its size),
# l (a second number) and n (pieces). Only the kind and the size drive what is bought next.
KINDS = (
    ("hex bolt", "Fasteners", (4, 5, 6, 8, 10, 12), (16, 80),
     "DIN 933 hex bolt M{d} x {l} mm, A2-70 SS, full thread, {n} pcs/pkg"),
    ("O-ring", "Seals", (1, 2, 3, 4, 5, 6), (8, 90),
     "NBR O-ring, CS {d} mm, ID {l} mm, 70 Shore A, -30/+100 °C, pack of {n}"),
    ("ball bearing", "Bearings", (6, 8, 10, 12, 15, 17), (26, 47),
     "Ball bearing 2RS, bore {d} mm, OD {l} mm, ABEC-3, qty {n}"),
    ("resistor", "Electronics", (1, 2, 3, 5, 7, 10), (1, 99),
     "Metal film resistor {l} kohm, {d} W, 1 % tol, 0.6 mm leads, {n} pcs"),
    ("PLA filament", "Printing", (1, 2, 3, 4, 5, 8), (190, 220),
     "PLA filament 1.75 mm, {d} kg spool, {l} °C, acc. +/- 0.03 mm, qty {n}"),
    ("nitrile gloves", "Safety", (3, 4, 5, 6, 8, 9), (23, 31),
     "Nitrile exam gloves, {d} mil, {l} cm cuff, AQL 1.5, box of {n}"),
    ("caliper", "Measuring", (4, 6, 8, 12, 18, 24), (30, 60),
     "Digital caliper 0-{d} in, res. 0.01 mm, jaw {l} mm, IP54, {n} x LR44"),
    ("epoxy", "Adhesives", (5, 10, 15, 30, 60, 90), (20, 50),
     "Two-part epoxy, {l} ml syringe, pot life {d} min, shear 22 MPa, {n} pcs"),
    ("LED strip", "Lighting", (1, 2, 3, 5, 10, 15), (5, 20),
     "LED strip {l} W/m, {d} m reel, 6500 K, 24 VDC, IP65, CRI 90, qty {n}"),
    ("copper wire", "Cable", (16, 18, 20, 22, 24, 26), (100, 500),
     "Enamelled copper wire AWG {d}, {l} g spool, class H 180 °C, qty {n}"),
    ("beaker", "Labware", (25, 50, 100, 250, 400, 600), (34, 90),
     "Borosilicate beaker {d} ml, low form, DIN 12331, OD {l} mm, set of {n}"),
    ("sanding disc", "Abrasives", (40, 60, 80, 120, 180, 240), (75, 150),
     "Hook & loop sanding disc {l} mm, P{d} grit, alumina, C-wt, {n} pcs"),
)  # fmt: skip
COLOURS = ((200, 60, 50), (60, 130, 200), (80, 170, 90), (230, 170, 40))
SHAPES = ("disc", "square", "triangle")


class Knobs(Settings):
    """What the generator is told. What ``text``, ``image`` and ``collaborative`` leave of 1 is popularity.

    ``correlation``: share of products whose image group is that of their text instead of a random one.

    ``crossed``: if not 0, there are so many text, image and hidden groups each, every combination of three occurs
    equally often, all sizes are one, all products equally popular, and products are bought again. So no group tells
    anything of another, neither by itself nor by what a user had before; ``correlation`` does not count.
    """

    users: int = Field(800, ge=10, le=100_000)
    items: int = Field(300, ge=24, le=10_000)
    text: float = Field(0.4, ge=0, le=1)
    image: float = Field(0.25, ge=0, le=1)
    collaborative: float = Field(0.2, ge=0, le=1)
    correlation: float = Field(0.2, ge=0, le=1)
    crossed: int = later(0, ge=0, le=12)
    shortest: int = Field(6, ge=3)
    longest: int = Field(14, ge=3)
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _proportions(self):
        if self.text + self.image + self.collaborative > 1 + 1e-9:
            raise ValueError("text + image + collaborative must not exceed 1")
        if not self.shortest <= self.longest <= self.items // 2:
            raise ValueError("shortest <= longest <= items / 2 must hold")
        if self.crossed and self.items % self.crossed**3:
            raise ValueError(f"crossed={self.crossed}: items must be a multiple of {self.crossed**3}")
        return self


def knobs_of(name: str) -> Knobs:
    """The knobs that a data set's name gives; the others are as they are.

    Raises:
        StudyError: no such knob, or a value that it cannot have.

    >>> knobs_of("planted:text=0.6,image=0").text, knobs_of("planted").image
    (0.6, 0.25)
    """
    given = [part.partition("=") for part in name.partition(":")[2].split(",") if part]
    twice = [knob for number, (knob, _, _) in enumerate(given) if knob in (other for other, _, _ in given[:number])]
    if twice:
        raise StudyError(f"{name}: {twice[0]} is given twice; leave one out")
    try:
        return checked(Knobs, {knob: value for knob, _, value in given})
    except StudyError as error:
        raise StudyError(f"{name}: {error}; knobs are {', '.join(Knobs.model_fields)}") from None


@dataclass(frozen=True, eq=False)
class Truth:
    """Per item its text and image group (0..11), size (0..5), hidden group, popularity; per user each step's cause."""

    text_group: np.ndarray
    size: np.ndarray
    image_group: np.ndarray
    hidden_group: np.ndarray
    popularity: np.ndarray
    causes: list[list[int]]

    def follows(self, cause: str, last: int) -> np.ndarray:
        """How well every item fits after ``last`` for this cause alone, popularity apart."""
        if cause == "text":
            near = np.exp(-2.0 * np.abs(self.size - self.size[last]))
            return (self.text_group == (self.text_group[last] + 1) % (self.text_group.max() + 1)) * near
        if cause == "image":
            return (self.image_group == self.image_group[last]).astype(float)
        if cause == "collaborative":
            following = (self.hidden_group[last] + 1) % (self.hidden_group.max() + 1)
            return (self.hidden_group == following).astype(float)
        return np.ones(len(self.size))

    def codes(self) -> dict[str, np.ndarray]:
        """The groups as Semantic IDs, int64 [items, levels]: what a perfect encoder and tokenizer would find."""
        text = np.column_stack([self.text_group, self.size])
        return {"text": text, "image": self.image_group[:, None], "hidden": self.hidden_group[:, None]}


def generate(knobs: Knobs) -> tuple[Dataset, list[Image.Image], Truth]:
    """Products, their pictures and the users' sequences; the same knobs give the same bytes."""
    rng = np.random.default_rng([VERSION, knobs.seed])
    text_group = rng.permutation(np.arange(knobs.items) % len(KINDS))
    size = rng.integers(0, SIZES, knobs.items)
    alike = rng.random(knobs.items) < knobs.correlation
    image_group = np.where(alike, text_group, rng.integers(0, len(KINDS), knobs.items))
    hidden_group = np.argsort(rng.permutation(knobs.items))  # one round trip through all items
    popularity = (1 + rng.permutation(knobs.items)) ** -0.6
    if knobs.crossed:
        cells = rng.permutation(np.arange(knobs.items) % knobs.crossed**3)
        text_group, image_group, hidden_group = np.unravel_index(cells, (knobs.crossed,) * 3)
        size, popularity = np.zeros_like(size), np.ones_like(popularity)
    items = tuple(_description(rng, int(text_group[item]), int(size[item]), item) for item in range(knobs.items))
    pictures = [_picture(rng, int(group)) for group in image_group]
    truth = Truth(text_group, size, image_group, hidden_group, popularity, [])
    proportions = np.array([knobs.text, knobs.image, knobs.collaborative])
    proportions = np.append(proportions, max(0.0, 1 - proportions.sum()))
    sequences = []
    for _ in range(knobs.users):
        sequence, causes = _walk(rng, knobs, truth, proportions / proportions.sum())
        sequences.append(sequence)
        truth.causes.append(causes)
    users = tuple(f"u{user}" for user in range(knobs.users))
    keys = tuple(f"P{item:05d}" for item in range(knobs.items))
    return Dataset("planted", users, tuple(sequences), knobs.items, items, keys), pictures, truth


def _walk(rng, knobs: Knobs, truth: Truth, proportions: np.ndarray):
    """One user: items, without repetition unless groups cross, and what caused each step."""
    free, popularity = np.ones(knobs.items, dtype=bool), truth.popularity
    sequence, causes = [int(rng.choice(knobs.items, p=popularity / popularity.sum()))], []
    free[sequence[0]] = bool(knobs.crossed)
    for _ in range(rng.integers(knobs.shortest, knobs.longest + 1) - 1):
        last, cause = sequence[-1], int(rng.choice(len(CAUSES), p=proportions))
        wanted = truth.follows(CAUSES[cause], last)
        if not (wanted * free).any():  # all such items had already: then, and only then, popularity decides
            cause, wanted = CAUSES.index("popularity"), np.ones(knobs.items)
        weight = popularity * wanted * free
        sequence.append(int(rng.choice(knobs.items, p=weight / weight.sum())))
        causes.append(cause)
        free[sequence[-1]] = bool(knobs.crossed)
    return np.array(sequence, dtype=np.int64), causes


def _description(rng, group: int, size: int, item: int) -> dict[str, str]:
    kind, category, sizes, lengths, form = KINDS[group]
    length, pieces = int(rng.integers(*lengths)), int(rng.choice((1, 2, 4, 5, 10, 20, 25, 50, 100)))
    brand = ("Norvik", "ACMEX", "Tolland", "K&R", "Ferro-X")[int(rng.integers(5))]
    return {
        "title": f"{brand} {kind} {sizes[size]}-{length}",
        "brand": brand,
        "categories": f"Industrial, {category}",
        "description": f"{form.format(d=sizes[size], l=length, n=pieces)}. Part no. {brand[:2].upper()}{item:04d}.",
    }


def _picture(rng, group: int, side: int = 128) -> Image.Image:
    """A shape in a colour; place, size and shade vary, shape and colour are the image group."""
    picture = Image.new("RGB", (side, side), (245, 245, 242))
    draw = ImageDraw.Draw(picture)
    shade = rng.integers(-18, 19, 3)
    colour = tuple(int(value) for value in np.clip(np.array(COLOURS[group % len(COLOURS)]) + shade, 0, 255))
    radius, x, y = int(rng.integers(30, 46)), int(rng.integers(52, 77)), int(rng.integers(52, 77))
    shape = SHAPES[group // len(COLOURS)]
    if shape == "disc":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    elif shape == "square":
        draw.rectangle((x - radius, y - radius, x + radius, y + radius), fill=colour)
    else:
        draw.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=colour)
    return picture


def write(folder: Path, knobs: Knobs | None = None) -> Path:
    """Write the data set into a new ``folder``, which appears whole or not at all.

    Beside the usual files: planted.truth.json with the groups and causes, and the groups as Semantic IDs
    (planted.index_text.json, index_image, index_hidden), for what no encoder or tokenizer shall blur.

    Raises:
        StudyError: the folder exists; what is in it may be of other knobs, and is left alone.
    """
    from studylib.semantic_ids import SemanticIds  # which reads files of this package's conventions

    data, pictures, truth = generate(knobs or Knobs())
    facts = {name: getattr(truth, name).tolist() for name in ("text_group", "size", "image_group", "hidden_group")}
    facts |= {"causes": truth.causes, "names": CAUSES, "knobs": (knobs or Knobs()).model_dump()}
    with atomic.new_folder(folder) as partial:
        atomic.write(data, partial)
        (partial / "images").mkdir()
        for item, picture in enumerate(pictures):
            picture.save(partial / "images" / f"{item}.png")
        (partial / "planted.truth.json").write_text(json.dumps(facts))
        for name, codes in truth.codes().items():
            SemanticIds(codes, tuple(codes.max(0) + 1)).save(partial / f"planted.index_{name}.json")
    return folder


def load(knobs: Knobs | None = None) -> Dataset:
    """The data set of these knobs, from the cache; generated there if it is not."""
    knobs = knobs or Knobs()
    name = sha256(f"{VERSION}{knobs.model_dump_json()}".encode()).hexdigest()[:12]
    folder = paths.cache_root() / "data" / name / "planted"
    if not folder.exists():
        try:
            write(folder, knobs)
        except StudyError:
            if not folder.exists():  # otherwise another process was first, and wrote the same bytes
                raise
    return atomic.read(folder)
