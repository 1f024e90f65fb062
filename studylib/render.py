"""Item text drawn as a page: the rendering function g of 000 (Eq. 12), text in, picture out.

A page is laid out and drawn at 1024 pixels and then reduced to the asked resolution, as 000 does for its Table 3: so
a change of resolution never moves a word to another line, and pages of all resolutions differ in sharpness alone. But
line boxes end at whole pixels, so those of a small page are cut out a little too high, and read a little narrower.
The reduction takes the mean over each small pixel's area (Pillow's BOX): at 512, 256 and 128 every large pixel counts
once, as on a sensor. LANCZOS would sharpen the edges of letters, that is, give back some of what is to be taken away.
"""

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydantic import Field, ValidationError, model_validator

from studylib.errors import StudyError
from studylib.settings import Settings, later

CANVAS = 1024  # pixels; font_size and margin are given at this size
SMALLEST_FONT = 5  # pixels; below it DejaVu Sans has no two letters alike enough to read
LAYOUT_SEED = 11


class Page(Settings):
    """How text is drawn.

    Args:
        resolution: width and height of the square page in pixels (000 compares 1024 and 256).
        font_size: pixels at resolution 1024.
        margin: pixels at resolution 1024, the same on all four sides.
        line_spacing: distance of two lines in line heights (ascent + descent).
        field_order: "given", or "shuffled": another order for every item, the same at every call.
        drawn: "reduced", drawn at 1024 pixels and then reduced to ``resolution``; or "direct", laid out and drawn at
            ``resolution`` with sizes in proportion, the font in whole pixels (24 becomes 6 at 256): sharp, but a line
            may end at another word. The two are one at 1024.
        layout: "fixed", one template for all items; or "varied": font size (2/3 to 4/3 of ``font_size``), margin (1/2
            to 4 times ``margin``) and order of the fields are each item's own, by a hash of its text. A fixed template
            lets an encoder compare pages place by place without reading; ``field_order`` is then of no account.

    >>> Page(resolution=256).model_dump()
    {'resolution': 256, 'font_size': 24, 'margin': 32, 'line_spacing': 1.2, 'field_order': 'given'}
    """

    resolution: int = Field(1024, ge=64, le=1024)
    font_size: int = Field(24, ge=SMALLEST_FONT, le=256)
    margin: int = Field(32, ge=2, le=384)
    line_spacing: float = Field(1.2, ge=1.0, le=4.0)
    field_order: Literal["given", "shuffled"] = "given"
    drawn: Literal["reduced", "direct"] = later("reduced")
    layout: Literal["fixed", "varied"] = later("fixed")

    def __init__(self, **settings):
        try:
            super().__init__(**settings)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            found = f" (found {settings[place]!r})" if place in settings else ""
            raise StudyError(f"page: {place}: {first['msg']}{found}; known: {', '.join(Page.model_fields)}") from None

    @model_validator(mode="after")
    def _one_description(self):
        # Settings that change nothing are put to one value: the same page has one name in caches and trials.
        if self.resolution == CANVAS:
            object.__setattr__(self, "drawn", "reduced")
        if self.layout == "varied":
            object.__setattr__(self, "field_order", "given")
        return self

    @property
    def canvas(self) -> int:
        """Width and height in pixels of what is drawn on, before any reduction."""
        return self.resolution if self.drawn == "direct" else CANVAS

    def ordered(self, fields: list[str], item: int) -> list[str]:
        """The fields in the order in which they are drawn for ``item``."""
        if self.layout == "varied":
            order = np.random.default_rng([LAYOUT_SEED, 1, _hash(fields)]).permutation(len(fields))
            return [sorted(fields)[place] for place in order]
        if self.field_order == "given":
            return list(fields)
        return [fields[place] for place in np.random.default_rng([7, item]).permutation(len(fields))]

    def of_item(self, fields: list[str]) -> "Page":
        """The page that an item with these fields is drawn on: this one, or where the layout varies one of its own.

        >>> pages = [Page(layout="varied").of_item([title]) for title in ("Steel ruler", "Brass ruler")]
        >>> [(page.layout, page.font_size, page.margin) for page in pages]
        [('fixed', 30, 36), ('fixed', 28, 91)]
        """
        if self.layout == "fixed":
            return self
        rng = np.random.default_rng([LAYOUT_SEED, 0, _hash(fields)])
        font_size = round(self.font_size * rng.uniform(2 / 3, 4 / 3))
        margin = round(self.margin * rng.uniform(1 / 2, 4))
        own = {"font_size": min(max(font_size, SMALLEST_FONT), 256), "margin": min(max(margin, 2), 384)}
        return self.model_copy(update=own | {"layout": "fixed"})


def _hash(fields: list[str]) -> int:
    """Of the fields in any order: so the text as it is drawn says how it is drawn, as the cache's keys must."""
    return int.from_bytes(sha256("\0".join(sorted(fields)).encode("utf-8", "surrogatepass")).digest()[:8], "big")


@dataclass(frozen=True)
class RenderedPage:
    """A drawn page.

    Args:
        image: PIL "L", resolution x resolution, black on white.
        boxes: (left, top, right, bottom) of every line of text in pixels of ``image``, top to bottom; the full line
            height, so that crops of one page are equally high.
        lines: the text of every line.
        font_size: pixels at resolution 1024 that were really used.
        shrunk: the text did not fit at the asked font size.
        cut: lines at the end that did not fit in the smallest font either, and are not drawn.
    """

    image: Image.Image
    boxes: list[tuple[int, int, int, int]]
    lines: list[str]
    font_size: int
    shrunk: bool
    cut: int = 0


