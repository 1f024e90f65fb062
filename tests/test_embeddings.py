"""Embeddings: the cache, what they follow, and those that are read from a file."""

from dataclasses import replace

import numpy as np
import pytest

from studylib import paths
from studylib.data import load
from studylib.encoders import cache, controls, embeddings, weights
from studylib.encoders.embeddings import Embeddings, embed
from studylib.errors import StudyError
from studylib.render import Page
from tests.shop import quiet, shop

pytestmark = pytest.mark.usefixtures("own_folders")


# -- cache ---------------------------------------------------------------------------------------------------------


def counted(fail_after=None):
    """An encoder of positions that remembers what it was asked, and may die."""
    asked = []

    def encode(places):
        if fail_after is not None and len(asked) >= fail_after:
            raise KeyboardInterrupt
        asked.extend(places)
        return np.array([[place, place**2] for place in places], dtype=np.float32)

    return encode, asked


KEYS = [f"key {place}" for place in range(10)]
ROWS = np.array([[place, place**2] for place in range(10)], dtype=np.float32)


def test_killed_encoding_goes_on_where_it_was(tmp_path):
    dying, _ = counted(fail_after=8)
    with pytest.raises(KeyboardInterrupt):
        cache.rows(tmp_path, KEYS, dying, "x", quiet, chunk=4)
    encode, asked = counted()
    assert np.array_equal(cache.rows(tmp_path, KEYS, encode, "x", quiet, chunk=4), ROWS)
    assert asked == [8, 9]
    encode, asked = counted()
    assert np.array_equal(cache.rows(tmp_path, KEYS, encode, "x", quiet, chunk=4), ROWS)
    assert asked == []


def test_changed_item_costs_its_own_chunk(tmp_path):
    cache.rows(tmp_path, KEYS, counted()[0], "x", quiet, chunk=4)
    encode, asked = counted()
    cache.rows(tmp_path, [*KEYS[:5], "other", *KEYS[6:]], encode, "x", quiet, chunk=4)
    assert asked == [4, 5, 6, 7]


@pytest.mark.parametrize("damage", [lambda content: content[:-7], lambda content: content[:-1] + b"\x01"])
def test_damaged_chunk_is_named_and_computed_again(tmp_path, damage):
    cache.rows(tmp_path, KEYS, counted()[0], "x", quiet, chunk=4)
    file = sorted(tmp_path.glob("*.npy"))[0]
    file.write_bytes(damage(file.read_bytes()))
    lines, (encode, asked) = [], counted()
    assert np.array_equal(cache.rows(tmp_path, KEYS, encode, "x", lines.append, chunk=4), ROWS)
    assert 0 < len(asked) <= 4
    assert lines[0] == f"{file}: truncated or changed since it was written; computing it again"


def test_chunk_without_digest_is_not_believed(tmp_path):
    cache.rows(tmp_path, KEYS, counted()[0], "x", quiet, chunk=10)
    next(tmp_path.glob("*.sha256")).unlink()
    encode, asked = counted()
    cache.rows(tmp_path, KEYS, encode, "x", quiet, chunk=10)
    assert len(asked) == 10


def test_progress_tells_items_done_and_time_left(tmp_path):
    lines = []
    cache.rows(tmp_path, KEYS, counted()[0], "minilm on shop", lines.append)
    assert lines == ["minilm on shop: 10 of 10 items, 0 min 00 s left"]


# -- embeddings ----------------------------------------------------------------------------------------------------


def test_cache_follows_text_page_and_encoder():
    data, lines = shop(), []
    first = embed(data, "pixels", progress=lines.append)
    again = embed(data, "pixels", progress=lines.append)
    assert len(lines) == 1
    assert np.array_equal(first.matrix, again.matrix)
    embed(data, "pixels", Page(font_size=30), progress=lines.append)
    assert len(lines) == 2
    items = (*data.items[:-1], {"title": "another"})
    changed = embed(replace(data, items=items), "pixels", progress=lines.append)
    assert len(lines) == 3
    assert not np.array_equal(changed.matrix[-1], first.matrix[-1])
    moved = changed.matrix[:-1] - first.matrix[:-1]  # the other pages move with the catalogue's mean alone
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0], moved.shape), atol=1e-5)


def test_shrunk_pages_are_counted():
    data = shop()
    data = replace(data, items=({"title": "very long text " * 300}, *data.items[1:]))
    lines = []
    assert embed(data, "pixels", progress=lines.append).provenance["shrunk"] == 1
    assert lines[-1] == "pixels on shop: 1 of 20 pages drawn in a smaller font to fit"


