"""The generator against transformers' T5, and one pass against sliding windows."""

import numpy as np
import pytest
import torch

from studylib import examples, training
from studylib.bench.generator import generate
from studylib.config import TigerSettings
from studylib.decoding import TensorTree, beam_search
from studylib.evaluation import padded
from studylib.models.layers import Dropout, Size
from studylib.models.t5 import to_t5
from studylib.models.tiger import Tiger
from studylib.semantic_ids import SemanticIds

SIZE = Size(d_model=32, d_ff=64, encoder_layers=2, decoder_layers=2, heads=4, d_head=8)
IDS = SemanticIds(np.unique(np.random.default_rng(0).integers(0, 5, (60, 3)), axis=0), (7, 5, 6))


def generator(causal=False, softmax="vocabulary", **options) -> Tiger:
    torch.manual_seed(0)
    return Tiger(IDS.sizes, SIZE, causal=causal, dropout=0.0, softmax=softmax, **options).eval()


def histories(seed=0, users=6, longest=5):
    rng = np.random.default_rng(seed)
    return padded([rng.integers(0, len(IDS.codes), rng.integers(1, longest + 1)) for _ in range(users)])


@torch.no_grad()
def test_same_logits_as_transformers_t5():
    ours = generator()
    theirs = to_t5(ours).eval()
    codes = torch.as_tensor(IDS.codes)
    items, lengths = histories()
    targets = codes[torch.arange(len(items))]
    memory = ours.encode(codes[items], lengths)
    hidden = ours.decode(targets[:, None], memory, ours.history_only(lengths, items.shape[1]))[:, 0]
    tokens = (codes[items] + ours.offsets).flatten(1)
    mask = (torch.arange(tokens.shape[1]) < 3 * lengths[:, None]).long()
    expected = theirs(input_ids=tokens * mask, attention_mask=mask, labels=targets + ours.offsets).logits
    torch.testing.assert_close(ours.head(hidden), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("beams", [1, 10])
def test_same_beams_as_transformersgenerate(beams):
    """beams 1 is greedy search."""
    ours = generator()
    items, lengths = histories(seed=1)
    found, _ = beam_search(ours, TensorTree(IDS.tree), torch.as_tensor(IDS.codes)[items], lengths, beams)
    expected = generate(to_t5(ours).eval(), IDS, items, lengths, beams)
    codes = IDS.codes[IDS.tree.items[IDS.tree.group_first[found.leaves.numpy()]]]
    np.testing.assert_array_equal(codes, expected)


@pytest.mark.parametrize("cross_positions", ["none", "items"])
@pytest.mark.parametrize("longest", [50, 4])
def test_one_pass_loss_is_the_sum_over_windows_of_the_same_model(longest, cross_positions):
    """Cutting long sequences (longest 4) changes what a target sees, so there only the set of targets must agree."""
    model = generator(causal=True, softmax="level", cross_positions=cross_positions)
    codes = torch.as_tensor(IDS.codes)
    rng = np.random.default_rng(2)
    sequences = [rng.integers(0, len(IDS.codes), length) for length in (2, 3, 7, 7, 9)]
    one_pass = examples.one_pass_pieces(sequences, longest)
    windows = examples.window_pieces(sequences, longest)
    assert sum(piece.targets for piece in one_pass) == sum(piece.targets for piece in windows) == 23
    counted = sorted(int(item) for piece in one_pass for item in piece.items[piece.first :])
    assert counted == sorted(int(item) for sequence in sequences for item in sequence[1:])
    if longest == 50:
        whole = training.loss(model, codes, examples.collate(one_pass, windows=False)) * 23
        parts = sum(_window_loss(model, codes, piece) for piece in windows)
        torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-4)


def _window_loss(model: Tiger, codes: torch.Tensor, piece: examples.Piece) -> torch.Tensor:
    """One window encoded alone, without any filling."""
    history, target = codes[torch.as_tensor(piece.items[None, :-1])], codes[torch.as_tensor(piece.items[None, -1:])]
    length = torch.tensor([history.shape[1]])
    hidden = model.decode(target, model.encode(history), model.history_only(length, int(length)))
    return model.loss(hidden[0], target[0])


