"""EasyOCR's networks: its CRNN over text lines, with trained or random weights, and its CRAFT over whole pages.

``import easyocr`` takes seconds, so its model classes are imported only when a model is made.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from studylib.encoders.ocr import page_vectors
from studylib.encoders.pretrained import plain_weights
from studylib.errors import StudyError
from studylib.render import RenderedPage

HEIGHT = 64  # pixels of a line, as english_g2 was trained
CHARACTERS = 97  # english_g2, blank included
RANDOM_SEED = 20260102
Rows = Callable[[Sequence[RenderedPage]], np.ndarray]


def crnn(file: Path) -> Rows:
    """english_g2: pages -> [pages, 512], mean and deviation of the 256 numbers a token after its two LSTMs."""
    model = _crnn()
    try:
        model.load_state_dict({name.removeprefix("module."): value for name, value in plain_weights(file).items()})
    except RuntimeError:
        raise StudyError(f"{file}: its layers are not english_g2's; use the file that easyocr 1.7 names") from None
    return _pages(model, HEIGHT)


def random_crnn(_: None = None, height: int = 32) -> Rows:
    """The same network with the weights it is born with, from a fixed seed: it looks at lines and has learnt nothing.

    Lines stay at 32 pixels, about what is drawn: no trained filter asks for 64, and the control costs a quarter. So
    what ``crnn`` finds more than this is of training and of finer lines together.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        return _pages(_crnn(), height)


def craft(file: Path, side: int = 256) -> Rows:
    """CRAFT's deepest layer (fc7, 1024) averaged over a page reduced to ``side`` pixels: finding, not reading."""
    import torch
    from easyocr.craft import CRAFT

    model = CRAFT(pretrained=False)
    model.load_state_dict({name.removeprefix("module."): value for name, value in plain_weights(file).items()})
    network = model.basenet.eval()
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # ImageNet, as in easyocr

    def rows(pages):
        found = []
        for page in pages:
            pixels = np.asarray(page.image.convert("RGB").resize((side, side)), dtype=np.float32) / 255
            batch = torch.from_numpy(((pixels - mean) / deviation).transpose(2, 0, 1)[None].astype(np.float32))
            with torch.inference_mode():
                found.append(network(batch).fc7.mean((2, 3)).numpy())
        return np.concatenate(found)

    return rows


def _crnn():
    from easyocr.model.vgg_model import Model

    return Model(input_channel=1, output_channel=256, hidden_size=256, num_class=CHARACTERS).eval()


def _pages(model, height: int) -> Rows:
    import torch

    def recognise(lines):
        with torch.inference_mode():
            seen = model.FeatureExtraction(torch.from_numpy(lines[:, None]))
            columns = model.AdaptiveAvgPool(seen.permute(0, 3, 1, 2)).squeeze(3)
            return model.SequenceModeling(columns).numpy()

    return lambda pages: page_vectors(pages, recognise, height)
