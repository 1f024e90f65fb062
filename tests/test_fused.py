"""Tables of fused rows: choices are made on validation, and each half stands under its own name."""

import numpy as np
import pytest

from studylib import ablations, fused, notebook, wording
from studylib.metrics import Ranks
from studylib.tables import per_user

PICTURE, TEXTS, STRATEGIES = "EfficientNet-Lite0", ("MiniLM-L6", "PP-OCRv6"), ("A concatenated", "B interleaved")


def record(features, ranks, validation=0.0, seed=0, **more) -> dict:
    """A finished trial, as far as tables read one: its test ranks, and its one validation."""
    packed = Ranks.of(ranks).pack()
    return {
        "key": f"{features} {seed} {validation}",
        "trial": {"features": features, "seed": seed, "generator": {"name": "tiger"}},
        "ranks": packed,
        "epochs": [{"epoch": 1, "loss": 1.0, "recall@10": validation}],
        "metrics": {"recall@10": float(np.mean([rank is not None and rank < 10 for rank in ranks]))},
        **more,
    }


HIT, MISS = 0, None
(TRIALS,) = notebook.check({"late": ["A"], "texts": ["minilm"]}, "test").fused("late").values()
LATE = {"A": TRIALS}


@pytest.fixture
def groups() -> dict[str, list[dict]]:
    """On validation the picture is above the texts, PP-OCR's A above the rest; on test each is the other way round."""
    found = {
        "MiniLM-L6": [record("minilm", [HIT, HIT, HIT, MISS], 0.1)],
        "PP-OCRv6": [record("ppocr-v6", [HIT, HIT, MISS, MISS], 0.1)],
        PICTURE: [record("efficientnet-lite0", [MISS, MISS, MISS, HIT], 0.2)],
        "item-kNN": [record("none", [HIT, MISS, MISS, MISS], 0.3)],
    }
    for number, (text, strategy) in enumerate((text, strategy) for text in TEXTS for strategy in STRATEGIES):
        ranks = [HIT] * (4 - number) + [MISS] * number
        name = "minilm" if text == TEXTS[0] else "ppocr-v6"
        validation = 0.4 if (text, strategy) == (TEXTS[1], STRATEGIES[0]) else 0.3
        made = record(f"efficientnet-lite0+{name}", ranks, validation, seed=1)
        found[ablations.fused_label(text, strategy)] = [made]
    return found


def test_halves_and_the_best_are_chosen_on_validation(groups):
    pairs = fused.fusion_pairs(groups, TEXTS, STRATEGIES, PICTURE)
    row = ablations.fused_label("MiniLM-L6", "A concatenated")
    assert pairs[f"{row}, against {PICTURE} alone"] == (groups[row], groups[PICTURE])
    best = ablations.fused_label("PP-OCRv6", "A concatenated")
    assert pairs[f"{best}, the best, against item-kNN"] == (groups[best], groups["item-kNN"])
    assert len(pairs) == 2 + 4 + 2 + 1  # O+I against T+I; against halves; B against A; the best


def test_each_pair_is_the_row_that_its_name_says(groups):
    pairs = fused.fusion_pairs(groups, TEXTS, STRATEGIES, PICTURE, controls=("item-kNN",))
    a, b = (ablations.fused_label("PP-OCRv6", strategy) for strategy in STRATEGIES)
    assert pairs["PP-OCRv6 + image: B interleaved against A concatenated"] == (groups[b], groups[a])
    of_minilm = ablations.fused_label("MiniLM-L6", "A concatenated")
    assert pairs["A concatenated: PP-OCRv6 against MiniLM-L6"] == (groups[a], groups[of_minilm])
    assert pairs[f"{of_minilm}, against item-kNN"] == (groups[of_minilm], groups["item-kNN"])
    third = groups | {ablations.fused_label(text, "C"): groups[of_minilm] for text in TEXTS}
    found = fused.fusion_pairs(third, TEXTS, (*STRATEGIES, "C"), PICTURE, against={"C": STRATEGIES[1]})
    assert found["PP-OCRv6 + image: C against B interleaved"] == (groups[of_minilm], groups[b])


def test_hits_of_each_half_stand_under_its_own_name(groups):
    parameters = notebook.check({"late": ["A"], "texts": ["minilm"]}, "test")
    late = {
        ablations.fused_label("MiniLM-L6", "A concatenated"): parameters.fused("late")[
            "MiniLM-L6 + image, A concatenated"
        ]
    }
    table = fused.hits_beside_halves(groups, late)
    assert table[["half", "written"]].to_numpy().tolist() == [[PICTURE, "first"], ["MiniLM-L6", "second"]]
    assert table["shared"].tolist() == pytest.approx([1 / 4, 3 / 4])
    assert table[["two seeds", "difference"]].isna().all(axis=None)
    assert fused.whose(table) == []


