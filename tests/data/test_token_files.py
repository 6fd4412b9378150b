"""Token files on disk and their checksummed header."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from glassformer.data import (
    Batches,
    SilentProgress,
    TokenFileError,
    TokenFiles,
    build_token_files,
    windows,
)
from glassformer.data.token_files import hash_values
from glassformer.tokenization import ByteTokenizer, CharacterTokenizer
from glassformer.training.evaluation import Bigram, Unigram, evaluate_ngram

TEXTS = [f"text {i} is about the number {i * i}. " for i in range(40)]


@pytest.fixture
def files(tmp_path: Path) -> TokenFiles:
    return build_token_files(TEXTS, ByteTokenizer(), tmp_path, progress=SilentProgress())


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def rewrite(folder: Path, **changes: object) -> None:
    path = folder / "header.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def leave_out_splits(folder: Path) -> None:
    path = folder / "header.json"
    header = {name: v for name, v in json.loads(path.read_text()).items() if name not in ("splits", "hash")}
    path.write_text(json.dumps(header | {"hash": hash_values(header)}))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut off": (
        lambda f: (f / "train.bin").write_bytes((f / "train.bin").read_bytes()[:-1]),
        "its header says",
    ),
    "longer": (lambda f: (f / "test.bin").write_bytes(bytes(5000)), "its header says"),
    "gone": (lambda f: (f / "test.bin").unlink(), "test.bin is missing"),
    "no header": (lambda f: (f / "header.json").unlink(), "there is no header.json"),
    "half a header": (
        lambda f: (f / "header.json").write_text('{"format": "gl'),
        "header.json is not valid JSON",
    ),
    "a flipped bit in the header": (lambda f: flip(f / "header.json", 80), "header.json"),
    "a header of another kind": (
        lambda f: (f / "header.json").write_text("[]"),
        "does not have the format 'glassformer",
    ),
    "a deeply nested header": (
        lambda f: (f / "header.json").write_text("[" * 100_000),
        "header.json is not valid JSON",
    ),
    "an incomplete header": (leave_out_splits, "header.json is incomplete"),
    "a later header": (lambda f: rewrite(f, version=2), "has the version 2, expected 1"),
    "a changed header": (lambda f: rewrite(f, vocab_size=9), "does not match its own hash"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json is missing"),
    "another tokenizer": (
        lambda f: CharacterTokenizer("ab").save(f),
        "the content of tokenizer.json does not match its checksum",
    ),
}


def test_a_token_file_behaves_like_an_array(files: TokenFiles) -> None:
    text = "".join(
        TEXTS[i] for i in range(40) if TEXTS[i].encode()[:7] in bytes(files.train.tokens.astype(np.uint8))
    )
    assert len(files.train) == files.train.num_tokens == len(files.train.tokens)
    assert files.train[0] == ord("t")
    assert bytes(files.train[:4].astype(np.uint8)) == text.encode()[:4] == b"text"
    assert isinstance(files.train.tokens, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        files.train.tokens[0] = 1


def test_reopened_files_are_equal(files: TokenFiles) -> None:
    opened = TokenFiles.open(files.folder)
    assert opened == files
    assert opened.vocab_size == 257
    assert list(opened.splits) == ["train", "validation", "test"]
    assert isinstance(opened.tokenizer(), ByteTokenizer)


def test_tokens_are_16_bit_if_every_id_fits_and_32_bit_otherwise(tmp_path: Path) -> None:
    for count, dtype in ((2**16, np.uint16), (2**16 + 1, np.uint32)):
        tokenizer = CharacterTokenizer("".join(chr(0x10000 + i) for i in range(count)))
        text = tokenizer.characters[-10:]
        built = build_token_files([text], tokenizer, tmp_path, fractions=(1, 0, 0), progress=SilentProgress())
        assert built.train.dtype == dtype
        assert built.train.tokens.tolist() == list(range(count - 10, count))
        assert built.train.path.stat().st_size == 10 * dtype().itemsize


def test_a_split_with_fraction_zero_is_empty(tmp_path: Path) -> None:
    built = build_token_files(
        TEXTS, ByteTokenizer(), tmp_path, fractions=(0.9, 0.1, 0), progress=SilentProgress()
    )
    assert len(built.test) == built.test.num_bytes == built.test.num_documents == 0
    assert built.test.tokens.tolist() == []
    assert TokenFiles.open(built.folder, verify=True) == built


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_detected_when_files_are_opened(files: TokenFiles, name: str) -> None:
    damage, problem = DAMAGE[name]
    damage(files.folder)
    with pytest.raises(TokenFileError, match=rf"token files in {files.folder} cannot be used: .*{problem}"):
        TokenFiles.open(files.folder)


@pytest.mark.parametrize("offset", [0, 101, -1])
def test_a_flipped_bit_is_detected_by_verify(files: TokenFiles, offset: int) -> None:
    flip(files.train.path, offset)
    TokenFiles.open(files.folder)
    with pytest.raises(TokenFileError, match=r"the content of train\.bin does not match its checksum"):
        TokenFiles.open(files.folder, verify=True)


@pytest.mark.parametrize("name", [*DAMAGE, "a flipped bit"])
def test_damaged_files_are_rebuilt_with_one_note(files: TokenFiles, tmp_path: Path, name: str) -> None:
    expected = {path.name: path.read_bytes() for path in files.folder.iterdir()}
    damage, problem = DAMAGE.get(name, (lambda f: flip(f / "validation.bin", 3), "checksum"))
    damage(files.folder)
    notes = []

    class NoteRecorder(SilentProgress):
        def note(self, line: str) -> None:
            notes.append(line)

    built = build_token_files(TEXTS, ByteTokenizer(), tmp_path, progress=NoteRecorder())
    assert {path.name: path.read_bytes() for path in built.folder.iterdir()} == expected
    assert len(notes) == 1
    assert problem in notes[0]
    assert notes[0].endswith("; rebuilding them")


READS: dict[str, Callable[[TokenFiles], object]] = {
    "a token": lambda files: files.train[0],
    "a slice": lambda files: files.train[-3:],
    "batches": lambda files: Batches(files.train, 2, 8, 0).batch(0),
    "windows": lambda files: list(windows(files.train, 8, 2)),
    "n-grams": lambda files: Bigram(files.train, files.vocab_size),
    "their evaluation": lambda files: evaluate_ngram(
        Unigram(files.validation, files.vocab_size), files.train
    ),
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("size", [0, 1, 511])
def test_a_file_that_is_truncated_while_it_is_in_use_is_an_error(
    files: TokenFiles, read: str, size: int
) -> None:
    """Without the error, reading past the end of the mapped file ends the process without a message."""
    READS[read](files)
    os.truncate(files.train.path, size)
    message = rf"train.bin was truncated while it was in use: it has {size} bytes instead of [\d,]+$"
    with pytest.raises(TokenFileError, match=message):
        READS[read](files)


def test_a_file_that_is_replaced_while_it_is_in_use_stays_readable(files: TokenFiles) -> None:
    before = files.train[:]
    files.train.path.unlink()
    files.train.path.write_bytes(b"other")
    assert np.array_equal(files.train[:], before)


def test_an_empty_split_has_no_tokens(tmp_path: Path) -> None:
    files = build_token_files(
        TEXTS, ByteTokenizer(), tmp_path, fractions=(1, 0, 0), progress=SilentProgress()
    )
    assert len(files.test[:]) == len(files.test) == 0
