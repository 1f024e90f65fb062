"""Overlap of codes: against scikit-learn, hand work, chance, and numbers measured before on real IDs."""

import subprocess
import sys
from itertools import pairwise, permutations

import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score

from studylib.analysis.overlap import (
    ami,
    ami_interval,
    closer,
    code_overlap,
    findings,
    leads,
    nmi,
    of_all_rows,
    overlap_of_seeds,
    prefixes,
)
from studylib.config import TokenizerSettings
from studylib.data import load
from studylib.data.planted import Knobs, generate
from studylib.encoders import embed
from studylib.errors import StudyError
from studylib.semantic_ids import SemanticIds
from studylib.tokenizers import fit


def noisy(rng, items: int, codes: int = 10, kept: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    """Two code columns that are each the same planted one, but for a share of items drawn afresh."""
    truth = rng.integers(0, codes, items)
    return tuple(np.where(rng.random(items) < kept, truth, rng.integers(0, codes, items)) for _ in range(2))


def test_bounds_and_renaming():
    rng = np.random.default_rng(0)
    a, b = noisy(rng, 500)
    assert ami(a, a) == pytest.approx(1)
    assert nmi(a, a) == pytest.approx(1)
    assert 0 < ami(a, b) < nmi(a, b) < 1
    assert ami(a, b) == pytest.approx(ami(b, rng.permutation(10)[a]))


def test_information_by_hand():
    """a cuts four items in halves, b in singles: I = H(a) = 1 bit, H(b) = 2 bits."""
    a, b = np.array([0, 0, 1, 1]), np.arange(4)
    assert nmi(a, b) == pytest.approx(1 / 1.5)
    assert nmi(a, b, "geometric") == pytest.approx(1 / np.sqrt(2))
    assert ami(a, b) == pytest.approx(0, abs=1e-12)  # singles tell every column apart, whatever it means


@pytest.mark.parametrize(
    "columns", [([0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 1, 1]), ([0, 0, 0, 1, 1, 2], [0, 1, 1, 1, 2, 2])]
)
def test_ami_is_its_definition_over_all_orders(columns):
    """What is expected by chance, from each of the 720 orders of six items; logarithms of counts alone."""

    def entropy(*labels):
        counts = np.unique(np.stack(labels), axis=1, return_counts=True)[1] / 6
        return -(counts * np.log(counts)).sum()

    a, b = map(np.array, columns)
    shared = [entropy(a) + entropy(b) - entropy(a, b[list(order)]) for order in permutations(range(6))]
    expected, mean = np.mean(shared), (entropy(a) + entropy(b)) / 2
    assert ami(a, b) == pytest.approx((shared[0] - expected) / (mean - expected))


def test_every_prefix_length_is_a_row():
    rng = np.random.default_rng(1)
    first, second = noisy(rng, 400), noisy(rng, 400)
    a, b = np.stack([first[0], second[0]], 1), np.stack([first[1], second[1]], 1)
    table = code_overlap(SemanticIds(a, (10, 10)), b, resamples=20)
    assert table.index.tolist() == [1, 2]
    assert table.loc[1, "ami"] == pytest.approx(ami(a[:, 0], b[:, 0]))
    assert table.loc[2, "nmi"] == pytest.approx(nmi(a @ [10, 1], b @ [10, 1]))
    assert table.loc[2, "distinct a"] == len(np.unique(a @ [10, 1]))
    assert table.loc[1, "low"] < table.loc[1, "ami"] < table.loc[1, "high"]
    assert table.loc[2, ["low", "high"]].isna().all()


def test_a_level_alone_is_not_its_prefix():
    """Second codes that agree only where first codes do: prefixes agree, the levels by themselves do not."""
    rng = np.random.default_rng(8)
    first, fine = rng.integers(0, 4, 400), rng.integers(0, 4, 400)
    names = np.stack([rng.permutation(4) for _ in range(4)])  # each first code numbers its second codes anew
    a, b = np.stack([first, fine], 1), np.stack([first, names[first, fine]], 1)
    table = code_overlap(a, b, resamples=0)
    assert table.loc[2, "ami"] == pytest.approx(1)
    assert table.loc[2, "ami of the level"] == pytest.approx(ami(a[:, 1], b[:, 1]))
    assert table.loc[2, "ami of the level"] < 0.5
    assert table.loc[1, "ami of the level"] == table.loc[1, "ami"]
    assert table["low"].isna().all()


def test_overlap_is_the_mean_over_pairs_of_seeds():
    rng = np.random.default_rng(9)
    seeds = [[codes[:, None] for codes in noisy(rng, 300)] for _ in range(2)]
    a, b = [[pair[side] for pair in seeds] for side in (0, 1)]
    found = overlap_of_seeds(a, b, resamples=20)
    assert found.loc[1, "pairs"] == 2
    assert found.loc[1, "ami"] == pytest.approx(np.mean([ami(a[i][:, 0], b[1 - i][:, 0]) for i in (0, 1)]))
    assert found.loc[1, "low"] < found.loc[1, "ami"] < found.loc[1, "high"]
    assert overlap_of_seeds(a, b[:1], resamples=0).loc[1, "pairs"] == 1


def test_the_ceiling_is_one_seed_against_another():
    rng = np.random.default_rng(10)
    one, other = (codes[:, None] for codes in noisy(rng, 300))
    found = overlap_of_seeds([one, other], resamples=0)
    assert (found.loc[1, "pairs"], found.loc[1, "ami"]) == (1, pytest.approx(ami(one[:, 0], other[:, 0])))
    with pytest.raises(StudyError, match="nothing to compare them with"):
        overlap_of_seeds([one, one.copy()])  # ready IDs, the same with every seed


def test_shuffled_rows_share_nothing():
    rng = np.random.default_rng(2)
    a, b = noisy(rng, 400)
    table = code_overlap(a[:, None], b[:, None], seed=3, resamples=5, shuffles=4)
    orders = np.random.default_rng(3)
    alone = [adjusted_mutual_info_score(a, b[orders.permutation(400)]) for _ in range(4)]
    assert table.loc[1, "ami shuffled"] == pytest.approx(np.mean(alone))
    assert abs(table.loc[1, "ami shuffled"]) < 0.02 < table.loc[1, "nmi shuffled"] < table.loc[1, "ami"]


def test_what_any_ids_agree_on_is_not_counted():
    everyone, nobody = np.arange(12)[:, None], np.zeros((12, 1), dtype=int)
    assert code_overlap(everyone, everyone[::-1]).loc[1, ["ami", "nmi", "low"]].isna().all()
    assert code_overlap(nobody, nobody).loc[1, ["ami", "nmi", "low"]].isna().all()
    assert code_overlap(everyone, nobody, resamples=5).loc[1, "nmi"] == 0


def test_repeated_items_agree_with_themselves():
    """Why the interval subsamples: a bootstrap of independent codes seems to agree."""
    rng = np.random.default_rng(4)
    a, b = rng.integers(0, 10, (2, 300))
    drawn = rng.integers(0, 300, 300)
    assert ami(a[drawn], b[drawn]) > ami(a, b) + 0.03
    low, high = ami_interval(a, b, resamples=100)
    assert low < ami(a, b) < high
    assert low < 0 < high


def test_intervals_hold_the_mean_as_often_as_promised():
    rng = np.random.default_rng(5)
    alone = [ami(*noisy(rng, 300)) for _ in range(200)]
    intervals = [ami_interval(*noisy(rng, 300), resamples=40) for _ in range(50)]
    covered = np.mean([low < np.mean(alone) < high for low, high in intervals])
    assert covered > 0.87
    assert 0.8 < np.mean(np.diff(intervals)) / (2 * 1.96 * np.std(alone)) < 1.35  # and not by being wide


@pytest.mark.parametrize(
    ("name", "found", "shuffled", "arithmetic"), [("Instruments", 0.352, 0.115, 0.348), ("Arts", 0.268, 0.100, 0.264)]
)
def test_published_text_and_picture_ids(real_data, name, found, shuffled, arithmetic):
    folder = real_data(name)
    text, picture = (
        SemanticIds.load(folder / f"{name}.{index}.json").codes[:, :1]
        for index in ("index_lemb_unique", "index_vitemb")
    )
    assert nmi(text[:, 0], picture[:, 0], "geometric") == pytest.approx(found, abs=0.0006)
    table = code_overlap(text, picture, resamples=10)
    assert table.loc[1, "nmi"] == pytest.approx(arithmetic, abs=0.0006)
    assert table.loc[1, "nmi shuffled"] == pytest.approx(shuffled, abs=0.004)
    assert abs(table.loc[1, "ami shuffled"]) < 0.005 < 0.15 < table.loc[1, "low"] < table.loc[1, "high"] < 0.3


def test_a_fused_id_is_closer_to_what_it_is_made_of():
    """Codes that take three items in four from the first and one from the second, and codes of neither."""
    rng = np.random.default_rng(4)
    first, second, neither = (rng.integers(0, 8, (400, 1)) for _ in range(3))
    fused = np.where(rng.random((400, 1)) < 0.75, first, second)
    found = closer([fused], [None, first], [None, second], resamples=40)
    assert found["with first"] == pytest.approx(ami(fused[:, 0], first[:, 0]))
    assert found["difference"] == pytest.approx(found["with first"] - found["with second"])
    assert 0 < found["low"] < found["difference"] < found["high"]
    other_way = closer([fused], [None, second], [None, first], resamples=40)
    assert other_way["high"] < 0
    even = closer([neither], [None, first], [None, second], resamples=40)
    assert even["low"] < 0 < even["high"]
    both = closer([fused, neither], [first, first], [second, second], resamples=5)
    assert both["seeds"] == 2
    assert both["difference"] == pytest.approx((found["difference"] + even["difference"]) / 2)
    assert both["by_seeds"] == pytest.approx(abs(found["difference"] - even["difference"]) / 2)
    assert both["low"] < -1 < both["difference"] + 1 < both["high"], "two seeds that differ say next to nothing"
    less = closer([fused], [None, first], [None, second], less=[neither], resamples=40)
    assert less["difference"] == pytest.approx(found["difference"] - even["difference"])
    nothing = closer([fused], [None, first], [None, second], less=[fused], resamples=40)
    assert nothing["difference"] == nothing["low"] == nothing["high"] == 0


def test_no_fused_id_meets_a_half_of_its_own_seed():
    """Halves that agree with the fused ID where the seed is the same, and only there."""
    rng = np.random.default_rng(5)
    fused = [rng.integers(0, 8, (200, 1)) for _ in range(3)]
    others = [rng.integers(0, 8, (200, 1)) for _ in range(3)]
    found = closer(fused, fused, others, resamples=5)
    assert found["seeds"] == 3
    assert abs(found["with first"]) < 0.05
    assert closer(fused, fused, others[:1], resamples=5)["seeds"] == 1, "the first alone has no other seed to meet"
    alone = closer(fused[:1], fused, others[:1])
    assert alone["seeds"] == 0
    assert np.isnan(alone["difference"])


def test_seeds_of_the_shorter_side_count_once():
    rng = np.random.default_rng(6)
    fused, first, second = ([rng.integers(0, 8, (200, 1)) for _ in range(seeds)] for seeds in (5, 5, 2))
    assert closer(fused, first, second, resamples=5)["seeds"] == 2
    one = closer(fused, first, second[:1], resamples=5)
    assert one["seeds"] == 1
    assert np.isnan(one["by_seeds"])


def test_a_lead_stands_beside_the_plain_ones():
    rng = np.random.default_rng(7)
    codes = {name: [rng.integers(0, 8, (200, 1)) for _ in range(2)] for name in ("gate", "mean", "text", "image")}
    rows = leads({name: ("text", "image") for name in ("gate", "mean")}, codes, {"gate": "mean"}).set_index("fused")
    assert list(rows.index) == ["gate", "gate, less mean", "mean"]
    assert rows.loc["gate, less mean", "difference"] == pytest.approx(
        rows.loc["gate", "difference"] - rows.loc["mean", "difference"]
    )
    with pytest.raises(StudyError, match="no text beside image"):
        findings(of_all_rows({"gate": codes["gate"], "text": codes["text"]}), ["text", "image"])


def test_other_items_are_refused():
    for a, b in ((np.zeros((12, 1)), np.zeros((13, 1))), (np.zeros(12), np.zeros(12)), (np.zeros((3, 1)),) * 2):
        with pytest.raises(StudyError, match="same items"):
            code_overlap(a, b)


def test_prefixes_are_numbered_in_order():
    codes = np.random.default_rng(7).integers(0, 4, (50, 3))
    for length in (1, 2, 3):
        assert (np.unique(codes[:, :length], axis=0)[prefixes(codes, length)] == codes[:, :length]).all()


def test_importing_is_cheap():
    code = (
        "import sys, studylib.analysis.overlap, studylib.analysis.geometry; print({'sklearn', 'umap'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_agreement_follows_the_planted_knob():
    """Text and picture share their groups for the share of products that the knob says, and AMI of codes shows it."""
    found = []
    for correlation in (0.0, 0.4, 0.8, 1.0):
        truth = generate(Knobs(users=10, correlation=correlation))[2]
        rng, codes = np.random.default_rng(0), []
        for groups in (truth.text_group, truth.image_group):
            x = np.eye(12)[groups] + 0.05 * rng.standard_normal((300, 12))
            codes.append(fit(x, TokenizerSettings(codes=12, levels=1, collisions="none"), 0))
        found.append(code_overlap(*codes, resamples=20).loc[1])
    values = [row["ami"] for row in found]
    assert values == sorted(values)
    assert abs(values[0]) < 0.05
    assert values[-1] > 0.9
    assert all(one["high"] < other["low"] for one, other in pairwise(found))


def test_agreement_follows_the_knob_through_real_encoders(folders):
    """As above, with MiniLM reading the texts and EfficientNet the pictures: less agreement than planted, but more of
    it with every step of the knob, and none where there is none."""
    found = []
    for correlation in (0.0, 0.5, 1.0):
        data = load(f"planted:users=10,items=96,correlation={correlation}")
        x = [embed(data, name).matrix for name in ("minilm", "efficientnet-lite0")]
        codes = [fit(matrix, TokenizerSettings(codes=12, levels=1, collisions="none"), 0) for matrix in x]
        found.append(code_overlap(*codes, resamples=40).loc[1])
    assert found[0]["low"] < 0.05
    assert all(one["high"] < other["low"] for one, other in pairwise(found))
