"""SASRec and GRU4Rec: they learn, see no later item, resume to the same weights, and leak nothing into embeddings."""

import math

import numpy as np
import pytest
import torch

from studylib import engines, next_item
from studylib.collaborative import item_embeddings
from studylib.config import Trial, trial
from studylib.data import Dataset, atomic, load
from studylib.errors import StudyError
from studylib.examples import collate, one_pass_pieces
from studylib.models.baselines import full_ranks
from studylib.store import Store, work_folder
from studylib.trials import run
from tests.conftest import ITEMS, toy

NAMES = ("sasrec", "gru4rec")
TINY = {
    "d_model": 16,
    "layers": 1,
    "dropout": 0.1,
    "epochs": 3,
    "lr": 1e-2,
    "targets_per_step": 16,
    "validate_every": 1,
}


def tiny(name: str, seed: int = 0, **generator) -> Trial:
    return trial(data="Toy", generator={"name": name, **TINY, "patience": 99} | generator, seed=seed)


def learn(spec: Trial, data: Dataset, **more):
    """A trained model and its curve, in this process."""
    settings = spec.generator
    model = next_item.build(settings, data.n_items, spec.seed)
    scorer = next_item.Scorer(model, settings.history)
    arguments = {"validate": lambda _: float(scorer.ranks(data.valid).recall(10).mean()), "log": lambda _: None} | more
    return model, next_item.train(model, data.training, settings, spec.seed, **arguments)


def untrained(name: str, **generator):
    return next_item.build(tiny(name, **generator).generator, ITEMS, 0).eval()


def with_changed(place: int, shift: int) -> Dataset:
    """The toy with another item at a place of every sequence (-1 test, -2 validation)."""
    data, moved = toy(), [sequence.copy() for sequence in toy().sequences]
    for sequence in moved:
        sequence[place] = (sequence[place] + shift) % ITEMS
    return Dataset("Toy", data.users, tuple(moved), ITEMS, data.items)