@pytest.mark.parametrize("user_tokens", [0, 4])
def test_cross_positions_count_the_items_back(user_tokens):
    """Against a literal loop; the user's token is one further back than the first item."""
    model = generator(causal=True, cross_positions="items", user_tokens=user_tokens)
    items, levels, before = 4, len(IDS.sizes), int(user_tokens > 0)
    found = model.past_only(items)
    last = model.history_only(torch.tensor([3]), items)
    assert found.shape == (1, SIZE.heads, items * levels, before + items * levels)
    for token in range(before + items * levels):
        item = (token - before) // levels
        for query in range(items * levels):
            expected = model.cross_positions.weight[query // levels - item]
            seen = item <= query // levels
            assert torch.equal(found[0, :, query, token], expected if seen else torch.full((SIZE.heads,), -torch.inf))
        assert torch.equal(last[0, :, 0, token], found[0, :, 2 * levels, token])


@torch.no_grad()
def test_cross_positions_tell_the_last_item():
    """Without them a causal encoder's items stand in no order for the decoder: swapping the keys changes nothing."""
    codes, lengths = torch.as_tensor(IDS.codes), torch.tensor([2])
    for cross_positions in ("none", "items"):
        model = generator(causal=True, cross_positions=cross_positions)
        memory, target = model.encode(codes[torch.tensor([[3, 9]])]), codes[None, None, 5]
        swapped = torch.cat([memory[:, 3:], memory[:, :3]], 1)
        mask = model.history_only(lengths, 2)
        same = torch.allclose(model.decode(target, memory, mask), model.decode(target, swapped, mask), atol=1e-5)
        assert same == (cross_positions == "none")


@torch.no_grad()
def test_cross_positions_are_the_decoder_s_alone():
    codes = torch.as_tensor(IDS.codes)
    items, lengths = histories()
    for causal in (True, False):
        models = [generator(causal, cross_positions=choice) for choice in ("none", "items")]
        assert torch.equal(*(model.encode(codes[items], lengths) for model in models))


def test_the_future_of_a_sequence_changes_no_earlier_target():
    model = generator(causal=True)
    codes = torch.as_tensor(IDS.codes)
    items = torch.arange(8)[None]
    changed = items.clone()
    changed[0, 5] = 20
    masks = model.past_only(7)
    first = model.decode(codes[items[:, 1:]], model.encode(codes[items[:, :-1]]), masks)
    second = model.decode(codes[changed[:, 1:]], model.encode(codes[changed[:, :-1]]), masks)
    torch.testing.assert_close(first[:, :4], second[:, :4], rtol=0, atol=1e-6)
    assert not torch.allclose(first[:, 5], second[:, 5])


@pytest.mark.parametrize("training_way", ["one-pass", "windows"])
def test_the_loss_stays_on_the_model_s_device(training_way):
    """The meta device refuses to mix devices, as a GPU does; it gets as far as picking the targets that count."""
    settings = TigerSettings(d_model=16, d_ff=16, heads=2, d_head=8, training=training_way)
    model = training.build(settings, IDS, 0).to("meta")
    windows = training_way == "windows"
    pieces = (examples.window_pieces if windows else examples.one_pass_pieces)([np.arange(5), np.arange(3)], 50)
    batch = examples.collate(pieces, windows)
    assert batch.history.device.type == "cpu"
    with pytest.raises(NotImplementedError, match="nonzero"):
        training.loss(model, torch.as_tensor(IDS.codes, device="meta"), batch)


def test_filling_changes_no_encoding():
    for causal in (True, False):
        model = generator(causal)
        codes = torch.as_tensor(IDS.codes)
        alone = model.encode(codes[torch.tensor([[3, 9]])], torch.tensor([2]))
        filled = model.encode(codes[torch.tensor([[3, 9, 0, 0]])], torch.tensor([2]))
        torch.testing.assert_close(alone, filled[:, :6], rtol=1e-5, atol=1e-5)


def test_dropout_keeps_the_mean_and_drops_its_share():
    torch.manual_seed(0)
    out = Dropout(0.25).train()(torch.ones(100_003))
    assert abs((out == 0).float().mean() - 0.25) < 0.01
    assert abs(out.mean() - 1) < 0.01
    assert torch.equal(Dropout(0.25).eval()(torch.ones(5)), torch.ones(5))
    assert float(Dropout(0.999).train()(torch.ones(100_003)).mean()) == pytest.approx(1, abs=0.2)  # nearly all, not all


def test_level_softmax_sums_to_one_over_its_level():
    model = generator(softmax="level")
    hidden = torch.randn(4, SIZE.d_model)
    for level, size in enumerate(IDS.sizes):
        log_p = model.log_probabilities(hidden, level)
        assert log_p.shape == (4, size)
        torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(4))
    assert (generator().log_probabilities(hidden, 0).exp().sum(-1) < 1).all()


def test_learning_rate_warms_up_and_ends_at_zero():
    settings = TigerSettings(lr=1.0, warmup=0.1)
    rates = [training.learning_rate(settings, step, 100) for step in range(100)]
    assert rates[0] == 0.1
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[-1] < 0.001
