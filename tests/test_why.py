"""Takeaway 7 as a test: a planted relation is found, none where none is, and what users share does not count twice."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from studylib import results
from studylib.analysis import attributes, why
from studylib.analysis.correlation import spearman
from studylib.config import trial
from studylib.data.dataset import Dataset
from studylib.errors import StudyError
from studylib.methods import method
from studylib.metrics import Ranks

ITEMS, USERS, SEEDS = 80, 600, 3


def shop(name: str = "shop", seed: int = 0, users: int = USERS, targets: int = ITEMS) -> Dataset:
    """Of item i's 10, 20 or 30 words i % 11 in ten are numerals; users' targets are among the first ``targets``."""
    rng = np.random.default_rng(seed)
    sequences = tuple(
        np.append(rng.integers(0, ITEMS, rng.integers(2, 9)), rng.integers(targets)) for _ in range(users)
    )
    items = tuple({"title": "9 " * (item % 11 * (1 + item % 3)) + "word " * ((10 - item % 11) * (1 + item % 3))}
                  for item in range(ITEMS))  # fmt: skip
    return Dataset(name, tuple(f"u{user}" for user in range(users)), sequences, ITEMS, items)


def records(scores, rng) -> list[dict]:
    """One record a seed in which a user's target is in first place with the probability that ``scores`` gives."""
    return [
        {
            "key": f"{seed}",
            "trial": {"seed": seed},
            "ranks": Ranks.of([0 if hit else None for hit in rng.random(len(scores)) < scores]).pack(),
        }
        for seed in range(SEEDS)
    ]


def found(data: Dataset, gain, seed: int = 0) -> why.Case:
    """The case of a data set whose users' chance under OCR-text is 0.4 + ``gain``, under text 0.4."""
    rng = np.random.default_rng(seed)
    chance = np.full(len(data.test), 0.4)
    text, ocr = why.score(data, records(chance, rng)), why.score(data, records(chance + gain, rng))
    return why.Case(data, text, ocr, attributes.item_properties(data, str.split, 15))


def row(table: pd.DataFrame, data: str, of: str, kind: str) -> pd.Series:
    return table.set_index(["data", "of", "property"]).loc[(data, of, kind)]


def density(data: Dataset) -> np.ndarray:
    return (data.test.targets % 11) / 10


def test_properties_of_items_by_hand():
    items = ({"title": "bolt M4 x 16 mm"}, {"title": "a good LED"})
    data = Dataset("two", ("ann",), (np.array([0, 1, 0]),), 2, items)
    table = attributes.item_properties(data, list, 12)  # a tokenizer that gives a token for every letter, and reads 12
    assert table.to_dict("list") == {
        "attribute density": [3 / 5, 1 / 3],  # M4, 16, mm; LED
        "density without abbreviations": [3 / 5, 0.0],
        "tokens per word": [15 / 5, 10 / 3],
        "words": [5.0, 3.0],
        "share cut off": [3 / 15, 0.0],
    }


def test_properties_of_users_by_hand():
    data = Dataset("few", ("ann", "bob"), (np.array([0, 1, 2]), np.array([2, 2, 0, 1])), 3)
    table = pd.DataFrame({name: [1.0, 10.0, 100.0] for name in attributes.PROPERTIES})
    case = why.Case(data, np.zeros((1, 2)), np.zeros((1, 2)), table)
    assert case.related().tolist() == [[100.0, 10.0]] * 5 + [[5.5, 67.0]] * 5
    assert case.related(np.array([1, 2, 0]))[0].tolist() == [1.0, 100.0]
    assert [users.tolist() for users in case.sharing()] == [[1], [0]]


