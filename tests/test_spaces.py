"""Tables of embedding spaces, whose controls are near chance, and pictures that repeat."""

import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from studylib import paths, plots
from studylib.analysis.geometry import centred, dispersion, relational_rank, unit
from studylib.analysis.projection import joint_projection
from studylib.analysis.spaces import closer, found_at, measures, nearer, shapes, verdicts
from studylib.errors import StudyError
from tests.test_geometry import gaussian, rotation, two_views

# -- tables and controls ---------------------------------------------------------------------------------------


def test_controls_are_near_chance_and_planted_views_are_not():
    one, two = measures(two_views())
    assert one.index.tolist() == ["text", "image"]
    assert one.loc["text", "mean cosine"] > 0.2 > abs(one.loc["text", "mean cosine gaussian"])
    assert one.loc["image", "participation ratio"] < 9 < one.loc["image", "participation ratio gaussian"] < 16
    two, noise = two.set_index("measure"), one["participation ratio gaussian"]
    ranks, n = np.arange(1, 301), 300
    chance = {  # level, and the standard error of a mean (or median) of so many independent items
        "mutual kNN, k = 10": (10 / 299, np.sqrt(10 * (10 / 299) * (1 - 10 / 299)) / 10 / np.sqrt(n)),
        "aligned reciprocal rank": ((1 / ranks[:150]).mean(), (1 / ranks[:150]).std() / np.sqrt(n)),
        "relational reciprocal rank": ((1 / ranks[:150]).mean(), (1 / ranks[:150]).std() / np.sqrt(150)),
    }
    for measure, (level, error) in chance.items():
        for control in ("shuffled", "gaussian"):
            assert two.loc[measure, control] == pytest.approx(level, abs=4 * error), (measure, control)
    directions = one["participation ratio"].prod(), one["participation ratio"]["text"] * noise["image"]
    for control, both in zip(("shuffled", "gaussian"), directions, strict=True):
        assert two.loc["linear CKA", control] == pytest.approx(np.sqrt(both) / 299, rel=0.3)
    for measure in ("linear CKA", "mutual kNN, k = 10", "relational reciprocal rank", "aligned reciprocal rank"):
        assert two.loc[measure, "value"] > 3 * two.loc[measure, "shuffled"]
    within = two.dropna(subset="low")
    assert ((within["low"] < within["value"]) & (within["value"] < within["high"])).all()
    assert two.loc["modality gap", "value"] > 5 * two.loc["modality gap", "shuffled"]


def test_the_gap_stands_beside_that_of_unrelated_axes():
    """Two views trained towards one space, one of them moved, are as far apart by any projection; turned, they are not,
    and those of a stranger are wherever the projection puts them."""
    base = gaussian(300, 24) + 1
    spaces = {"text": base + 0.3 * gaussian(300, 24, 1), "twin": base + 0.3 * gaussian(300, 24, 2)}
    spaces["stranger"] = spaces["twin"] @ gaussian(24, 16, 3)
    two = measures(spaces)[1]
    two = two[two["measure"] == "modality gap"].set_index(["first", "second"])
    twins, strangers = two.loc[("text", "twin")], two.loc[("text", "stranger")]
    assert twins["projected low"] == pytest.approx(twins["projected high"]), "at their own width nothing is projected"
    assert twins["value"] == pytest.approx(twins["projected low"])
    assert twins["value"] < 0.1 < twins["turned low"]
    assert strangers["turned low"] < strangers["value"] < strangers["turned high"]


