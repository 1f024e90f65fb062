"""Files of one JSON object a line, plain or gzipped, streamed: no more than one line is in memory at a time."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from studylib.errors import StudyError
from studylib.files import RepeatedKey, check_regular, parse_json

LONGEST_LINE = 16 << 20  # bytes; a bound against files that are not lines, far above a product page's text
LARGEST_FILE = 256 << 30  # bytes after decompression
MOST_EXPANSION = 300  # bytes out of one byte of gzip; texts give 3 to 20, gzip bombs up to 1032


def rows(file: Path) -> Iterator[tuple[int, dict]]:
    """Line number and object of every line that is not blank.

    Raises:
        StudyError: naming the line: not an object, not JSON, not UTF-8, too long; or the file is damaged or not there.
    """
    for number, line in _lines(file):
        if not line.strip():
            continue
        try:
            row = parse_json(line.decode("utf-8"))
        except UnicodeDecodeError:
            raise StudyError(f"{file}: line {number}: not UTF-8; fetch the file again") from None
        except RepeatedKey as error:
            raise StudyError(f"{file}: line {number}: {error}") from None
        except (ValueError, RecursionError) as error:
            raise StudyError(
                f"{file}: line {number}: not JSON ({error}); mend or delete that line, or fetch the file again"
            ) from None
        if not isinstance(row, dict):
            raise StudyError(
                f"{file}: line {number}: holds a {type(row).__name__}, not an object; give one object a line"
            )
        yield number, row


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    size = check_regular(file, "give a file of one JSON object a line, e.g. Industrial_and_Scientific_5.json.gz")
    number = total = 0
    try:
        with _open(file) as stream:
            while line := stream.readline(LONGEST_LINE + 1):
                number, total = number + 1, total + len(line)
                if len(line) > LONGEST_LINE:
                    raise StudyError(
                        f"{file}: line {number}: longer than {LONGEST_LINE} bytes; one JSON object a line is wanted"
                    )
                if total > LARGEST_FILE:
                    raise StudyError(
                        f"{file}: line {number}: more than {LARGEST_FILE} bytes when decompressed; split it by category"
                    )
                if total > size * MOST_EXPANSION + LONGEST_LINE:
                    raise StudyError(
                        f"{file}: line {number}: decompressed to more than {MOST_EXPANSION} times its size, which no "
                        "text does; fetch the file again"
                    )
                yield number, line
    except EOFError:
        raise StudyError(f"{file}: cut off after line {number}; fetch the file again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise StudyError(f"{file}: damaged after line {number} ({error}); fetch the file again") from None
    except OSError as error:
        raise StudyError(f"{file}: cannot be read ({error.strerror}); mend its permissions or fetch it again") from None


def _open(file: Path):
    """By content, not by name: browsers unpack a .gz and keep its name."""
    with file.open("rb") as head:
        packed = head.read(2) == b"\x1f\x8b"
    return gzip.open(file, "rb") if packed else file.open("rb")
