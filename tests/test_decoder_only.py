"""The decoder-only generator against transformers' Llama; user tokens; training on a user's last item only."""

import numpy as np
import pytest
import torch

from studylib import examples
from studylib.config import trial
from studylib.data.dataset import Split
from studylib.decoding import TensorTree, beam_search
from studylib.errors import StudyError
from studylib.evaluation import Searcher
from studylib.models.decoder_only import BASE, DecoderOnly
from studylib.models.generator import START, user_tokens
from studylib.models.tiger import Tiger
from studylib.trials import run
from tests.exact import score_all, written
from tests.test_tiger import IDS, SIZE, histories
from tests.test_trials import quick


def generator(users: int = 0, softmax: str = "vocabulary") -> DecoderOnly:
    torch.manual_seed(0)
    return DecoderOnly(IDS.sizes, SIZE, dropout=0.0, softmax=softmax, user_tokens=users).eval()


def to_llama(model: DecoderOnly):
    """A LlamaForCausalLM with the same weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    size = model.size
    config = LlamaConfig(
        vocab_size=model.vocabulary, hidden_size=size.d_model, intermediate_size=size.d_ff,
        num_hidden_layers=len(model.layers), num_attention_heads=size.heads, num_key_value_heads=size.heads,
        head_dim=size.d_head, rms_norm_eps=1e-6, rope_theta=BASE, tie_word_embeddings=False, attention_bias=False,
    )  # fmt: skip
    theirs = LlamaForCausalLM(config)
    weights = {
        "model.embed_tokens.weight": model.embedding.weight, "lm_head.weight": model.head.weight,
        "model.norm.weight": model.norm.weight,
    }  # fmt: skip
    for number, layer in enumerate(model.layers):
        place = f"model.layers.{number}"
        for name, part in zip("qkv", layer.query_key_value.weight.chunk(3), strict=True):
            weights[f"{place}.self_attn.{name}_proj.weight"] = part
        for name, part in zip(("gate", "up"), layer.gate_up.weight.chunk(2), strict=True):
            weights[f"{place}.mlp.{name}_proj.weight"] = part
        weights[f"{place}.self_attn.o_proj.weight"] = layer.output.weight
        weights[f"{place}.mlp.down_proj.weight"] = layer.down.weight
        weights[f"{place}.input_layernorm.weight"] = layer.norm_attention.weight
        weights[f"{place}.post_attention_layernorm.weight"] = layer.norm_feed_forward.weight
    theirs.load_state_dict({name: value.detach().clone() for name, value in weights.items()})
    return theirs.eval()


@torch.no_grad()
def test_same_logits_as_transformers_llama():
    ours, codes = generator(), torch.as_tensor(IDS.codes)
    items = torch.arange(12).view(2, 6)
    hidden = ours.predict(codes[items[:, :-1]], torch.tensor([5, 5]), codes[items[:, 1:]])
    tokens = (codes[items] + ours.offsets).flatten(1)
    tokens = torch.cat([torch.full((2, 1), START), tokens], 1)
    expected = to_llama(ours)(input_ids=tokens).logits[:, :-1].unflatten(1, (6, 3))[:, 1:]
    torch.testing.assert_close(ours.head(hidden), expected, rtol=1e-4, atol=1e-4)


def tiger(users: int = 0) -> Tiger:
    torch.manual_seed(0)
    return Tiger(IDS.sizes, SIZE, causal=True, dropout=0.0, cross_positions="items", user_tokens=users).eval()


@torch.no_grad()
@pytest.mark.parametrize("make", [generator, tiger])
@pytest.mark.parametrize("users", [0, 4])
def test_search_reads_and_writes_what_training_predicts(make, users):
    """Two ways to a hidden state agree: the whole sequence at once, as in training, and some codes at a time."""
    model, codes = make(users), torch.as_tensor(IDS.codes)
    items, lengths = histories()
    tokens = torch.arange(len(items)) % users if users else None
    targets = codes[torch.arange(2 * len(items)).view(len(items), 2)]
    memory = model.read(codes[items], lengths, tokens)
    in_one_piece = written(model, targets, memory)
    for row, length in enumerate(lengths.tolist()):
        own = None if tokens is None else tokens[row : row + 1]
        for number in range(2):
            sequence = torch.cat([codes[items[row, :length]], targets[row, number : number + 1]])[None]
            whole = model.predict(sequence[:, :-1], lengths[row : row + 1], sequence[:, 1:], own)[0, -1]
            torch.testing.assert_close(in_one_piece[row, number], whole, rtol=1e-4, atol=1e-5)
    start = torch.full((len(items), 1, 1), START)
    tokens = torch.cat([start, targets[:, :1, :2] + model.offsets[:2]], -1)
    for cuts in ((1, 1, 1), (2, 1), (1, 2)):  # tokens at a time
        past, place = None, 0
        for some in cuts:
            hidden, past = model.step(tokens[..., place : place + some], place, memory, past)
            expected = in_one_piece[:, :1, place : place + some]
            torch.testing.assert_close(hidden, expected, rtol=1e-4, atol=1e-5)
            place += some


@torch.no_grad()
@pytest.mark.parametrize("make", [generator, lambda users: Tiger(IDS.sizes, SIZE, True, 0.0, user_tokens=users).eval()])
def test_search_with_all_beams_is_exact_scoring(make):
    model, codes = make(users=3), torch.as_tensor(IDS.codes)
    items, lengths = histories(seed=3)
    users, tree = torch.arange(len(items)) % 3, TensorTree(IDS.tree)
    found, _ = beam_search(model, tree, codes[items], lengths, beams=len(IDS.codes), users=users)
    exact = score_all(model, IDS, codes[items], lengths, users=users)
    torch.testing.assert_close(found.scores, exact.sort(descending=True).values, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.scores, exact.gather(1, found.leaves), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("causal", [True, False])
def test_a_user_token_is_seen_by_every_target_and_by_no_one_else(causal):
    torch.manual_seed(0)
    model, codes = Tiger(IDS.sizes, SIZE, causal, 0.0, user_tokens=2).eval(), torch.as_tensor(IDS.codes)
    items, lengths = histories(seed=4)
    targets = codes[items[:, 1:]] if causal else codes[items[:, :1]]
    history = codes[items[:, :-1]] if causal else codes[items]
    length = lengths - 1 if causal else lengths
    one, other = (model.predict(history, length, targets, torch.full((len(items),), user)) for user in (0, 1))
    assert (one - other).abs().amax(-1).min() > 1e-6


def test_user_tokens_follow_the_user_through_splits():
    names = [f"u{number}" for number in range(50)]
    tokens = user_tokens(names, 7)
    assert tokens.tolist() == user_tokens(names, 7).tolist()
    assert len(set(tokens.tolist())) == 7
    assert user_tokens(names, 0) is None
    model = Tiger(IDS.sizes, SIZE, True, 0.0, user_tokens=7).eval()
    searcher = Searcher(model, IDS, beams=5, user_tokens=tokens)
    rng = np.random.default_rng(0)
    rows = tuple(rng.integers(0, len(IDS.codes), rng.integers(1, 6)) for _ in names)
    targets = rng.integers(0, len(IDS.codes), len(names))
    whole = searcher.ranks(Split(rows, targets))[0].first
    some = np.array([3, 20, 41])
    part = searcher.ranks(Split(tuple(rows[user] for user in some), targets[some], some))[0].first
    assert part.tolist() == whole[some].tolist()


def test_no_augmentation_counts_one_target_a_user():
    sequences = [np.arange(n) for n in (1, 2, 5, 9)]
    settings = trial(data="x", budget="smoke", generator={"augmentation": "none", "history": 3}).generator
    pieces = examples.pieces_of(settings, sequences)
    assert [piece.items[piece.first :].tolist() for piece in pieces] == [[1], [4], [8]]
    assert [piece.user for piece in pieces] == [1, 2, 3]


def test_both_ways_adds_every_sequence_backwards():
    settings = trial(data="x", budget="smoke", generator={"augmentation": "both-ways", "history": 3}).generator
    sequences = [np.array([7]), np.array([4, 2, 9])]
    pieces = examples.pieces_of(settings, sequences)
    assert [(piece.items.tolist(), piece.user) for piece in pieces] == [([4, 2, 9], 1), ([9, 2, 4], 1)]
    windows = examples.pieces_of(settings, sequences, windows=True)
    assert [piece.items.tolist() for piece in windows] == [[4, 2], [4, 2, 9], [9, 2], [9, 2, 4]]
    examples.collate(pieces, windows=False)  # reversed views become tensors


@pytest.mark.parametrize("changes", [{"architecture": "decoder-only"}, {"user_tokens": 5}])
def test_choices_of_the_generator_learn_the_planted_rule(folders, changes):
    record = run([quick(epochs=40, **changes)])[0]
    assert record["metrics"]["recall@5"] > 0.4
    assert record["trial"]["generator"] | changes == record["trial"]["generator"]


def test_windows_of_a_decoder_only_generator_are_refused():
    with pytest.raises(StudyError, match="set training to one-pass"):
        trial(data="x", budget="paper", generator={"architecture": "decoder-only"})


def test_a_modality_cannot_be_missing():
    codes = torch.as_tensor(IDS.codes[None, :2])
    with pytest.raises(StudyError, match="has no masks, so no modality can be missing"):
        generator().read(codes, torch.tensor([2]), missing=[0])
