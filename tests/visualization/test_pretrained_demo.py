"""Pages of the demo of published models."""

from __future__ import annotations

import importlib
import re
import sys
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from glassformer.models import GPTModel, ViTModel
from glassformer.tokenization import ByteTokenizer

pytestmark = pytest.mark.slow

DEMOS = Path(__file__).parents[2] / "demos"


@pytest.fixture
def pretrained(monkeypatch):
    monkeypatch.syspath_prepend(str(DEMOS))
    return importlib.import_module("pretrained")


def words(path):
    return unescape(re.sub("<[^>]+>", " ", path.read_text("utf-8")))


def test_the_index_shows_each_model_and_how_to_train_a_missing_one(pretrained, tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    model = GPTModel(257, 16, 2, 2, max_seq_len=64)
    model.tokenizer = ByteTokenizer()
    text = " ".join(f"The {number} people have the right to vote today." for number in range(20))
    monkeypatch.setattr(pretrained, "documents", lambda name: [SimpleNamespace(text=text)])
    monkeypatch.setattr(pretrained, "first_words", lambda: "The people have the right to vote.")

    def make(path):
        return pretrained.labeled_demo(model, "mine", 4, path, "glassformer serve mine")

    pages = [pretrained.Page("mine.html", "Mine", "2 layers of 2 heads.", make)]
    monkeypatch.setattr(pretrained, "pages", lambda g2p: pages)
    arguments = ["pretrained.py", "--output", str(tmp_path / "pages"), "--g2p", str(tmp_path / "no run")]
    monkeypatch.setattr(sys, "argv", arguments)
    pretrained.main()
    index = tmp_path / "pages" / "index.html"
    shown, html = words(index), index.read_text("utf-8")
    for said in (
        "The people have the right to vote.",
        "glassformer serve mine",
        "Attention pattern of each head",
    ):
        assert said in shown
    assert "no run in" in shown
    assert "glassformer train --config g2p --run-folder" in shown
    assert '<a href="mine.html"><img class="preview" src="data:image/png;base64,' in html
    assert (tmp_path / "pages" / "mine.png").read_bytes().startswith(b"\x89PNG")
    assert "mine over 4 sentences" in (tmp_path / "pages" / "mine.html").read_text("utf-8")
    assert "no run in" in capsys.readouterr().out


def test_the_page_of_the_vision_transformer_tells_how_the_photograph_was_prepared(
    pretrained, tmp_path, monkeypatch
):
    torch.manual_seed(0)
    vit = ViTModel(28, 14, 24, 12, 2, head="none")
    monkeypatch.setattr(pretrained.onnx_vit, "load", lambda file: vit)
    monkeypatch.setattr(pretrained, "package_file", lambda *names: Path("vit.onnx"))
    monkeypatch.setattr(pretrained, "SIDE", 56)
    demo = pretrained.dinov2(tmp_path / "vit.html")
    notes = demo.explorer.contents.notes
    assert notes[0].startswith("the upper 512 x 512 pixels of a photograph of 600 x 512")
    assert notes[1] == "resized from 512 x 512 to 56 x 56 pixels"
    assert "resized from 512 x 512" in (tmp_path / "vit.html").read_text("utf-8")
    assert np.isfinite(demo.figure.get_size_inches()).all()
    assert "onnx_vit.load" in demo.commands
