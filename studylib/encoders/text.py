"""Text encoders: transformers over the tokens of an item's text."""

import contextlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from studylib.encoders import pretrained
from studylib.encoders.registry import Encoder

BATCH = 8
LONGEST, CLIP_LONGEST = 512, 77  # tokens, special ones among them
Rows = Callable[[Sequence[str]], Float[np.ndarray, "items dims"]]


def longest(row: Encoder) -> int:
    """How many tokens of a text the text encoder ``row`` reads, special ones among them; what is longer is cut."""
    return row.options.get("longest", CLIP_LONGEST if row.backend == "text.clip_text" else LONGEST)


def masked_mean(hidden: Float[np.ndarray, "items tokens dims"], real: Bool[np.ndarray, "items tokens"]):
    """Mean over the real tokens of every text.

    >>> masked_mean(np.array([[[1.0], [3.0], [100.0]]]), np.array([[True, True, False]]))
    array([[2.]])
    """
    weights = real[..., None].astype(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1).clip(1)


def unit_rows(matrix: Float[np.ndarray, "items dims"]) -> Float[np.ndarray, "items dims"]:
    """Every row divided by its length; a row of zeros stays."""
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True).clip(1e-12)


def token_mean(folder: Path, family: str = "AutoModel", longest: int = LONGEST, dtype: str = "float32") -> Rows:
    """Masked mean of the last hidden state, texts cut after ``longest`` tokens (LLaMA, Flan-T5)."""
    model = pretrained.load(family, folder, dtype=dtype)
    tokenizer = _tokenizer(folder)
    return _means(model, tokenizer, min(longest, _room(model, tokenizer)))


def _room(model, tokenizer) -> int:
    """Tokens that the model has positions for; the tokenizer's limit where it learned none (T5, LLaMA)."""
    from torch.nn import Embedding

    for name, table in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(table, Embedding):
            # RoBERTa and its heirs count from the number after the padding token's.
            unused = 0 if table.padding_idx is None else table.padding_idx + 1
            return min(table.num_embeddings - unused, tokenizer.model_max_length)
    return tokenizer.model_max_length


def unit_token_mean(folder: Path, family: str = "AutoModel", longest: int = LONGEST) -> Rows:
    """Masked mean, then rows of length one, as sentence-transformers does (MiniLM 256 tokens, MPNet 384)."""
    means = token_mean(folder, family, longest)
    return lambda texts: unit_rows(means(texts))


def gguf_token_mean(file: Path, longest: int = LONGEST) -> Rows:
    """Masked mean of a GGUF language model without its token 0, which attends to nothing and drowns the others."""
    with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that has no switch; errors still raise
        model = pretrained.load("AutoModel", file.parent, gguf_file=file.name)
    return _means(model, _tokenizer(file.parent, gguf_file=file.name), longest, first=1)


def clip_text(folder: Path) -> Rows:
    """CLIP's projected text embedding; texts are cut after the 77 tokens that it knows."""
    import torch

    model = pretrained.load("CLIPTextModelWithProjection", folder)
    tokenizer = _tokenizer(folder)
    longest = model.config.max_position_embeddings

    def rows(texts):
        tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        with torch.inference_mode():
            return model(**tokens.to(model.device)).text_embeds.float().cpu().numpy()

    return rows


def _tokenizer(folder: Path, **options):
    tokenizer = pretrained.load("AutoTokenizer", folder, **options)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # LLaMA has none; padding is masked, so any token does
    return tokenizer


def _means(model, tokenizer, longest: int, first: int = 0) -> Rows:
    import torch

    def rows(texts):
        order = sorted(range(len(texts)), key=lambda place: (len(texts[place]), place))  # little padding in a batch
        found: list[np.ndarray | None] = [None] * len(texts)
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            tokens = tokenizer(
                [texts[place] for place in batch],
                padding=True,
                truncation=True,
                max_length=longest,
                return_tensors="pt",
            ).to(model.device)
            with torch.inference_mode():
                hidden = model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
            real = tokens.attention_mask.bool().cpu().numpy()
            if first:
                real[:, :first] &= real.sum(1, keepdims=True) <= first  # a text of one token keeps it
            for place, row in zip(batch, masked_mean(hidden.float().cpu().numpy(), real), strict=True):
                found[place] = row
        return np.stack(found)

    return rows
