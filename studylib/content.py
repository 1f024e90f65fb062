"""From a trial's features to its Semantic IDs: embeddings, fusion, tokenizer, and where they came from."""

from dataclasses import dataclass, field
from pathlib import Path

from studylib import tokenizers
from studylib.config import TokenizerSettings, Trial
from studylib.data import Dataset
from studylib.encoders import Embeddings, embed
from studylib.errors import StudyError
from studylib.fusion import early, late
from studylib.semantic_ids import SemanticIds
from studylib.trials import index_file


@dataclass(frozen=True)
class Content:
    """What a trial generates, and what its record says of it.

    Args:
        ids: the items' Semantic IDs.
        provenance: of each modality with an encoder, its weights and pages; None where nothing was encoded.
        facts: what fusion found out (mean gate values).
    """

    ids: SemanticIds
    provenance: dict | None = None
    facts: dict = field(default_factory=dict)


def of(trial: Trial, data: Dataset) -> Content:
    """The content of a trial: IDs read from an index, or fitted on its features, alone or fused.

    Raises:
        StudyError: features 'none'; an encoder, file or index is missing; bad embeddings.
    """
    if trial.features == "none":
        raise StudyError("features 'none' gives the generator no Semantic IDs; name an encoder, a file or an index")
    if trial.fusion == "none":
        return _modality(trial.features, trial, data, trial.tokenizer)
    if trial.late:
        # Each modality's own collisions are left: the other modality may part the items, or the whole ID's last level.
        apart = trial.tokenizer.model_copy(update={"collisions": "none"})
        parts = [_modality(name, trial, data, apart) for name in trial.modalities]
        ids = late.combine([part.ids for part in parts], trial.fusion, trial.tokenizer.collisions == "dedup")
        return Content(ids, _together([part.provenance for part in parts], trial))
    found = [embed(data, name, trial.page, print) for name in trial.modalities]
    projected = [tokenizers.projected(part.matrix, trial.tokenizer) for part in found]
    fused, facts = early.fuse(projected, trial.fusion, trial.seed)
    ids = tokenizers.fit(fused, trial.tokenizer.model_copy(update={"dims": fused.shape[1]}), trial.seed)
    return Content(ids, _together([_provenance(part) for part in found], trial), facts)


def _modality(name: str, trial: Trial, data: Dataset, settings: TokenizerSettings) -> Content:
    if name.startswith("index:"):
        return Content(SemanticIds.load(index_file(data, name), data.n_items))
    found = embed(data, name, trial.page, print)
    return Content(tokenizers.fit(found.matrix, settings, trial.seed), _provenance(found))


def _provenance(found: Embeddings) -> dict:
    """Encoder, digest of its weights, pages that were drawn smaller to fit."""
    facts = dict(found.provenance)
    if "file" in facts:
        facts["file"] = Path(facts["file"]).name  # its content is in the key; where it lay is nobody's business
    return facts


def _together(provenances: list[dict | None], trial: Trial) -> dict:
    return {name: facts for name, facts in zip(trial.modalities, provenances, strict=True) if facts}