def test_score_averages_seeds_and_sees_the_whole_list():
    data = Dataset("few", ("ann", "bob"), (np.array([0, 1, 2]), np.array([0, 1, 2])), 3)
    ranks = {1: [1, 19], 0: [0, None]}
    seeds = [{"trial": {"seed": seed}, "ranks": Ranks.of(own).pack()} for seed, own in ranks.items()]
    assert why.score(data, seeds) == pytest.approx(np.array([[1, 0], [1 / np.log2(3), 1 / np.log2(21)]]))
    case = why.Case(data, np.zeros((5, 2)), why.score(data, seeds), None)
    assert case.gain == pytest.approx([(1 + 1 / np.log2(3)) / 2, 1 / np.log2(21) / 2])


def test_nearness_needs_a_place_and_counts_halvings():
    shared = Ranks(np.array([2], dtype=np.uint16), np.array([3], dtype=np.uint16))  # places 3, 4 and 5
    assert why.nearness(shared).tolist() == [-2.0]
    with pytest.raises(StudyError, match="every item scored"):
        why.nearness(Ranks.of([0, None]))


def test_ranked_cases_are_those_asked_for_with_places_for_scores(monkeypatch):
    """Each trial behind the two rows is asked for again with every item scored, and nothing else of it changes."""
    data, asked = shop(users=20), []
    specs = {row: [trial(data="shop", features=row, seed=seed) for seed in (0, 1)] for row in ("minilm", "ppocr-v6")}
    behind = {
        method(row).label: [{"trial": spec.model_dump(mode="json")} for spec in group] for row, group in specs.items()
    }
    monkeypatch.setattr(results, "records_behind", lambda table, name: behind)

    def run(wanted):
        asked.extend(wanted)
        place = 3 if wanted[0].features == "minilm" else 1
        return [{"trial": {"seed": spec.seed}, "ranks": Ranks.of([place] * 20).pack()} for spec in wanted]

    case = found(data, 0.0)
    (one,) = why.ranked([case], ["shop"], "minilm", "ppocr-v6", run)
    assert (one.gain == 1).all()  # from the fourth place to the second
    assert one.properties is case.properties
    assert [spec.generator.search for spec in asked] == ["exact"] * 4
    plain = [
        spec.model_copy(update={"generator": spec.generator.model_copy(update={"search": "tree"})}) for spec in asked
    ]
    assert plain == [*specs["minilm"], *specs["ppocr-v6"]]
    with pytest.raises(StudyError, match="ranked: mart: not among the data sets here, shop"):
        why.ranked([case], ["mart"], "minilm", "ppocr-v6", run)


def test_sentences_of_relations_and_gains():
    row = {"data": "shop", "property": "words", "of": "target", "rho": 0.1, "p holm": 0.01}
    said = why.told_apart(pd.DataFrame([row, row | {"p holm": 0.5}]))
    assert said == ["shop: words of the target: rho +0.100 (p 0.0100)", "of 2 relations 1 are told apart from none."]
    gain = {"data": "shop", "gain": -0.01, "low": -0.02, "high": 0.0, "users": 5}
    assert why.gains(pd.DataFrame([gain])) == ["shop: -0.0100 [-0.0200, +0.0000] over 5 users."]


def test_spearman_against_scipy_with_ties():
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.integers(0, 6, 200), rng.integers(0, 4, 200) / 3
        assert spearman([x], [y]) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert spearman([np.ones(5)], [np.arange(5)]) == 0.0


def test_what_sets_data_sets_apart_makes_no_correlation():
    rng = np.random.default_rng(0)
    x = [rng.random(500), 10 + rng.random(500)]
    y = [-x[0], 100 - x[1]]
    assert spearman([np.concatenate(x)], [np.concatenate(y)]) > 0.4
    assert spearman(x, y) == pytest.approx(-1.0)


def test_a_planted_relation_is_found_and_only_that():
    data = shop()
    table = why.relations([found(data, 0.5 * density(data))], resamples=500, dealt=500)
    planted = row(table, "shop", "target", "attribute density")
    assert planted["rho"] > 0.2
    assert planted["shuffled high"] < planted["low targets"] < planted["rho"] < planted["high targets"]
    assert planted["low"] < planted["rho"] < planted["high"]
    assert {*why.PROPERTIES} - {*table["property"]} == {"tokens per word"}, "a word is a token here"
    assert planted["p"] < planted["p holm"] < 1e-4, "less than so many draws could count"
    others = table[table["of"] == "history"]
    assert (others["rho"].abs() < 0.1).all()
    assert (others["p holm"] > 0.05).all()
    assert table["shuffled low"].max() < 0 < table["shuffled high"].min()


