"""Arrays on disk that are never half written and never believed when damaged.

Every ``X.npy`` has ``X.npy.sha256`` beside it, written after it: an array without its digest, or whose bytes do not
have that digest, is computed again.
"""

import io
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from studylib.files import read_checked, write_checked

CHUNK = 16  # rows a file: what a killed encoding can lose


def write(file: Path, array: np.ndarray) -> None:
    """Write ``array`` and its digest, each whole or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_checked(file, buffer.getvalue())


def read(file: Path, say: Callable[[str], None] = print) -> np.ndarray | None:
    """The array, or None if it is not there; a damaged one is named in a line to ``say`` and counts as not there."""
    try:
        return np.load(io.BytesIO(read_checked(file)), allow_pickle=False)
    except FileNotFoundError:
        return None
    except ValueError as error:
        say(f"{file}: {error}; computing it again")
        return None


def rows(
    folder: Path,
    keys: Sequence[str],
    encode: Callable[[list[int]], np.ndarray],
    label: str,
    say: Callable[[str], None] = print,
    chunk: int = CHUNK,
) -> np.ndarray:
    """One row per key, from ``folder`` where it is there, else from ``encode``, which gets positions in ``keys``.

    Chunks of ``chunk`` rows are files of their own, named by what is in them. So a killed run goes on where it was,
    and a changed item costs its own chunk only. ``say`` gets a line with the time left about every ten seconds.
    """
    spans = [list(range(start, min(start + chunk, len(keys)))) for start in range(0, len(keys), chunk)]
    done, computed, started, spoken = [], 0, time.monotonic(), time.monotonic()
    for number, span in enumerate(spans):
        file = folder / f"{sha256(chr(10).join(keys[place] for place in span).encode()).hexdigest()[:32]}.npy"
        block = read(file, say)
        if block is None:
            block = np.asarray(encode(span), dtype=np.float32)
            write(file, block)
            computed += len(span)
            now = time.monotonic()
            if now - spoken > 10 or number == len(spans) - 1:
                left = (now - started) / computed * (len(keys) - span[-1] - 1)
                say(f"{label}: {span[-1] + 1} of {len(keys)} items, {_clock(left)} left")
                spoken = now
        done.append(block)
    return np.concatenate(done)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {seconds:02d} s"