def test_what_a_page_cannot_show_is_said():
    data, lines = shop(), []
    data = replace(data, items=({"title": "long text " * 9000}, {"title": "定規 5 cm"}, *data.items[2:]))
    assert embed(data, "pixels", progress=lines.append).provenance["cut"] == 1
    assert lines[-2] == (
        "pixels on shop: 1 of 20 texts are longer than a page in the smallest font, which ends where it is full"
    )
    assert "1 of 20 texts have characters that the font lacks (定規)" in lines[-1]


def test_shuffled_is_a_fixed_permutation_of_rows():
    data = shop()
    straight, shuffled = (embed(data, name, progress=quiet).matrix for name in ("random", "shuffled:random"))
    assert not np.array_equal(straight, shuffled)
    assert np.array_equal(np.sort(straight, axis=0), np.sort(shuffled, axis=0))
    assert np.array_equal(shuffled, embed(data, "shuffled:random", progress=quiet).matrix)


def test_random_rows_depend_on_the_item_alone():
    assert np.array_equal(controls.random()([3, 4])[1], controls.random()([4])[0])


@pytest.mark.parametrize("text", ["", "   "])
def test_item_without_text(text):
    data = shop()
    data = replace(data, items=(*data.items[:5], {"title": text}, *data.items[6:]))
    for name in ("minilm", "pixels"):
        with pytest.raises(StudyError, match=r"shop: item 5: empty text; give it a title or leave the item out"):
            embed(data, name, progress=quiet)


def test_nan_names_the_item(monkeypatch):
    def broken(_=None):
        return lambda items: np.where(np.array(items)[:, None] == 17, np.nan, 1.0) * np.ones((len(items), 3))

    monkeypatch.setattr(controls, "random", broken)
    with pytest.raises(StudyError, match=r"shop: item 17: random gave NaN"):
        embed(shop(), "random", progress=quiet)


def test_features_by_path_and_by_name(tmp_path):
    data = shop(folder=tmp_path)
    matrix = np.random.default_rng(0).standard_normal((20, 6))
    np.save(tmp_path / "shop.clip.npy", matrix)
    by_path, by_name = (embed(data, f"features:{place}") for place in (tmp_path / "shop.clip.npy", "clip"))
    assert np.array_equal(by_path.matrix, matrix.astype(np.float32))
    assert np.array_equal(by_path.matrix, by_name.matrix)
    assert by_name.provenance["weights"] == weights.file_digest(tmp_path / "shop.clip.npy")


@pytest.mark.parametrize(
    ("array", "complaint"),
    [
        (np.where(np.arange(20)[:, None] == 4, np.nan, np.ones((20, 3))), r"row 4 holds NaN"),
        (np.ones((19, 3)), r"19 rows, but shop has 20 items"),
        (np.ones(20), r"of shape \(20,\); embeddings are numbers \[items, dims\]"),
        (np.full((20, 2), "a"), r"of shape \(20, 2\); embeddings are numbers"),
        (np.full((20, 2), None), r"not an array that can be read .*numpy\.save"),
    ],
)
def test_bad_features_name_file_place_and_cure(tmp_path, array, complaint):
    file = tmp_path / "bad.npy"
    np.save(file, array, allow_pickle=True)
    with pytest.raises(StudyError, match=f"bad.npy: .*{complaint}"):
        embed(shop(), f"features:{file}")


def test_missing_and_truncated_features(tmp_path):
    with pytest.raises(StudyError, match=r"nowhere\.npy: no such file"):
        embed(shop(), "features:nowhere.npy")
    with pytest.raises(StudyError, match=r"shop\.clip\.npy: no such file; .*data set's folder"):
        embed(shop(folder=tmp_path), "features:clip")
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01")
    with pytest.raises(StudyError, match=r"cut\.npy: not an array that can be read"):
        embed(shop(), f"features:{tmp_path / 'cut.npy'}")


def test_embeddings_refuse_nan_without_a_file():
    with pytest.raises(StudyError, match=r"minilm: row 1 holds NaN or infinity \(1 such row"):
        Embeddings("minilm", np.array([[1.0], [np.inf]]))


def test_kept_embeddings_are_taken_where_the_same_would_be_computed(folders, monkeypatch):
    data = load("Toy")
    before = embed(data, "pixels")
    file = embeddings.keep(data, "pixels")
    assert file.parent == paths.results_root() / "embeddings" / "Toy"
    monkeypatch.setattr(embeddings, "_encoded", lambda *_: pytest.fail("encoded again"))
    after = embed(data, "pixels")
    assert after.matrix.tobytes() == before.matrix.tobytes()
    assert after.provenance == before.provenance
    with pytest.raises(pytest.fail.Exception):
        embed(data, "pixels", Page(resolution=512))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(pytest.fail.Exception):
        embed(data, "pixels")
