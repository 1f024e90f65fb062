"""The tour's pieces against the search and the tree that they open, and its interactive twin without a browser."""

import io

import numpy as np
import pytest
from PIL import Image

from studylib import tour
from studylib.config import TokenizerSettings, trial
from studylib.data import load
from studylib.errors import StudyError
from studylib.explorer import Explorer
from studylib.render import Page
from studylib.semantic_ids import SemanticIds
from studylib.store import Store
from tests.conftest import ITEMS
from tests.test_trials import QUICK, TOKENIZER


@pytest.fixture
def searcher(folders):
    return tour.trained(trial(data="Toy", features="features:circle", tokenizer=TOKENIZER, generator=QUICK), 0, 0)[1]


def test_beams_end_where_the_search_ends(searcher):
    history = np.arange(5)
    table = tour.beams(searcher, history, 0, shown=4)
    levels = searcher.ids.levels
    assert sorted(table["level"].unique()) == list(range(1, levels + 1))
    best = searcher.recommend(history, 4, seen=True)
    last = table[table["level"] == levels]
    assert last["log p"].tolist() == pytest.approx([score for _, score in best][: len(last)])
    assert last["codes"].iloc[0] == tour.name(tuple(searcher.ids.codes[best[0][0]].tolist()))
    for _, row in table.iterrows():
        codes = [int(code.split("_")[1]) for code in row["codes"].split()]
        assert row["items"] == (searcher.ids.codes[:, : len(codes)] == codes).all(1).sum() > 0
    assert (table.groupby("level")["log p"].diff().dropna() <= 0).all()


def test_beams_of_a_generator_that_knows_its_users(folders):
    named = trial(data="Toy", features="features:circle", tokenizer=TOKENIZER, generator=QUICK | {"user_tokens": 5})
    searcher = tour.trained(named, 0, 0)[1]
    history = np.arange(5)
    for user in (0, 3):
        last = tour.beams(searcher, history, user)["log p"].iloc[-5:].tolist()
        assert last == pytest.approx([score for _, score in searcher.recommend(history, 5, seen=True, user=user)])


def test_an_item_or_a_user_that_is_not_there_is_refused_before_training(folders):
    wanted = trial(data="Toy", features="features:circle", tokenizer=TOKENIZER, generator=QUICK)
    for item, user, complaint in ((10**6, 0, "item: Toy has"), (0, 10**6, "user: Toy has")):
        with pytest.raises(StudyError, match=complaint):
            tour.trained(wanted, item, user)
    assert not Store.default().finished()


def test_branches_are_the_path_and_its_siblings():
    ids = SemanticIds(np.array([[0, 1], [0, 0], [1, 0], [0, 1]]), (2, 2))
    rows = tour.branches(ids, 1)
    assert rows["prefix"].tolist() == [(0,), (1,), (0, 0), (0, 1)]
    assert rows["items"].tolist() == [3, 1, 1, 2]
    assert rows["taken"].tolist() == [True, False, True, False]
    assert rows["name"].tolist() == ["a_0", "a_1", "b_0", "b_1"]


def test_every_prefix_of_a_tree_leads_to_its_items():
    codes = np.random.default_rng(0).integers(0, 3, (40, 3))
    tree = SemanticIds(codes, (3, 3, 3)).tree
    for depth in range(1, 4):
        for node in range(len(tree.code[depth - 1])):
            prefix = tree.prefix(depth, node)
            assert tree.below(depth, node).tolist() == np.flatnonzero((codes[:, :depth] == prefix).all(1)).tolist()


def test_lines_are_read_and_have_features():
    lines = tour.lines(load("planted"), 226, Page())
    assert lines[0].text == "K&R hex bolt 6-55"
    for line in lines:
        assert line.pixels.shape[0] == 48
        assert len(line.tokens) == line.pixels.shape[1] // 8
    with pytest.raises(StudyError, match="gives no transcript"):
        tour.lines(load("planted"), 0, Page(), "minilm")


def test_neighbours_are_the_nearest_others(folders):
    matrix = np.load(folders / "data" / "Toy" / "Toy.circle.npy")
    table = tour.neighbours(load("Toy"), matrix, 7, count=4)
    assert sorted(table["item"]) == [5, 6, 8, 9]
    assert table["cosine"].tolist() == sorted(table["cosine"], reverse=True)
    assert table["title"].iloc[0].startswith("thing number")


def test_the_explorer_follows_every_choice(folders):
    explorer = Explorer(load("Toy"), ["features:circle", "pixels"], (256, 128), TokenizerSettings(codes=8))
    before = explorer.page.value, explorer.codes.value, explorer.neighbours.value
    assert Image.open(io.BytesIO(before[0])).size == (256, 256)
    assert "thing number 1<" in before[2]
    explorer.item.value = explorer.item.options[20]
    assert explorer.page.value != before[0]
    assert explorer.codes.value != before[1]
    assert "thing number 21<" in explorer.neighbours.value
    explorer.resolution.value = 128
    assert Image.open(io.BytesIO(explorer.page.value)).size == (128, 128)
    own = explorer.codes.value
    explorer.encoder.value = "pixels"
    assert explorer.codes.value != own
    assert len(explorer._made) == 2
    assert len(explorer.item.options) == ITEMS
    assert Explorer(load("Toy"), ["pixels"], (128,), TokenizerSettings(codes=8), item=7).item.value.startswith("7:")


def test_the_explorer_says_what_it_cannot_show(folders):
    explorer = Explorer(load("Toy"), ["features:nowhere"], (256,))
    assert "Toy.nowhere.npy" in explorer.codes.value
    assert explorer.neighbours.value == ""
