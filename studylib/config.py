"""What a trial is: frozen, validated settings, and the three budgets. A setting that is not here does not exist."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from studylib.errors import StudyError
from studylib.files import shown
from studylib.render import Page
from studylib.settings import Settings, checked, later


class TokenizerSettings(Settings):
    """How projected, normalised embeddings become codes (000, section 4.1.2: L 3, K 256, d 128).

    ``none``: the IDs are ready (``index:``), or the trial is a baseline that has none.
    """

    name: Literal["residual-kmeans", "r-vq", "rq-vae", "letter", "cost", "opq", "balanced-kmeans", "none"] = (
        "residual-kmeans"
    )
    levels: int = Field(3, ge=1, le=16)
    codes: int = Field(256, ge=2, le=65536)
    dims: int = Field(128, ge=2, le=65536)
    iterations: int = Field(25, ge=1, le=10_000)  # of k-means and OPQ; passes over the items of R-VQ and RQ-VAE
    normalise_residuals: bool = False  # 002: "Residuals are normalized (RK-Means, R-VQ)"
    collisions: Literal["dedup", "sinkhorn", "matching", "none"] = "dedup"
    collapse: float = later(0.5, ge=0, le=1)  # least share of level 1's codes in use; less is an error
    update: Literal["ema", "gradient"] = later("ema")  # R-VQ: moving averages, or Adam
    decay: float = later(0.95, ge=0, lt=1)  # R-VQ: of the moving averages, a batch
    lr: float = later(1e-3, gt=0, le=10)  # R-VQ by gradient, RQ-VAE and its relatives; 002 takes 1e-3
    batch: int = later(512, ge=1, le=10**6)  # R-VQ, RQ-VAE, LETTER, CoST: items
    latent: int = later(64, ge=1, le=65536)  # RQ-VAE, LETTER, CoST: width of what is quantised
    hidden: int = later(256, ge=1, le=65536)  # RQ-VAE, LETTER, CoST: width of the MLPs' hidden layer
    alignment: float = later(0.02, ge=0, le=1000)  # LETTER: weight of agreement with SASRec's item embeddings
    diversity: float = later(1e-4, ge=0, le=1000)  # LETTER: weight of the codebooks' evenness
    clusters: int = later(10, ge=1, le=65536)  # LETTER: groups of codes at each level
    contrast: float = later(0.1, ge=0, le=1000)  # CoST: weight of telling an item from the others of its batch
    contrast_temperature: float = later(0.1, gt=0, le=100)  # CoST: of the softmax over them
    leading: int = later(0, ge=0, le=16)  # ready IDs that are fused late: levels that are read of each; 0: all

    @model_validator(mode="after")
    def _read(self):
        """Refuse a setting that the tokenizer does not read: it would be believed to have done something."""
        for name in _READ_BY_SOME:
            if name not in READS.get(self.name, ()) and getattr(self, name) != type(self).model_fields[name].default:
                if name == "leading":
                    raise ValueError("leading is read of ready IDs (index:) alone: leave it out, or set levels")
                readers = ", ".join(tokenizer for tokenizer, read in READS.items() if name in read)
                raise ValueError(f"{name} is read by {readers}, not by {self.name}: leave it out")
        return self


_NETWORK = ("lr", "batch", "latent", "hidden")
READS = {  # beside levels, codes and iterations, which every tokenizer reads; each fits by these names
    "residual-kmeans": ("normalise_residuals",),
    "balanced-kmeans": ("normalise_residuals",),
    "r-vq": ("normalise_residuals", "update", "decay", "lr", "batch"),
    "rq-vae": _NETWORK,
    "letter": (*_NETWORK, "alignment", "diversity", "clusters"),
    "cost": (*_NETWORK, "contrast", "contrast_temperature"),
    "none": ("leading",),
}
_READ_BY_SOME = tuple(dict.fromkeys(name for read in READS.values() for name in read))


class TigerSettings(Settings):
    """The generator and its training. See BUDGETS: a default here is what trials had that do not name the setting."""

    name: Literal["tiger"] = "tiger"
    d_model: int = Field(96, ge=4, le=16384)
    d_ff: int = Field(384, ge=4, le=65536)
    encoder_layers: int = Field(2, ge=1, le=128)
    decoder_layers: int = Field(2, ge=1, le=128)
    heads: int = Field(4, ge=1, le=256)
    d_head: int = Field(24, ge=2, le=1024)
    training: Literal["one-pass", "windows"] = "one-pass"
    softmax: Literal["level", "vocabulary", "tree"] = "level"  # tree: 001, Eq. 6
    history: int = Field(50, ge=1, le=10_000)  # items; 000, section 4.1.2
    dropout: float = Field(0.1, ge=0, lt=1)
    epochs: int = Field(40, ge=1, le=1_000_000)
    targets: int = Field(1_700_000, ge=1, le=10**12)  # bound over all epochs: a large data set gets fewer of them
    targets_per_step: int = Field(128, ge=1, le=10**6)
    lr: float = Field(2e-3, gt=0, le=10)
    warmup: float = Field(0.1, ge=0, lt=1)  # share of all steps
    weight_decay: float = Field(0.05, ge=0, le=100)
    validate_every: int = Field(2, ge=1, le=10**6)  # epochs
    validation_users: int = Field(2000, ge=1, le=10**9)  # a fixed sample; every user when there are fewer
    patience: int = Field(6, ge=1, le=10**6)  # validations without a better Recall@10
    beams: int = Field(20, ge=20, le=10_000)  # every table has Recall@20
    search: Literal["tree", "free", "exact"] = "tree"  # exact: a beam an item, for small catalogues or few users
    architecture: Literal["encoder-decoder", "decoder-only"] = later("encoder-decoder")
    # Every item a target; a user's last one only; every item of the sequence and of the sequence backwards.
    augmentation: Literal["every", "none", "both-ways"] = later("every")
    user_tokens: int = later(0, ge=0, le=10**6)
    alignment: int = later(0, ge=0, le=10**9)  # steps of translation between modalities before training (000, Eq. 11)
    alignment_lr: float = later(1e-4, gt=0, le=10)  # 000, section 4.1.2: 2,000 steps at 1e-4
    # Two-part: across items and within one (001, section 3.3); past: none of its bins for items ahead (one pass).
    positions: Literal["t5", "two-part", "two-part-past"] = later("t5")
    cross_positions: Literal["none", "items"] = later("none")  # the decoder's bias by how many items back
    temperature: float = later(1.0, gt=0, le=100)  # of the softmax in the loss: LETTER's ranking-guided one is below 1
    masking: float = later(0.0, ge=0, le=1)  # share of a history's items that lose one modality in training (001: 0.75)
    # For GPUs; on a CPU the first two are left alone (see studylib/accelerate.py).
    precision: Literal["fp32", "bf16", "fp16"] = later("fp32")
    compile: bool = later(False)
    devices: int = later(1, ge=1, le=64)  # processes that share one trial's batches

    @model_validator(mode="after")
    def _one_pass(self):
        if self.architecture == "decoder-only" and self.training != "one-pass":
            raise ValueError("a decoder-only generator reads a sequence once: set training to one-pass")
        own = self.alignment or self.masking or self.positions != "t5" or self.cross_positions != "none"
        if self.architecture == "decoder-only" and own:
            raise ValueError("alignment, masking, two-part and cross positions need an encoder: leave them out, or set "
                             "architecture to encoder-decoder")  # fmt: skip
        if self.architecture == "decoder-only" and self.d_head % 2:
            raise ValueError("d_head must be even: a decoder-only generator turns pairs of numbers by their position")
        if self.alignment and self.positions != "t5":
            raise ValueError("alignment translates with T5's positions: leave out two-part positions, or alignment")
        if self.positions == "two-part-past" and self.training != "one-pass":
            raise ValueError("two-part-past has no positions for items ahead, which sliding windows see: set positions "
                             "to two-part, or training to one-pass")  # fmt: skip
        return self


class ItemKnnSettings(Settings):
    """Co-occurrence within a window; see studylib/models/baselines.py."""

    name: Literal["item-knn"] = "item-knn"
    window: int = Field(10, ge=1, le=1000)
    last: int = Field(10, ge=1, le=1000)
    damping: float = Field(0.25, ge=0, le=1)
    recency: float = Field(0.8, gt=0, le=1)
    distance_decay: bool = True


class PopularitySettings(Settings):
    name: Literal["popularity"] = "popularity"


def planned_epochs(epochs: int, targets: int, of_an_epoch: int) -> int:
    """``epochs``, or as many of ``of_an_epoch`` targets each as ``targets`` allow, at least one.

    >>> planned_epochs(40, 1_700_000, 169_780)
    10
    """
    return max(1, min(epochs, targets // of_an_epoch))


class NextItemSettings(Settings):
    """What SASRec and GRU4Rec share; see studylib/next_item.py.

    The defaults are the first point of the grids in studylib/tuning.py; params/*.yaml name the best by data set.
    """

    d_model: int = Field(64, ge=1, le=16384)
    layers: int = Field(1, ge=1, le=128)
    history: int = Field(50, ge=1, le=10_000)  # items; 000, section 4.1.2
    dropout: float = Field(0.5, ge=0, lt=1)
    epochs: int = Field(30, ge=1, le=1_000_000)
    targets: int = Field(1_700_000, ge=1, le=10**12)  # bound over all epochs: a large data set gets fewer of them
    targets_per_step: int = Field(256, ge=1, le=10**6)
    lr: float = Field(2e-3, gt=0, le=10)
    warmup: float = Field(0.1, ge=0, lt=1)  # share of all steps
    weight_decay: float = Field(0.1, ge=0, le=100)
    validate_every: int = Field(2, ge=1, le=10**6)  # epochs; always on all validation users
    patience: int = Field(6, ge=1, le=10**6)  # validations without a better Recall@10
    augmentation: Literal["every", "none", "both-ways"] = later("every")  # as the generator's


class SasrecSettings(NextItemSettings):
    name: Literal["sasrec"] = "sasrec"
    heads: int = Field(2, ge=1, le=256)

    @model_validator(mode="after")
    def _heads(self):
        if self.d_model % self.heads:
            raise ValueError(f"heads must divide d_model: {self.d_model} is no multiple of {self.heads}")
        return self


class Gru4recSettings(NextItemSettings):
    name: Literal["gru4rec"] = "gru4rec"


GeneratorSettings = Annotated[
    TigerSettings | ItemKnnSettings | PopularitySettings | SasrecSettings | Gru4recSettings,
    Field(discriminator="name"),
]

BUDGETS: dict[str, TigerSettings] = {
    "smoke": TigerSettings(
        d_model=32, d_ff=64, encoder_layers=1, decoder_layers=1, heads=2, d_head=16, epochs=4, lr=5e-3,
        validation_users=200, cross_positions="items",
    ),
    # One pass makes the encoder causal, and then the decoder needs positions of its own (studylib/models/tiger.py).
    "cpu": TigerSettings(cross_positions="items"),
    # 002, section 4 Setup: 4 + 4 layers, 6 heads, 128 / 1024, Adam 5e-4, weight decay 1e-6, batch 256, sliding windows,
    # early stopping after 10 validations; 000, section 4.1.2: history 50, beam 20. d_head 64 is TIGER's (T5's default).
    "paper": TigerSettings(
        d_model=128, d_ff=1024, encoder_layers=4, decoder_layers=4, heads=6, d_head=64, training="windows",
        softmax="vocabulary", dropout=0.1, epochs=200, targets=1_000_000_000, targets_per_step=256, lr=5e-4,
        warmup=0.01, weight_decay=1e-6, validate_every=1, validation_users=1_000_000, patience=10,
    ),
}  # fmt: skip


# Of rows that are aligned before training (studylib/alignment.py). 000, section 4.1.2: 2,000 steps at 1e-4.
ALIGNMENT: dict[str, dict[str, int | float]] = {
    "smoke": {"alignment": 10, "alignment_lr": 1e-3},
    "cpu": {"alignment": 1000, "alignment_lr": 1e-3},
    "paper": {"alignment": 2000, "alignment_lr": 1e-4},
}


# Of early fusion's gate (studylib/fusion/early.py), which 000 does not say how to train: the rate falls to 0 by a
# cosine. `gates` of 03 says how much less of both modalities it leaves than their plain mean. Half as many steps at a
# constant rate of 1e-3 left as much as the mean (measured when this was set, and not kept).
GATE: dict[str, int | float] = {"steps": 2000, "batch": 256, "lr": 1e-2, "hidden": 128}


class Trial(Settings):
    """One training and evaluation, described completely.

    ``budget`` says where the generator's settings started from, and is a part of the trial's key.
    ``features``: an encoder's name (``shuffled:<name>``: its rows dealt to other items), ``features:<file>``,
    ``index:<name>`` (ready Semantic IDs), ``random``, or ``none`` for a baseline that reads no content; several,
    joined by ``+``, are put together as ``fusion`` says: early (mean, concatenation, gate; studylib/fusion/early.py),
    late (late, interleaved, delimited; studylib/fusion/late.py), or stacked (001: a history carries all of them,
    ``target`` alone is written). ``collaborative`` as a feature is the item embeddings of SASRec with the settings of
    that name and the trial's seed.
    """

    data: str
    features: str = "none"
    fusion: Literal["none", "mean", "concatenation", "gate", "late", "interleaved", "delimited", "stacked"] = "none"
    target: str = later("")
    collaborative: SasrecSettings = later(SasrecSettings())
    page: Page = Page()
    tokenizer: TokenizerSettings = TokenizerSettings()
    generator: GeneratorSettings = TigerSettings()
    budget: Literal["smoke", "cpu", "paper"] = "cpu"
    seed: int = Field(0, ge=0, le=2**31)

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.features.split("+"))

    @property
    def late(self) -> bool:
        return self.fusion in ("late", "interleaved", "delimited")

    @model_validator(mode="after")
    def _fusion(self):
        if len(set(self.modalities)) < len(self.modalities) and (self.late or self.fusion == "stacked"):
            raise ValueError(f"features {self.features!r}: a modality twice; name each once")
        for name in (name for name in self.modalities if name.startswith("shuffled:")):
            of = name.removeprefix("shuffled:")
            if of in ("", "none", "collaborative") or of.startswith(("index:", "shuffled:")):
                raise ValueError(
                    f"features {name!r}: only rows of embeddings are shuffled; name an encoder or features:"
                )
        if self.features != "none" and not isinstance(self.generator, TigerSettings):
            raise ValueError(f"features {self.features!r}: {self.generator.name} reads none; set features to none")
        several, indexed = len(self.modalities) > 1, [name.startswith("index:") for name in self.modalities]
        if several != (self.fusion != "none"):
            raise ValueError(
                f"fusion {self.fusion} of {len(self.modalities)} features: join several by '+' and say how, or give one"
            )
        if (self.fusion == "stacked") != (self.target in self.modalities):
            raise ValueError(
                f"target {self.target!r}: stacked fusion writes one of its features; name that, or nothing"
            )
        if several and not self.late and self.fusion != "stacked" and any(indexed):
            raise ValueError(f"fusion {self.fusion} reads embeddings, and an index has none: choose late fusion")
        if self.late and self.tokenizer.collisions not in ("dedup", "none"):
            raise ValueError("late fusion resolves collisions of the whole ID: set collisions to dedup or none")
        if self.tokenizer.leading and not self.late:
            raise ValueError("leading levels of ready IDs name no item alone: choose late fusion, or set it to 0")
        if getattr(self.generator, "alignment", 0) and not (self.late or self.fusion == "stacked"):
            raise ValueError("alignment translates between modalities: choose stacked or late fusion, or set it to 0")
        if getattr(self.generator, "masking", 0) and self.fusion not in ("stacked", "late"):
            raise ValueError("masking takes modalities away: choose stacked or late fusion, or set it to 0")
        if getattr(self.generator, "masking", 0) and self.late and self.tokenizer.collisions == "dedup":
            # That level belongs to no modality, so it is never masked, and says which item it is.
            raise ValueError("masking cannot hide the level that numbers colliding items in late fusion: set "
                             "collisions to none, or choose stacked fusion")  # fmt: skip
        if self.fusion == "stacked" and getattr(self.generator, "architecture", "") == "decoder-only":
            raise ValueError("a decoder-only generator writes all that it reads, stacked fusion one modality: set "
                             "architecture to encoder-decoder, or choose late fusion")  # fmt: skip
        return self


_KINDS = {dict: "mapping", str: "text"}


def trial(**settings) -> Trial:
    """A trial whose generator takes its budget's settings; ``generator={...}`` overrides some of them.

    Raises:
        StudyError: an unknown setting or a value out of range, with the name of the setting.

    >>> trial(data="planted", features="minilm", budget="smoke", generator={"lr": 1e-3}).generator.lr
    0.001
    """
    settings, generator = dict(settings), settings.get("generator", {})
    features, budget = settings.get("features", "none"), settings.setdefault("budget", "cpu")
    for name, value, kind in (
        ("generator", generator, dict),
        ("features", features, str),
        ("budget", budget, str),
        ("tokenizer", settings.get("tokenizer", {}), dict),
    ):
        if not isinstance(value, kind):
            raise StudyError(f"setting {name!r}: {shown(value)} is no {_KINDS[kind]}; change its value")
    if generator.get("name", "tiger") == "tiger":
        if budget not in BUDGETS:
            raise StudyError(f"budget: {shown(budget)} is none of {', '.join(BUDGETS)}; choose one of them")
        of_budget = BUDGETS[budget].model_dump()
        if generator.get("architecture") == "decoder-only":  # it has no cross-attention to give positions to
            of_budget.pop("cross_positions", None)
        settings["generator"] = of_budget | generator
    # Settings that nothing would read are put to one value, so that a trial has one description only.
    if features == "none" or all(name.startswith("index:") for name in features.split("+")):
        given = settings.get("tokenizer", {}) if "+" in features else {}  # ready indexes, too, may collide when fused
        kept = {key: value for key, value in given.items() if key in ("collisions", "leading")}
        settings["tokenizer"] = {"name": "none"} | kept
    return checked(Trial, settings)
