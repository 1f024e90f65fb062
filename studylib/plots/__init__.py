"""Figures, drawn from tables; every function returns a figure, or draws on an axis that it is given."""

from studylib.plots.analyses import (
    ROLES,
    agreement,
    attribute_density,
    claims,
    joint_projection,
    over_knob,
    relations,
    values,
    values_by_knobs,
    what_a_page_loses,
)
from studylib.plots.common import describe, save_figure, use_style
from studylib.plots.trials import (
    by_strategy,
    changes,
    differences,
    learning_curves,
    methods,
    parts,
    strategy_panels,
    tokenizer_curves,
)

__all__ = [
    "ROLES",
    "agreement",
    "attribute_density",
    "by_strategy",
    "changes",
    "claims",
    "describe",
    "differences",
    "joint_projection",
    "learning_curves",
    "methods",
    "over_knob",
    "parts",
    "relations",
    "save_figure",
    "strategy_panels",
    "tokenizer_curves",
    "use_style",
    "values",
    "values_by_knobs",
    "what_a_page_loses",
]
