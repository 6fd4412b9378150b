"""What pictures and pages refuse, in words, and before the work."""

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


def test_a_model_that_diverged_is_refused_everywhere():
    visualizer = diverged(build())
    message = "is not finite: the model's weights are broken or diverged"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for plot in (
            lambda: visualizer.plot_attention_heads("a cat", 1),
            lambda: visualizer.plot_head("a cat", 1, 0),
        ):
            with pytest.raises(ValueError, match=f"layer 1's attention {message}"):
                plot()
        with pytest.raises(ValueError, match=message):
            visualizer.plot_rollout("a cat")
        with pytest.raises(ValueError, match=message):
            visualizer.plot_logit_lens("a cat")
        with pytest.raises(ValueError, match=f"layer 0's attention {message}"):
            visualizer.explore("a cat")
        vit = diverged(ViTModel(12, 4, 24, 2, 3))
        with pytest.raises(ValueError, match=f"layer 1's attention {message}"):
            vit.plot_vit_attention(np.zeros((12, 12, 3)), 1)


def test_numbers_that_are_none_are_named():
    visualizer = AttentionVisualizer(build())
    for layer in (True, 1.5, "1", None):
        with pytest.raises(TypeError, match=f"a layer is a whole number such as 2, not {layer!r}"):
            visualizer.plot_attention_heads("a cat", layer)
    with pytest.raises(TypeError, match="a head is a whole number such as 2, not False"):
        visualizer.plot_head("a cat", 0, False)
    for position in (1.5, "x", True):
        with pytest.raises(TypeError, match=f"a position is a whole number such as 2, not {position!r}"):
            visualizer.plot_rollout("a cat", position)
    with pytest.raises(TypeError, match="names no position"):
        visualizer.plot_logit_lens("a cat", positions=[1.5])
    with pytest.raises(TypeError, match="a layer is a whole number such as 2, not True"):
        visualizer.explore("a cat", layers=[True])


def test_no_layers_are_no_picture():
    visualizer = AttentionVisualizer(build())
    with pytest.raises(ValueError, match="there are no layers to draw"):
        visualizer.plot_logit_lens("a cat", layers=[])
    with pytest.raises(ValueError, match="there are no layers to show"):
        visualizer.explore("a cat", layers=[])


def test_halves_of_a_character_are_read_as_they_are_written():
    visualizer = AttentionVisualizer(build())
    figure = visualizer.plot_head("a\ud800", 0, 0)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == list("a\\ud800")
    assert "a\\ud800" in visualizer.explore("a\ud800", analyses=False).contents.text
    for plot in (visualizer.plot_logit_lens, visualizer.plot_rollout):
        assert any("a\\ud800" in text.get_text() for text in plot("a\ud800").texts)


def test_an_empty_target_is_called_one():
    model = T5Model(257, 8, 2, 4)
    model.tokenizer = ByteTokenizer()
    visualizer = AttentionVisualizer(model)
    for call in (
        lambda: visualizer.plot_cross_attention("a", 0, target_text=""),
        lambda: visualizer.plot_rollout("a", target_text=""),
        lambda: visualizer.plot_logit_lens("a", target_text=[]),
        lambda: visualizer.explore("a", target_text=""),
    ):
        with pytest.raises(ValueError, match="the target is empty"):
            call()


def test_a_report_of_another_model_names_no_heads():
    visualizer = AttentionVisualizer(build())
    with pytest.raises(ValueError, match=r"is of another: the model has no head 0\.4"):
        visualizer.explore("a cat", heads_report=report(6, 12), analyses=False)
    with pytest.raises(ValueError, match=r"is of another: the model has no head 2\.0"):
        visualizer.explore("a cat", heads_report=report(3, 4), analyses=False)
    names = visualizer.explore("a cat", layers=[1], heads_report=report(2, 4), analyses=False).contents.names
    assert {name.layer for name in names} == {1}
    with pytest.raises(TypeError, match="a report is what analyze_head_patterns returned"):
        visualizer.explore("a cat", heads_report=5)


def test_a_report_is_read_before_the_model_works(monkeypatch, tmp_path):
    model = build()
    monkeypatch.setattr(model, "forward", None)
    with pytest.raises(FileNotFoundError, match="missing"):
        AttentionVisualizer(model).explore("a cat", heads_report=tmp_path / "missing.json")


def test_a_text_beside_an_image_is_refused():
    visualizer = AttentionVisualizer(ViTModel(12, 4, 24, 2, 3))
    for options in ({"text": "a"}, {"target_text": "a"}):
        with pytest.raises(ValueError, match="a text or an image: give one of them"):
            visualizer.explore(image=np.zeros((12, 12, 3)), **options)


@pytest.mark.parametrize("suffix", ["png", "html"])
def test_a_place_below_a_file_is_named(suffix, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    visualizer, place = AttentionVisualizer(build()), tmp_path / "file" / "deep" / f"a.{suffix}"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotADirectoryError, match=r"file is a file: nothing can be written below it"):
        visualizer.plot_head("a", 0, 0, place) if suffix == "png" else visualizer.explore("a", place)
    with pytest.raises(IsADirectoryError, match=r"\. is a folder: name the"):
        visualizer.plot_head("a", 0, 0, ".") if suffix == "png" else visualizer.explore("a", ".")
