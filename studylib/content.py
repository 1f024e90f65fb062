"""From a trial's features to its Semantic IDs: embeddings, fusion, tokenizer, and where they came from."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from studylib import tokenizers
from studylib.collaborative import item_embeddings
from studylib.config import TokenizerSettings, Trial
from studylib.data import Dataset, load
from studylib.encoders import Embeddings, embed
from studylib.errors import StudyError
from studylib.files import read_checked
from studylib.fusion import early, late
from studylib.keys import index_file, key_of
from studylib.semantic_ids import SemanticIds
from studylib.settings import checked
from studylib.store import Store
from studylib.threads import torch_threads


@dataclass(frozen=True)
class Content:
    """What a trial generates, and what its record says of it.

    Args:
        ids: the items' Semantic IDs.
        provenance: of each modality with an encoder, its weights and pages; None where nothing was encoded.
        facts: what fusion found out (mean gate values; of IDs put together, each modality's quality and source).
    """

    ids: SemanticIds
    provenance: dict | None = None
    facts: dict = field(default_factory=dict)


@torch_threads(1)  # as in a trial's process: sums in another order are other codes
def of(trial: Trial, data: Dataset) -> Content:
    """The content of a trial: IDs read from an index, or fitted on its features, alone or fused.

    Raises:
        StudyError: features 'none'; an encoder, file or index is missing; bad embeddings.
    """
    if trial.features == "none":
        raise StudyError("features 'none' gives the generator no Semantic IDs; name an encoder, a file or an index")
    if trial.fusion == "none":
        return _modality(trial.features, trial, data, trial.tokenizer)
    if trial.fusion == "stacked":
        parts = [_modality(name, trial, data, trial.tokenizer) for name in trial.modalities]
        apart = trial.tokenizer.collisions != "none"
        ids = late.stack([part.ids for part in parts], trial.modalities.index(trial.target), apart)
        return Content(ids, _together([part.provenance for part in parts], trial), _each(parts, trial))
    if trial.late:
        # Each modality's own collisions are left: the other modality may part the items, or the whole ID's last level.
        apart = trial.tokenizer.model_copy(update={"collisions": "none"})
        parts = [_modality(name, trial, data, apart) for name in trial.modalities]
        ids = late.combine([part.ids for part in parts], trial.fusion, trial.tokenizer.collisions == "dedup")
        return Content(ids, _together([part.provenance for part in parts], trial), _each(parts, trial))
    found = [_embeddings(name, trial, data) for name in trial.modalities]
    fused, facts = early.fuse(_projected(found, trial), trial.fusion, trial.seed)
    settings = trial.tokenizer.model_copy(update={"dims": fused.shape[1]})
    ids = tokenizers.fit(fused, settings, trial.seed, collaborative(trial, data, settings))
    return Content(ids, _together([_provenance(part) for part in found], trial), facts)


@torch_threads(1)
def yardsticks(trial: Trial, data: Dataset) -> dict:
    """What the gate of an early-fused trial is read beside; see studylib/fusion/early.py."""
    return early.yardsticks(*_projected([_embeddings(name, trial, data) for name in trial.modalities], trial))


def _modality(name: str, trial: Trial, data: Dataset, settings: TokenizerSettings) -> Content:
    if name.startswith("index:"):
        ids = SemanticIds.load(index_file(data, name), data.n_items)
        return Content(ids.leading(settings.leading) if settings.leading else ids)
    found = _embeddings(name, trial, data)
    ids = tokenizers.fit(found.matrix, settings, trial.seed, collaborative(trial, data, settings))
    return Content(ids, _provenance(found))


def _embeddings(name: str, trial: Trial, data: Dataset) -> Embeddings:
    """Of an encoder, a file, or SASRec's items."""
    if name != "collaborative":
        return embed(data, name, trial.page, print)
    source = collaborative_trial(trial)
    matrix = item_embeddings(source, data)
    facts = {"encoder": "sasrec", "trial": key_of(source, data), "sha256": sha256(matrix.tobytes()).hexdigest()}
    return Embeddings(name, matrix, facts)


def _projected(found: Sequence[Embeddings], trial: Trial) -> list[Float[np.ndarray, "items dims"]]:
    return [tokenizers.projected(part.matrix, trial.tokenizer) for part in found]


def collaborative_trial(trial: Trial) -> Trial:
    """The trial whose item embeddings are the collaborative modality of ``trial``."""
    return Trial(
        data=trial.data, tokenizer=TokenizerSettings(name="none"), generator=trial.collaborative, seed=trial.seed
    )


def collaborative(
    trial: Trial, data: Dataset, settings: TokenizerSettings
) -> Float[np.ndarray, "items d_model"] | None:
    """What LETTER aligns codes with; other tokenizers read none of it.

    Items without a training interaction get zeros, which LETTER leaves out: the softmax has pushed their rows far away
    from all others, and that says nothing of who buys them.
    """
    if settings.name != "letter":
        return None
    found = item_embeddings(collaborative_trial(trial), data).copy()
    found[np.bincount(np.concatenate(data.training), minlength=data.n_items) == 0] = 0
    return found


def _provenance(found: Embeddings) -> dict:
    """Encoder, digest of its weights, pages that were drawn smaller to fit."""
    facts = dict(found.provenance)
    if "file" in facts:
        facts["file"] = Path(facts["file"]).name  # its content is in the key; where it lay is nobody's business
    return facts


def _together(provenances: list[dict | None], trial: Trial) -> dict:
    return {name: facts for name, facts in zip(trial.modalities, provenances, strict=True) if facts}


def _each(parts: list[Content], trial: Trial) -> dict:
    """Each modality's IDs before they were put together: what a record's ``semantic_ids`` no longer tells apart."""
    quality = {
        name: part.ids.quality() | {"source": part.ids.source if part.provenance else name}
        for name, part in zip(trial.modalities, parts, strict=True)
    }
    return {"modalities": quality}


def codes_of_rows(
    trials: dict[str, Sequence[Trial]], records: dict[str, Sequence[dict]], data: Dataset
) -> dict[str, list[Int[np.ndarray, "items levels"]]]:
    """The codes of every seed of each row: of its records, and fitted here where no generator has been trained.

    Args:
        records: by row, in the order of the trials; they may be fewer, or none.
    """
    found = {}
    for name, wanted in trials.items():
        kept = [codes_of(record, data=data) for record in records.get(name, ())]
        found[name] = kept + [of(trial, data).ids.codes for trial in wanted[len(kept) :]]
    return found


def codes_of(record: dict, data: Dataset | None = None) -> Int[np.ndarray, "items levels"]:
    """The codes of a finished trial: those it made are kept with it, those of an index are read again, of ``data``.

    Raises:
        StudyError: the trial has no codes, or its codes are lost or damaged.
    """
    trial = checked(Trial, record["trial"])
    if record["semantic_ids"] is None:
        raise StudyError(f"{record['key']}: a {trial.generator.name} trial has no Semantic IDs; choose another")
    if trial.tokenizer.name == "none":
        return of(trial, data or load(trial.data)).ids.codes
    file = Store.default().folder(record["key"]) / "codes.npy"
    try:
        return np.load(io.BytesIO(read_checked(file)), allow_pickle=False).astype(np.int64)
    except (OSError, ValueError) as error:
        raise StudyError(f"{file}: {error}; remove its folder and run the trial again") from None
