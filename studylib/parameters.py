"""The parameters that notebooks take, and what is wrong with given ones; the trials that they ask for: notebook.py.

Papermill takes a misspelt parameter silently and passes YAML's ``1e-3`` as text. So every notebook's parameters are
fields of one model; a name that another notebook uses is allowed, for one file of parameters serves all.
"""

from pydantic import Field, ValidationInfo, field_validator, model_validator

from studylib.ablations import Choice, choices, is_choice
from studylib.config import BUDGETS
from studylib.data.planted import knobs_of
from studylib.methods import METHODS
from studylib.settings import Settings

# The table (studylib/ablations.py) of rows that are not called like it.
TABLE_OF = {
    "fused_shapes": "shapes",
    "fused_pages": "pages",
    "rivals": "tokenizers",
    "freely": "late",
    "late_as_mscgrec": "late",
}


class Fields(Settings):
    """All parameters that any notebook takes."""

    data: str = "planted"
    datasets: tuple[str, ...] = ()
    ranked: tuple[str, ...] = ()
    features: tuple[str, ...] = ("minilm", "ppocr-v6")
    reference: str = "minilm"
    codes: int = Field(256, ge=2)
    tokenizer: dict[str, str | int | float | bool] = Field(default_factory=dict)
    seeds: int = Field(3, ge=1, le=100)
    fewer_seeds: dict[str, int] = Field(default_factory=dict)
    more_seeds: dict[str, int] = Field(default_factory=dict)
    budget: str = "cpu"
    generator: dict[str, str | int | float | bool] = Field(default_factory=dict)
    baselines: dict[str, dict[str, str | int | float | bool]] = Field(
        default_factory=lambda: {"item-knn": {}, "sasrec": {}, "gru4rec": {}, "popularity": {}}
    )
    tokenizers: tuple[str, ...] = ("residual-kmeans",)
    encoders: tuple[str, ...] = ("minilm",)
    shapes: tuple[str, ...] = ("3x256",)
    collisions: tuple[str, ...] = ("dedup",)
    generators: tuple[str, ...] = ("base",)
    texts: tuple[str, ...] = ("minilm", "ppocr-v6")
    image: str = "efficientnet-lite0"
    stand_ins: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    placeholders: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    early: tuple[str, ...] = ("gate",)
    late: tuple[str, ...] = ("A",)
    freely: tuple[str, ...] = ()
    true_codes: tuple[str, ...] = ()
    late_as_mscgrec: tuple[str, ...] = ()
    fused_shapes: tuple[str, ...] = ()
    resized: tuple[str, ...] = ("ppocr-v6", "pixels")
    pages: tuple[str, ...] = Field(("1024", "256"), min_length=2)
    fusions: tuple[str, ...] = ("gate",)
    fused_pages: tuple[str, ...] = ()
    readers: tuple[str, ...] = ("ppocr-v6", "pixels")
    varied: tuple[str, ...] = ()
    encoder: str = "ppocr-v6"
    item: int = Field(0, ge=0)
    user: int = Field(0, ge=0)
    modalities: tuple[str, ...] = ("minilm", "efficientnet-lite0", "collaborative")
    target: str = "collaborative"
    mscgrec: tuple[str, ...] = Field(("full", "t5-positions", "unconstrained", "masked"), min_length=1)
    stacked_generator: dict[str, str | int | float | bool] = Field(default_factory=dict)
    knobs: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ("letter", "cost")
    ledger: str = "claims"
    lines: int = Field(20, ge=0, le=10_000)
    jobs: int = Field(0, ge=0)
    engine: str = ""
    train: bool = True

    @model_validator(mode="before")
    @classmethod
    def _its_own_data(cls, given: dict) -> dict:
        """Without ``datasets`` a notebook of several looks at ``data`` alone."""
        return given if given.get("datasets") else given | {"datasets": (given.get("data", "planted"),)}

    @field_validator("budget")
    @classmethod
    def _budget(cls, value: str) -> str:
        if value not in BUDGETS:
            raise ValueError(f"must be one of {', '.join(BUDGETS)}")
        return value

    @field_validator("knobs")
    @classmethod
    def _knobs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not knobs_of(name).crossed:  # the ideal reader of 08 is known for these alone
                raise ValueError(f"{name}: groups that do not cross; add crossed=4,items=64 to the knobs")
        return value

    @field_validator("true_codes")
    @classmethod
    def _of_both(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value and (len(value) != 2 or not all(name.startswith("index:") for name in value)):
            raise ValueError("name two ready IDs, the text's and the picture's: index:index_text, index:index_image")
        return value

    @field_validator("stacked_generator")
    @classmethod
    def _not_the_rows_own(cls, value: dict) -> dict:
        if own := {"softmax", "positions", "masking"} & set(value):
            raise ValueError(f"{', '.join(sorted(own))}: in this the rows of mscgrec differ; choose among them there")
        return value

    @model_validator(mode="after")
    def _written(self):
        rows = [*self.chosen("mscgrec").values()]
        if rows[0].fusion != "stacked":
            raise ValueError("mscgrec: the others are held against the first; begin with one that reads all modalities")
        for choice in rows:
            if choice.target and (choice.target == self.target or choice.target not in self.modalities):
                others = ", ".join(name for name in self.modalities if name != self.target)
                raise ValueError(f"mscgrec: {choice.names[0]} is not one of the other modalities; choose from {others}")
        return self

    @field_validator(
        "tokenizers", "shapes", "collisions", "generators", "early", "late", "fusions", "pages", "mscgrec", *TABLE_OF
    )
    @classmethod
    def _choices(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        choices(TABLE_OF.get(info.field_name, info.field_name), value)
        return value

    @field_validator("fused_pages")
    @classmethod
    def _some_pages(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if other := set(value) - set(info.data.get("pages", value)):
            raise ValueError(f"{', '.join(sorted(other))}: none of pages, on which the reader is alone; add it there")
        return value

    @model_validator(mode="after")
    def _rows(self):
        for name, rows in self:
            if isinstance(rows, tuple) and len(set(rows)) < len(rows):
                raise ValueError(f"{name} must differ from each other")
        if self.late_as_mscgrec and not self.stacked_generator:
            raise ValueError(
                "late_as_mscgrec: its rows have the settings of stacked_generator, which is empty; fill it"
            )
        # Rows as MSCGRec are called like those of ``late``, so all of them go by the list's name.
        rows_here = {row for _, rows in self if isinstance(rows, tuple) for row in rows} | {"late_as_mscgrec"}
        for name in ("fewer_seeds", "more_seeds"):
            for row, seeds in getattr(self, name).items():
                # One file of parameters serves all notebooks, so a row may be another notebook's.
                if row not in rows_here and not _is_method(row) and not is_choice(row):
                    raise ValueError(f"{name}: no row is called {row!r}; write it as in the lists of rows")
                if seeds < 1:
                    raise ValueError(f"{name}: {row} needs one seed at least, not {seeds}")
        return self

    def chosen(self, table: str) -> dict[str, Choice]:
        """The choices that a list of rows names, by name."""
        return choices(TABLE_OF.get(table, table), getattr(self, table))


def _is_method(row: str) -> bool:
    """Is it what codes are made from, perhaps written or masked by a row of MSCGRec (``writing:minilm``)?

    >>> [_is_method(row) for row in ("minilm", "shuffled:minilm", "writing:features:mine", "index:mine", "minilmm")]
    [True, True, True, True, False]
    """
    name = row.removeprefix("writing:").removeprefix("masked:").removeprefix("shuffled:")
    return name in METHODS or name.startswith(("features:", "index:"))
