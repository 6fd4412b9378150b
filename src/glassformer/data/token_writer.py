"""Writing the token files of one folder, with a journal of how far they are safely on the disk."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from glassformer.data.splits import SPLITS
from glassformer.data.token_file import TokenFile, TokenFiles, crc32_of, token_dtype
from glassformer.files import atomic_write

JOURNAL = "journal.json"


@dataclass
class _Written:
    """What was written to one file."""

    num_tokens: int = 0
    num_bytes: int = 0
    num_documents: int = 0
    crc32: int = 0


class TokenWriter:
    """Appends ids to the files of the splits. A context manager: leaving it closes the files."""

    def __init__(self, folder: Path, vocab_size: int) -> None:
        """Begin anew: empty files, no journal."""
        self.folder = folder
        self.vocab_size = vocab_size
        self.num_pieces = 0
        self._written = {name: _Written() for name in SPLITS}
        self._open_files: dict[str, BinaryIO] = {}
        self._stack = ExitStack()
        self.remove_journal(folder)
        for name in SPLITS:
            # A process that mapped an old file keeps it: a new file is made, the old one is not emptied.
            self._path(name).unlink(missing_ok=True)

    @classmethod
    def resume(cls, folder: Path, vocab_size: int) -> Self | None:
        """Go on from the journal; None if there is none or if the files are not as it says."""
        try:
            journal: Any = json.loads((folder / JOURNAL).read_bytes())
            written = {name: _Written(**journal["splits"][name]) for name in SPLITS}
            num_pieces = int(journal["num_pieces"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        writer = cls.__new__(cls)
        writer.folder, writer.vocab_size, writer.num_pieces = folder, vocab_size, num_pieces
        writer._written, writer._open_files, writer._stack = written, {}, ExitStack()
        return writer if all(writer._trim(name) for name in SPLITS) else None

    @staticmethod
    def has_journal(folder: Path) -> bool:
        """Whether a build in this folder was begun and not finished."""
        return (folder / JOURNAL).exists()

    @staticmethod
    def remove_journal(folder: Path) -> None:
        """The build is finished, or begins anew."""
        (folder / JOURNAL).unlink(missing_ok=True)

    @property
    def num_bytes(self) -> int:
        """Bytes of text that were written as tokens."""
        return sum(written.num_bytes for written in self._written.values())

    def append(self, split: str, ids: Sequence[int], num_bytes: int, begins: bool) -> None:
        """Write the ids of one piece: of ``num_bytes`` of text, the first of its document or not."""
        data = np.asarray(ids, dtype=token_dtype(self.vocab_size)).tobytes()
        self._open_files[split].write(data)
        written = self._written[split]
        written.num_tokens += len(ids)
        written.num_bytes += num_bytes
        written.num_documents += begins
        written.crc32 = zlib.crc32(data, written.crc32)
        self.num_pieces += 1

    def save_journal(self) -> None:
        """Bring everything so far to the disk, then say so: from here a killed build goes on."""
        self._sync()
        splits = {name: asdict(written) for name, written in self._written.items()}
        atomic_write(self.folder / JOURNAL, json.dumps({"num_pieces": self.num_pieces, "splits": splits}))

    def finish(self, key: str) -> TokenFiles:
        """The files, complete and on the disk, with what a header says of them."""
        self._sync()
        splits = {
            name: TokenFile(self._path(name), self.vocab_size, **asdict(written))
            for name, written in self._written.items()
        }
        return TokenFiles(self.folder, key, **splits)

    def __enter__(self) -> Self:
        for name in SPLITS:
            self._open_files[name] = self._stack.enter_context(self._path(name).open("ab"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError) if kind else ExitStack():  # a full disk fails again as its file is closed
            self._stack.close()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.bin"

    def _sync(self) -> None:
        for file in self._open_files.values():
            file.flush()
            os.fsync(file.fileno())

    def _trim(self, name: str) -> bool:
        """Cut a file back to what the journal vouches for; False if that is not there or not intact."""
        written, path = self._written[name], self._path(name)
        size = written.num_tokens * token_dtype(self.vocab_size).itemsize
        if not path.is_file() or path.stat().st_size < size or crc32_of(path, size) != written.crc32:
            return False
        os.truncate(path, size)
        return True
