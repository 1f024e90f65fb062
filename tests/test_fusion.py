"""Early and late fusion, alignment between modalities, and trials that use them."""

from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import torch

from studylib import content, training
from studylib.alignment import align, translated
from studylib.bench import generator as generator_bench
from studylib.config import TigerSettings, TokenizerSettings, trial
from studylib.data import atomic, load, planted
from studylib.data.planted import Knobs
from studylib.errors import StudyError
from studylib.fused import part_hits
from studylib.fusion import early, late, project
from studylib.metrics import Ranks
from studylib.models.layers import Size
from studylib.models.tiger import Tiger
from studylib.next_item import EMBEDDINGS
from studylib.semantic_ids import SemanticIds
from studylib.store import work_folder
from studylib.trials import run
from tests.conftest import toy
from tests.test_trials import QUICK, TOKENIZER, log_after_a_damaged_checkpoint

RNG = np.random.default_rng(0)
X, Y = (project(RNG.standard_normal((300, 12)), 8) for _ in range(2))
IMAGE = SemanticIds(np.array([[0, 1], [0, 1], [1, 0], [1, 1]]), (2, 2), source="image")
TEXT = SemanticIds(np.array([[3, 0, 0], [3, 0, 0], [3, 0, 1], [2, 1, 0]]), (4, 2, 2), source="text")


# -- early -----------------------------------------------------------------------------------------------------------


def test_mean_and_concatenation_are_what_they_say():
    mean = early.fuse([X, Y], "mean")[0]
    assert mean == pytest.approx((X + Y) / np.linalg.norm(X + Y, axis=1, keepdims=True), abs=1e-6)
    both = early.fuse([X, Y], "concatenation")[0]
    assert both == pytest.approx(np.hstack([X, Y]) / np.sqrt(2), abs=1e-6)


