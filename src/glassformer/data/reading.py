"""Reading text files: in bounded memory, strictly UTF-8, with the byte at fault named."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Chunks of a megabyte would take several hundred: decoding them leaves the C library's heap full of holes.
CHUNK_BYTES = 2**15


def read_text(path: Path) -> Iterator[str]:
    """The text of a file in chunks of 32 KiB; newlines as they are, a byte-order mark left out.

    Raises:
        ValueError: the file is binary (has a NUL byte) or is not UTF-8, with the offset of the byte.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    offset = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            if (nul := chunk.find(0)) >= 0 and not chunk.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise ValueError(f"{path} is binary, not text: it has a NUL byte at offset {offset + nul:,}")
            text = _decode(decoder, chunk, offset + len(chunk), path)
            offset += len(chunk)
            yield text
        _decode(decoder, b"", offset, path, final=True)


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and field ``text`` of each line of a JSONL file; blank lines are passed over.

    Raises:
        ValueError: naming the line that is no UTF-8, no JSON, or no object with a string ``text``.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            try:
                record: Any = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                problem = f"is not UTF-8: byte {line[error.start]:#04x} at offset {error.start:,}"
                raise ValueError(f"{path}, line {number} {problem}") from None
            except ValueError as error:
                raise ValueError(f"{path}, line {number} is no valid JSON: {error}") from None
            yield number, _text_of(record, f"{path}, line {number}")


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


def _text_of(record: Any, place: str) -> str:
    if not isinstance(record, dict):
        raise ValueError(f"{place}: expected an object with a field 'text', found {type(record).__name__}")
    if "text" not in record:
        raise ValueError(
            f"{place} has no field 'text'; its fields are {', '.join(map(repr, record)) or 'none'}"
        )
    text = record["text"]
    if not isinstance(text, str):
        raise ValueError(f"{place}: the field 'text' is {type(text).__name__}, expected a string")
    return text
