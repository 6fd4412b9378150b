"""What any failure looks like: one line, an exit status, and a file's name."""

from __future__ import annotations

import json
import shutil
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glassformer.cli import main
from glassformer.cli.errors import UnreadableFileError, reading
from glassformer.training.config import MAX_VOCAB_SIZE


class PanicException(BaseException):
    """What pyo3 raises for a panic in Rust: no Exception."""


def failing(error):
    def run(self):
        raise error

    return run


def failed(capsys, status, *arguments):
    assert main(list(map(str, arguments))) == status
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ValueError("seed must be\nan int"), 2, "seed must be an int"),
        (FileNotFoundError(2, "No such file", "a b"), 2, "[Errno 2] No such file: 'a b'"),
        (KeyError("layer"), 1, "internal error: KeyError: 'layer' (GLASSFORMER_TRACEBACK=1 shows where)"),
        (AssertionError(), 1, "internal error: AssertionError: (GLASSFORMER_TRACEBACK=1 shows where)"),
        (RecursionError("too deep"), 1, "internal error: RecursionError: too deep (GLASS"),
        (PanicException("index out of bounds"), 1, "internal error: PanicException: index out of bounds ("),
        (MemoryError(), 2, "there is not enough memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."), 2, "memory: 2.00 GiB cannot be"),
        (RuntimeError("mat1 and mat2"), 1, "internal error: RuntimeError: mat1 and mat2"),
        (OSError(12, "Cannot allocate memory"), 2, "there is not enough memory"),
        (ValueError("bad \x1b[31mname\x07"), 2, "bad \\x1b[31mname\\x07"),
        (ValueError("a\u202eb\x9bm \ud800"), 2, "a\\u202eb\\x9bm \\ud800"),
    ],
)
def test_errors_take_one_line(error, status, message, capsys, monkeypatch):
    monkeypatch.setattr("glassformer.cli.describe.Describe.run", failing(error))
    monkeypatch.delenv("GLASSFORMER_TRACEBACK", raising=False)
    line = failed(capsys, status, "describe", "gpt2")
    assert line.startswith("glassformer describe: ")
    assert message in line


def test_what_torch_and_numpy_raise_without_memory(capsys, monkeypatch):
    for allocate in (lambda: torch.empty(2**50), lambda: torch.empty(2**40, 2**40), lambda: np.empty(2**50)):
        monkeypatch.setattr("glassformer.cli.describe.Describe.run", lambda self, work=allocate: work())
        assert "there is not enough memory" in failed(capsys, 2, "describe", "gpt2")


def test_a_variable_shows_the_traceback(capsys, monkeypatch):
    monkeypatch.setenv("GLASSFORMER_TRACEBACK", "1")
    for error in (KeyError("layer"), ValueError("layer")):
        monkeypatch.setattr("glassformer.cli.describe.Describe.run", failing(error))
        main(["describe", "gpt2"])
        lines = capsys.readouterr().err.splitlines()
        assert lines[0] == "Traceback (most recent call last):"
        assert lines[-1].startswith("glassformer describe: ")


def test_interruptions_pass_the_boundary(monkeypatch):
    for error in (SystemExit(3), GeneratorExit()):
        monkeypatch.setattr("glassformer.cli.describe.Describe.run", failing(error))
        with pytest.raises(type(error)):
            main(["describe", "gpt2"])


def test_warnings_take_one_line(capsys, monkeypatch):
    def run(self):
        warnings.warn("loaded without\nits \x1b[31mtokenizer", stacklevel=1)

    monkeypatch.setattr("glassformer.cli.describe.Describe.run", run)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert failed(capsys, 0, "describe", "gpt2") == (
            "glassformer describe: loaded without its \\x1b[31mtokenizer"
        )


