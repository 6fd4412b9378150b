"""Building token files: caching, resuming after interruptions, locking and errors."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from glassformer.data import Corpus, SilentProgress, TokenFiles, build_token_files
from glassformer.data.token_file_builder import JOURNAL, TokenFileWriter
from glassformer.tokenization import ByteTokenizer, CharacterTokenizer

TEXTS = [f"document {i}: " + "some words and more " * (i % 7) for i in range(60)]

needs_fork = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")


class NoteRecorder(SilentProgress):
    """Records the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, line: str) -> None:
        self.notes.append(line)


class CountingTokenizer(ByteTokenizer):
    """Counts the texts that it encodes, and stops with an error before the given one."""

    def __init__(self, stop_at: int = 10**9, stop: Callable[[], object] = lambda: 1 / 0) -> None:
        self.encoded, self.stop_at, self.stop = 0, stop_at, stop

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        self.encoded += len(texts)
        if self.encoded > self.stop_at:
            self.stop()
        return super().encode_batch(texts)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glassformer.data.token_file_builder.BATCH_CHARACTERS", 100)


def build(
    folder: Path, tokenizer: ByteTokenizer | None = None, recorder: NoteRecorder | None = None
) -> TokenFiles:
    progress = recorder or SilentProgress()
    return build_token_files(
        TEXTS, tokenizer or ByteTokenizer(), folder, progress=progress, journal_characters=300
    )


def content(files: TokenFiles) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in files.folder.iterdir()}


