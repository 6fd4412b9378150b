"""A small run, trained by the command line, and a small model for each task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glassformer.cli import main
from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel
from glassformer.tokenization import ByteTokenizer, SymbolTokenizer, WordPieceTokenizer

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


def saved(model, tokenizer, folder):
    """Save a model with random weights that are far apart, and return the path."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.tokenizer = tokenizer
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def save_model():
    return saved


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """A folder with a small model for each task."""
    folder = tmp_path_factory.mktemp("models")
    words = WordPieceTokenizer.train(["the cat sat on the mat"] * 9, 60)
    size = {"vocab_size": words.vocab_size, "d_model": 16, "num_layers": 2, "num_heads": 2, "max_seq_len": 16}
    symbols = SymbolTokenizer([*"abcdefgh", "AH", "B", "K"])
    colours = {"image_size": 8, "patch_size": 4, "d_model": 16, "num_layers": 2, "num_heads": 2}
    models = {
        "masked": (BERTModel(**size, head="masked_lm"), words),
        "classes": (BERTModel(**size, head="classification", labels=["old", "new", "odd"]), words),
        "bare": (BERTModel(**size), words),
        "tags": (BERTModel(**size, head="token_classification"), words),
        "sounds": (T5Model(symbols.vocab_size, 16, 2, 2, max_seq_len=16), symbols),
        "images": (ViTModel(**colours, labels=4), None),
        "text": (GPTModel(257, 16, 2, 2, max_seq_len=32), ByteTokenizer()),
        "wide sounds": (T5Model(900, 16, 1, 2, max_seq_len=16), symbols),
        "wide text": (GPTModel(900, 16, 1, 2, max_seq_len=32), ByteTokenizer()),
    }
    return {name: saved(model, tokenizer, folder / name) for name, (model, tokenizer) in models.items()}


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)).save(path)
    return str(path)