def test_gates_stand_under_the_modality_that_they_weigh(monkeypatch, groups):
    beside = {"constant": [0.4, 0.8], "mean": 0.6, "alike": 0.45}
    monkeypatch.setattr(fused.content, "yardsticks", lambda trial, data: beside)
    row = "MiniLM-L6 + image, gate"
    gated = {row: [record("efficientnet-lite0+minilm", [HIT], gate=[0.3, 0.7], read_back_error=0.12)]}
    parameters = notebook.check({"early": ["gate"], "texts": ["minilm"]}, "test")
    table = fused.gates(gated, parameters.fused("early"), None).iloc[0]
    assert table.drop(["fused", "sd"]).to_dict() == pytest.approx(
        {"seeds": 1, "image": 0.3, "text": 0.7, "image, errors as shares": 0.45}
        | {"constant, image": 0.4, "constant, text": 0.8, "error, share": 0.2, "mean, share": 0.5}
    )
    again = {f"{row}, RQ-VAE": gated[row], row: [*gated[row], dict(gated[row][0], gate=[0.5, 0.5])]}
    trials = parameters.model_copy(update={"early": ("rq-vae", "gate")}).fused("early")
    again[row][1]["trial"] = again[row][1]["trial"] | {"seed": 1}
    (two,) = fused.gates(again, trials, None).to_dict("records")  # one gate, however it is tokenized
    assert (two["fused"], two["seeds"]) == ("EfficientNet-Lite0 + MiniLM-L6", 2)
    assert (two["image"], two["sd"]) == pytest.approx((0.4, 0.2 / np.sqrt(2)))


def test_points_are_of_their_own_cell_and_as_sure_as_users_and_seeds_are():
    hits = iter(range(1, 9))
    groups = {
        ablations.fused_label(text, strategy): [record("both", [HIT] * number + [None] * (9 - number))]
        for text in TEXTS
        for strategy, number in zip(STRATEGIES, hits, strict=False)
    }
    groups |= {"item-kNN": [record("none", [HIT] * 3 + [None] * 6)], "MiniLM-L6": [record("minilm", [HIT] * 9)]}
    row = ablations.fused_label("MiniLM-L6", "B interleaved")
    groups[row] = [*groups[row], record("both", [HIT] * 8 + [None], seed=1)]
    table = fused.by_strategy(groups, TEXTS, STRATEGIES).set_index(["strategy", "text"])
    for text in TEXTS:
        for strategy in STRATEGIES:
            users = per_user(groups[ablations.fused_label(text, strategy)], "recall@10")
            found = table.loc[(strategy, text)]
            assert found["value"] == pytest.approx(users.mean())
            assert found["seeds"].tolist() == users.mean(1).tolist()
            assert found["low"] < found["value"] < found["high"]
    wide = table["high"] - table["low"]
    assert wide[("B interleaved", "MiniLM-L6")] > 3 * wide.drop(("B interleaved", "MiniLM-L6")).max(), (
        "two seeds differ"
    )
    assert fused.reference_lines(groups, ["MiniLM-L6"]) == {"MiniLM-L6 alone": 1, "item-kNN": pytest.approx(1 / 3)}
    assert fused.reference_lines({"MiniLM-L6": groups["MiniLM-L6"]}, ["MiniLM-L6"]) == {"MiniLM-L6 alone": 1}


def test_a_control_takes_the_pictures_place_alone():
    given = {
        "texts": ["minilm", "ppocr-v6"],
        "late": ["A:text-first", "A"],
        "stand_ins": ["shuffled:efficientnet-lite0"],
    }
    (label, (trial, *_)), *others = notebook.check(given, "test").controlled("late").items()
    assert not others
    assert label == "MiniLM-L6 + EfficientNet-Lite0, rows shuffled, A concatenated, text first"
    assert trial.features == "minilm+shuffled:efficientnet-lite0"


def test_the_truth_takes_the_place_of_both_encoders_and_of_nothing_else():
    given = {"late": ["B", "A:text-first"], "true_codes": ["index:index_text", "index:index_image"]}
    parameters = notebook.check(given, "test")
    truth = parameters.of_truth()
    assert list(truth.alone()) == ["true text group", "true image group"]
    (label, (trial, *_)), *others = truth.fused("late").items()
    assert label == "true text group + image, A concatenated, text first"
    assert [name for name, _ in others] == ["true text group + image, A concatenated"]
    assert trial.features == "index:index_text+index:index_image"
    usual, *_ = parameters.fused("late")["MiniLM-L6 + image, A concatenated, text first"]
    assert (trial.generator, trial.budget, trial.seed) == (usual.generator, usual.budget, usual.seed)
    ((label, (named, *_)),) = truth.controlled("late").items()
    assert label == "true text group + random IDs, A concatenated, text first"
    assert named.features == "index:index_text+random"