def render(fields: list[str], page: Page, item: int = 0) -> RenderedPage:
    """Draw ``fields``, each from a new line, wrapped between words; a word too long for a line is broken.

    Text that overflows is drawn in the largest whole font size that fits, and ``shrunk`` says so; where none does, the
    smallest is taken, and the page ends where it is full. Characters that the font lacks show its missing-glyph box
    (``missing_letters``). Scripts that need shaping are drawn letter by letter in logical order.

    Raises:
        StudyError: there is no text.

    >>> drawn = render(["Steel ruler", "150 mm"], Page(resolution=256))
    >>> drawn.image.size, len(drawn.boxes), drawn.shrunk
    ((256, 256), 2, False)
    """
    words = [field.split() for field in page.ordered(fields, item)]
    words = [field for field in words if field]
    if not words:
        raise StudyError(f"item {item}: no text to draw; give the item a title or leave it out of the data set")
    page = page.of_item(fields)
    size, lines, cut = _largest_fit(words, page)
    return _draw(lines, size, page, cut)


def missing_letters(text: str) -> set[str]:
    """The characters that the font has no glyph for: all of them look alike on a page.

    >>> sorted(missing_letters("5 µm, größer, 日本"))
    ['日', '本']
    """
    return {letter for letter in set(text) if not letter.isspace() and _is_box(letter)}


@cache
def _is_box(letter: str) -> bool:
    """Is it drawn as a character is that no font has?"""
    drawn, missing = (_font(24).getmask(one) for one in (letter, chr(0x10FFFF)))
    return drawn.size == missing.size and bytes(drawn) == bytes(missing)


def font_file() -> Path:
    """DejaVu Sans, as matplotlib ships it (found without importing matplotlib)."""
    spec = find_spec("matplotlib")
    if spec is None or not spec.submodule_search_locations:
        raise StudyError("font DejaVuSans.ttf: not found; install matplotlib, which ships it")
    return Path(spec.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"


@cache
def font_digest() -> str:
    """sha256 of the font file: part of what a page looks like."""
    return sha256(font_file().read_bytes()).hexdigest()


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # The basic layout engine is in every Pillow; raqm is in some, and would draw other pages there.
    return ImageFont.truetype(str(font_file()), size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=1 << 18)
def _width(size: int, text: str) -> float:
    return _font(size).getlength(text)


def _line_height(size: int) -> int:
    return sum(_font(size).getmetrics())


def _pixels(size: int, page: Page) -> int:
    """A font size given at 1024, on the canvas: whole, because FreeType draws small letters at whole sizes only."""
    return max(1, round(size * page.canvas / CANVAS))


def _largest_fit(words: list[list[str]], page: Page) -> tuple[int, list[str], int]:
    """Font size, lines, and the number of lines that have no room in any size."""
    room = (CANVAS - 2 * page.margin) * page.canvas / CANVAS
    best = None
    low, high, size = SMALLEST_FONT, page.font_size, page.font_size
    while low <= high:
        pixels = _pixels(size, page)
        lines = [line for field in words for line in _wrap(field, pixels, room)]
        if (len(lines) - 1) * page.line_spacing * _line_height(pixels) + _line_height(pixels) <= room:
            best, low = (size, lines, 0), size + 1
        else:
            high = size - 1
        size = (low + high) // 2
    if best:
        return best
    fitting = math.floor((room / _line_height(pixels) - 1) / page.line_spacing) + 1  # of the smallest, tried last
    return SMALLEST_FONT, lines[:fitting], len(lines) - fitting


def _wrap(words: list[str], size: int, room: float) -> list[str]:
    lines, line, used = [], [], 0.0
    space = _width(size, " ")
    for word in words:
        for piece in [word] if _width(size, word) <= room else _break(word, size, room):
            width = _width(size, piece)
            if line and used + space + width > room:
                lines.append(" ".join(line))
                line, used = [], 0.0
            used += width + (space if line else 0.0)
            line.append(piece)
    return [*lines, " ".join(line)]


def _break(word: str, size: int, room: float) -> list[str]:
    pieces, start = [], 0
    while start < len(word):
        end = start + 1
        while end < len(word) and _width(size, word[start : end + 1]) <= room:
            end += 1
        pieces.append(word[start:end])
        start = end
    return pieces


def _draw(lines: list[str], size: int, page: Page, cut: int) -> RenderedPage:
    image = Image.new("L", (page.canvas, page.canvas), 255)
    pen = ImageDraw.Draw(image)
    font, height = _font(_pixels(size, page)), _line_height(_pixels(size, page))
    left = round(page.margin * page.canvas / CANVAS)
    scale = page.resolution / page.canvas
    boxes = []
    for number, line in enumerate(lines):
        top = round(page.margin * page.canvas / CANVAS + number * page.line_spacing * height)
        pen.text((left, top), line, fill=0, font=font)
        box = (left, top, left + font.getlength(line), top + height)
        boxes.append((*(math.floor(scale * edge) for edge in box[:2]), *(math.ceil(scale * edge) for edge in box[2:])))
    if page.resolution < page.canvas:
        image = image.resize((page.resolution, page.resolution), Image.Resampling.BOX)
    return RenderedPage(image, boxes, lines, size, shrunk=size < page.font_size, cut=cut)
