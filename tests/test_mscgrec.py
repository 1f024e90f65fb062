"""Softmax over the tree, two-part positions, and masked modalities, each against a literal computation (001)."""

import math

import numpy as np
import pytest
import torch

from studylib import examples, training
from studylib.bench import generator as generator_bench
from studylib.config import TigerSettings
from studylib.data import planted
from studylib.data.planted import Knobs
from studylib.decoding import TensorTree, beam_search
from studylib.errors import StudyError
from studylib.evaluation import padded
from studylib.models.layers import Size
from studylib.models.positions import BUCKETS, bucket, two_part_bias
from studylib.models.tiger import Tiger
from studylib.semantic_ids import SemanticIds
from tests.exact import score_all

RNG = np.random.default_rng(0)
IDS = SemanticIds(np.unique(RNG.integers(0, 6, (80, 3)), axis=0), (6, 6, 6))
COLLIDING = SemanticIds(RNG.integers(0, 3, (40, 3)), (3, 3, 3))
USERS = [RNG.integers(0, 40, RNG.integers(1, 7)) for _ in range(9)]
SIZE = Size(16, 32, 1, 2, 2, 8)


def generator(ids: SemanticIds, **settings) -> Tiger:
    torch.manual_seed(1)
    return Tiger(ids.sizes, SIZE, dropout=0.0, **settings).eval()


# -- softmax over the children of the target's prefix -----------------------------------------------------------------


def test_the_loss_over_the_tree_is_a_literal_masked_softmax():
    model, codes = generator(IDS, softmax="tree"), torch.as_tensor(IDS.codes)
    batch = examples.collate(examples.one_pass_pieces(USERS, 50), windows=False)
    found = training.loss(model, codes, batch, forbidden=TensorTree(IDS.tree).forbidden(codes, IDS.sizes))
    hidden, targets = model.predict(codes[batch.history], batch.lengths, codes[batch.targets]), codes[batch.targets]
    rows = IDS.codes.tolist()
    total = 0.0
    for row, column in np.argwhere(batch.counts.numpy()):
        target = targets[row, column].tolist()
        for level in range(3):
            logits = model.logits(hidden[row, column, level], level)
            allowed = sorted({other[level] for other in rows if other[:level] == target[:level]})
            masked = torch.full_like(logits, -torch.inf)
            masked[allowed] = logits[allowed]
            total -= torch.log_softmax(masked, 0)[target[level]].item()
    assert found.item() == pytest.approx(total / 3 / int(batch.counts.sum()), rel=1e-5)


@pytest.mark.parametrize("ids", [IDS, COLLIDING], ids=["unique", "colliding"])
def test_search_and_exact_scoring_normalise_over_the_tree(ids):
    model = generator(ids, softmax="tree")
    items, lengths = padded(USERS)
    codes = torch.as_tensor(ids.codes)[items]
    exact = score_all(model, ids, codes, lengths)
    torch.testing.assert_close(exact.exp().sum(1), torch.ones(len(USERS)), rtol=1e-4, atol=1e-4)
    found, _ = beam_search(model, TensorTree(ids.tree), codes, lengths, beams=10_000)
    for user in range(len(USERS)):
        kept = found.leaves[user] >= 0
        torch.testing.assert_close(
            found.scores[user][kept], exact[user][found.leaves[user][kept]], rtol=1e-5, atol=1e-5
        )


@torch.no_grad()
@pytest.mark.parametrize("softmax", ["level", "vocabulary", "tree"])
def test_temperature_sharpens_the_loss_and_nothing_else(softmax):
    """LETTER's ranking-guided generation loss, literally: logits over temperature in the loss, not in the search."""
    torch.manual_seed(0)
    settings = TigerSettings(d_model=16, d_ff=16, heads=2, d_head=8, softmax=softmax, dropout=0.0, temperature=0.5)
    model, codes = training.build(settings, IDS, 0).eval(), torch.as_tensor(IDS.codes)
    hidden, targets = torch.randn(4, 3, 16), codes[:4]
    forbidden = TensorTree(IDS.tree).forbidden(targets, IDS.sizes) if softmax == "tree" else None
    found, expected = model.loss(hidden, targets, forbidden=forbidden), 0.0
    for row, target in zip(hidden, targets.tolist(), strict=True):
        for level, code in enumerate(target):
            if softmax == "vocabulary":
                logits, right = model.head(row[level]), code + int(model.offsets[level])
            else:
                logits, right = model.logits(row[level], level), code
            allowed = range(len(logits))
            if softmax == "tree":
                allowed = {own[level] for own in IDS.codes.tolist() if own[:level] == target[:level]}
            total = sum(math.exp(float(logits[one]) / 0.5) for one in allowed)
            expected -= math.log(math.exp(float(logits[right]) / 0.5) / total) / 3
    assert found.item() == pytest.approx(expected, rel=1e-5)
    plain = training.build(settings.model_copy(update={"temperature": 1.0}), IDS, 0)
    assert torch.equal(model.log_probabilities(hidden[:, 0], 0), plain.log_probabilities(hidden[:, 0], 0))


