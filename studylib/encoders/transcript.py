"""What a recogniser of text lines reads off a page, as text: the control between OCR features and a text encoder.

PP-OCR ends in a classifier over characters at every 8 pixels, trained by CTC, with its characters in the file's own
metadata. The transcript takes the likeliest class of every place (greedy decoding), repeats and blanks left out.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from studylib.encoders import ocr, weights
from studylib.encoders.registry import ENCODERS, encoder
from studylib.errors import StudyError
from studylib.render import RenderedPage

HEIGHT = 48  # pixels of a line
BLANK = 0
READERS = ("ppocr-v6", "ppocr-v4")
Lines = list[str]


def greedy(classes: Int[np.ndarray, " tokens"], characters: Sequence[str]) -> str:
    """CTC's reading of the likeliest classes: repeats are one character, class 0 (blank) is none.

    >>> greedy(np.array([1, 1, 0, 1, 2, 2]), ["", "a", "b"])
    'aab'
    """
    first = np.append(True, classes[1:] != classes[:-1])
    return "".join(characters[place] for place in classes[first & (classes != BLANK)])


def reader(model: Path) -> Callable[[Sequence[RenderedPage]], list[Lines]]:
    """PP-OCR with its classifier: pages -> per page the text of every line, in order, ends stripped.

    Raises:
        StudyError: the file does not hold its characters, or not as many as its classifier has classes.
    """
    run, characters = ocr.session(str(model)), _characters(model)

    def likeliest(lines):
        classes = run(None, lines)[0]
        if classes.shape[2] != len(characters):
            raise StudyError(
                f"{model}: {classes.shape[2]} classes, {len(characters)} characters; use the file that rapidocr ships"
            )
        return classes.argmax(2)  # at once: a page's probabilities are 100 MB

    def read(pages):
        crops = [ocr.line_crops(drawn, HEIGHT) for drawn in pages]
        found = iter(ocr.line_tokens([crop for page in crops for crop in page], likeliest))
        return [[greedy(next(found), characters).strip() for _ in page] for page in crops]

    return read


def _characters(model: Path) -> list[str]:
    """Blank, the file's own, space: the order of PP-OCR's classes."""
    import onnx

    metadata = {entry.key: entry.value for entry in onnx.load(str(model)).metadata_props}
    if "character" not in metadata:
        raise StudyError(f"{model}: no 'character' in its metadata; use the file that rapidocr ships")
    return ["", *metadata["character"].split("\n"), " "]


def reader_named(name: str) -> Callable[[Sequence[RenderedPage]], list[Lines]]:
    """``reader`` of the encoder ``name``.

    Raises:
        StudyError: it is no recogniser with characters, or its weights are missing.
    """
    if name not in READERS:
        raise StudyError(f"{encoder(name).name}: gives no transcript; choose one of {', '.join(READERS)}")
    return reader(weights.load(ENCODERS[name]).path)


def encode(
    model: Path, then: Callable[[Sequence[str]], np.ndarray]
) -> Callable[[Sequence[RenderedPage]], Float[np.ndarray, "pages dims"]]:
    """Pages -> the rows that the text encoder ``then`` gives for their transcripts."""
    read = reader(model)
    return lambda pages: then(["\n".join(lines) for lines in read(pages)])
