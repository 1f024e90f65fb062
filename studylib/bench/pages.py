"""Pages and encoders."""

import numpy as np

from studylib.bench.turns import over_users, rates
from studylib.data import Dataset


def render(data: Dataset, seconds: float) -> dict:
    """Pages drawn per CPU second, at 1024 and at 256 pixels."""
    from studylib.render import Page, render

    groups = np.arange(data.n_items)[:, None]
    jobs = {
        f"pages_{page.resolution}": over_users(
            groups, lambda item, page=page: render(data.fields(item[0]), page, item[0])
        )
        for page in (Page(), Page(resolution=256))
    }
    return {name: round(rate, 1) for name, rate in rates(jobs, min(seconds, 15)).items()}


def encode(data: Dataset, seconds: float, encoders: list[str]) -> dict:
    """Items encoded per CPU second by each encoder, rendering included, nothing read from the cache."""
    from studylib.encoders.embeddings import uncached

    groups = np.array_split(np.arange(data.n_items), -(-data.n_items // 8))
    encode = {name: uncached(data, name) for name in encoders}
    jobs = {name: over_users(groups, lambda items, name=name: encode[name](items.tolist())) for name in encoders}
    return {name: round(rate, 2) for name, rate in rates(jobs, seconds).items()}