def test_spaces_as_given_and_centred():
    """The catalogue's mean, taken off before, is in the table again: a narrow cone, that centring opens."""
    narrow = gaussian(200, 8) + 20
    spaces = {"text": gaussian(200, 8, 1), "pages": narrow - narrow.mean(0)}
    given = {"text": spaces["text"], "pages": narrow}
    one, two = measures(spaces, given)
    assert one.loc["pages", "mean cosine"] > 0.95
    assert one.loc["pages", "dispersion"] < 0.1
    assert abs(one.loc["pages", "mean cosine, centred"]) < 0.02
    assert one.loc["pages", "dispersion, centred"] == pytest.approx(dispersion(centred(narrow)))
    gap = two.set_index("measure").loc["modality gap", "value"]
    assert gap == pytest.approx(1, abs=0.1), "a gap is of the rows as they were given: pages in a cone, text around 0"
    assert measures(spaces)[1].set_index("measure").loc["modality gap", "value"] < 0.3
    assert two.set_index("measure").loc["modality gap, centred", "value"] < 0.1
    columns = ["measure", "value", "low", "high", "shuffled"]
    pd.testing.assert_frame_equal(two[columns].iloc[:4], measures(spaces)[1][columns].iloc[:4])  # need no axes
    both = shapes(given, "text", "pages", resamples=20).set_index("measure")
    assert both["text"].to_dict() == one.loc["text", both.index].to_dict(), "the first table's measures"
    said = verdicts(both.reset_index())
    assert len(said) == 4
    assert [line.split(":")[1].split(";")[0].strip() for line in said[:2]] == ["yes", "no"]


