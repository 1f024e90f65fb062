"""Encoders of whole pictures: product photographs, and pages for the OCR encoders that read a page at once."""

import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from struct import error as StructError

import numpy as np
from jaxtyping import Float
from PIL import Image

from studylib.data.dataset import LARGEST_PICTURE
from studylib.encoders import pretrained
from studylib.errors import StudyError
from studylib.files import check_regular
from studylib.render import RenderedPage

LARGEST = 40_000_000  # pixels; a product picture beyond it is a mistake or an attack
BATCH = 8
# What Pillow raises for damaged files, by which part of them is damaged.
UNREADABLE = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, KeyError, StructError, zlib.error,
    Image.DecompressionBombError,
)  # fmt: skip
Rows = Callable[[Sequence], Float[np.ndarray, "items dims"]]


def read_picture(file: Path) -> Image.Image:
    """An RGB picture, transparency on white.

    Raises:
        StudyError: not a picture that can be read, or larger than ``LARGEST`` pixels.
    """
    check_regular(file, "replace it with a JPEG or PNG, or a link to one", LARGEST_PICTURE)
    try:
        # Warnings are of odd metadata, which nothing here reads, and of sizes, which are judged below.
        with warnings.catch_warnings(action="ignore"), Image.open(file, formats=("JPEG", "PNG")) as picture:
            width, height = picture.size
            if width * height <= LARGEST:
                return _on_white(picture)
    except UNREADABLE as error:
        raise StudyError(f"{file}: not a picture that can be read ({error}); replace it with a JPEG or PNG") from None
    raise StudyError(f"{file}: {width} x {height} pixels, more than {LARGEST}; make it smaller")


def _on_white(picture: Image.Image) -> Image.Image:
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")


def efficientnet_lite0(file: Path) -> Rows:
    """EfficientNet-Lite0 before its classifier: 1280 numbers a picture, fitted into 224 x 224 on white."""
    import timm
    import torch

    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    wanted = model.state_dict()
    given = pretrained.plain_weights(file)
    # The file names its layers differently, in the same order: shapes, position by position, are the check.
    shapes = [[tuple(value.shape) for value in state.values()] for state in (wanted, given)]
    if shapes[0] != shapes[1]:
        raise StudyError(
            f"{file}: its layers do not match timm's tf_efficientnet_lite0; use efficientnet-lite0-57934424"
        )
    model.load_state_dict(dict(zip(wanted, given.values(), strict=True)))
    model.eval().to(pretrained.device())

    def rows(files):
        found = []
        for start in range(0, len(files), BATCH):
            pixels = np.stack([_fitted(read_picture(path), 224) for path in files[start : start + BATCH]])
            batch = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)
            with torch.inference_mode():
                features = model.forward_features(batch.to(pretrained.device()))
                found.append(model.forward_head(features, pre_logits=True).cpu().numpy())
        return np.concatenate(found)

    return rows


def clip_vision(folder: Path) -> Rows:
    """CLIP's projected picture embedding."""
    return _hub_rows(folder, "CLIPVisionModelWithProjection", lambda out: out.image_embeds)


def class_token(folder: Path) -> Rows:
    """The class token of the last layer (DINOv2)."""
    return _hub_rows(folder, "Dinov2Model", lambda out: out.last_hidden_state[:, 0])


def donut(folder: Path) -> Rows:
    """Donut's encoder over a page: mean of all tokens."""
    return _hub_rows(folder, "VisionEncoderDecoderModel", _mean_from(0), encoder_only=True)


def trocr(folder: Path) -> Rows:
    """TrOCR's encoder over a page: mean of all tokens but the class token."""
    return _hub_rows(folder, "VisionEncoderDecoderModel", _mean_from(1), encoder_only=True)


def deepseek_ocr(folder: Path, side: int = 1024) -> Rows:
    """DeepSeek-OCR v1: vision tokens through the projector, token mean; its own code, so only if the user trusts it."""
    import torch

    if pretrained.trusted_revision() is None:
        raise StudyError(
            f"{folder}: deepseek-ocr runs code of its repository; read it, then set {pretrained.TRUST} to that commit"
        )
    whole = pretrained.load("AutoModel", folder, trust_remote_code=True, dtype="auto")
    model = getattr(whole, "model", whole)

    def rows(pages):
        found = []
        for page in pages:
            pixels = np.asarray(_picture(page).resize((side, side)), dtype=np.float32) / 127.5 - 1
            batch = torch.from_numpy(pixels.transpose(2, 0, 1)[None]).to(whole.device, whole.dtype)
            with torch.inference_mode():
                local = model.sam_model(batch)
                wide = model.vision_model(batch, local)
                tokens = torch.cat([wide[:, 1:], local.flatten(2).permute(0, 2, 1)], dim=-1)
                found.append(model.projector(tokens).mean(1).float().cpu().numpy())
        return np.concatenate(found)

    return rows


def deepseek_ocr2(folder: Path) -> Rows:
    """DeepSeek-OCR-2, native in transformers: mean of the projected tokens of the whole page."""
    import torch

    model = pretrained.load("DeepseekOcr2ForConditionalGeneration", folder, dtype="auto")
    processor = pretrained.load("AutoImageProcessor", folder)

    def rows(pages):
        found = []
        for page in pages:
            inputs = processor(images=[_picture(page)], return_tensors="pt")
            pixels = inputs["pixel_values"].to(model.device, model.dtype)
            with torch.inference_mode():
                tokens = model.get_image_features(pixel_values=pixels).pooler_output[0]
            found.append(tokens.mean(0).float().cpu().numpy())
        return np.stack(found)

    return rows


def _mean_from(first: int) -> Callable:
    return lambda out: out.last_hidden_state[:, first:].mean(1)


def _hub_rows(folder: Path, family: str, vector: Callable, encoder_only: bool = False) -> Rows:
    import torch

    model = pretrained.load(family, folder)
    model = model.encoder if encoder_only else model
    processor = pretrained.load("AutoImageProcessor", folder)

    def rows(pictures):
        found = []
        for start in range(0, len(pictures), BATCH):
            images = [_picture(one) for one in pictures[start : start + BATCH]]
            pixels = processor(images=images, return_tensors="pt")["pixel_values"].to(model.device)
            with torch.inference_mode():
                found.append(vector(model(pixel_values=pixels)).float().cpu().numpy())
        return np.concatenate(found)

    return rows


def _picture(one: RenderedPage | Path) -> Image.Image:
    return one.image.convert("RGB") if isinstance(one, RenderedPage) else read_picture(one)


def _fitted(picture: Image.Image, side: int) -> Float[np.ndarray, "side side 3"]:
    scale = side / max(picture.size)
    size = tuple(max(1, round(edge * scale)) for edge in picture.size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(picture.resize(size, Image.Resampling.BICUBIC), tuple((side - edge) // 2 for edge in size))
    return np.asarray(square)