def test_a_gain_without_a_reason_is_related_to_nothing():
    data = shop()
    table = why.relations([found(data, 0.2)], resamples=100, dealt=100)
    assert (table["rho"].abs() < 0.1).all()
    assert (table["p holm"] > 0.05).all()


def test_users_who_share_targets_do_not_count_as_so_many():
    """Each target has a gain of its own, by chance: the interval over users is too sure of itself, the control not."""
    data = shop(targets=12)
    own = np.random.default_rng(5).uniform(-0.4, 0.6, ITEMS)
    table = why.relations([found(data, own[data.test.targets])], resamples=100, dealt=100)
    one = row(table, "shop", "target", "attribute density")
    assert one["high targets"] - one["low targets"] > 3 * (one["high"] - one["low"])
    assert one["shuffled high"] - one["shuffled low"] > 3 * (one["high"] - one["low"])
    assert one["p"] > 0.05


def test_a_control_that_is_not_about_0_is_no_relation():
    """Who has a long history gains, and of a rare property a long history has more than the middle short one: that is
    so whichever item has it. What is tested is the distance from there."""
    rng = np.random.default_rng(0)
    sequences = tuple(rng.integers(0, ITEMS, (3, 40)[user % 2]) for user in range(USERS))
    items = tuple({"title": f"{'9 ' if item % 10 == 0 else ''}{'word ' * 5}{item}x"} for item in range(ITEMS))
    data = Dataset("shop", tuple(f"u{user}" for user in range(USERS)), sequences, ITEMS, items)
    long = np.arange(USERS) % 2
    has = np.array([np.mean(history % 10 == 0) for history in data.test.histories])
    p = {}
    for name, gain in (("length alone", 0.4 * long), ("less where it is", 0.4 * long - 4 * long * (has - 0.1))):
        one = row(why.relations([found(data, gain)], resamples=20, dealt=1000), "shop", "history", "attribute density")
        assert one["shuffled low"] > 0.1, "the control is not about 0"
        p[name] = one["p"]
    assert p["length alone"] > 0.05
    assert p["less where it is"] < 0.005