def in_fork(work: Callable[[], object]) -> int:
    """Run the work in a process of its own and return its exit code."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_files_contain_the_text_of_their_splits(tmp_path: Path) -> None:
    files = build(tmp_path)
    corpus = Corpus(TEXTS)
    for name, file in files.splits.items():
        documents = list(corpus.texts(name))
        assert ByteTokenizer().decode(file.tokens.tolist()) == "".join(
            f"{text}<|endoftext|>" for text in documents
        )
        assert file.num_documents == len(documents)
        assert file.num_bytes == sum(len(text.encode()) for text in documents)
        assert file.num_tokens == file.num_bytes + file.num_documents


def without_hash(journal: dict[str, Any], **changes: Any) -> str:
    return json.dumps({name: value for name, value in (journal | changes).items() if name != "hash"})


JOURNALS: dict[str, tuple[Callable[[dict[str, Any]], str], str]] = {
    "of version 0.1": (without_hash, "resuming"),
    "another number": (lambda j: json.dumps(j | {"num_pieces": j["num_pieces"] + 1}), "are damaged"),
    "a negative number": (lambda j: without_hash(j, num_pieces=-1), "are damaged"),
    "a fraction": (lambda j: without_hash(j, num_pieces=1.5), "are damaged"),
    "a negative size": (lambda j: without_hash(j).replace('tokens": ', 'tokens": -'), "are damaged"),
    "infinity": (lambda j: without_hash(j, num_pieces=float("inf")), "are damaged"),
    "a list": (lambda j: "[]", "are damaged"),
    "deeply nested": (lambda j: "[" * 100_000, "are damaged"),
}


@pytest.mark.parametrize("name", JOURNALS)
def test_only_a_journal_that_was_written_is_resumed(tmp_path: Path, name: str) -> None:
    whole = build(tmp_path / "whole")
    with pytest.raises(ZeroDivisionError):
        build(tmp_path / "again", CountingTokenizer(stop_at=40))
    path = next((tmp_path / "again").iterdir()) / JOURNAL
    change, note = JOURNALS[name]
    path.write_text(change(json.loads(path.read_text())))
    recorder = NoteRecorder()
    assert content(build(tmp_path / "again", recorder=recorder)) == content(whole)
    assert any(note in line for line in recorder.notes)


def test_folder_names_and_journals_are_those_of_earlier_versions(tmp_path: Path) -> None:
    # If this fails, existing token files are not found again and interrupted builds start again.
    with pytest.raises(ZeroDivisionError):
        build(tmp_path, CountingTokenizer(stop_at=40))
    folder = next(tmp_path.iterdir())
    journal = json.loads((folder / JOURNAL).read_text())
    assert folder.name == "72623c90c7a8c32a"
    assert set(journal) == {"num_pieces", "splits", "hash"}  # version 0.1 had no hash
    assert set(journal["splits"]["train"]) == {"num_tokens", "num_bytes", "num_documents", "crc32"}


def test_without_an_end_of_text_token_documents_are_concatenated(tmp_path: Path) -> None:
    tokenizer = CharacterTokenizer.train(TEXTS)
    files = build_token_files(TEXTS, tokenizer, tmp_path, progress=SilentProgress())
    assert tokenizer.decode(files.validation.tokens.tolist()) == "".join(Corpus(TEXTS).texts("validation"))


def test_a_document_split_by_position_has_one_end_of_text_token(tmp_path: Path) -> None:
    text = "né " * 100
    files = build_token_files([text], ByteTokenizer(), tmp_path, progress=SilentProgress())
    decoded = [ByteTokenizer().decode(file.tokens.tolist()) for file in files.splits.values()]
    assert "".join(decoded) == text + "<|endoftext|>"
    assert [len(part) for part in decoded] == [270, 15, 15 + len("<|endoftext|>")]
    assert sum(file.num_bytes for file in files.splits.values()) == len(text.encode())
    assert [file.num_documents for file in files.splits.values()] == [1, 1, 1]


@pytest.mark.slow
def test_existing_files_are_reused(tmp_path: Path) -> None:
    first = build(tmp_path / "cache")
    for i, text in enumerate(TEXTS):
        (tmp_path / f"{i:03}.txt").write_text(text)
    tokenizer = CountingTokenizer()
    assert build_token_files(tmp_path, tokenizer, tmp_path / "cache", progress=SilentProgress()) == first
    assert tokenizer.encoded == 0


def test_a_different_text_tokenizer_or_option_gives_different_files(tmp_path: Path) -> None:
    silent = SilentProgress()
    keys = {
        build_token_files(texts, tokenizer, tmp_path, progress=silent, **options).key
        for texts, tokenizer, options in (
            (TEXTS, ByteTokenizer(), {}),
            (TEXTS[1:], ByteTokenizer(), {}),
            (TEXTS, CharacterTokenizer.train(TEXTS), {}),
            (TEXTS, ByteTokenizer(), {"seed": 1}),
            (TEXTS, ByteTokenizer(), {"fractions": (0.8, 0.1, 0.1)}),
        )
    }
    assert len(keys) == len(list(tmp_path.iterdir())) == 5


@pytest.mark.slow
def test_an_interrupted_build_resumes_with_identical_files(tmp_path: Path) -> None:
    expected = content(build(tmp_path / "whole"))
    with pytest.raises(ZeroDivisionError):
        build(tmp_path / "resumed", CountingTokenizer(stop_at=40))
    recorder, tokenizer = NoteRecorder(), CountingTokenizer()
    files = build(tmp_path / "resumed", tokenizer, recorder)
    assert content(files) == expected
    assert 15 < tokenizer.encoded < 60
    assert len(recorder.notes) == 1
    assert f"resuming the token files in {files.folder}: " in recorder.notes[0]


@pytest.mark.slow
@needs_fork
@pytest.mark.parametrize("stop_at", [0, 1, 20, 45, 59])
def test_a_killed_build_resumes_with_identical_files(tmp_path: Path, stop_at: int) -> None:
    expected = content(build(tmp_path / "whole"))
    for times in (1, 2):  # killed again after it resumed
        tokenizer = CountingTokenizer(max(stop_at // times, 1), die)
        assert in_fork(partial(build, tmp_path / "resumed", tokenizer)) in (-signal.SIGKILL, 0)
    assert content(build(tmp_path / "resumed")) == expected


@pytest.mark.slow
@needs_fork
@pytest.mark.parametrize(
    "last_step",
    [
        "glassformer.data.token_file_builder.write_header",
        "glassformer.data.token_file_builder.TokenFileWriter.remove_journal",
    ],
)
def test_a_build_killed_at_its_last_step_gives_identical_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last_step: str
) -> None:
    expected = content(build(tmp_path / "whole"))
    with pytest.raises(ZeroDivisionError):  # so that there is a journal that is not removed at the start
        build(tmp_path / "resumed", CountingTokenizer(stop_at=40))
    with monkeypatch.context() as patch:
        patch.setattr(last_step, lambda *_: die())
        assert in_fork(lambda: build(tmp_path / "resumed")) == -signal.SIGKILL
    assert content(build(tmp_path / "resumed")) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / JOURNAL).write_text("{"),
        lambda folder: (folder / JOURNAL).write_text('{"num_pieces": 3}'),
        lambda folder: (folder / "train.bin").write_bytes(b"xx"),
        lambda folder: (folder / "train.bin").write_bytes(bytes(10**5)),
        lambda folder: (folder / "test.bin").unlink(),
    ],
)
def test_a_damaged_unfinished_build_starts_again(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    expected = content(build(tmp_path / "whole"))
    with pytest.raises(ZeroDivisionError):
        build(tmp_path / "resumed", CountingTokenizer(stop_at=40))
    damage(next((tmp_path / "resumed").iterdir()))
    recorder = NoteRecorder()
    assert content(build(tmp_path / "resumed", recorder=recorder)) == expected
    assert len(recorder.notes) == 1
    assert recorder.notes[0].endswith("are damaged; starting again")


@pytest.mark.slow
@needs_fork
def test_after_a_full_disk_existing_files_are_unchanged_and_the_build_resumes(tmp_path: Path) -> None:
    expected = content(build(tmp_path / "whole"))
    other = build_token_files(TEXTS[:30], ByteTokenizer(), tmp_path / "cache", progress=SilentProgress())

    def on_a_full_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        with pytest.raises(OSError, match=r"the same call resumes this build$") as caught:
            build(tmp_path / "cache")
        assert caught.value.errno == errno.EFBIG

    assert in_fork(on_a_full_disk) == 0
    assert TokenFiles.open(other.folder, verify=True) == other
    recorder = NoteRecorder()
    assert content(build(tmp_path / "cache", recorder=recorder)) == expected
    assert "resuming" in recorder.notes[0]


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        OSError, match=rf"cannot write token files to {tmp_path}/file/\w+: .*choose a writable folder"
    ):
        build(tmp_path / "file")

    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(
        PermissionError, match=rf"to {tmp_path}/x/\w+: Permission denied; choose a writable folder"
    ):
        build(tmp_path / "x")


@pytest.mark.parametrize("source", ["a.txt", "."])
def test_a_text_that_disappears_is_not_reported_as_an_unwritable_folder(tmp_path: Path, source: str) -> None:
    (tmp_path / "a.txt").write_text("some text " * 100)

    class DeletesText(SilentProgress):
        def update(self, task: str, done: int, total: int | None) -> None:
            if task == "tokenizing":
                (tmp_path / "a.txt").unlink()

    with pytest.raises((FileNotFoundError, ValueError), match=r"a\.txt|no text in the folder"):
        build_token_files(tmp_path / source, ByteTokenizer(), tmp_path / "cache", progress=DeletesText())


def test_an_error_of_the_tokenizer_is_raised_unchanged(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'d' at offset 0 is not among the 3 characters"):
        build_token_files(TEXTS, CharacterTokenizer("abc"), tmp_path, progress=SilentProgress())


@needs_fork
def test_two_processes_that_build_the_same_files_wait_for_each_other(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    expected = build(tmp_path)
    target = expected.folder
    whole = content(expected)
    (target / "header.json").unlink()
    TokenFileWriter(target, 257)  # as another process that has just begun

    with (target / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        class Other(NoteRecorder):
            def note(self, line: str) -> None:
                super().note(line)
                for name, data in whole.items():  # the other process ends
                    (target / name).write_bytes(data)
                fcntl.flock(lock, fcntl.LOCK_UN)

        recorder, tokenizer = Other(), CountingTokenizer()
        assert build(tmp_path, tokenizer, recorder) == expected
    in_use = f"the folder of token files {target} is in use by another process: waiting for it"
    assert recorder.notes == [in_use]
    assert tokenizer.encoded == 0


def test_progress_is_printed_by_default(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    build_token_files(TEXTS, ByteTokenizer(), tmp_path)
    output, errors = capfd.readouterr()
    assert output == ""
    assert [line.split(":")[0] for line in errors.splitlines()] == ["reading", "tokenizing"]
