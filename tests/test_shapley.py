"""Shapley values against a game worked by hand, and from the records of masked trials."""

import numpy as np
import pandas as pd
import pytest

from studylib import ablations, notebook, paths
from studylib.analysis import shapley
from studylib.cli import main
from studylib.config import trial
from studylib.data import planted
from studylib.data.planted import Knobs
from studylib.errors import StudyError
from studylib.metrics import Ranks
from studylib.recommend import lines, opened
from studylib.trials import run
from tests.test_trials import QUICK, TOKENIZER

# Three players (the glove game): a and b hold left gloves, c a right one; only a pair is worth something.
GLOVES = {"": 0, "a": 0, "b": 0, "c": 0, "ab": 0, "ac": 1, "bc": 1, "abc": 1}


def game(payouts: dict[str, float], users: int = 1) -> shapley.Payouts:
    return {frozenset(players): np.full(users, float(payout)) for players, payout in payouts.items()}


def test_the_glove_game():
    values = shapley.shapley_values(game(GLOVES))
    assert {player: value[0] for player, value in values.items()} == pytest.approx({"a": 1 / 6, "b": 1 / 6, "c": 2 / 3})
    leads = shapley.table(game(GLOVES, users=5)).set_index("modality")["lead"]
    assert leads.to_dict() == pytest.approx({"a": -1 / 2, "b": -1 / 2, "c": 1 / 2})


def test_values_add_up_and_a_useless_player_gets_nothing():
    rng = np.random.default_rng(0)
    base = {frozenset(s): rng.random(50) for s in ("", "x", "y", "xy")}
    payouts = base | {players | {"idle"}: payout for players, payout in base.items()}
    rows = shapley.table(payouts).set_index("modality")
    assert rows["value"].sum() == pytest.approx((base[frozenset("xy")] - base[frozenset()]).mean())
    assert rows["share"].isna().all()  # four payouts of the same noise: nothing is gained that could be shared
    payouts = {players: payout + len(players - {"idle"}) for players, payout in payouts.items()}
    rows = shapley.table(payouts).set_index("modality")
    assert rows["share"].sum() == pytest.approx(1)
    assert rows.loc["idle", "value"] == pytest.approx(0)
    assert rows.loc["idle", "low"] <= 0 <= rows.loc["idle", "high"]


def test_a_control_in_a_modalitys_place_leaves_what_content_is_worth():
    """By hand: y adds 3 or 5 by its seed; in its place codes that only name items add 1. All seeds count."""
    seeds = np.array([[0.0], [2.0]]) * np.ones(6)
    payouts = (("", 0), ("x", 1), ("y", 3), ("xy", 4))
    whole = {frozenset(players): payout + seeds * ("y" in players) for players, payout in payouts}
    named = game({"": 0, "x": 1, "r": 1, "xr": 2}, users=6)
    (row,) = shapley.beside_controls(whole, [named]).to_dict("records")
    assert (row["modality"], row["seeds"], row["control"], row["seeds of control"]) == ("y", 2, "r", 1)
    assert (row["value"], row["value of control"], row["difference"]) == pytest.approx((4, 1, 3))
    assert row["by_seeds"] > 0.5
    assert row["low"] < 0 < row["high"], "one seed of the control may be as far off as those of the modality"
    assert shapley.beside_controls(whole, []).empty


def test_a_missing_subset_is_named():
    payouts = game(GLOVES)
    del payouts[frozenset("ac")]
    with pytest.raises(StudyError, match=r"no payout of a\+c"):
        shapley.shapley_values(payouts)


def test_a_masked_trial_tells_what_its_modalities_are_worth(folders, capsys):
    """The target follows the circle, but random codes name an item just as well: both are worth something."""
    stacked = {"features": "features:circle+random", "fusion": "stacked", "target": "features:circle"}
    settings = QUICK | {"epochs": 40, "masking": 0.75, "softmax": "tree", "positions": "two-part"}
    record = run([trial(data="Toy", tokenizer=TOKENIZER, generator=settings, **stacked)])[0]
    assert set(record["ranks_subsets"]) == {"", "features:circle", "random"}
    assert record["metrics"]["recall@5"] > 0.4
    nothing = Ranks.unpack(record["ranks_subsets"][""]).recall(5).mean()
    assert nothing < 0.5 * record["metrics"]["recall@5"]
    rows = shapley.table(shapley.payouts_of([record], "recall@5")).set_index("modality")
    assert (rows["low"] > 0).all()
    assert rows["value"].sum() == pytest.approx(record["metrics"]["recall@5"] - nothing)
    finished = opened(record["key"])
    blind = [finished.recommend([item], seen=True, without=["features:circle", "random"]) for item in (3, 7)]
    assert blind[0] == blind[1] != finished.recommend([3], seen=True)
    assert finished.recommend([3], seen=True, without=["random"]) not in (blind[0], finished.recommend([3], seen=True))
    assert any("(seed 0), without random:" in line for line in lines(finished, without=["random"]))
    assert main(["recommend", record["key"], "--without", "random,features:circle"]) == 0
    assert "(seed 0), without random, features:circle:" in capsys.readouterr().out
    with pytest.raises(StudyError, match="cannot leave out 'text'; choose from features:circle, random"):
        finished.recommend([3], without=["text"])
    unmasked = {name: value for name, value in record.items() if name != "ranks_subsets"}
    with pytest.raises(StudyError, match="trained without masks"):
        shapley.payouts_of([unmasked])