@pytest.mark.parametrize(
    "error",
    [
        RecursionError("maximum recursion depth exceeded"),
        zlib.error("Error -3"),
        NotImplementedError("compression method"),
        KeyError("rows"),
        SyntaxError("broken PNG file"),
        Image.DecompressionBombError("too many pixels"),
        struct.error("unpack requires"),
        PanicException("index out of bounds"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ],
)
def test_whatever_a_reader_raises_names_the_file(error):
    with pytest.raises(UnreadableFileError, match=f"some/file cannot be read: {type(error).__name__}: "):
        with reading("some/file"):
            raise error


def test_errors_that_a_reader_documents_are_kept():
    with pytest.raises(ValueError, match=r"^file: line 3 is no pair$"), reading("file"):
        raise ValueError("line 3 is no pair")
    with pytest.raises(ValueError, match=r"^file, line 3 is no pair$"), reading("file"):
        raise ValueError("file, line 3 is no pair")
    for error in (FileNotFoundError("file"), KeyboardInterrupt(), SystemExit(1)):
        with pytest.raises(type(error)), reading("file"):
            raise error
    with pytest.raises(MemoryError, match="file does not fit into memory"), reading("file"):
        torch.empty(2**50)


def damaged(folders, folder, name, content):
    shutil.copytree(folders["masked"], folder, dirs_exist_ok=True)
    (folder / name).write_bytes(content)
    return folder


DEEP = b"[" * 100_000


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [DEEP, b'{"a":' * 100_000, b"\xff\xfe", b"", b"null", b'{"model": 1}'])
def test_damaged_files_of_a_model_are_named(name, content, folders, tmp_path, capsys):
    folder = damaged(folders, tmp_path / "model", name, content)
    if (name, content) == ("tokenizer_config.json", b'{"model": 1}'):
        return  # a valid one
    line = failed(capsys, 2, "fill-mask", folder, "[MASK]")
    assert str(folder) in line
    assert "internal error" not in line


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"model": "text"},
        {"model": "text", "settings": {}, "rows": [{}], "data": {}},
        {"model": "text", "settings": [], "rows": {"a": 1}, "data": 3},
        {"model": 1, "settings": {}, "rows": [5], "data": {}},
    ],
)
def test_reports_without_their_keys_are_named(content, folders, tmp_path, capsys):
    report = tmp_path / "heads.json"
    report.write_text(json.dumps({"format": "glassformer-heads-1", **content}))
    page = ["--no-open", "-o", tmp_path / "a.html"]
    for command in (
        ["explore", folders["text"], "a", "--heads-report", report, *page],
        ["ablate", folders["text"], "--named", "x", "--report", report, "--run-folder", tmp_path / "run"],
    ):
        assert str(report) in failed(capsys, 2, *command)


def test_damaged_images_and_configs_are_named(folders, picture, tmp_path, capsys):
    whole = Path(picture).read_bytes()
    for number, content in enumerate((whole[:60], whole[:45] + b"\0" * 20 + whole[65:], b"GIF89a", b"")):
        path = tmp_path / f"{number}.png"
        path.write_bytes(content)
        assert str(path) in failed(capsys, 2, "classify", folders["images"], path)
    config = tmp_path / "deep.toml"
    config.write_bytes(b"a = " + DEEP)
    assert str(config) in failed(capsys, 2, "train", "--config", config)
    assert "at most 10,000,000" in failed(capsys, 2, "train", "--data.vocab-size", MAX_VOCAB_SIZE + 1)


def test_deeply_nested_lines_of_a_data_set_are_named(folders, tmp_path, capsys):
    data = tmp_path / "deep.jsonl"
    data.write_bytes(b'{"text": ' + DEEP + b"\n")
    run = ["--run-folder", tmp_path / "run"]
    for command in (
        ["analyze", folders["text"], "--data", data, *run],
        ["ablate", folders["text"], "--tasks", "copy-1", "--how", "mean", "--data", data, *run],
        ["prune", folders["text"], tmp_path / "c", "--fraction", "0.5", "--data", data],
    ):
        assert str(data) in failed(capsys, 2, *command)


def test_a_command_works_without_standard_output(folders, capsys, monkeypatch):
    """As for a process that is started with its output closed."""
    for line in (
        ["tokenize", "--text", "a cat", "--tokenizer", "byte"],
        ["generate", folders["text"], "a", "--max-new-tokens", "1"],
        ["fill-mask", folders["masked"], "the [MASK] sat"],
        ["-V"],
    ):
        monkeypatch.setattr("sys.stdout", None)
        assert main(line) == 0
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(SystemExit) as stop:
        main(["help", "generate"])
    assert not stop.value.code
    assert capsys.readouterr().err == ""
