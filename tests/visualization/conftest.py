"""Small models, and a browser for pages."""

from __future__ import annotations

import os
import shutil

import pytest
import torch

from glassformer.models import BERTModel, GPTModel, T5Model
from glassformer.tokenization import ByteTokenizer, SymbolTokenizer, WordPieceTokenizer


def randomize(model):
    """Weights that are large enough for attention to differ from uniform."""
    torch.manual_seed(3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture(name="randomize")
def randomize_fixture():
    return randomize


@pytest.fixture
def decoder():
    """A GPT that reads bytes."""
    model = randomize(GPTModel(257, 24, 2, 4, max_seq_len=80))
    model.tokenizer = ByteTokenizer()
    return model


@pytest.fixture
def make_encoder():
    """A function that builds a BERT with a given head."""

    def make(head):
        tokenizer = WordPieceTokenizer.train(["the cat sat"] * 9, 40)
        model = randomize(BERTModel(tokenizer.vocab_size, 8, 2, 4, head=head))
        model.tokenizer = tokenizer
        return model

    return make


@pytest.fixture
def encoder_decoder():
    """A T5 from letters to sounds."""
    model = randomize(T5Model(12, 8, 2, 4, num_decoder_layers=3))
    model.tokenizer = SymbolTokenizer([*"abc", "AH", "B", "K"])
    return model


@pytest.fixture
def texts_of():
    """A function that returns the texts of a figure without the controls for the direction of writing."""

    def join(figure):
        text = " ".join(text.get_text() for text in figure.texts)
        return " ".join(text.translate(dict.fromkeys(map(ord, "\u2068\u2069\u200e"))).split())

    return join


@pytest.fixture(scope="session")
def missing():
    """Skip a test with the reason; in CI, where everything is installed, fail."""

    def end(what):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(what)

    return end


@pytest.fixture(scope="module")
def browser(missing):
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("needs the package playwright")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        missing("needs chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
