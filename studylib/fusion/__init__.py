"""Several modalities of one item: a common width, one vector of two (early), one ID of two (late)."""

from studylib.fusion.projection import project

__all__ = ["project"]