def test_other_softmaxes_are_not_touched_by_the_tree():
    model, codes = generator(IDS), torch.as_tensor(IDS.codes)
    batch = examples.collate(examples.one_pass_pieces(USERS, 50), windows=False)
    hidden = model.predict(codes[batch.history], batch.lengths, codes[batch.targets])[batch.counts]
    by_hand = sum(
        torch.nn.functional.cross_entropy(
            model.logits(hidden[:, level], level), codes[batch.targets][batch.counts][:, level]
        )
        for level in range(3)
    )
    assert training.loss(model, codes, batch).item() == pytest.approx(by_hand.item() / 3, rel=1e-5)


# -- two-part positions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("items", "levels"), [(4, 3), (3, 12), (2, 14), (5, 1)])
def test_two_part_positions_are_a_literal_double_loop(items, levels, bidirectional):
    torch.manual_seed(0)
    table = torch.nn.Embedding(BUCKETS, 2)
    item, place = torch.arange(items).repeat_interleave(levels), torch.arange(levels).repeat(items)
    found = two_part_bias(table, item, place, levels, bidirectional)[0]
    reach = min(levels - 1, 11)
    for query in range(items * levels):
        for key in range(items * levels):
            within = max(-reach, min(reach, int(place[key] - place[query]))) + reach
            apart = bucket(torch.tensor([[item[key] - item[query]]]), BUCKETS - 2 * reach - 1, bidirectional).item()
            expected = table.weight[within] + table.weight[2 * reach + 1 + apart]
            assert torch.allclose(found[:, query, key], expected)


TWELVE_LEVELS = {  # the items back from which a new bias begins
    True: [0, 1, 2, 16],
    False: [0, 1, 2, 3, 4, 8, 16, 32, 64],
}


@pytest.mark.parametrize("bidirectional", TWELVE_LEVELS)
def test_how_far_back_two_part_positions_tell_apart(bidirectional):
    """Of nine buckets a causal encoder has all for its past; no bias of what it may see is another's."""
    torch.manual_seed(0)
    table = torch.nn.Embedding(BUCKETS, 1)
    place = torch.arange(12).repeat(70)
    bias = two_part_bias(table, torch.arange(70).repeat_interleave(12), place, 12, bidirectional)[0, 0]
    back = [bias[69 * 12, (69 - items) * 12].item() for items in range(70)]  # the first level of the last item
    assert [items for items in range(70) if items == 0 or back[items] != back[items - 1]] == TWELVE_LEVELS[
        bidirectional
    ]
    assert len(set(back)) == len(TWELVE_LEVELS[bidirectional])


@torch.no_grad()
@pytest.mark.parametrize("user_tokens", [0, 4])
@pytest.mark.parametrize("positions", ["two-part", "two-part-past"])
def test_the_encoder_hands_its_layers_these_positions_and_nothing_ahead(positions, user_tokens, monkeypatch):
    """Token by token of histories so long that bins for both sides differ; a user token ends an item before them."""
    model, seen = generator(IDS, positions=positions, user_tokens=user_tokens), []
    monkeypatch.setattr(model, "_encode", lambda x, bias: seen.append(bias))
    model.encode(torch.as_tensor(IDS.codes)[torch.arange(20).view(2, 10)], users=torch.tensor([0, 3]))
    tokens = [(-1, 2)] * bool(user_tokens) + [(item, place) for item in range(10) for place in range(3)]
    assert seen[0].shape[-2:] == (len(tokens), len(tokens))
    for query, (own_item, own_place) in enumerate(tokens):
        for key, (item, place) in enumerate(tokens):
            apart = bucket(torch.tensor([[item - own_item]]), BUCKETS - 5, positions == "two-part").item()
            expected = model.encoder_positions.weight[place - own_place + 2]
            expected = expected + model.encoder_positions.weight[5 + apart]
            if item > own_item:
                expected = torch.full_like(expected, -torch.inf)
            assert torch.allclose(seen[0][0, :, query, key], expected)


