"""What a trial is known by: its key, over its settings and all that it reads, so that what changed is run again."""

from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from studylib import paths
from studylib.config import GATE, Trial
from studylib.data import Dataset
from studylib.encoders import embeddings, registry
from studylib.encoders.weights import file_digest
from studylib.errors import StudyError
from studylib.files import shown
from studylib.store import FORMAT, canonical

# Of a tokenizer that makes other codes of the same settings than it once did. Who raises one deletes its trials: where
# the data set is not, trials are found by their settings alone (trials.py).
REVISIONS = {"letter": 2}


def key_of(trial: Trial, data: Dataset) -> str:
    """16 hex digits of the hash of the config, the data's fingerprint and the code's format."""
    content = content_fingerprint(trial, data)
    return sha256(canonical([FORMAT, by_name(trial.model_dump(mode="json")), content])).hexdigest()[:16]


def by_name(settings: dict) -> dict:
    """A trial's settings with a data set given as a folder by the folder's name: it may lie elsewhere tomorrow."""
    return settings | {"data": paths.name_of(settings["data"])}


def content_fingerprint(trial: Trial, data: Dataset) -> str:
    """sha256 over all that the trial reads: sequences, text, the pictures or files it uses, the encoders' weights.

    And over how a gate is trained, if it has one, and over the revision of its tokenizer.
    """
    digest = sha256(data.fingerprint.encode())
    if trial.tokenizer.name in REVISIONS:
        digest.update(canonical(REVISIONS[trial.tokenizer.name]))
    if trial.fusion == "gate":
        digest.update(canonical(GATE))
    for features in trial.modalities:
        name = features.removeprefix("shuffled:")
        for file in _files_read(data, name):
            digest.update(bytes.fromhex(file_digest(file)))
        if is_encoder(name):
            digest.update(embeddings.identity(registry.encoder(name), trial.page).encode())
    return digest.hexdigest()


def is_encoder(features: str) -> bool:
    """Is it an encoder's name, and not ready IDs, a file, or what is learned from the sequences?"""
    return features not in ("none", "collaborative") and not features.startswith(("index:", "features:"))


def _files_read(data: Dataset, features: str) -> list[Path]:
    if features.startswith("index:"):
        return [index_file(data, features)]
    if features in ("none", "collaborative"):
        return []
    if features.startswith("features:"):
        return [embeddings.feature_file(data, features.removeprefix("features:"))]
    return data.pictures if registry.encoder(features).kind == "image" else []


def index_file(data: Dataset, features: str) -> Path:
    """The file behind ``index:<name>``: a path, or NAME.<name>.json in the data set's folder."""
    name = features.removeprefix("index:")
    choices = [Path(name), *([data.folder / f"{data.name}.{name}.json"] if data.folder else [])]
    for file in choices:
        with suppress(OSError):  # a name too long for a file is no file
            if file.is_file():
                return file
    raise StudyError(
        f"{shown(features)}: no such index; looked for {' and '.join(map(str, choices))[:500]}; put it there"
    )
