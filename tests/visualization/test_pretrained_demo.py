"""The index page of the demo of published models: what stands there of each, and of one that is missing."""

from __future__ import annotations

import importlib
import re
import sys
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import torch

from glassformer.models import GPTModel, ViTModel
from glassformer.tokenization import ByteTokenizer

DEMOS = Path(__file__).parents[2] / "demos"


@pytest.fixture
def pretrained(monkeypatch):
    monkeypatch.syspath_prepend(str(DEMOS))
    return importlib.import_module("pretrained")


def words(path):
    return unescape(re.sub("<[^>]+>", " ", path.read_text("utf-8")))


def test_the_index_shows_each_model_and_says_what_is_missing(pretrained, tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    model = GPTModel(257, 16, 2, 2, max_seq_len=64)
    model.tokenizer = ByteTokenizer()
    monkeypatch.setattr(pretrained, "opening", lambda: "The people have the right to vote.")

    def make(path):
        return pretrained.named(model, "mine", 4, path, "glassformer serve mine")

    pages = [pretrained.Page("mine.html", "Mine", "2 layers of 2 heads.", make)]
    monkeypatch.setattr(pretrained, "pages", lambda g2p: pages)
    arguments = ["pretrained.py", "--output", str(tmp_path / "pages"), "--g2p", str(tmp_path / "no run")]
    monkeypatch.setattr(sys, "argv", arguments)
    pretrained.main()
    index = tmp_path / "pages" / "index.html"
    shown, html = words(index), index.read_text("utf-8")
    for said in ("The people have the right to vote.", "glassformer serve mine", "What each head does"):
        assert said in shown
    assert "no run in" in shown
    assert "glassformer train --config g2p --run-folder" in shown
    assert '<a href="mine.html"><img class="preview" src="data:image/png;base64,' in html
    assert (tmp_path / "pages" / "mine.png").read_bytes().startswith(b"\x89PNG")
    assert "mine over 4 sentences" in (tmp_path / "pages" / "mine.html").read_text("utf-8")
    assert "no run in" in capsys.readouterr().out


def test_a_vision_transformer_is_given_a_photograph_and_its_page_says_what_was_done(
    pretrained, tmp_path, monkeypatch
):
    torch.manual_seed(0)
    vit = ViTModel(28, 14, 24, 12, 2, head="none")
    monkeypatch.setattr(pretrained.onnx_vit, "load", lambda file: vit)
    monkeypatch.setattr(pretrained, "package_file", lambda *names: Path("vit.onnx"))
    monkeypatch.setattr(pretrained, "SIDE", 56)
    made = pretrained.dinov2(tmp_path / "vit.html")
    notes = made.explorer.contents.notes
    assert notes[0].startswith("the upper 512 x 512 pixels of a photograph of 600 x 512")
    assert notes[1] == "resized from 512 x 512 to 56 x 56 pixels"
    assert "resized from 512 x 512" in (tmp_path / "vit.html").read_text("utf-8")
    assert np.isfinite(made.figure.get_size_inches()).all()
    assert "onnx_vit.load" in made.commands
