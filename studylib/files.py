"""Files: written whole or not at all, and read only if they are what was meant."""

import fcntl
import json
import math
import os
import re
import reprlib
import stat
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import yaml

from studylib.errors import StudyError

LARGEST_YAML = 1 << 16  # bytes; parameters are a page of text, and reading YAML is slow


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


def write_checked(file: Path, content: bytes) -> None:
    """``write_bytes``, then its sha256 beside it, in a file of that name with ``.sha256``, as sha256sum writes it."""
    write_bytes(file, content)
    write_bytes(_sidecar(file), f"{sha256(content).hexdigest()}  {file.name}\n".encode())


def read_checked(file: Path) -> bytes:
    """What ``write_checked`` wrote.

    Raises:
        FileNotFoundError: the file, or its digest, is not there.
        ValueError: it is not what was written.
    """
    content, digest = file.read_bytes(), _sidecar(file).read_text(encoding="utf-8", errors="replace").split(" ")[0]
    if sha256(content).hexdigest() != digest:
        raise ValueError("truncated or changed since it was written")
    return content


def _sidecar(file: Path) -> Path:
    return file.with_name(file.name + ".sha256")


def check_writable(folder: Path) -> None:
    """Raise StudyError if nothing can be written into ``folder``: before a training, not after it."""
    probe = folder / f".{uuid4().hex[:12]}.partial"
    write_bytes(probe, b"probe")
    probe.unlink()


def put_between(document: str, mark: str, text: str) -> str:
    """``document`` with ``text`` between the lines ``<!-- mark -->`` and ``<!-- end of mark -->``.

    Raises:
        StudyError: the two lines are not there, or more than once.
    """
    block = re.compile(f"(<!-- {mark} -->\n).*?(<!-- end of {mark} -->)", re.DOTALL)
    found, times = block.subn(lambda marks: f"{marks[1]}\n{text}\n\n{marks[2]}", document)
    if times != 1:
        raise StudyError(
            f"the document needs one '<!-- {mark} -->' and one '<!-- end of {mark} -->' on lines of their own"
        )
    return found


# -- reading ---------------------------------------------------------------------------------------------------------


def check_regular(file: Path, cure: str, largest: int | None = None) -> int:
    """The size in bytes of ``file``, which must be a regular file or a link to one.

    Anything else is refused before it is opened: a pipe would wait for a writer, and a device need never end. Links
    are followed, because large data are often linked to.

    Raises:
        StudyError: not there, not a regular file, or larger than ``largest`` bytes; ends with ``cure``.
    """
    try:
        found = os.stat(file)
    except (FileNotFoundError, NotADirectoryError):
        problem = "a link to a file that is not there" if os.path.islink(file) else "no such file"
        raise StudyError(f"{file}: {problem}; {cure}") from None
    except (OSError, ValueError) as error:  # links in a circle, a name that is too long or holds a zero character
        raise StudyError(f"{file}: cannot be opened ({getattr(error, 'strerror', error)}); {cure}") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, a socket or a device"
        raise StudyError(f"{file}: {kind}, not a regular file; {cure}")
    if largest is not None and found.st_size > largest:
        raise StudyError(f"{file}: {found.st_size} bytes, more than {largest}; {cure}")
    return found.st_size


def read_text(file: Path, cure: str, largest: int) -> str:
    """The text of a regular file of at most ``largest`` bytes, which must be UTF-8.

    Raises:
        StudyError: as ``check_regular``; or the file cannot be read, or is not UTF-8 (the byte is named).
    """
    size = check_regular(file, cure, largest)
    try:
        with open(file, "rb") as stream:
            text = stream.read(size).decode("utf-8")  # no more than was measured: the file may be growing
    except OSError as error:
        raise StudyError(f"{file}: cannot be read ({error.strerror}); mend its permissions or fetch it again") from None
    except UnicodeDecodeError as error:
        raise StudyError(f"{file}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    if text.startswith("\ufeff"):
        raise StudyError(f"{file}: byte 0 begins a byte-order mark; save the file as UTF-8 without one")
    return text


class RepeatedKey(ValueError):
    """JSON that Python reads as what stands last; says what to do about it."""


def parse_json(text: str):
    """JSON whose keys are all different. NaN, which Python takes for JSON, is for whoever reads a field to refuse.

    Raises:
        RepeatedKey: a key stands twice.
        ValueError, RecursionError: as json.loads.

    >>> parse_json('{"a": 1, "a": 2}')
    Traceback (most recent call last):
    studylib.files.RepeatedKey: 'a' stands twice; remove one of the two
    """

    def unique(pairs):
        table = dict(pairs)
        if len(table) < len(pairs):
            seen: set[str] = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))
            raise RepeatedKey(f"{shown(twice)} stands twice; remove one of the two")
        return table

    return json.loads(text, object_pairs_hook=unique)


