"""Pretrained encoders by name, and the controls that stand beside them."""

from studylib.encoders.embeddings import Embeddings, embed

__all__ = ["Embeddings", "embed"]