def test_the_interval_of_a_shape_is_its_spread_over_samples():
    """Half of 95 % is about two standard deviations of what fresh items give; known twins make it wider."""
    flat, round_ = np.r_[np.full(3, 2.0), np.ones(9)], np.ones(12)

    def views(seed: int) -> dict[str, np.ndarray]:
        return {"flat": gaussian(120, 12, seed) * flat, "round": gaussian(120, 12, seed + 1000) * round_}

    row = shapes(views(0), "flat", "round").set_index("measure").loc["participation ratio"]
    fresh = [shapes(views(seed), "flat", "round", resamples=2) for seed in range(1, 60)]
    spread = np.std([table.set_index("measure").loc["participation ratio", "difference"] for table in fresh], ddof=1)
    assert (row["high"] - row["low"]) / 2 == pytest.approx(1.96 * spread, rel=0.35)
    assert row["high"] < 0, "fewer directions"
    twice = {name: np.repeat(rows, 2, axis=0) for name, rows in views(0).items()}
    narrow, wide = (shapes(twice, "flat", "round", products) for products in (None, np.arange(240) // 2))
    widths = [(table["high"] - table["low"]).iloc[1] for table in (narrow, wide)]
    assert widths[1] > 1.2 * widths[0]


def test_two_wide_spaces_meet_at_the_widest_width(monkeypatch):
    spaces = {"a": gaussian(30, 12), "b": gaussian(30, 9, seed=1)}
    monkeypatch.setattr("studylib.analysis.spaces.WIDEST", 4)
    pd.testing.assert_frame_equal(measures(spaces)[1], measures(spaces, width=4)[1])
    monkeypatch.setattr("studylib.analysis.spaces.WIDEST", 512)
    pd.testing.assert_frame_equal(measures(spaces)[1], measures(spaces, width=9)[1])
    assert not measures(spaces)[1].equals(measures(spaces, width=4)[1])


def test_intervals_are_over_products():
    """Every item twice: the mean stays, and its interval is that of half as many."""
    views = {name: x[np.arange(400) // 2] for name, x in two_views(200).items()}
    single, kept = (
        measures(views, products=products)[1].set_index("measure") for products in (None, np.arange(400) // 2)
    )
    aligned = "aligned reciprocal rank"  # told which rows are twins, it splits the items otherwise
    pd.testing.assert_series_equal(single["value"].drop(aligned), kept["value"].drop(aligned))
    assert kept.loc[aligned, "value"] < single.loc[aligned, "value"], "a twin was taught"
    wider = (kept["high"] - kept["low"]) / (single["high"] - single["low"])
    assert wider["linear CKA"] == pytest.approx(np.sqrt(2), rel=0.1)
    assert wider["mutual kNN, k = 10"] == pytest.approx(np.sqrt(2), rel=0.1)
    assert 1.1 < wider["relational reciprocal rank"] < 1.6  # of half the items, some without their twin


def test_measures_repeat():
    views = two_views(60)
    for one, again in zip(measures(views, seed=1), measures(views, seed=1), strict=True):
        pd.testing.assert_frame_equal(one, again, check_exact=True)


# -- pictures --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["umap", "pca"])
def test_a_picture_repeats(method):
    views = two_views(40)
    one, again = (joint_projection(views, method, seed=3, sample=30) for _ in range(2))
    assert one.to_numpy()[:, 2:].astype("f8").tobytes() == again.to_numpy()[:, 2:].astype("f8").tobytes()
    assert one.columns.tolist() == ["space", "item", "x", "y"]
    assert one.groupby("space")["item"].apply(list).map(sorted).map(len).tolist() == [30, 30]
    assert (one["item"].to_numpy()[:30] == one["item"].to_numpy()[30:]).all()
    assert np.isfinite(one[["x", "y"]].to_numpy()).all()
    assert torch.get_num_threads() == 1, "threads as before: conftest.py sets one"


def test_a_picture_of_many_points_repeats_in_another_process():
    """From 4,096 points on UMAP would search for neighbours by itself, and find others in every run."""
    code = (
        "import hashlib; from tests.test_spaces import two_views, joint_projection;"
        "plane = joint_projection(two_views(2100))[['x', 'y']].to_numpy();"
        "print(len(plane), hashlib.sha256(plane.tobytes()).hexdigest())"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=paths.ROOT)
        for _ in range(2)
    ]
    first, second = (run.communicate()[0].split() for run in runs)
    assert first[0] == "4200"
    assert first == second


def test_the_figure_of_a_second_run_has_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_FIGURES", str(tmp_path))
    plots.use_style()
    for run in ("first", "second"):
        figure, axis = plt.subplots()
        points = joint_projection(two_views(40), "umap", seed=3, sample=30)
        plots.joint_projection(points, axis, 10, {"image": "picture", "text": "text"})
        plots.save_figure(figure, "figure_1", run)
        plt.close(figure)
    for kind in ("png", "pdf"):
        first, second = ((tmp_path / run / f"figure_1.{kind}").read_bytes() for run in ("first", "second"))
        assert first == second


def test_lines_join_the_picture_with_each_text_and_no_text_with_another():
    views = two_views(40)
    points = joint_projection({"image": views["image"], "text": views["text"], "page": views["text"][::-1]}, "pca")
    points.loc[0, "x"] = 100.0  # one point far out must not set the scale
    _, axis = plt.subplots()
    plots.joint_projection(points, axis, 10, {"image": "picture", "text": "text", "page": "text as a picture"})
    assert len(axis.lines) == 20
    assert {line.get_linestyle() for line in axis.lines} == {"-", "--"}
    starts = points[points["space"] == "image"][["x", "y"]].to_numpy()
    assert all((starts == [line.get_xdata()[0], line.get_ydata()[0]]).all(1).any() for line in axis.lines)
    assert axis.get_xlim()[1] < 10
    texts = [text.get_text() for text in axis.legend().get_texts()]
    assert texts[:3] == ["picture (image)", "text (text)", "text as a picture (page)"]
    plt.close("all")


def test_pca_is_a_rotation_whose_sign_is_settled():
    views = {"a": gaussian(20, 2), "b": gaussian(20, 2, 1)}
    found = joint_projection(views, "pca")[["x", "y"]].to_numpy()
    x = np.concatenate([unit(view) for view in views.values()])
    distances = [np.linalg.norm(points[:, None] - points[None], axis=2) for points in (found, x)]
    np.testing.assert_allclose(*distances, atol=1e-6)
    mirrored = joint_projection({name: -view for name, view in views.items()}, "pca")[["x", "y"]].to_numpy()
    np.testing.assert_allclose(mirrored, -found, atol=1e-6)


def test_centring_takes_the_gap_out_of_the_picture():
    views = {"a": gaussian(50, 6) + 3, "b": gaussian(50, 6, 1) - 3}
    apart, together = (
        np.ptp(joint_projection(views, "pca", centre=centre).groupby("space")[["x", "y"]].mean(), axis=0).max()
        for centre in (False, True)
    )
    assert apart > 1.5 > 0.2 > together


def test_what_is_closer_is_found_and_what_is_not_is_not():
    rng = np.random.default_rng(3)
    base = rng.standard_normal((200, 8))
    views = {
        "to": base + 0.3 * rng.standard_normal((200, 8)),
        "near": base + 0.3 * rng.standard_normal((200, 8)),
        "far": base @ rotation(8) + 1.5 * rng.standard_normal((200, 8)),
    }
    views["far, turned"] = 3 * views["far"] @ rotation(8, seed=5)
    table = closer(views, "to", "far", "near")
    assert (table["low"] > 0).all()
    assert (table["difference"] == table["near"] - table["far"]).all()
    mirrored = closer(views, "to", "near", "far")
    assert (mirrored["high"] < 0).all()
    assert (table["near"] > table["chance second"]).all()
    views["noise"], views["more noise"] = rng.standard_normal((2, 200, 8))
    strangers = closer(views, "to", "noise", "more noise")
    said = nearer(strangers)
    assert sum("nothing to compare" in line for line in said) >= 2, said
    assert all("near is closer than far" in line for line in nearer(table))
    twice = {name: np.repeat(rows, 2, axis=0) for name, rows in views.items()}
    tables = (closer(twice, "to", "far", "near", products) for products in (None, np.arange(400) // 2))
    # But for the rank after a map: told which rows are twins, it splits the items otherwise.
    single, kept = (table.set_index("measure").drop("aligned reciprocal rank") for table in tables)
    width = {name: one["high"] - one["low"] for name, one in (("single", single), ("kept", kept))}
    assert (width["kept"] > 1.1 * width["single"]).all()  # root 2 where no row of a pair is an anchor
    assert (kept["difference"] == single["difference"]).all()
    same = closer(views, "to", "far", "far, turned")
    assert (same["difference"].abs() < 1e-9).all()


# -- errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x: measures({"a": x, "b": x[1:]}), r"a 6, b 5"),
        (lambda x: measures({"a": x, "b": x * np.inf}), "^b: row 0"),
        (lambda x: measures({"a": x}, width=5), "width 5: take 1 to 4"),
        (lambda x: measures({}), "none given"),
        (lambda x: joint_projection({"a": x}, "tsne"), 'take "umap" or "pca"'),
        (lambda x: joint_projection({"a": x}, sample=4), "five items"),
    ],
)
def test_bad_input_is_named_with_its_cure(call, says):
    with pytest.raises(StudyError, match=says) as error:
        call(np.abs(gaussian(6, 4)) + 0.1)
    assert "\n" not in str(error.value)


def test_ranks_are_the_measures_ranks_as_they_are():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 6))
    made = {"a": x, "turned": x @ np.linalg.qr(rng.standard_normal((6, 6)))[0], "noise": rng.standard_normal((60, 5))}
    table = found_at(made).set_index(["first", "second", "way"])
    for way, of in (("relational", 30), ("aligned", 30)):
        same, unlike = table.loc[("a", "turned", way)], table.loc[("a", "noise", way)]
        assert (same["median"], same["of"], same["found first"]) == (1, of, 1)
        assert 5 < same["median shuffled"] < 26
        assert 5 < unlike["median"] < 26
        assert unlike["within ten"] < 0.7
    expected = (relational_rank(made["a"], made["noise"]) <= 10).mean()
    assert table.loc[("a", "noise", "relational"), "within ten"] == expected