@pytest.mark.parametrize("name", NAMES)
def test_a_planted_rule_is_learnt(name):
    data = toy()
    model, epochs = learn(tiny(name, epochs=25), data)
    assert next_item.Scorer(model).ranks(data.test).recall(5).mean() > 0.7  # chance: 5 of 40
    assert epochs[-1]["loss"] < 0.5 * epochs[0]["loss"]


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_the_full_softmax_over_the_targets_alone(name):
    """Against one prefix at a time, alone, with sums written out; rows are of different length, so some is filling."""
    model, pieces = untrained(name, history=4), one_pass_pieces([np.array([3, 1, 4]), np.arange(5, 12)], longest=4)
    terms = []
    for piece in pieces:
        for place in range(piece.first, len(piece.items)):
            known = model(torch.as_tensor(piece.items[None, :place]))[0, -1].detach()
            logits = [float(known @ model.items.weight[item]) for item in range(ITEMS)]
            highest = max(logits)
            total = highest + math.log(sum(math.exp(logit - highest) for logit in logits))
            terms.append(total - logits[piece.items[place]])
    assert len(terms) == 2 + 6
    assert float(next_item.loss(model, collate(pieces, windows=False))) == pytest.approx(np.mean(terms), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_later_item_changes_no_earlier_score(name):
    model, items = untrained(name, layers=2), torch.arange(12).view(2, 6)
    before = model(items)
    for place in range(1, 6):
        changed = items.clone()
        changed[:, place] = 39
        after = model(changed)
        torch.testing.assert_close(after[:, :place], before[:, :place], rtol=0, atol=1e-6)
        assert not torch.allclose(after[:, place], before[:, place])


@pytest.mark.parametrize("name", NAMES)
def test_a_users_scores_do_not_hang_on_the_users_beside(name):
    scorer = next_item.Scorer(untrained(name, history=5), 5)
    histories = [np.array([7]), np.arange(9), np.array([2, 30, 4])]
    together = scorer.scores(histories)
    assert together.shape == (3, ITEMS)
    for row, history in zip(together, histories, strict=True):
        np.testing.assert_allclose(row, scorer.scores([history])[0], atol=1e-6)
    np.testing.assert_allclose(together[1], scorer.scores([np.arange(4, 9)])[0], atol=1e-6)  # the newest five count


def test_ranks_are_those_of_the_baselines():
    data, scorer = toy(), next_item.Scorer(untrained("sasrec"))
    for leave_out in (False, True):
        ranks = full_ranks(scorer, data.test.histories, data.test.targets, leave_out)
        assert scorer.ranks(data.test, leave_out).first.tolist() == ranks.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_training_goes_on_to_the_same_weights(name, tmp_path):
    """Dropout, order, moments and the learning rate go on as if nothing had happened."""
    data, spec, file = toy(), tiny(name, epochs=6), tmp_path / "checkpoint.safetensors"
    whole, curve = learn(spec, data)

    def die(line: str):
        if line.startswith("epoch 4"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(spec, data, log=die, checkpoint=file)
    lines = []
    resumed, rest = learn(spec, data, log=lines.append, checkpoint=file)
    assert lines[0].startswith("epoch 4/6")
    assert rest == curve
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value)


@pytest.mark.parametrize("name", NAMES)
def test_validation_items_choose_the_epoch_and_nothing_else(name):
    """Losses and every epoch's weights are the same whatever the validation items; which of them is kept may differ."""

    def weights_of_all_epochs(data: Dataset) -> tuple[list, list, list]:
        every = []

        def validate(model) -> float:
            every.append(torch.cat([value.flatten() for value in model.state_dict().values()]))
            return float(next_item.Scorer(model).ranks(data.valid).recall(10).mean())

        _, epochs = learn(tiny(name), data, validate=validate)
        return every, [row["loss"] for row in epochs], [row["recall@10"] for row in epochs]

    one, other = weights_of_all_epochs(toy()), weights_of_all_epochs(with_changed(-2, 11))
    assert all(torch.equal(*pair) for pair in zip(one[0], other[0], strict=True))
    assert one[1] == other[1]
    assert one[2] != other[2]


def test_the_seed_matters():
    (one, _), (other, _) = (learn(tiny("sasrec", seed=seed), toy()) for seed in (0, 1))
    assert not torch.equal(one.items.weight, other.items.weight)


def test_a_trial_leaves_a_record_and_embeddings_that_no_test_item_changes(folders):
    spec = tiny("sasrec")
    record = run([spec])[0]
    work, store = work_folder(record["key"]), Store.default()
    assert {"ranks", "ranks_unseen", "metrics_unseen", "epochs"} <= set(record)
    assert record["semantic_ids"] is None
    assert not (work / "checkpoint.safetensors").exists()
    before = item_embeddings(spec, load("Toy"))
    assert before.dtype == np.float32
    assert before.shape == (ITEMS, 16)
    model, _ = learn(spec, load("Toy"))  # the same weights as in a process of its own
    assert np.array_equal(model.items.weight.detach().numpy(), before)

    # Lost, and found damaged: trained again to the same bytes, the record untouched.
    published = (store.folder(record["key"]) / "record.json").read_bytes()
    (work / next_item.EMBEDDINGS).write_bytes(b"damaged")
    assert np.array_equal(item_embeddings(spec, load("Toy")), before)
    assert (store.folder(record["key"]) / "record.json").read_bytes() == published

    # Other test items: another trial, the same embeddings.
    atomic.write(with_changed(-1, 7), folders / "data" / "Toy")
    data = load("Toy")
    after = item_embeddings(spec, data)  # its first training, so its record goes to the store
    moved = next(row for row in store.records() if row["key"] != record["key"])
    assert np.array_equal(after, before)
    assert moved["epochs"] == record["epochs"]
    assert moved["metrics"] != record["metrics"]


def test_embeddings_of_what_has_none(folders, monkeypatch):
    data = load("Toy")
    with pytest.raises(StudyError, match="item-knn trial has no item embeddings; choose one of sasrec or gru4rec"):
        item_embeddings(trial(data="Toy", generator={"name": "item-knn"}), data)
    monkeypatch.setattr(engines, "run_trial", lambda *_: "failed with status 2: error: no disk")
    with pytest.raises(StudyError, match="no disk"):
        item_embeddings(tiny("sasrec"), data)


def test_scores_that_are_no_numbers_are_no_hits():
    class Diverged:
        def scores(self, histories):
            return np.full((len(histories), 5), np.nan)

    with pytest.raises(FloatingPointError, match="lower lr"):
        full_ranks(Diverged(), [np.array([0])] * 3, np.arange(3), False)


def test_nothing_to_train_on_and_a_loss_without_end():
    with pytest.raises(StudyError, match="no user has two items before the validation item"):
        next_item.train(untrained("sasrec"), [np.array([1])], tiny("sasrec").generator, 0, lambda _: 0.0)
    model = untrained("sasrec")
    with torch.no_grad():
        model.items.weight[0] = math.inf
    with pytest.raises(FloatingPointError, match="epoch 1: the loss is nan; lower lr"):
        next_item.train(model, toy().training, tiny("sasrec").generator, 0, lambda _: 0.0)


@pytest.mark.parametrize(
    ("generator", "complaint"),
    [
        ({"name": "sasrec", "heads": 3}, "heads must divide d_model: 64 is no multiple of 3"),
        ({"name": "sasrec", "dropout": 1.0}, "setting 'generator.sasrec.dropout'"),
        ({"name": "gru4rec", "heads": 2}, "unknown setting 'generator.gru4rec.heads'"),
        ({"name": "gru4rec", "layers": 0}, "setting 'generator.gru4rec.layers'"),
        ({"name": "gru4rec", "lr": "fast"}, "setting 'generator.gru4rec.lr'"),
    ],
)
def test_settings_that_do_not_exist_or_fit(generator, complaint):
    with pytest.raises(StudyError) as error:
        trial(data="Toy", generator=generator)
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)
