"""Errors of figures and pages for wrong arguments, before any work."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from glassformer.analysis import HeadReport
from glassformer.models import GPTModel, T5Model, ViTModel
from glassformer.tokenization import ByteTokenizer
from glassformer.visualization import AttentionVisualizer


def build(layers=2, heads=4):
    torch.manual_seed(3)
    model = GPTModel(257, 24, layers, heads, max_seq_len=80)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.tokenizer = ByteTokenizer()
    return model


def report(layers, heads):
    row = {"pattern": "first", "measure": "rate", "name": "first", "main": True, "score": 0.9}
    row |= {"low": 0.8, "high": 1.0, "control": "chance", "control_score": 0.1}
    rows = [{**row, "layer": layer, "head": head} for layer in range(layers) for head in range(heads)]
    return HeadReport("mine", {"margin": 0.1}, rows, {"num_items": 12})


def diverged(model):
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    return AttentionVisualizer(model)


def test_a_diverged_model_raises():
    visualizer = diverged(build())
    message = "is not finite: the model's weights are broken or diverged"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for plot in (
            lambda: visualizer.plot_attention_heads("a cat", 1),
            lambda: visualizer.plot_head("a cat", 1, 0),
        ):
            with pytest.raises(ValueError, match=f"The attention of layer 1 {message}"):
                plot()
        with pytest.raises(ValueError, match=message):
            visualizer.plot_rollout("a cat")
        with pytest.raises(ValueError, match=message):
            visualizer.plot_logit_lens("a cat")
        with pytest.raises(ValueError, match=f"layer 0.* {message}"):
            visualizer.explore("a cat")
        vit = diverged(ViTModel(12, 4, 24, 2, 3))
        with pytest.raises(ValueError, match=f"The attention of layer 1 {message}"):
            vit.plot_vit_attention(np.zeros((12, 12, 3)), 1)


def test_indices_must_be_ints():
    visualizer = AttentionVisualizer(build())
    for layer in (True, 1.5, "1", None):
        with pytest.raises(TypeError, match=f"layer must be an int, got {layer!r}"):
            visualizer.plot_attention_heads("a cat", layer)
    with pytest.raises(TypeError, match="head must be an int, got False"):
        visualizer.plot_head("a cat", 0, False)
    for position in (1.5, "x", True):
        with pytest.raises(TypeError, match=f"position must be an int, got {position!r}"):
            visualizer.plot_rollout("a cat", position)
    with pytest.raises(TypeError, match="position must be an int"):
        visualizer.plot_logit_lens("a cat", positions=[1.5])
    with pytest.raises(TypeError, match="layer must be an int, got True"):
        visualizer.explore("a cat", layers=[True])


def test_no_layers_raise():
    visualizer = AttentionVisualizer(build())
    with pytest.raises(ValueError, match="layers must not be empty"):
        visualizer.plot_logit_lens("a cat", layers=[])
    with pytest.raises(ValueError, match="layers is empty"):
        visualizer.explore("a cat", layers=[])


@pytest.mark.slow
def test_lone_surrogates_are_escaped():
    visualizer = AttentionVisualizer(build())
    figure = visualizer.plot_head("a\ud800", 0, 0)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == list("a\\ud800")
    assert "a\\ud800" in visualizer.explore("a\ud800", analyses=False).contents.text
    for plot in (visualizer.plot_logit_lens, visualizer.plot_rollout):
        assert any("a\\ud800" in text.get_text() for text in plot("a\ud800").texts)


def test_an_empty_target_raises():
    model = T5Model(257, 8, 2, 4)
    model.tokenizer = ByteTokenizer()
    visualizer = AttentionVisualizer(model)
    for call in (
        lambda: visualizer.plot_cross_attention("a", 0, target_text=""),
        lambda: visualizer.plot_rollout("a", target_text=""),
        lambda: visualizer.plot_logit_lens("a", target_text=[]),
        lambda: visualizer.explore("a", target_text=""),
    ):
        with pytest.raises(ValueError, match="target is empty"):
            call()


def test_a_report_about_another_model_raises():
    visualizer = AttentionVisualizer(build())
    with pytest.raises(ValueError, match=r"is about another model: the model has no head 0\.4"):
        visualizer.explore("a cat", heads_report=report(6, 12), analyses=False)
    with pytest.raises(ValueError, match=r"is about another model: the model has no head 2\.0"):
        visualizer.explore("a cat", heads_report=report(3, 4), analyses=False)
    page = visualizer.explore("a cat", layers=[1], heads_report=report(2, 4), analyses=False)
    assert {label.layer for label in page.contents.head_labels} == {1}
    with pytest.raises(TypeError, match="report must be a HeadReport"):
        visualizer.explore("a cat", heads_report=5)


def test_a_missing_report_raises_before_any_work(monkeypatch, tmp_path):
    model = build()
    monkeypatch.setattr(model, "forward", None)
    with pytest.raises(FileNotFoundError, match="missing"):
        AttentionVisualizer(model).explore("a cat", heads_report=tmp_path / "missing.json")


def test_a_text_together_with_an_image_raises():
    visualizer = AttentionVisualizer(ViTModel(12, 4, 24, 2, 3))
    for options in ({"text": "a"}, {"target_text": "a"}):
        with pytest.raises(ValueError, match="text and image exclude each other"):
            visualizer.explore(image=np.zeros((12, 12, 3)), **options)


@pytest.mark.parametrize("suffix", ["png", "html"])
def test_a_path_below_a_file_or_of_a_folder_raises(suffix, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    visualizer, place = AttentionVisualizer(build()), tmp_path / "file" / "deep" / f"a.{suffix}"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotADirectoryError, match=r"file is a file: nothing can be written below it"):
        visualizer.plot_head("a", 0, 0, place) if suffix == "png" else visualizer.explore("a", place)
    with pytest.raises(IsADirectoryError, match=r"\. is a folder"):
        visualizer.plot_head("a", 0, 0, ".") if suffix == "png" else visualizer.explore("a", ".")


@pytest.mark.parametrize("name", ["plot_rollout", "plot_logit_lens"])
def test_wrong_input_raises(name, tmp_path, monkeypatch, decoder):
    model = decoder
    plot = getattr(AttentionVisualizer(model), name)
    with pytest.raises(ValueError, match="the text is empty"):
        plot("")
    which = {"position": 5} if name == "plot_rollout" else {"positions": [5]}
    with pytest.raises(ValueError, match="position 5 does not exist: positions are 0 to 4"):
        plot("a cat", **which)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(model, "forward", None)  # so that computing before looking at the output fails
    with pytest.raises(ValueError, match=r"\.png, \.svg, \.pdf, got '\.bmp'"):
        plot("a cat", save_path=tmp_path / "a.bmp")
    with pytest.raises(OSError, match="file"):
        plot("a cat", save_path=tmp_path / "file" / "a.png")