PLAYERS = {"t": "text", "i": "image", "h": "collaborative"}


def test_the_ideal_reader_against_odds_written_out():
    """With crossed groups and one cause, the next product is one of the sixteen of the following text group."""
    knobs = Knobs(crossed=4, items=64, users=2000, text=0.8, image=0, collaborative=0)
    payouts = shapley.ideal_payouts(knobs, PLAYERS)
    nothing, text = 10 / 64, 0.8 * 10 / 16 + 0.2 * 10 / 64
    for seen, payout in payouts.items():
        assert payout.mean() == pytest.approx(text if "t" in seen else nothing, abs=0.03)  # 2,000 users
    assert np.array_equal(payouts[frozenset("tih")], payouts[frozenset("t")])  # what causes nothing adds nothing
    rows = shapley.table(payouts).set_index("modality")
    assert rows["share"].to_dict() == pytest.approx({"t": 1, "i": 0, "h": 0})


def test_shares_of_the_ideal_reader_follow_the_knobs():
    for text, image, hidden in ((0.5, 0.3, 0.15), (0.15, 0.5, 0.3), (0.3, 0.15, 0.5)):
        knobs = Knobs(crossed=4, items=64, users=2000, text=text, image=image, collaborative=hidden)
        rows = shapley.table(shapley.ideal_payouts(knobs, PLAYERS)).set_index("modality")["share"]
        sought = np.array([text, image, hidden]) / (text + image + hidden)
        assert rows.loc[list("tih")].tolist() == pytest.approx(sought.tolist(), abs=0.12)


def test_a_small_training_finds_what_was_planted(folders):
    """Trained now: masks that hide nothing, or a payout under the wrong name, fail here."""
    name = "planted:crossed=4,items=64,users=700,text=0.6,image=0.25,collaborative=0.1"
    small = {"d_model": 32, "d_ff": 64, "heads": 2, "d_head": 16, "encoder_layers": 1, "decoder_layers": 1}
    steps = {"epochs": 10, "validate_every": 10, "lr": 1e-2, "targets_per_step": 64}
    row = notebook.check({"data": name, "seeds": 1, "generator": small | steps, "jobs": 1}, "here")
    records = row.records(row.content("+".join(planted.SHOWN), ablations.PLANTED))
    found = shapley.beside_ideal(shapley.payouts_of(records), planted.knobs_of(name), planted.SHOWN)
    assert (found["value"].rank() == found["ideal value"].rank()).all()
    assert (found["share"] - found["ideal share"]).abs().max() < 0.15
    assert found["value"].sum() > 0.5 * found["ideal value"].sum()


def test_what_was_recovered_names_the_intervals_that_miss():
    rows = pd.DataFrame(
        {"modality": ["text", "image"], "knob": [0.5, 0.0], "value": [0.2, 0.0], "low": [0.15, -0.01],
         "high": [0.25, 0.01], "share": [1.0, 0.0], "ideal value": [0.3, 0.0], "ideal share": [1.0, 0.0], "data": "x",
         "off": [-0.1, 0.0], "off low": [-0.15, -0.01], "off high": [-0.05, 0.01]}
    )  # fmt: skip
    said, silent = shapley.recovered(rows)
    assert "x: the order of the ideal reader, shares off by 0.00 at most" in said
    assert "intervals hold its value of image, not of text." in said
    assert said.endswith("off by -0.1000 [-0.1500, -0.0500] at most, that of the text.")
    assert silent == "x: nothing follows from the image; its interval holds 0."


def test_a_value_of_one_seed_says_so():
    one = game(GLOVES, users=5)
    said = shapley.findings(shapley.table(one), one)[2:]
    assert all(line.endswith("over users alone (one seed) 0 is not in its interval.") for line in said)
    two = {players: np.stack([payout, payout]) for players, payout in one.items()}
    assert all("over users and seeds 0 is not in" in line for line in shapley.findings(shapley.table(two), two)[2:])


