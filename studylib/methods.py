"""What a method is called and how it is drawn: one table for all tables and figures.

Colours are Okabe and Ito's and one of Tol's, which colour-blind readers tell apart; the kinds differ in hatching too,
for grey print.
"""

from dataclasses import dataclass, replace

from studylib.encoders.registry import ENCODERS

COLOURS = {
    "text": "#0072B2",
    "ocr": "#D55E00",
    "contrast": "#F0B38A",
    "image": "#009E73",
    "index": "#56B4E9",
    "features": "#CC79A7",
    "fused": "#E69F00",
    "collaborative": "#882255",
    "control": "#999999",
    "baseline": "#F0E442",
}
HATCHES = {
    "text": "",
    "ocr": "//",
    "contrast": "/-",
    "image": "..",
    "index": "\\\\",
    "features": "oo",
    "fused": "++",
    "collaborative": "||",
    "control": "xx",
    "baseline": "--",
}
KIND_NAMES = {
    "text": "text encoder",
    "ocr": "text as a picture, OCR encoder",
    "contrast": "looks at the page, no rival",
    "image": "product picture",
    "index": "published Semantic IDs",
    "features": "ready features",
    "fused": "text and picture",
    "collaborative": "with collaborative codes",
    "control": "control",
    "baseline": "baseline without content",
}
NO_RIVALS = ("control", "contrast")
BESIDE = (*NO_RIVALS, "baseline")  # kinds that stand beside rows with content, and are not chosen among them


@dataclass(frozen=True)
class Method:
    """``label`` for people, ``kind`` a key of COLOURS, ``paper`` the row of 000's tables that it stands beside.

    A ``"contrast"`` looks at pages and is no rival of a reader, for it has words alone, or none, or is another layer of
    a row's network. ``seedless``: it counts and draws nothing, so that every seed gives the same.
    """

    label: str
    kind: str
    paper: str | None = None
    seedless: bool = False


METHODS = {
    "minilm": Method("MiniLM-L6", "text"),
    "mpnet": Method("MPNet-base", "text"),
    "smollm2": Method("SmolLM2-135M", "text"),
    "features:clip_text_512": Method("CLIP text", "text"),
    "clip-text": Method("CLIP ViT-L/14 text", "text"),
    "llama-3.1-8b": Method("LLaMA-3.1-8B", "text"),
    "flan-t5-xl": Method("Flan-T5-XL", "text"),
    "sentence-t5-base": Method("Sentence-T5-base", "text"),
    "ppocr-v6": Method("PP-OCRv6", "ocr"),
    "ppocr-v4": Method("PP-OCRv4", "ocr"),
    "ppocr-v6-backbone": Method("PP-OCRv6, backbone", "contrast"),
    "ppocr-v4-backbone": Method("PP-OCRv4, backbone", "contrast"),
    "easyocr-crnn": Method("EasyOCR CRNN", "ocr"),
    "craft": Method("CRAFT (page)", "contrast"),
    "donut-base": Method("Donut-base", "ocr"),
    "trocr-base-printed": Method("TrOCR-base", "ocr"),
    "deepseek-ocr": Method("DeepSeek-OCR", "ocr"),
    "deepseek-ocr-2": Method("DeepSeek-OCR-2", "ocr"),
    "efficientnet-lite0": Method("EfficientNet-Lite0", "image"),
    "features:clip_image_512": Method("CLIP image", "image"),
    "clip-vit-l14": Method("CLIP ViT-L/14", "image"),
    "dinov2-s14": Method("DINOv2-S/14", "image"),
    "index:index_lemb_unique": Method("LLaMA text (published IDs)", "index", "text"),
    "index:index_lemb": Method("LLaMA text (published IDs, colliding)", "index", "text"),
    "index:index_vitemb": Method("CLIP image (published IDs)", "index"),
    "index:index_text": Method("true text group", "index"),
    "index:index_image": Method("true image group", "index"),
    "index:index_hidden": Method("true hidden group", "index"),
    "collaborative": Method("SASRec items", "collaborative"),
    "transcript-minilm": Method("PP-OCRv6 transcript, MiniLM-L6", "contrast"),
    "pixels": Method("raw pixels 64x64", "control"),
    "random-crnn": Method("CRNN, random weights", "control"),
    "random": Method("random IDs", "control"),
    "popularity": Method("popularity", "baseline", seedless=True),
    "item-knn": Method("item-kNN", "baseline", seedless=True),
    "sasrec": Method("SASRec", "baseline"),
    "gru4rec": Method("GRU4Rec", "baseline"),
}


def method(features: str, generator: str = "tiger") -> Method:
    """The method behind a trial's features and generator; what is not listed keeps its own name.

    >>> method("shuffled:minilm").label, method("none", "item-knn").seedless
    ('MiniLM-L6, rows shuffled', True)
    >>> method("index:mine").kind, method("features:mine").kind, method("ppocr-v6-backbone").kind
    ('index', 'features', 'contrast')
    """
    name = generator if features == "none" else features
    if "+" in name:
        parts = [method(part) for part in name.split("+")]
        kinds = {part.kind for part in parts}  # with one half that says nothing the whole is a control
        kind = next((kind for kind in ("control", "collaborative") if kind in kinds), "fused")
        return Method(" + ".join(part.label for part in parts), kind)
    if name in METHODS:
        found = METHODS[name]
        return replace(found, paper=found.kind) if found.kind in ("text", "ocr") else found
    if name.startswith("shuffled:"):
        return Method(f"{method(name.removeprefix('shuffled:')).label}, rows shuffled", "control")
    if name.startswith(("index:", "features:")):
        return Method(name, name.split(":")[0])
    return Method(name, ENCODERS[name].kind if name in ENCODERS else "baseline")