def test_a_causal_encoder_reads_with_the_positions_it_was_asked_for():
    items = torch.arange(20)[None]
    codes = torch.as_tensor(IDS.codes)[items]
    models = [generator(IDS, positions=name) for name in ("two-part", "two-part-past")]
    assert all(torch.equal(one, other) for one, other in zip(*(m.parameters() for m in models), strict=True))
    both, past = (model.encode(codes) for model in models)
    assert not torch.allclose(both, past)
    with pytest.raises(ValueError, match="set positions to two-part, or training to one-pass"):
        TigerSettings(positions="two-part-past", training="windows")


def test_two_part_positions_know_the_same_level_of_another_item():
    """Under T5's the bias of one level of the item before depends on how many levels an item has."""
    torch.manual_seed(0)
    table = torch.nn.Embedding(BUCKETS, 1)
    item, place = torch.arange(3).repeat_interleave(4), torch.arange(4).repeat(3)
    bias = two_part_bias(table, item, place, 4, bidirectional=True)[0, 0]
    assert bias[4, 0] == bias[5, 1] == bias[7, 3]
    assert bias[4, 0] != bias[4, 1]


# -- masked modalities ------------------------------------------------------------------------------------------------

PARTS = ((0,), (1, 2))


def masked(masking: float = 0.0) -> Tiger:
    return generator(IDS, parts=PARTS, masking=masking)


def test_a_missing_modality_says_nothing():
    model, items = masked(), torch.tensor([[0, 5, 9]])
    codes = torch.as_tensor(IDS.codes)[items]
    other = codes.clone()
    other[..., 1:] = (other[..., 1:] + 1) % 6
    assert not torch.allclose(model.encode(codes), model.encode(other))
    assert torch.equal(model.encode(codes, missing=(1,)), model.encode(other, missing=(1,)))
    assert not torch.allclose(model.encode(codes, missing=(1,)), model.encode(codes))
    everything = model.encode(codes, missing=(0, 1))
    assert torch.equal(everything, model.encode((codes + 3) % 6, missing=(0, 1)))


@pytest.mark.parametrize(
    ("parts", "missing", "complaint"),
    [
        ((), (0, 1), "a generator without masks cannot leave it out"),
        (PARTS, (2,), "missing modality 2: a generator of the modalities 0 to 1"),
        (PARTS, (0, -1), "missing modality -1"),
    ],
)
def test_what_has_no_mask_cannot_be_missing(parts, missing, complaint):
    items, lengths = padded(USERS)
    codes = torch.as_tensor(IDS.codes)[items]
    with pytest.raises(StudyError, match=complaint):
        beam_search(generator(IDS, parts=parts), TensorTree(IDS.tree), codes, lengths, 10, missing=missing)


def test_masking_a_modality_that_the_model_does_not_use_changes_nothing():
    model = masked()
    with torch.no_grad():  # what cannot be told from its mask is not used
        for level in PARTS[1]:
            first = int(model.offsets[level])
            model.embedding.weight[first : first + 6] = model.masks.weight[level]
    items, lengths = padded(USERS)
    codes, tree = torch.as_tensor(IDS.codes)[items], TensorTree(IDS.tree)
    full, _ = beam_search(model, tree, codes, lengths, 10)
    without, _ = beam_search(model, tree, codes, lengths, 10, missing=(1,))
    assert torch.equal(full.leaves, without.leaves)
    assert torch.allclose(full.scores, without.scores)
    used, _ = beam_search(model, tree, codes, lengths, 10, missing=(0,))
    assert not torch.allclose(full.scores, used.scores)


def test_training_masks_one_modality_of_the_stated_share_of_items():
    model = masked(0.75).train()
    torch.manual_seed(0)
    drawn = model._masked((200, 50), (), torch.device("cpu"))
    lost = torch.stack([drawn[..., list(part)].all(-1) for part in PARTS], -1)
    assert torch.equal(drawn.any(-1), lost.any(-1))  # a modality is lost whole
    assert int(lost.sum(-1).max()) == 1
    assert float(lost.any(-1).float().mean()) == pytest.approx(0.75, abs=0.02)
    assert float(lost[..., 0].float().mean()) == pytest.approx(0.375, abs=0.02)
    of_a_history = lost.any(-1).float().mean(1)  # drawn for each item, not once a history
    assert float(of_a_history.std()) == pytest.approx((0.75 * 0.25 / 50) ** 0.5, rel=0.3)
    assert not model.eval()._masked((200, 50), (), torch.device("cpu")).any()


def test_masks_come_last_so_that_nothing_else_is_drawn_differently():
    torch.manual_seed(0)
    plain = Tiger(IDS.sizes, SIZE)
    torch.manual_seed(0)
    with_masks = Tiger(IDS.sizes, SIZE, parts=PARTS)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, with_masks.state_dict()[name])


