"""A small run, trained by the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from glassformer.cli import main

TEXT = "The cat sat on the mat, and the dog sat on the log. " * 60
SMALL = [
    *("--data.tokenizer", "byte", "--data.seq-len", "16", "--data.fractions", "0.8", "0.1", "0.1"),
    *("--model.preset", "gpt-nano", "--batch-size", "2", "--evaluation.batch-size", "64"),
]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="session")
def small(corpus) -> list[str]:
    return [*SMALL, "--data.source", str(corpus), "--data.folder", str(corpus.parent / "tokens")]


@pytest.fixture(scope="session")
def run_folder(small, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", *small, "--run-folder", str(folder), "--steps", "4", "--prompt", "The"]) == 0
    return folder
