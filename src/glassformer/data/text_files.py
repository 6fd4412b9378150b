"""Text, JSON Lines and tab-separated files, read strictly as UTF-8."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Decoding chunks of a megabyte fragments the C heap and takes hundreds of megabytes of memory.
READ_BYTES = 2**15


def read_text(path: Path) -> Iterator[str]:
    """Yield the text of a file in chunks of 32 KiB, with its newlines and without a byte-order mark.

    Raises:
        ValueError: the file is binary (has a NUL byte) or not UTF-8; gives the offset of the byte.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    offset = 0
    with path.open("rb") as file:
        while chunk := file.read(READ_BYTES):
            if (nul := chunk.find(0)) >= 0 and not chunk.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise ValueError(f"{path} is binary, not text: it has a NUL byte at offset {offset + nul:,}")
            text = _decode(decoder, chunk, offset + len(chunk), path)
            offset += len(chunk)
            yield text
        _decode(decoder, b"", offset, path, final=True)


def _decode(
    decoder: codecs.IncrementalDecoder, chunk: bytes, end: int, path: Path, final: bool = False
) -> str:
    """Decode the chunk that ends at byte ``end`` of the file."""
    try:
        return decoder.decode(chunk, final)
    except UnicodeDecodeError as error:
        offset = end - len(error.object) + error.start
        byte = error.object[error.start]
        utf16 = "; it looks like UTF-16, convert it first" if offset == 0 and byte in (0xFE, 0xFF) else ""
        raise ValueError(f"{path} is not UTF-8 text: byte {byte:#04x} at offset {offset:,}{utf16}") from None


def read_jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the line number and the value of each line of a JSON Lines file; skip blank lines.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line that is not UTF-8 or not JSON.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            try:
                value: Any = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                problem = f"is not UTF-8: byte {line[error.start]:#04x} at offset {error.start:,}"
                raise ValueError(f"{path}, line {number} {problem}") from None
            except ValueError as error:
                raise ValueError(f"{path}, line {number} is not valid JSON: {error}") from None
            yield number, value


def read_tsv(path: Path, columns: str) -> Iterator[tuple[int, str, str]]:
    """Yield the line number and the two columns of each line of a tab-separated file; skip blank lines.

    Args:
        path: the file.
        columns: names of the columns for error messages, such as ``"source<TAB>target"``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line that does not have two non-empty columns, or is not UTF-8.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}")
    for number, line in enumerate("".join(read_text(path)).split("\n"), start=1):
        if not line.strip():
            continue
        cells = line.rstrip("\r").split("\t")
        if len(cells) != 2:
            plural = "s" if len(cells) != 1 else ""
            raise ValueError(
                f"{path}, line {number} must have two columns, {columns}, got {len(cells)} column{plural}"
            )
        left, right = (cell.strip() for cell in cells)
        if not left or not right:
            raise ValueError(f"{path}, line {number}: the {'second' if left else 'first'} column is empty")
        yield number, left, right