def test_histories_are_read_with_more_levels_than_are_written():
    ids = SemanticIds(IDS.codes, IDS.sizes, target=(1, 2), parts=PARTS)
    assert ids.written.codes.tolist() == IDS.codes[:, 1:].tolist()
    assert ids.collisions == ids.written.collisions
    model = training.build(TigerSettings(softmax="tree", masking=0.5, positions="two-part-past"), ids, 0)
    batch = examples.collate(examples.one_pass_pieces(USERS, 50), windows=False)
    codes = torch.as_tensor(ids.codes)
    forbidden = TensorTree(ids.written.tree).forbidden(codes[:, 1:], ids.written.sizes)
    training.loss(model, codes, batch, forbidden=forbidden).backward()
    assert model.masks.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_the_loss_of_stacked_histories_is_of_what_is_written_alone():
    """The written modality comes last: a loss over the first levels, or over all, is another number."""
    ids = SemanticIds(IDS.codes, IDS.sizes, target=(1, 2), parts=PARTS)
    model, codes = training.build(TigerSettings(softmax="tree", dropout=0.0), ids, 0).eval(), torch.as_tensor(ids.codes)
    batch = examples.collate(examples.one_pass_pieces(USERS, 50), windows=False)
    forbidden = TensorTree(ids.written.tree).forbidden(codes[:, 1:], ids.written.sizes)
    found, total = training.loss(model, codes, batch, forbidden=forbidden), 0.0
    hidden = model.predict(codes[batch.history], batch.lengths, codes[batch.targets][..., 1:])
    written = ids.codes[:, 1:].tolist()
    for row, column in np.argwhere(batch.counts.numpy()):
        target = codes[batch.targets[row, column], 1:].tolist()
        for place in range(2):
            logits = model.head(hidden[row, column, place])[int(model.offsets[1 + place]) :][:6]
            allowed = sorted({other[place] for other in written if other[:place] == target[:place]})
            total -= torch.log_softmax(logits[allowed], 0)[allowed.index(target[place])].item()
    assert found.item() == pytest.approx(total / 2 / int(batch.counts.sum()), rel=1e-5)


def test_the_bench_measures_the_tree_on_stacked_histories_too():
    data = planted.generate(Knobs(users=30, items=40))[0]
    found = generator_bench.tree(data, generator_bench.random_ids(data.n_items), seconds=1)
    assert found["stacked_ratio"] == pytest.approx(found["stacked_level"] / found["stacked_tree"], rel=0.1)
    assert set(found) == {"level", "tree", "ratio", "stacked_level", "stacked_tree", "stacked_ratio"}


def test_the_loss_over_the_tree_only_looks_up_and_masks():
    """Its time is the bench's to measure (at most 1.05 wanted); here: what it does besides, forward and back."""
    counts = {}
    for softmax in ("level", "tree"):
        model, codes = generator(IDS, softmax=softmax), torch.as_tensor(IDS.codes)
        forbidden = TensorTree(IDS.tree).forbidden(codes, IDS.sizes) if softmax == "tree" else None
        batch = examples.collate(examples.one_pass_pieces(USERS, 50), windows=False)
        with torch.profiler.profile() as profile:
            training.loss(model, codes, batch, forbidden=forbidden).backward()
        counts[softmax] = {event.key: event.count for event in profile.key_averages() if event.key.startswith("aten::")}
    more = {key.removeprefix("aten::") for key, count in counts["tree"].items() if count != counts["level"].get(key, 0)}
    makes_room = {
        "as_strided",
        "as_strided_",
        "clone",
        "copy_",
        "empty",
        "empty_like",
        "nonzero",
        "reshape",
        "select",
        "view",
    }
    assert more - makes_room == {"index", "masked_fill", "masked_fill_"}


def test_the_output_table_is_not_bound_to_the_input():
    """001, Eq. 2: a step on one loss moves both tables, each its own way."""
    model = training.build(TigerSettings(d_model=16, d_ff=16, heads=2, d_head=8, softmax="tree"), IDS, 0)
    tables = {"input": model.embedding.weight, "output": model.head.weight}
    assert tables["input"].shape == tables["output"].shape
    assert tables["input"].untyped_storage().data_ptr() != tables["output"].untyped_storage().data_ptr()
    before = {name: table.detach().clone() for name, table in tables.items()}
    codes = torch.as_tensor(IDS.codes)
    batch = examples.collate(examples.one_pass_pieces(USERS, 50), windows=False)
    training.loss(model, codes, batch, forbidden=TensorTree(IDS.tree).forbidden(codes, IDS.sizes)).backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    moved = {name: table.detach() - before[name] for name, table in tables.items()}
    assert all(move.abs().max() > 0 for move in moved.values())
    assert not torch.allclose(moved["input"], moved["output"])
