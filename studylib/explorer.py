"""The tour's interactive twin, for JupyterLab: choose an item, an encoder and a resolution, and everything follows."""

import html
import io
from collections.abc import Sequence

import ipywidgets as widgets
import numpy as np

from studylib import tokenizers, tour
from studylib.config import TokenizerSettings
from studylib.data import Dataset
from studylib.encoders import embed
from studylib.encoders.registry import ENCODERS
from studylib.errors import StudyError
from studylib.render import Page, render


class Explorer(widgets.VBox):
    """Three choices; below them the item's page, its codes and its nearest neighbours.

    Args:
        data: items with text.
        encoders: names of the registry, or ``features:...``.
        resolutions: of pages, in pixels; they matter to encoders that read pages.
        settings: the tokenizer's.
        item: shown first.

    What cannot be shown (weights that are not here, a text that fits no page) is said in place of it.
    """

    def __init__(
        self, data: Dataset, encoders: Sequence[str], resolutions: Sequence[int] = (1024, 512, 256, 128),
        settings: TokenizerSettings | None = None, item: int = 0,
    ):  # fmt: skip
        self.data, self.settings = data, settings or TokenizerSettings(codes=min(256, data.n_items))
        items = [f"{number}: {data.title(number)[:60]}" for number in range(data.n_items)]
        self.item = widgets.Combobox(options=items, value=items[item], description="item", ensure_option=True)
        self.item.layout.width = "95%"
        self.encoder = widgets.Dropdown(options=list(encoders), description="encoder")
        self.resolution = widgets.Dropdown(options=list(resolutions), description="pixels")
        self.page, self.codes, self.neighbours = widgets.Image(width=420), widgets.HTML(), widgets.HTML()
        self._made = {}
        for choice in (self.item, self.encoder, self.resolution):
            choice.observe(self._follow, names="value")
        self._follow()
        right = widgets.VBox([self.codes, self.neighbours])
        super().__init__([self.item, widgets.HBox([self.encoder, self.resolution]), widgets.HBox([self.page, right])])

    def _follow(self, _=None) -> None:
        item, self.page.value = int(self.item.value.split(":")[0]), b""
        page, features = Page(resolution=self.resolution.value), self.encoder.value
        try:
            picture = io.BytesIO()
            render(self.data.fields(item), page, item).image.save(picture, "PNG")
            self.page.value = picture.getvalue()
            matrix, codes = self._content(features, page)
            near = tour.neighbours(self.data, matrix, item)
        except StudyError as error:
            self.codes.value, self.neighbours.value = f"<b>{html.escape(str(error))}</b>", ""
            return
        rows = [
            f"<tr><td>{row.item}</td><td>{row.cosine:.2f}</td><td><code>{tour.name(codes[row.item])}</code></td>"
            f"<td>{html.escape(row.title)}</td></tr>"
            for row in near.itertuples()
        ]
        self.codes.value = f"Semantic ID: <code>{tour.name(codes[item])}</code>"
        head = "<tr><th>item</th><th>cosine</th><th>Semantic ID</th><th>nearest by content</th></tr>"
        self.neighbours.value = f"<table>{head}{''.join(rows)}</table>"

    def _content(self, features: str, page: Page) -> tuple[np.ndarray, list[tuple[int, ...]]]:
        """Vectors and codes of all items, made once for each encoder and, if it reads pages, resolution."""
        known = ENCODERS.get(features)
        key = (features, page if known is not None and known.reads == "pages" else None)
        if key not in self._made:
            matrix = embed(self.data, features, page, lambda line: None).matrix
            codes = tokenizers.fit(matrix, self.settings, 0).codes.tolist()
            self._made[key] = matrix, [tuple(row) for row in codes]
        return self._made[key]
