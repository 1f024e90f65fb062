"""Our generator's weights in transformers' T5, to hold the two against each other (tests and ``study bench``)."""

import torch
from torch import Tensor

from studylib.models.generator import START
from studylib.models.positions import BUCKETS, MAX_DISTANCE
from studylib.models.tiger import Tiger


def to_t5(model: Tiger):
    """A ``T5ForConditionalGeneration`` with the same weights, dropout and vocabulary as ``model``.

    Its logits equal ours if our encoder is bidirectional and our softmax runs over the vocabulary.
    """
    from transformers import T5Config, T5ForConditionalGeneration

    size = model.size
    config = T5Config(
        vocab_size=model.vocabulary,
        d_model=size.d_model,
        d_kv=size.d_head,
        d_ff=size.d_ff,
        num_layers=size.encoder_layers,
        num_decoder_layers=size.decoder_layers,
        num_heads=size.heads,
        relative_attention_num_buckets=BUCKETS,
        relative_attention_max_distance=MAX_DISTANCE,
        dropout_rate=model.dropout.threshold / 256,
        feed_forward_proj="relu",
        tie_word_embeddings=False,
        pad_token_id=START,
        decoder_start_token_id=START,
        eos_token_id=None,
    )
    theirs = T5ForConditionalGeneration(config)
    # tie_word_embeddings=False only stops the scaling of the outputs: transformers 5 ties the tables all the same.
    theirs.lm_head.weight = torch.nn.Parameter(model.head.weight.detach().clone())
    missing, unexpected = theirs.load_state_dict(dict(_renamed(model)), strict=False)
    if unexpected or set(missing) - {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"}:
        raise ValueError(f"transformers' T5 has other weights than expected: missing {missing}, unknown {unexpected}")
    return theirs


def _renamed(model: Tiger):
    """Pairs of transformers' names and our weights."""
    for name in ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"):
        yield name, model.embedding.weight
    yield "lm_head.weight", model.head.weight
    for stack in ("encoder", "decoder"):
        positions: Tensor = getattr(model, f"{stack}_positions").weight
        yield f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight", positions
        yield f"{stack}.final_layer_norm.weight", getattr(model, f"{stack}_norm").weight
        for number, layer in enumerate(getattr(model, stack)):
            place = f"{stack}.block.{number}.layer"
            yield from _attention(f"{place}.0.SelfAttention", layer.attention)
            yield f"{place}.0.layer_norm.weight", layer.norm_attention.weight
            last = 1
            if stack == "decoder":
                yield from _attention(f"{place}.1.EncDecAttention", layer.cross)
                yield f"{place}.1.layer_norm.weight", layer.norm_cross.weight
                last = 2
            yield f"{place}.{last}.DenseReluDense.wi.weight", layer.feed_forward[0].weight
            yield f"{place}.{last}.DenseReluDense.wo.weight", layer.feed_forward[3].weight
            yield f"{place}.{last}.layer_norm.weight", layer.norm_feed_forward.weight


def _attention(place: str, attention):
    key, value = attention.key_value.weight.chunk(2)
    for name, weight in (("q", attention.query.weight), ("k", key), ("v", value), ("o", attention.output.weight)):
        yield f"{place}.{name}.weight", torch.clone(weight)
