"""Pages: the same bytes every time, nothing outside the margins, and an overflow that is said."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studylib.errors import StudyError
from studylib.render import CANVAS, SMALLEST_FONT, Page, _break, _font, _wrap, font_file, missing_letters, render

LONG = ["Stainless steel vernier caliper, 150 mm, 0.02 mm", "graduated both sides, hardened jaws; " * 12]


def ink(drawn, threshold=128):
    """(left, top, right, bottom) of what is darker than ``threshold``."""
    dark = np.asarray(drawn.image) < threshold
    rows, columns = np.flatnonzero(dark.any(1)), np.flatnonzero(dark.any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def test_same_bytes_every_time():
    first, second = render(LONG, Page()), render(LONG, Page())
    assert first.image.tobytes() == second.image.tobytes()
    assert first.boxes == second.boxes


@pytest.mark.parametrize("size", [12, 24, 48])
@pytest.mark.parametrize("resolution", [256, 1024])
def test_ink_stays_within_margins(size, resolution):
    page = Page(font_size=size, resolution=resolution, margin=40)
    left, top, right, bottom = ink(render(LONG, page))
    margin = 40 * resolution / CANVAS
    assert left >= margin - 1
    assert top >= margin - 1
    assert right <= resolution - margin + 1
    assert bottom <= resolution - margin + 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Z"]), min_size=1), min_size=1))
def test_no_line_is_wider_than_the_page_and_no_word_is_lost(words):
    room = 200
    lines = _wrap([word for word in words if word.split()], 24, room)
    assert all(_font(24).getlength(line) <= room + 1 for line in lines if len(line) > 1)
    assert "".join("".join(lines).split()) == "".join("".join(words).split())


def test_words_are_kept_whole_where_they_fit():
    words = ["one", "two", "three", "four", "five", "six", "seven"]
    lines = _wrap(words, 24, 120)
    assert " ".join(lines).split() == words
    assert all(_font(24).getlength(f"{line} {after.split()[0]}") > 120 for line, after in itertools.pairwise(lines))


def test_a_word_longer_than_a_line_is_broken_and_whole():
    pieces = _break("x" * 500, 24, 300)
    assert "".join(pieces) == "x" * 500
    assert all(_font(24).getlength(piece) <= 300 for piece in pieces)


def test_every_field_starts_a_line_and_every_line_has_a_box_with_its_ink():
    drawn = render(["Alpha", "Beta", "Gamma"], Page())
    assert len(drawn.boxes) == 3
    paper = np.asarray(drawn.image).copy()
    for left, top, right, bottom in drawn.boxes:
        assert (paper[top:bottom, left:right] < 128).any()
        paper[top:bottom, left : right + 1] = 255
    assert (paper > 128).all()


def test_overflow_shrinks_and_says_so():
    fits, overflows = render(["short"], Page()), render(LONG * 10, Page())
    assert (fits.shrunk, fits.font_size) == (False, 24)
    assert overflows.shrunk
    assert overflows.font_size < 24
    assert ink(overflows)[3] <= CANVAS - 32 + 1
    assert not render(LONG * 10, Page(font_size=overflows.font_size)).shrunk
    assert render(LONG * 10, Page(font_size=overflows.font_size + 1)).shrunk


def test_resolution_moves_no_word():
    large, small = render(LONG, Page()), render(LONG, Page(resolution=256))
    assert small.image.size == (256, 256)
    assert len(large.boxes) == len(small.boxes)
    for one, other in zip(large.boxes, small.boxes, strict=True):
        assert np.allclose(np.array(one) / 4, other, atol=1)


def test_settings_are_really_used():
    pages = [Page(), Page(font_size=30), Page(margin=64), Page(line_spacing=1.6)]
    assert len({render(LONG, page).image.tobytes() for page in pages}) == 4


def test_shuffled_order_differs_by_item_and_not_by_call():
    page, fields = Page(field_order="shuffled"), list("ABCDEF")
    orders = [tuple(page.ordered(fields, item)) for item in range(20)]
    assert len(set(orders)) > 10
    assert orders == [tuple(page.ordered(fields, item)) for item in range(20)]
    assert all(sorted(order) == fields for order in orders)


def test_unicode_is_drawn_as_given_and_missing_glyphs_show_a_box():
    umlaut, plain = render(["Prüfgerät ±0,5 µm ½″"], Page()), render(["Prufgerat +0,5 um 12'"], Page())
    assert umlaut.image.tobytes() != plain.image.tobytes()
    missing = render(["漢"], Page())
    assert missing.image.tobytes() == render(["字"], Page()).image.tobytes()
    assert (np.asarray(missing.image) < 128).any()


def test_font_is_found_without_importing_matplotlib():
    import subprocess
    import sys

    code = "import sys, studylib.render as r; assert r.font_file().is_file(); assert 'matplotlib' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert font_file().name == "DejaVuSans.ttf"


@pytest.mark.parametrize("fields", [[], [""], ["  ", "\n"]])
def test_empty_text_is_an_error(fields):
    with pytest.raises(StudyError, match=r"item 7: no text to draw; give the item a title"):
        render(fields, Page(), item=7)


def test_a_page_ends_where_it_is_full_and_says_how_much_is_left_out():
    words = [f"w{number}" for number in range(20_000)]
    page = render([" ".join(words)], Page())
    assert page.font_size == SMALLEST_FONT
    assert page.cut > 0
    shown = " ".join(page.lines).split()
    assert shown == words[: len(shown)]
    bottom = CANVAS - Page().margin
    assert page.boxes[-1][3] <= bottom < page.boxes[-1][3] + page.boxes[-1][3] - page.boxes[-2][3]
    assert render([" ".join(shown)], Page()).cut == 0


def test_letters_that_the_font_lacks_are_named():
    assert missing_letters("Ruler, 5 µm\n\t größer €") == set()
    assert missing_letters("定規 5 cm") == {"定", "規"}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("resolution", 32),
        ("resolution", 4096),
        ("font_size", 2),
        ("margin", 900),
        ("line_spacing", 0.2),
        ("field_order", "random"),
        ("fontsize", 24),
        ("font_size", "big"),
    ],
)
def test_bad_settings_name_the_setting_the_value_and_the_known_ones(setting, value):
    with pytest.raises(StudyError) as error:
        Page(**{setting: value})
    assert setting in str(error.value)
    assert repr(value) in str(error.value)
    assert "known: resolution, font_size" in str(error.value)


# -- drawn directly, and varied layout ---------------------------------------------------------------------------------


def test_settings_that_came_later_leave_the_old_description():
    """Cached pages and finished trials are found by it."""
    old = '{"resolution":1024,"font_size":24,"margin":32,"line_spacing":1.2,"field_order":"given"}'
    assert Page().model_dump_json() == old
    assert Page(drawn="reduced", layout="fixed").model_dump_json() == old
    new = Page(resolution=256, drawn="direct", layout="varied")
    assert new.model_dump() == Page(resolution=256).model_dump() | {"drawn": "direct", "layout": "varied"}
    assert Page(**new.model_dump()) == new


def test_one_page_has_one_description():
    assert Page(drawn="direct") == Page()
    assert Page(layout="varied", field_order="shuffled") == Page(layout="varied")


def test_directly_drawn_pages_are_the_same_where_nothing_is_reduced():
    assert Page(resolution=1024, drawn="direct").canvas == CANVAS
    small = Page(resolution=256, drawn="direct")
    assert small.canvas == 256
    assert Page(resolution=256).canvas == CANVAS


@pytest.mark.parametrize("resolution", [128, 256, 512])
def test_directly_drawn_pages_hold_all_words_within_the_margins(resolution):
    page = Page(resolution=resolution, drawn="direct", margin=64)
    drawn, reduced = render(LONG, page), render(LONG, Page(resolution=resolution, margin=64))
    assert drawn.image.size == (resolution, resolution)
    assert " ".join(drawn.lines).split() == " ".join(LONG).split()
    assert drawn.image.tobytes() != reduced.image.tobytes()
    assert drawn.image.tobytes() == render(LONG, page).image.tobytes()
    margin = 64 * resolution / CANVAS
    left, top, right, bottom = ink(drawn, threshold=250)
    assert min(left, top) >= margin - 1
    assert max(right, bottom) <= resolution - margin + 1
    paper = np.asarray(drawn.image).copy()
    for left, top, right, bottom in drawn.boxes:
        assert (paper[top:bottom, left:right] < 250).any()
        paper[top:bottom, left : right + 1] = 255
    assert (paper > 128).all()


def test_directly_drawn_letters_are_darker():
    """A reduced stroke is spread over its pixels, a drawn one is put into them."""
    direct, reduced = (
        np.asarray(render(LONG, Page(resolution=256, drawn=drawn)).image) for drawn in ("direct", "reduced")
    )
    assert (direct < 64).sum() > 2 * (reduced < 64).sum()


def test_lines_are_the_text_in_order():
    drawn = render(["Steel ruler", "150 mm"], Page(resolution=128))
    assert drawn.lines == ["Steel ruler", "150 mm"]
    assert len(drawn.lines) == len(drawn.boxes)


def test_varied_layout_is_each_text_s_own():
    page = Page(layout="varied", font_size=24, margin=32)
    items = [[f"thing {item}", "brand", "some description", "150 mm"] for item in range(40)]
    own = [page.of_item(fields) for fields in items]
    assert own == [page.of_item(fields) for fields in items]
    assert {page.layout for page in own} == {"fixed"}
    fonts, margins = {page.font_size for page in own}, {page.margin for page in own}
    assert 16 <= min(fonts) < 20 < 28 < max(fonts) <= 32
    assert 16 <= min(margins) < 40 < 100 < max(margins) <= 128
    orders = {tuple(fields.index(field) for field in page.ordered(fields, 0)) for fields in items}
    assert len(orders) > 15
    assert Page().of_item(items[0]) == Page()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(min_size=1), min_size=1), st.integers(0, 99), st.randoms())
def test_varied_layout_follows_from_the_text_as_it_is_drawn(fields, item, random):
    """The cache's keys hold the fields in the drawn order: equal keys must be equal pages."""
    page, other = Page(layout="varied"), random.sample(fields, len(fields))
    assert page.ordered(fields, item) == page.ordered(other, item + 1)
    assert sorted(page.ordered(fields, item)) == sorted(fields)
    assert page.of_item(page.ordered(fields, item)) == page.of_item(fields)


def test_varied_layout_is_drawn():
    page = Page(layout="varied")
    fields = ["Steel ruler", "Norvik", "150 mm, graduated"]
    own = page.of_item(fields)
    drawn = render(fields, page)
    assert drawn.font_size == own.font_size
    assert not drawn.shrunk
    assert drawn.image.tobytes() == render(page.ordered(fields, 0), own).image.tobytes()
    left, top, _, _ = ink(drawn)
    assert min(left, top) >= own.margin - 1


@pytest.mark.parametrize("extreme", [{"font_size": 5, "margin": 2}, {"font_size": 256, "margin": 384}])
def test_varied_layout_keeps_the_bounds(extreme):
    for item in range(30):
        Page(**Page(layout="varied", **extreme).of_item([f"thing {item}"]).model_dump())


@pytest.mark.parametrize(("setting", "value"), [("drawn", "sideways"), ("layout", "random"), ("drawn", 3)])
def test_bad_later_settings_are_named_too(setting, value):
    with pytest.raises(StudyError, match=f"page: {setting}: .*found {value!r}.*known: resolution"):
        Page(**{setting: value})