def test_variants_of_one_product_are_dealt_out_together():
    """Eight products in ten variants each, whose gains differ by product alone: eight chances, not eighty."""
    items = tuple({"title": f"shirt {item // 10}", "colour": f"c{item % 10}"} for item in range(ITEMS))
    data, single = (Dataset(*(shop().__dict__[name] for name in ("name", "users", "sequences", "n_items")), texts)
                    for texts in (items, None))  # fmt: skip
    own = np.random.default_rng(5).uniform(-0.4, 0.6, 8)
    words = pd.DataFrame({name: np.repeat(np.arange(8.0) % 5, 10) for name in attributes.PROPERTIES})
    chance, rng = np.full(len(data.test), 0.4), np.random.default_rng(0)
    text = why.score(data, records(chance, rng))
    ocr = why.score(data, records(chance + own[data.test.targets // 10], rng))
    case, alone = (why.Case(one, text, ocr, words) for one in (data, single))
    order = case.dealt(np.random.default_rng(1))
    assert sorted(order) == [*range(ITEMS)]
    assert all(len(set(order[items] // 10)) == 1 for items in case.variants)
    assert len(case.sharing()) == 8
    assert len(alone.sharing()) == ITEMS
    together, apart = (
        row(why.relations([one], resamples=200, dealt=200), "shop", "target", "words") for one in (case, alone)
    )
    assert together["rho"] == apart["rho"]
    assert together["shuffled high"] - together["shuffled low"] > 2 * (apart["shuffled high"] - apart["shuffled low"])
    assert together["p"] > apart["p"]


def test_pooled_are_real_data_sets_alone():
    cases = [found(shop(name, seed, 300), 0.2) for seed, name in enumerate(("first", "planted", "second"))]
    for made in (why.relations(cases, resamples=10, dealt=10), why.quartiles(cases)):
        assert made["data"].unique().tolist() == ["first", "planted", "second", "pooled"]
        assert made.groupby("data")["users"].max()["pooled"] <= 600
    assert "pooled" not in set(why.relations(cases[:2], resamples=10, dealt=10)["data"])


def test_pooled_relation_holds_data_sets_together():
    cases = [found(data, 0.5 * density(data)) for data in (shop("first", 1, 300), shop("second", 2, 400))]
    table = why.relations(cases, resamples=30, dealt=30)
    assert table["data"].unique().tolist() == ["first", "second", "pooled"]
    pooled = row(table, "pooled", "target", "attribute density")
    assert pooled["users"] == 700
    assert pooled["low"] > 0.1
    assert table.equals(why.relations(cases, resamples=30, dealt=30))


def test_quartiles_show_the_planted_relation():
    data = shop()
    case = found(data, 0.5 * density(data))
    table = why.quartiles([case])
    planted = table[(table["of"] == "target") & (table["property"] == "attribute density")]
    assert planted["quartile"].tolist() == [1, 2, 3, 4]
    assert planted["users"].sum() == USERS
    assert planted["gain"].is_monotonic_increasing
    assert np.average(planted["gain"], weights=planted["users"]) == pytest.approx(case.gain.mean())
    assert np.allclose(planted["ocr"] - planted["text"], planted["gain"])
    assert (planted["low"] < planted["gain"]).all()
    assert (planted["gain"] < planted["high"]).all()
    both = why.quartiles([case, found(shop("other", 1), 0)])
    assert both["data"].unique().tolist() == ["shop", "other", "pooled"]
    assert both.groupby("data")["users"].sum().to_dict() == {
        "shop": 10 * USERS,
        "other": 10 * USERS,
        "pooled": 20 * USERS,
    }


def test_what_does_not_read_is_related_to_nothing_and_a_twin_to_as_much(monkeypatch):
    """Rows of table 2 that are controls stand in OCR-text's place, if every data set has them."""
    shops = [shop("shop"), shop("store", seed=1)]
    real = [found(data, 0.5 * (density(data) - 0.5)) for data in shops]
    rng = np.random.default_rng(5)

    def behind(name, data):
        rows = {"random IDs": "random", "MiniLM-L6": "minilm"} | ({"raw pixels": "pixels"} if data == "shop" else {})
        chance = np.full(USERS, 0.3)
        return {
            row: [record | {"trial": {"seed": seed, "features": features, "generator": {"name": "tiger"}}}
                  for seed, record in enumerate(records(chance, rng))]
            for row, features in rows.items()
        }  # fmt: skip

    monkeypatch.setattr(results, "records_behind", behind)
    controls = why.without_reading(real)
    assert list(controls) == ["random IDs"]
    assert [one.data.name for one in controls["random IDs"]] == ["shop", "store"]
    table = why.beside_controls(real, controls | {"twin": real}, resamples=200)
    assert table["data"].unique().tolist() == ["shop", "store", why.POOLED]
    dense = table[(table["of"] == "target") & (table["property"] == "attribute density")].set_index(["data", "control"])
    assert (dense.loc[why.POOLED, ["rho", "control rho"]].to_numpy()[:, 0] > 0.15).all()
    lone = dense.loc[(why.POOLED, "random IDs")]
    assert lone["low"] > 0
    assert abs(lone["control rho"]) < 0.06
    assert lone["seeds"] == SEEDS
    assert (table.loc[table["control"] == "twin", ["difference", "low", "high"]] == 0).all(axis=None)
    relations = why.relations(real, resamples=20, dealt=20).set_index(["data", "of", "property"])
    kept = table[table["control"] == "twin"].set_index(["data", "of", "property"])
    assert (kept["rho"] == relations.loc[kept.index, "rho"]).all(), "the same relation as the first table's"
    assert why.beside_controls(real, {}).empty
    first = [replace(one, ocr=one.ocr[:1]) for one in real]  # of one seed where the other has three
    few = why.beside_controls(real, {"first seed": first}, resamples=20)
    alone = [why.relations([replace(one, ocr=one.ocr[[seed]]) for one in real], resamples=2, dealt=2)["rho"]
             for seed in range(SEEDS)]  # fmt: skip
    np.testing.assert_allclose(few["rho"], np.mean(alone, axis=0))
    np.testing.assert_allclose(few["control rho"], alone[0])


def test_one_row_a_data_set():
    data = shop()
    table = why.by_data_set([found(data, 0.1)])
    assert table.loc[0, "users"] == USERS
    assert table.loc[0, "words"] == np.mean([10 * (1 + item % 3) for item in range(ITEMS)])
    assert table.loc[0, "low"] < table.loc[0, "gain"] < table.loc[0, "high"]


def test_a_data_sets_gain_is_as_sure_as_its_seeds_are():
    """Users who all gain alike, more with one seed than with another: the interval is of the seeds, not of users."""
    data = shop()
    text = np.full((SEEDS, USERS), 0.4)
    ocr = text + np.array([[0.0], [0.1], [0.2]])
    row = why.by_data_set([why.Case(data, text, ocr, attributes.item_properties(data, str.split, 15))]).loc[0]
    half = stats.t.ppf(0.975, SEEDS - 1) * 0.1 / np.sqrt(SEEDS)
    assert (row["low"], row["gain"], row["high"]) == pytest.approx((0.1 - half, 0.1, 0.1 + half))
    assert row["seeds"] == "3 and 3"


def test_errors_say_what_to_do():
    data = shop(users=20)
    with pytest.raises(StudyError, match=r"shop: no finished trial to compare; run .*02_unimodal"):
        why.score(data, [])
    with pytest.raises(StudyError, match=r"trial 0: ranks of 7 users, shop has 20; give the trials of this data set"):
        why.score(data, records(np.full(7, 0.5), np.random.default_rng(0)))
    with pytest.raises(StudyError, match=r"pixels: no text encoder.*choose one of kind text"):
        attributes.subwords_of("pixels")
    for table in (why.relations, why.quartiles, why.by_data_set):
        with pytest.raises(StudyError, match=r"why: no data set; give at least one"):
            table([])


def test_data_sets_without_both_rows_are_left_out_and_named(monkeypatch):
    data, rng = shop(users=20), np.random.default_rng(0)
    own = {row: records(np.full(20, 0.5), rng) for row in ("text", "ocr")}

    def behind(name, data):
        if data == "bare":
            raise StudyError("table_2 of bare is not there")
        return own if data == "shop" else {"text": own["text"]}

    asked = []
    monkeypatch.setattr(results, "records_behind", behind)
    monkeypatch.setattr(why, "load", lambda name: data)
    monkeypatch.setattr(why, "subwords_of", lambda name: asked.append(name) or (str.split, 15))
    found, left_out = why.cases(["bare", "shop", "textual"], "text", "ocr")
    assert [case.data for case in found] == [data]
    assert asked == ["text"], "the named encoder's tokenizer cuts the texts"
    assert left_out == {"bare": "table_2 of bare is not there", "textual": "its table_2 has no row ocr"}
    with pytest.raises(StudyError, match=r"datasets: none has rows of text and ocr .*bare is not there.*02_unimodal"):
        why.cases(["bare"], "text", "ocr")


def test_a_text_stands_for_two_as_well():
    assert attributes.representative(["bolt", "steel bolt M4 x 16 mm, pack of ten"]) == 1  # of two the denser
