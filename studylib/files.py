"""Files that are written whole or not at all."""

import json
import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from studylib.errors import StudyError


def write_bytes(file: Path, content: bytes) -> None:
    """Write under a temporary name, sync, rename: a reader sees the old file or the new one, never a part.

    Raises:
        StudyError: the folder cannot be written or the disk is full; nothing is left behind.
    """
    partial = file.with_name(f".{file.name}.{uuid4().hex[:12]}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.replace(partial, file)
    except OSError as error:
        with suppress(OSError):  # it may be that not even its folder could be made
            partial.unlink()
        raise StudyError(
            f"{file}: cannot be written ({error.strerror}); free some space or choose another folder"
        ) from None


def write_json(file: Path, value) -> None:
    """One JSON value with sorted keys: equal values give equal bytes."""
    write_bytes(file, json.dumps(value, sort_keys=True, ensure_ascii=False).encode())