def test_a_gate_gives_unit_vectors_and_draws_nothing_from_outside():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    fused, facts = early.fuse([X, Y], "gate", seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.linalg.norm(fused, axis=1) == pytest.approx(1, abs=1e-5)
    assert sum(facts["gate"]) == pytest.approx(1)
    again, _ = early.fuse([X, Y], "gate", seed=1)
    assert fused.tobytes() == again.tobytes()
    assert fused.tobytes() != early.fuse([X, Y], "gate", seed=2)[0].tobytes()


def test_a_gate_is_equations_4_and_5():
    torch.manual_seed(0)
    gate, (x, y) = early.Gate(8), (torch.as_tensor(X[:3]), torch.as_tensor(Y[:3]))
    a = gate.weights(x, y)
    assert ((a > 0) & (a < 1)).all()
    by_hand = torch.stack([a[i] * x[i] + (1 - a[i]) * y[i] for i in range(3)])
    assert torch.allclose(gate(x, y), by_hand / by_hand.norm(dim=1, keepdim=True), atol=1e-6)


@pytest.mark.parametrize(("value", "alone"), [(1, X), (0, Y)])
def test_a_gate_of_one_or_zero_gives_a_modality_alone(value, alone):
    gate = early.Gate(8)
    torch.nn.init.zeros_(gate.mlp[-1].weight)
    torch.nn.init.constant_(gate.mlp[-1].bias, 200.0 * value - 100.0)  # the sigmoid of 100 is 1 in single precision
    x, y = torch.as_tensor(X), torch.as_tensor(Y)
    assert (gate.weights(x, y) == value).all()
    np.testing.assert_allclose(gate(x, y).detach().numpy(), alone, atol=1e-6)


def test_a_trained_gate_reads_back_more_than_the_mean_lets_the_best_linear_maps():
    """So its MLP is trained, and for long enough: left as it is drawn, it leaves as much as the mean."""
    x = project(RNG.standard_normal((300, 6)) @ RNG.standard_normal((6, 8)), 8)
    y = project(RNG.standard_normal((300, 6)) @ RNG.standard_normal((6, 8)), 8)
    beside, facts = early.yardsticks(x, y), early.fuse([x, y], "gate")[1]
    assert 2 * facts["read_back_error"] < 0.8 * beside["mean"]
    assert beside["mean"] < 0.7 * sum(beside["constant"])


@pytest.mark.parametrize("told", [0, 1])
def test_a_gate_leans_to_the_modality_that_says_something(told):
    """The other is the same for every item, so a reader's constant gives it back; the shares are in the given order."""
    same = np.repeat(Y[:1], len(X), axis=0)
    facts = early.fuse([X, same] if told == 0 else [same, X], "gate")[1]
    assert facts["gate"][told] > 0.6


def test_what_a_gate_is_read_beside():
    together = project(RNG.standard_normal((300, 8)) + 4, 8)
    beside = early.yardsticks(X, together)
    left = beside["constant"]
    assert left[0] == pytest.approx(1 - np.linalg.norm(X.mean(0)) ** 2, abs=1e-5)
    assert left[1] < 0.2 < 0.9 < left[0]
    # Errors alone favour X, which differs more; as shares of what a constant leaves, both count.
    assert beside["alike"] < early.fuse([X, together], "gate")[1]["gate"][0] - 0.1
    mean, both = early.fuse([X, together], "mean")[0], np.hstack([X, together])
    read = np.column_stack([mean, np.ones(300)])
    best = np.linalg.lstsq(read, both, rcond=None)[0]
    assert beside["mean"] == pytest.approx(np.square(both - read @ best).sum(1).mean())


@pytest.mark.parametrize(
    ("modalities", "how", "complaint"),
    [
        ([X, Y[:, :4]], "mean", "modalities of shapes"),
        ([X, Y, X], "gate", "3 modalities; it stands between two"),
        ([X, -X], "mean", "the modalities of item 0 cancel each other"),
    ],
)
def test_what_cannot_be_fused(modalities, how, complaint):
    with pytest.raises(StudyError, match=complaint):
        early.fuse(modalities, how)


# -- late ------------------------------------------------------------------------------------------------------------


def test_layouts_are_equations_8_to_10():
    a = late.combine([IMAGE, TEXT], "late", deduplicate=False)
    assert a.codes[3].tolist() == [1, 1, 2, 1, 0]
    assert (a.sizes, a.parts) == ((2, 2, 4, 2, 2), ((0, 1), (2, 3, 4)))
    b = late.combine([IMAGE, TEXT], "interleaved", deduplicate=False)
    assert b.codes[3].tolist() == [1, 2, 1, 1, 0]
    assert (b.sizes, b.parts) == ((2, 4, 2, 2, 2), ((0, 2), (1, 3, 4)))
    c = late.combine([IMAGE, TEXT], "delimited", deduplicate=False)
    assert c.codes[3].tolist() == [0, 1, 1, 0, 0, 2, 1, 0]
    assert (c.sizes, c.parts) == ((1, 2, 2, 1, 1, 4, 2, 2), ((0, 1, 2), (4, 5, 6, 7)))
    for fused in (a, b, c):
        assert [fused.codes[:, [level for level in part if fused.sizes[level] > 1]].tolist() for part in fused.parts] \
            == [IMAGE.codes.tolist(), TEXT.codes.tolist()]  # fmt: skip


def test_a_level_is_added_only_for_items_that_share_all_codes():
    fused = late.combine([IMAGE, TEXT], "late")
    assert fused.collisions == 0
    assert fused.codes[:, -1].tolist() == [0, 1, 0, 0]
    apart = late.combine([IMAGE, SemanticIds(np.arange(4)[:, None], (4,))], "late")
    assert apart.levels == 3
    with pytest.raises(StudyError, match="3 items in"):
        late.combine([IMAGE, SemanticIds(np.arange(3)[:, None], (3,))], "late")
    with pytest.raises(StudyError, match="one modality"):
        late.combine([IMAGE], "late")


# -- alignment -------------------------------------------------------------------------------------------------------

TINY = Size(d_model=16, d_ff=32, encoder_layers=1, decoder_layers=1, heads=2, d_head=8)


def test_stacked_modalities_by_hand_with_the_written_one_in_the_middle():
    """001, Eq. 2, and a collision level of each modality's own: of TEXT's two equal items one gets 1 there."""
    whole = SemanticIds(np.array([[0], [1], [2], [3]]), (4,), source="whole")
    apart = late.stack([IMAGE, TEXT, whole], target=1)
    assert apart.codes.tolist() == [
        [0, 1, 0, 3, 0, 0, 0, 0],
        [0, 1, 1, 3, 0, 0, 1, 1],
        [1, 0, 0, 3, 0, 1, 0, 2],
        [1, 1, 0, 2, 1, 0, 0, 3],
    ]
    assert apart.sizes == (2, 2, 2, 4, 2, 2, 2, 4)  # nothing collides in the third, which gets no level
    assert apart.parts == ((0, 1, 2), (3, 4, 5, 6), (7,))
    assert apart.target == (3, 4, 5, 6)
    assert apart.written.codes.tolist() == [row[3:7] for row in apart.codes.tolist()]
    only_it = late.stack([IMAGE, TEXT, whole], target=1, apart=False)
    assert only_it.sizes == (2, 2, 4, 2, 2, 2, 4)
    assert only_it.target == (2, 3, 4, 5)
    with pytest.raises(StudyError, match="modalit"):
        late.stack([IMAGE], target=0)


def test_translation_of_all_levels_is_reading_one_item_and_writing_it():
    torch.manual_seed(0)
    model = Tiger((2, 2, 4), TINY, causal=False, dropout=0.0).eval()
    codes, levels = torch.tensor([[1, 0, 3], [0, 1, 2]]), [0, 1, 2]
    found = model.translate(codes, levels, codes, levels)
    expected = model.decode(codes[:, None], model.encode(codes[:, None], torch.tensor([1, 1])), None)[:, 0]
    assert torch.allclose(found, expected, atol=1e-6)


def test_alignment_learns_to_translate_and_repeats():
    pairs = np.array([[i % 8, (3 * i) % 8] for i in range(8)])  # each image code has one text code
    ids = late.combine([SemanticIds(pairs[:, :1], (8,)), SemanticIds(pairs[:, 1:], (8,))], "delimited")
    settings = TigerSettings(alignment=150, alignment_lr=1e-2)

    def aligned():
        torch.manual_seed(0)
        model = Tiger(ids.sizes, TINY, dropout=0.0)
        return model, align(model, ids, settings, seed=0, log=lambda line: None)

    model, losses = aligned()
    assert np.mean(losses[-10:]) < 0.1 * np.mean(losses[:10])
    assert [row["right"] for row in translated(model, ids)] == [1, 1]
    assert all(row["without reading"] < 0.5 for row in translated(model, ids))  # of the eight others' codes, one is it
    assert aligned()[1] == losses
    codes, (image, text) = torch.as_tensor(ids.codes), ([0, 1], [3, 4])
    for read, wanted in ((image, text), (text, image)):
        hidden = model.eval().translate(codes[:, read], read, codes[:, wanted], wanted)
        assert (model.loss(hidden, codes[:, wanted], wanted) / len(codes)).item() < 0.1


# -- trials ----------------------------------------------------------------------------------------------------------


def fused(fusion: str, **generator):
    both = "features:circle+random"
    return trial(data="Toy", features=both, fusion=fusion, tokenizer=TOKENIZER, generator=QUICK | generator)


@pytest.mark.parametrize("fusion", ["gate", "mean", "concatenation", "late", "interleaved", "delimited"])
def test_fused_ids_learn_the_planted_rule(folders, fusion):
    record = run([fused(fusion, epochs=40)])[0]
    assert record["metrics"]["recall@5"] > 0.3  # chance: 5 of 40
    assert set(record["features"]) == {"features:circle", "random"}
    assert ("gate" in record) == (fusion == "gate")
    assert ("ranks_parts" in record) == (fusion in ("late", "interleaved", "delimited"))


def test_a_trial_keeps_what_alignment_taught_and_what_training_left_of_it(folders):
    """Alignment lowers its loss; free search borrows the weights, and what is said of them."""
    specs = [fused("delimited", alignment=200, alignment_lr=1e-2, search=how) for how in ("tree", "free")]
    first, freely = run(specs, jobs=1)
    assert "trained before, for search tree" in (work_folder(freely["key"]) / "log.txt").read_text()
    learnt = first["alignment"]
    assert len(learnt["loss"]) == 10
    assert learnt["loss"][-1] < 0.8 * learnt["loss"][0]
    assert [learnt["from"], learnt["to"]] == [["features:circle", "random"], ["random", "features:circle"]]
    assert learnt["aligned"][0]["right"] > learnt["aligned"][0]["without reading"]
    assert len(learnt["trained"]) == 2
    assert freely["alignment"] == learnt
    assert "alignment" not in run([fused("delimited")])[0]


def test_letter_reads_sasrec_and_the_collaborative_modality_is_sasrec(folders):
    """One SASRec is trained, by whichever trial comes first, and no trial of it is published."""
    small = {"name": "sasrec", "d_model": 8, "heads": 1, "epochs": 2}
    letter = TOKENIZER | {"name": "letter", "clusters": 2, "latent": 4, "hidden": 8, "iterations": 3, "batch": 16}
    stacked = {"features": "features:circle+collaborative", "fusion": "stacked", "target": "collaborative"}
    specs = [
        trial(data="Toy", features="features:circle", tokenizer=letter, generator=QUICK, collaborative=small),
        trial(data="Toy", tokenizer=TOKENIZER, generator=QUICK | {"softmax": "tree"}, collaborative=small, **stacked),
    ]
    first, second = run(specs, jobs=1)
    assert [row for row in first["tokenizer"]["steps"]["alignment"] if row > 0]
    assert second["semantic_ids"]["collision_rate"] == 0
    assert len(second["semantic_ids"]["usage"]) == 6  # two levels and one that parts collisions, of each modality
    logs = [(work_folder(record["key"]) / "log.txt").read_text() for record in (first, second)]
    assert ["training it" in log for log in logs] == [True, False]
    apart = second["modalities"]
    assert set(apart) == {"features:circle", "collaborative"}
    assert all(0 < part["relative_error"][-1] < 1 and "seed 0" in part["source"] for part in apart.values())
    source = second["features"]["collaborative"]
    matrix = np.load(work_folder(source["trial"]) / EMBEDDINGS)
    assert source["sha256"] == sha256(matrix.tobytes()).hexdigest()
    gated = trial(data="Toy", features="features:circle+collaborative", fusion="gate", tokenizer=TOKENIZER,
                  generator=QUICK, collaborative=small)  # fmt: skip
    made = content.of(gated, load("Toy"))
    assert made.provenance["collaborative"]["trial"] == source["trial"]
    assert len(made.facts["gate"]) == 2


def test_letter_is_told_nothing_of_items_that_nobody_interacted_with(folders, monkeypatch):
    data = load("Toy")
    seen = np.bincount(np.concatenate(data.training), minlength=data.n_items) > 0
    monkeypatch.setattr(content, "item_embeddings", lambda *_: np.ones((data.n_items, 3), dtype="f4"))
    settings = TokenizerSettings(name="letter")
    spec = trial(data="Toy", features="features:circle")
    found = content.collaborative(spec, replace(data, sequences=tuple(s[-3:] for s in data.sequences)), settings)
    few = {int(s[-3]) for s in data.sequences}
    assert set(np.flatnonzero(found.any(1)).tolist()) == few
    assert seen.sum() >= len(few)
    assert content.collaborative(spec, data, TokenizerSettings()) is None


def test_a_modality_alone_is_hit_at_least_as_often_as_both(folders):
    record = run([fused("delimited", epochs=10, alignment=20)])[0]
    whole = Ranks.unpack(record["ranks"])
    for name in ("features:circle", "random"):
        part = Ranks.unpack(record["ranks_parts"][name])
        assert (part.first <= whole.first).all()
        assert (part.group == 1).all()  # all items of a leaf have these codes
    assert "alignment step 20/20" in (work_folder(record["key"]) / "log.txt").read_text()


def test_stacked_modalities_are_translated_too(folders):
    """Each into each other, and next items are still written in one of them."""
    stacked = {"features": "features:circle+random", "fusion": "stacked", "target": "features:circle"}
    settings = QUICK | {"epochs": 2, "softmax": "tree"}
    plain, record = run([trial(data="Toy", tokenizer=TOKENIZER, generator=settings | more, **stacked)
                         for more in ({}, {"alignment": 20})])  # fmt: skip
    assert "alignment step 20/20" in (work_folder(record["key"]) / "log.txt").read_text()
    assert record["epochs"][0]["loss"] != plain["epochs"][0]["loss"]
    assert record["semantic_ids"] == plain["semantic_ids"]


def test_alignment_sees_no_user(folders):
    """Other users of the same items: another training, the same alignment in every digit that is logged."""
    folder = atomic.write(replace(toy(seed=1), name="Other"), folders / "data" / "Other")
    (folder / "Other.circle.npy").write_bytes((folders / "data" / "Toy" / "Toy.circle.npy").read_bytes())
    spec = fused("delimited", epochs=2, alignment=20)
    records = run([spec, spec.model_copy(update={"data": "Other"})])
    logs = [(work_folder(record["key"]) / "log.txt").read_text().splitlines() for record in records]
    aligned = [[line for line in log if line.startswith("alignment step")] for log in logs]
    assert aligned[0] == aligned[1]
    assert len(aligned[0]) == 10
    assert records[0]["epochs"] != records[1]["epochs"]


def test_a_damaged_checkpoint_does_not_stand_for_the_alignment(folders):
    log = log_after_a_damaged_checkpoint(fused("delimited", epochs=2, alignment=20))
    assert "damaged checkpoint" in log
    assert "alignment step 20/20" in log


def test_parts_are_named_by_the_features_order_and_not_by_the_alphabet():
    """As a record is read back: its parts in alphabetical order, image second."""
    hit, missed = Ranks(np.zeros(4, "u2"), np.ones(4, "u2")), Ranks(np.full(4, 99, "u2"), np.ones(4, "u2"))
    parts = {"index:index_lemb": missed.pack(), "index:index_vitemb": hit.pack()}
    record = {
        "trial": {"features": "index:index_vitemb+index:index_lemb", "generator": {}},
        "ranks": missed.pack(),
        "key": "x",
    }
    row = part_hits({"fused": [record | {"ranks_parts": parts}]}).iloc[0]
    assert (row["first right"], row["second right"]) == (1, 0)
    assert (row["first"], row["second"]) == ("CLIP image (published IDs)", "LLaMA text (published IDs, colliding)")
    turned = {
        "trial": {"features": "index:index_lemb+index:index_vitemb", "generator": {}},
        "ranks": missed.pack(),
        "key": "y",
    }
    row = part_hits({"fused": [turned | {"ranks_parts": parts}]}).iloc[0]
    assert (row["first right"], row["second right"]) == (0, 1)
    assert row["first"] == "LLaMA text (published IDs, colliding)"


def test_ready_indexes_that_collide_can_be_left_so_when_fused():
    kept = trial(data="X", features="index:a+index:b", fusion="late", tokenizer={"collisions": "none", "codes": 9})
    assert (kept.tokenizer.name, kept.tokenizer.collisions) == ("none", "none")
    assert kept.tokenizer.codes == trial(data="X", features="index:a+index:b", fusion="late").tokenizer.codes


def test_the_bench_measures_what_longer_ids_cost():
    data = planted.generate(Knobs(users=30, items=40))[0]
    found = generator_bench.fused(data, generator_bench.random_ids(data.n_items), seconds=1)
    costs = {f"{what}_{kind}" for what in ("training", "decoding") for kind in ("late", "delimited")}
    assert set(found) == costs | {"targets_per_second", "users_per_second"}
    assert all(value > 0 for value in found.values())


def test_the_leading_levels_of_ready_indexes_are_fused(folders, tmp_path):
    data = load("Toy")
    item, files = np.arange(data.n_items), []
    for name, columns in (("a", (item % 4, item % 5, item // 4)), ("b", (item % 3, item // 20, item))):
        files.append(tmp_path / f"{name}.json")
        SemanticIds(np.stack(columns, 1), tuple(int(column.max()) + 1 for column in columns)).save(files[-1])
    features = "+".join(f"index:{file}" for file in files)
    whole, leading = (
        content.of(trial(data="Toy", features=features, fusion="late", tokenizer=settings), data).ids
        for settings in ({}, {"leading": 2})
    )
    assert whole.levels == 6
    assert leading.codes[:, :4].tolist() == whole.codes[:, [0, 1, 3, 4]].tolist()
    assert leading.parts == ((0, 1), (2, 3))
    assert leading.levels == 4  # 4 x 5 and 3 x 2 differ in all of the items, so no level parts them
    with pytest.raises(StudyError, match="has 3 levels, not 4"):
        content.of(trial(data="Toy", features=features, fusion="late", tokenizer={"leading": 4}), data)
    with pytest.raises(StudyError, match="leading is read of ready"):
        trial(data="Toy", features="a+b", fusion="late", tokenizer={"leading": 2})
    with pytest.raises(StudyError, match="name no item alone"):
        trial(data="Toy", features="index:a+index:b", fusion="stacked", target="index:a", tokenizer={"leading": 2})


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"features": "a+b"}, "join several by '\\+' and say how"),
        ({"features": "a", "fusion": "mean"}, "join several"),
        ({"features": "index:a+b", "fusion": "mean"}, "an index has none: choose late fusion"),
        ({"features": "a+b", "fusion": "late", "tokenizer": {"collisions": "matching"}}, "set collisions to dedup"),
        ({"features": "a+b", "fusion": "stacked"}, "stacked fusion writes one of its features"),
        ({"features": "a+b", "fusion": "late", "target": "a"}, "stacked fusion writes one of its features"),
        ({"features": "a+b", "fusion": "interleaved", "generator": {"masking": 0.5}}, "choose stacked or late fusion"),
        ({"features": "a+b", "fusion": "late", "generator": {"masking": 0.5}}, "set collisions to none"),
        (
            {"features": "a+b", "fusion": "stacked", "target": "a", "generator": {"architecture": "decoder-only"}},
            "a decoder-only generator writes all that it reads",
        ),
        ({"features": "a+b", "fusion": "mean", "generator": {"alignment": 5}}, "alignment translates between"),
        ({"features": "a+a", "fusion": "late"}, "a modality twice"),
        ({"features": "shuffled:index:a"}, "only rows of embeddings are shuffled"),
        ({"features": "shuffled:collaborative"}, "only rows of embeddings are shuffled"),
        ({"features": "a", "generator": {"architecture": "decoder-only", "d_head": 25}}, "d_head must be even"),
        (
            {"features": "a+b", "fusion": "late", "generator": {"alignment": 5, "positions": "two-part"}},
            "leave out two-part positions, or alignment",
        ),
        (
            {"features": "a+b", "fusion": "late", "generator": {"alignment": 5, "architecture": "decoder-only"}},
            "alignment, masking, two-part and cross positions need an encoder",
        ),
    ],
)
def test_settings_that_contradict_each_other(settings, complaint):
    with pytest.raises(StudyError, match=complaint):
        trial(data="Toy", **settings)


def test_only_the_target_levels_are_written():
    torch.manual_seed(0)
    whole, part = Tiger((3, 4, 5), TINY, dropout=0.0), Tiger((3, 4, 5), TINY, dropout=0.0, target=(1, 2))
    part.load_state_dict(whole.state_dict())
    history = torch.tensor([[[0, 1, 2], [2, 3, 4]]])
    hidden = part.predict(history, torch.tensor([2]), history[..., 1:])
    assert hidden.shape == (1, 2, 2, 16)
    # The same as a generator that writes all, told to start at level 1.
    memory = whole.encode(history)
    expected = whole._decode(history[..., 1:], whole.start(memory), part.past_only(2), (1, 2))
    assert torch.allclose(hidden, expected, atol=1e-6)
    assert part.log_probabilities(hidden, 0).shape[-1] == 4
    assert training.build(TigerSettings(), IMAGE, 0).target == (0, 1)
