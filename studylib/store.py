"""The trial store: finished trials on disk, written whole or not at all, believed only while their checksums fit.

    results/trials/<key>/record.json       what was measured: the same bytes for the same config, data and machine
    results/trials/<key>/cost.json         what it cost: CPU seconds, memory
    results/trials/<key>/codes.npy         the Semantic IDs that were used, if the trial made them, and their .sha256
    results/<data>/<table>.trials.json     the keys that a table was made from
    .cache/trials/<key>/                   log, lock, checkpoint and weights: what can be made again

It imports nothing heavy, so that a thousand trials are listed at once.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from studylib import paths
from studylib.errors import StudyError
from studylib.files import write_checked, write_json

FORMAT = 1  # raise it when a change of code changes what a config means: older records then no longer answer for it


KEY = re.compile(r"[0-9a-f]{16}")


def canonical(value) -> bytes:
    """JSON that is the same for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sealed(value: dict) -> dict:
    """``value`` with its own checksum in it."""
    return value | {"checksum": sha256(canonical(value)).hexdigest()}


def unsealed(content: bytes) -> dict:
    """The object in a sealed JSON file, without its checksum.

    Raises:
        ValueError: it is not JSON, has no checksum, or was changed since it was written.
    """
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError("it is nested without end") from None
    if not isinstance(value, dict) or "checksum" not in value:
        raise ValueError("it holds no checksum")
    if value.pop("checksum") != sha256(canonical(value)).hexdigest():
        raise ValueError("the checksum does not fit")
    return value


@dataclass(frozen=True)
class Store:
    """Finished trials in a folder."""

    root: Path

    @classmethod
    def default(cls) -> "Store":
        return cls(paths.results_root() / "trials")

    def folder(self, key: str) -> Path:
        return self.root / key

    def record(self, key: str) -> dict | None:
        """The finished trial, or None.

        A record that is damaged is named on stderr and counts as not there.
        """
        file = self.folder(key) / "record.json"
        try:
            return unsealed(file.read_bytes()) if KEY.fullmatch(key) else None
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, OSError) as error:
            print(f"{file}: damaged record ({error}); it counts as not there", file=sys.stderr, flush=True)
            return None

    def write(self, record: dict, cost: dict, codes: bytes | None) -> None:
        """Write a finished trial; the record comes last, so that it stands for the whole."""
        folder = self.folder(record["key"])
        for left in folder.glob(".*.partial"):  # by a process that was killed; the caller holds the trial's lock
            left.unlink(missing_ok=True)
        if codes is not None:
            write_checked(folder / "codes.npy", codes)
        write_json(folder / "cost.json", sealed(cost))
        write_json(folder / "record.json", sealed(record))

    def finished(self) -> list[str]:
        return sorted(file.parent.name for file in self.root.glob("*/record.json"))

    def found(self, key: str) -> dict:
        """The finished trial of a key, or of as much of a key as tells it from the others.

        Raises:
            StudyError: there is none, or several.
        """
        keys = [known for known in self.finished() if key and known.startswith(key)]
        records = [record for known in keys if (record := self.record(known)) is not None]
        if len(records) != 1:
            what = (
                f"{len(records)} finished trials have a key that begins so"
                if records
                else "no finished trial of that key"
            )
            raise StudyError(f"{key}: {what}; 'study trials' lists them")
        return records[0]

    def records(self) -> Iterator[dict]:
        """Every finished trial, with its cost under ``cost``."""
        for key in self.finished():
            record = self.record(key)
            if record is not None:
                yield record | {"cost": self.cost(key)}

    def cost(self, key: str) -> dict:
        """CPU seconds, wall seconds and peak MB; empty if the file is lost or damaged, which no result depends on."""
        try:
            return unsealed((self.folder(key) / "cost.json").read_bytes())
        except (OSError, ValueError):
            return {}


def work_folder(key: str) -> Path:
    """Log, lock, checkpoint and weights of a trial."""
    return paths.cache_root() / "trials" / key