def shown(value) -> str:
    """``repr`` for a message: short, whatever was found in a file.

    >>> shown("a" * 1000)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaa...aaaaaaaaaaaaaaaaaaaaaaaaaaaa'"
    """
    short = reprlib.Repr()
    short.maxstring = short.maxother = 60
    short.maxlevel = 2
    return short.repr(value)


# -- YAML ------------------------------------------------------------------------------------------------------------


class _Refused(yaml.MarkedYAMLError):
    """YAML that is well formed and yet not taken; the problem ends with its cure."""


class _Loader(yaml.SafeLoader):
    """Without aliases, a few of which can stand for billions of values."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise _refusal(self.peek_event(), "an alias; write the value out")
        return super().compose_node(parent, index)


def read_yaml(file: Path) -> dict:
    """A file of ``name: value``, as ``parse_yaml`` takes it.

    Raises:
        StudyError: no such file, more than ``LARGEST_YAML`` bytes, no mapping, or as ``parse_yaml``.
    """
    text = read_text(file, "give a file of parameters, such as those in params/", LARGEST_YAML)
    value = parse_yaml(str(file), text)
    if not isinstance(value, dict):
        raise StudyError(f"{file}: expected lines of 'name: value', found {shown(value)}; write one parameter a line")
    return value


def parse_yaml(where: str, text: str):
    """YAML of what JSON knows: texts, finite numbers, true, false, null, lists, and mappings whose names differ.

    Other tags (which can run code), names that stand twice (of which YAML keeps the last) and aliases are refused.

    Raises:
        StudyError: naming ``where``, which says whose text it is, the line in it, and the cure.

    >>> parse_yaml("an example", "{lr: 1.0e-3, features: [minilm, random]}")
    {'lr': 0.001, 'features': ['minilm', 'random']}
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return None if node is None else _plain(loader, node)
    except _Refused as error:
        raise StudyError(f"{where}: line {error.problem_mark.line + 1}: {error.problem}") from None
    except yaml.MarkedYAMLError as error:
        line = (error.problem_mark or error.context_mark).line + 1
        raise StudyError(f"{where}: line {line}: not YAML ({error.problem}); write 'name: value' or '[a, b]'") from None
    except yaml.YAMLError as error:  # a character that no YAML may hold; the error says where
        raise StudyError(f"{where}: not YAML ({error}); write 'name: value' or '[a, b]'") from None
    except (ValueError, OverflowError) as error:  # a text that escapes what is no character, such as "\\U00110000"
        raise StudyError(f"{where}: line {loader.line + 1}: not YAML ({error}); mend that text") from None
    except RecursionError:
        raise StudyError(f"{where}: nested too deeply; write 'name: value' or '[a, b]'") from None


def _refusal(at: yaml.Node | yaml.Event, problem: str) -> _Refused:
    return _Refused(problem=problem, problem_mark=at.start_mark)


def _plain(loader: yaml.SafeLoader, node: yaml.Node):
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    if isinstance(node, yaml.SequenceNode) and kind == "seq":
        return [_plain(loader, part) for part in node.value]
    if isinstance(node, yaml.MappingNode) and kind == "map":
        return _mapping(loader, node)
    if isinstance(node, yaml.ScalarNode) and kind in ("null", "bool", "int", "float", "str"):
        return _scalar(loader, node, kind)
    raise _refusal(node, f"a value of the kind {shown(kind)}; write a text in quotes, a number, true, false or a list")


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict:
    table = {}
    for key, value in node.value:
        name = _plain(loader, key)
        if not isinstance(name, str):
            raise _refusal(key, f"the name {shown(name)} is not text; put it in quotes")
        if name in table:
            raise _refusal(key, f"{shown(name)} stands twice; remove one of the two")
        table[name] = _plain(loader, value)
    return table


def _scalar(loader: yaml.SafeLoader, node: yaml.ScalarNode, kind: str):
    try:
        node.value.encode()  # an escape can spell half a surrogate pair, which no file can take
        value = getattr(loader, f"construct_yaml_{kind}")(node)
    except (ValueError, KeyError, IndexError):  # also thousands of digits, or a tag that its text does not bear out
        raise _refusal(node, f"{shown(node.value)} is not of the kind {kind!r}; write a plain number or text") from None
    if kind == "float" and not math.isfinite(value):
        raise _refusal(node, f"{shown(node.value)} is not finite; write a finite number")
    if kind == "int" and abs(value) >= 2**63:
        raise _refusal(node, f"{shown(node.value)} is beyond 64 bits; write a smaller number")
    return value


LOCK = "lock"  # in a trial's work folder


@contextmanager
def locked(file: Path):
    """Hold a lock that the kernel frees when the process ends, however it ends."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def is_locked(file: Path) -> bool:
    """Whether another process holds the lock now; one that cannot be opened counts as held."""
    try:
        with file.open("r") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