def test_values_that_do_not_add_up_are_refused(monkeypatch):
    """A guard against the formula itself: here it forgets one order in three."""
    whole = shapley.shapley_values
    monkeypatch.setattr(
        shapley, "shapley_values", lambda payouts: {name: 2 / 3 * value for name, value in whole(payouts).items()}
    )
    with pytest.raises(AssertionError, match="do not add up"):
        shapley.table(game(GLOVES, users=5))


def test_findings_say_the_sum_and_which_is_worth_most():
    payouts = game(GLOVES, users=5)
    total, most, *_ = shapley.findings(shapley.table(payouts), payouts)
    everything, nothing = (payouts[players].mean() for players in (max(payouts, key=len), frozenset()))
    assert total.startswith(
        f"The values add up to {everything - nothing:.4f}: a Recall@10 of {everything:.4f} with all"
    )
    values = shapley.table(payouts).set_index("modality")["value"]
    assert most.startswith(f"{values.idxmax()} is worth most: ")
    level = game({"": 0, "a": 1, "b": 1, "ab": 2}, users=5)
    assert " is worth most, not told apart from the next: +0.0000" in shapley.findings(shapley.table(level), level)[1]


def test_a_value_is_off_by_what_it_misses_of_the_ideal_readers(monkeypatch):
    knobs = Knobs(crossed=4, items=64, users=50, text=0.8, image=0, collaborative=0)
    ideal = shapley.ideal_payouts(knobs, PLAYERS)
    short = {players: payout - 0.25 * ("t" in players) for players, payout in ideal.items()}
    rows = shapley.beside_ideal({players: np.stack([payout] * 2) for players, payout in short.items()}, knobs, PLAYERS)
    assert rows["off"].tolist() == pytest.approx([-0.25, 0, 0])
    assert rows["off low"].tolist() == pytest.approx([-0.25, 0, 0])


def test_equal_ideals_have_no_order():
    rows = pd.DataFrame(
        {"modality": ["text", "image", "hidden"], "knob": [0.5, 0.0, 0.0], "value": [0.2, -0.001, 0.002],
         "low": -1.0, "high": 1.0, "share": np.nan, "ideal value": [0.3, 0.0, 0.0], "ideal share": np.nan,
         "data": "x", "off": 0.0, "off low": -0.1, "off high": 0.1}
    )  # fmt: skip
    assert shapley.recovered(rows)[0].startswith("x: the order of the ideal reader, no gain to share;")
    assert shapley.recovered(rows.assign(value=[0.0, 0.1, 0.2]))[0].startswith("x: not the order")


def test_the_study_found_what_was_planted():
    """The committed table of 08: order and shares of the ideal reader, and nothing where nothing was planted."""
    found = pd.read_csv(paths.ROOT / "results" / "planted" / "shapley_planted.csv")
    assert found["data"].nunique() >= 4
    for _, row in found.groupby("data"):
        assert (row["value"].rank() == row["ideal value"].rank()).all()
        assert (row["share"] - row["ideal share"]).abs().max() < 0.1
    inside = (found["low"] <= found["ideal value"]) & (found["ideal value"] <= found["high"])
    assert inside.groupby(found["data"]).all().sum() >= found["data"].nunique() - 1, (
        "in all settings of the knobs but one every interval holds its ideal"
    )
    silent = found[found["knob"] == 0]
    assert len(silent) > 0
    assert (silent["low"] <= 0).all()
    assert (silent["high"] >= 0).all()


def test_a_lead_knows_how_seeds_differ():
    """Two seeds that disagree on who leads: their mean leads, over users alone it would be certain."""
    rng = np.random.default_rng(0)
    users = (rng.random((2, 2000)) < 0.5).astype(float)
    none = np.zeros_like(users)
    first = users * np.array([[0.5], [0.3]])  # of 0.5 and 0.3 a half
    payouts = {frozenset(): none, frozenset("a"): first, frozenset("b"): none + 0.2 * users}
    payouts[frozenset("ab")] = payouts[frozenset("a")] + payouts[frozenset("b")]
    row = shapley.table(payouts).set_index("modality").loc["a"]
    assert row["lead"] == pytest.approx(0.1, abs=0.01)
    assert row["low"] > 0.1, "over users"
    assert row["both low"] < 0 < row["value"] < row["both high"]
    assert row["lead low"] < 0 < row["lead high"], "over users and seeds"
    alone = shapley.table({present: payout[:1] for present, payout in payouts.items()}).set_index("modality").loc["a"]
    assert alone["lead low"] > 0, "of one seed: over users"