def test_a_row_is_searched_freely_as_it_was_trained():
    parameters = notebook.check({"texts": ["minilm"], "freely": ["C"], "late": ["A"]}, "test")
    (label, (trial, *_)), *others = parameters.free().items()
    assert not others
    assert label == "MiniLM-L6 + image, C delimited and aligned, free search"
    ((along, *_),) = parameters.model_copy(update={"late": ("C",)}).fused("late").values()
    assert trial.generator.search == "free"
    assert trial.generator.model_copy(update={"search": "tree"}) == along.generator


def test_a_half_in_its_own_codes_says_nothing_of_users(groups):
    table = fused.hits_beside_halves({**groups, "A": [record("efficientnet-lite0+minilm", [HIT] * 4)]}, LATE)
    assert table["equal seeds"].tolist() == [True, True]
    said = {"two seeds": 0.5, "difference": -0.7, "difference low": -1.0, "difference high": -0.5}
    assert fused.whose(table.assign(**said)) == []
    (line,) = fused.whose(table.assign(**said, **{"equal seeds": False}))
    assert f"A or {PICTURE} alone hits" in line


def test_a_half_that_hits_nobody_leaves_its_row_out(groups, capsys):
    nobody = {**groups, "MiniLM-L6": [record("minilm", [None] * 4)], "A": [record("both", [HIT] * 4)]}
    assert fused.hits_beside_halves(nobody, LATE).empty
    assert fused.whose(fused.hits_beside_halves(nobody, LATE)) == []
    assert "MiniLM-L6: a trial hits no user within 5" in capsys.readouterr().out


def test_004s_rows_and_steps():
    parameters = notebook.check({"early": ["mean", "gate"], "late": ["A", "delimited", "B", "C"]}, "test")
    assert parameters.names_of_004() == {
        "MiniLM-L6 + image, gate": "MGR-EF",
        "MiniLM-L6 + image, A concatenated": "MGR-LF",
        "MiniLM-L6 + image, C delimited and aligned": "MGR-LF++",
    }
    assert parameters.gate_and_mean() == {
        f"{text} + image, gate": f"{text} + image, mean" for text in ("MiniLM-L6", "PP-OCRv6")
    }
    assert (parameters.as_in_004().early, parameters.as_in_004().late) == (("gate",), ("A", "C"))
    ready = notebook.check({"early": [], "late": ["A", "A:3", "A:text-first"]}, "test")
    assert (ready.as_in_004().early, ready.as_in_004().late) == ((), ("A:3",))
    assert ready.names_of_004() == {"MiniLM-L6 + image, A concatenated, 3 levels each": "MGR-LF"}
    assert list(parameters.steps()) == ["A concatenated", "delimited only", "C delimited and aligned"]
    assert list(parameters.beside_mean()) == [
        f"{text} + image, {how}" for how in ("mean", "gate") for text in ("MiniLM-L6", "PP-OCRv6")
    ]


@pytest.mark.parametrize(
    ("goal", "says"),
    [(0.1, "goal is 0.1: reached."), (0.45, "its interval holds the goal."), (0.9, "goal is 0.9: not reached.")],
)
def test_a_goal_is_judged_with_its_interval(goal, says):
    ranks = [HIT, MISS] * 50
    (line,) = wording.reached("A", [record("minilm", ranks)], {"every item": goal})
    assert line.endswith(says)
    assert "A has 0.5000 [0.40" in line
    assert "over users alone" in line


def test_translations_are_those_of_the_seeds_that_tell_them():
    told = {"from": ["minilm", "pixels"], "to": ["pixels", "minilm"], "loss": [2.0, 1.0, 0.5]}
    told |= {when: [{"right": 0.9, "without reading": 0.1}] * 2 for when in ("aligned", "trained")}
    less = told | {"loss": [4.0, 0.5], "trained": [{"right": 0.5, "without reading": 0.1}] * 2}
    table = fused.translations({"C": [{"alignment": told}, {"alignment": less}, {}], "A": [{}]})
    assert table["method"].tolist() == ["C", "C"]
    assert table["to"].tolist() == ["raw pixels 64x64", "MiniLM-L6"]
    row = table.iloc[0]
    assert (row["seeds"], row["loss, first tenth"], row["loss, last tenth"]) == (2, 3.0, 0.5)
    assert (row["aligned: right"], row["trained: right"]) == pytest.approx((0.9, 0.7))
    assert fused.translations({"A": [{}]}).empty
