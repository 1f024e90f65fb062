"""Recognisers of text lines, run over the lines of a page: PP-OCR through onnxruntime.

A page becomes its lines (the renderer knows where they are, so no detector is needed), a line becomes tokens, one for
every 8 pixels at height 48, and a page vector is the mean and the standard deviation over the tokens of all its lines.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image

from studylib.render import RenderedPage

STEP = 32  # pixels; a line is padded with paper to a multiple of it, alone or in a batch, so both give the same tokens
BATCH = 8  # lines; more gains nothing on one core
PAPER = 255

Tokens = Float[np.ndarray, "tokens dims"]


def line_crops(drawn: RenderedPage, height: int) -> list[np.ndarray]:
    """The page's lines as uint8 [height, width], width a multiple of ``STEP``, filled up with paper on the right."""
    crops = []
    for left, top, right, bottom in drawn.boxes:
        line = drawn.image.crop((left, top, right, bottom))
        width = max(1, round(line.width * height / line.height))
        pixels = np.asarray(line.resize((width, height), Image.Resampling.BILINEAR))
        crops.append(np.pad(pixels, ((0, 0), (0, -width % STEP)), constant_values=PAPER))
    return crops


def line_tokens(crops: Sequence[np.ndarray], recognise: Callable[[np.ndarray], np.ndarray]) -> list[Tokens]:
    """Tokens of every crop; crops of equal width go through ``recognise`` together, at most ``BATCH`` at a time.

    ``recognise`` maps [lines, height, width] in -1..1 to [lines, tokens, dims].
    """
    tokens: list[Tokens | None] = [None] * len(crops)
    by_width: dict[int, list[int]] = {}
    for place, crop in enumerate(crops):
        by_width.setdefault(crop.shape[1], []).append(place)
    for places in by_width.values():
        for start in range(0, len(places), BATCH):
            batch = places[start : start + BATCH]
            found = recognise(np.stack([crops[place] for place in batch]).astype(np.float32) / 127.5 - 1)
            for place, line in zip(batch, found, strict=True):
                tokens[place] = line
    return tokens


def page_vectors(
    pages: Sequence[RenderedPage], recognise: Callable[[np.ndarray], np.ndarray], height: int
) -> Float[np.ndarray, "pages twice_dims"]:
    """Mean and standard deviation over all tokens of all lines, side by side, one row a page."""
    crops = [line_crops(drawn, height) for drawn in pages]
    tokens = line_tokens([crop for page in crops for crop in page], recognise)
    vectors, start = [], 0
    for page in crops:
        together = np.concatenate(tokens[start : start + len(page)]).astype(np.float64)
        vectors.append(np.concatenate([together.mean(0), together.std(0)]))
        start += len(page)
    return np.array(vectors, dtype=np.float32)


def ppocr(model: Path) -> Callable[[Sequence[RenderedPage]], np.ndarray]:
    """PP-OCR recogniser: pages -> [pages, 2 x (120 + backbone dims)]: means of neck and backbone, then deviations."""
    recognise = ppocr_recogniser(model)
    return lambda pages: page_vectors(pages, recognise, height=48)


def ppocr_recogniser(model: Path) -> Callable[[np.ndarray], np.ndarray]:
    """[lines, 48, width] -> [lines, width / 8, 120 + backbone dims].

    The neck's 120 are what the last MatMul, the classifier, is given; the backbone's follow, from its last pooling.
    The classifier itself, over up to 18,710 characters, is cut off, which saves a sixth of the time.
    """
    import onnx

    graph = onnx.load(str(model))
    nodes = list(graph.graph.node)
    last = max(place for place, node in enumerate(nodes) if node.op_type == "MatMul")
    neck = nodes[last].input[0]
    backbone = [node.output[0] for node in nodes if node.op_type == "AveragePool"][-1]
    del graph.graph.node[last:]
    del graph.graph.output[:]
    for output in (neck, backbone):
        graph.graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None))
    run = session(graph.SerializeToString())

    def recognise(lines):
        sequence, pooled = run([neck, backbone], lines)
        return np.concatenate([sequence, pooled[:, :, 0].transpose(0, 2, 1)], axis=2)

    return recognise


def session(model: str | bytes) -> Callable[[list[str] | None, np.ndarray], list[np.ndarray]]:
    """A recogniser on one thread, from a file or a serialised graph: outputs by name (None: all), lines -> arrays."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # else a warning for every weight of a classifier that was cut off
    found = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = found.get_inputs()[0].name
    # Black on white is the same in every colour order.
    return lambda outputs, lines: found.run(outputs, {name: np.repeat(lines[:, None], 3, axis=1)})
