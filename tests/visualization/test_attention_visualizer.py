"""Pictures: what is drawn is what was measured, and every token can be read."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import numpy as np
import pytest
import torch

from glassformer.attention import record_attention
from glassformer.models import GPTModel
from glassformer.tokenization import ByteTokenizer
from glassformer.visualization import AttentionVisualizer
from glassformer.visualization.pictures import printable


def build(heads=6, **options):
    torch.manual_seed(3)
    model = GPTModel(257, 20 if heads == 5 else 24, 2, heads, max_seq_len=80, **options)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.tokenizer = ByteTokenizer()
    return model


def panels(figure):
    return [axes for axes in figure.axes if axes.get_title().startswith("head")]


def labels(axes, which):
    return [text.get_text() for text in getattr(axes, f"get_{which}ticklabels")()]


@pytest.mark.parametrize("heads", [1, 3, 4, 5, 6, 8, 12])
def test_every_head_is_drawn_with_its_weights(heads):
    model = build(heads)
    ids = torch.tensor([list(b"The cat.")])
    with record_attention(model) as recording, torch.no_grad():
        model(ids)
    figure = AttentionVisualizer(model).plot_attention_heads("The cat.", 1)
    shown = panels(figure)
    assert [axes.get_title() for axes in shown] == [f"head {n}" for n in range(heads)]
    for head, axes in enumerate(shown):
        data = axes.images[0].get_array()
        expected = recording[1][0, head].numpy()
        np.testing.assert_allclose(data.data, expected, atol=1e-6)
        np.testing.assert_array_equal(data.mask, np.triu(np.ones((8, 8), dtype=bool), 1))
    assert labels(shown[0], "y") == ["T", "h", "e", "·", "c", "a", "t", "."]
    assert labels(shown[-1], "x") == ["T", "h", "e", "·", "c", "a", "t", "."]
    title = figure.get_suptitle()
    assert "layer 1" in title
    assert "The cat." in title


def test_one_head_large_with_its_numbers():
    model = build()
    figure = AttentionVisualizer(model).plot_head("abc", 0, 4)
    axes = figure.axes[0]
    weights = axes.images[0].get_array()
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {(j, i): f"{weights[i, j]:.2f}" for i in range(3) for j in range(i + 1)}
    assert "layer 0, head 4" in figure.get_suptitle()


@pytest.mark.parametrize(("length", "expected"), [(64, 64), (65, 33), (80, 40)])
def test_labels_stay_legible(length, expected):
    figure = AttentionVisualizer(build()).plot_attention_heads("x" * length, 0)
    figure.draw_without_rendering()
    for axes in (panels(figure)[0], panels(figure)[-1]):
        which = "y" if axes is panels(figure)[0] else "x"
        texts = getattr(axes, f"get_{which}ticklabels")()
        assert len(texts) == expected
        boxes = [text.get_window_extent() for text in texts]
        ends = sorted((box.y0, box.y1) if which == "y" else (box.x0, box.x1) for box in boxes)
        gaps = [b[0] - a[1] for a, b in pairwise(ends)]
        assert min(gaps) > -1.5  # pixels: neighbours do not run into each other


@pytest.mark.parametrize(
    "text", ["$x_1^$ \\frac", "🙂👩‍👩‍👧 ﷽", "\x00\x1b[31m\r\n\t", "שלום عالم", "e\u0301 中文"]
)
def test_odd_tokens_neither_crash_nor_warn(text, tmp_path):
    AttentionVisualizer(build()).plot_attention_heads(text, 0, tmp_path / "a.png")
    AttentionVisualizer(build()).plot_head(text, 0, 0, tmp_path / "b.svg")


def test_labels_are_made_of_what_the_font_has():
    assert printable("naïve") == "naïve"
    assert printable("a\x00🙂") == "a□□"
    assert printable("abcdefghijklmnopqrstuvwxyz") == "abcdefg…uvwxyz"
    assert len(printable("x" * 300, 20)) == 20


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_files_of_each_format_are_made_the_same_twice(suffix, start, tmp_path):
    visualizer = AttentionVisualizer(build())
    for name in ("one", "two"):
        visualizer.plot_attention_heads("The cat", 0, tmp_path / "new" / f"{name}.{suffix}")
    one, two = ((tmp_path / "new" / f"{name}.{suffix}").read_bytes() for name in ("one", "two"))
    assert one.startswith(start)
    assert one == two
    if suffix == "svg":
        ElementTree.fromstring(one)
    assert sorted(os.listdir(tmp_path / "new")) == [f"one.{suffix}", f"two.{suffix}"]


def test_what_was_done_to_the_text_is_said():
    model = build()
    title = AttentionVisualizer(model).plot_head("x" * 90, 0, 0).get_suptitle()
    assert "cut to the model's 80 tokens of 90" in title
    model.tokenizer = None
    assert "read as bytes" in AttentionVisualizer(model).plot_head("x", 0, 0).get_suptitle()
    assert "3 token ids" in AttentionVisualizer(model).plot_head([1, 2, 3], 0, 0).get_suptitle()


@pytest.mark.parametrize("heads", [1, 2, 4, 12])
def test_a_long_text_leaves_the_notes_whole_and_inside_the_picture(heads):
    model = build(heads)
    model.tokenizer = None
    visualizer = AttentionVisualizer(model)
    text = "The people of the United States have the right to vote. " * 3
    for figure in (visualizer.plot_attention_heads(text, 0), visualizer.plot_head(text, 0, 0)):
        said = " ".join(figure.get_suptitle().split())
        assert "read as bytes: the model has no tokenizer" in said
        assert "cut to the model's 80 tokens of 168" in said
        assert "grey: may not be attended to" in said
        figure.draw_without_rendering()
        (title,) = [text for text in figure.texts if text.get_text() == figure.get_suptitle()]
        box = title.get_window_extent()
        assert box.x1 <= figure.bbox.width
        # constrained layout keeps the maps below the last line of the notes
        assert box.y0 >= max(axes.get_tightbbox().y1 for axes in panels(figure) or figure.axes[:1])


def test_a_caption_that_fits_stays_on_one_line():
    title = AttentionVisualizer(build(4)).plot_attention_heads("The cat", 0).get_suptitle()
    assert title.split("\n")[1:] == ["“The cat”   grey: may not be attended to"]


def test_a_picture_of_patterns_says_that_texts_were_read_as_bytes(tmp_path):
    model = build()
    visualizer = AttentionVisualizer(model)
    visualizer.analyze_head_patterns(["The cat."], tmp_path / "tokens.svg")
    model.tokenizer = None
    assert visualizer.analyze_head_patterns(["The cat."], tmp_path / "bytes.svg").as_bytes
    said = {name: (tmp_path / f"{name}.svg").read_text("utf-8") for name in ("tokens", "bytes")}
    assert "read as bytes: the model has no tokenizer" in said["bytes"]
    assert "read as bytes" not in said["tokens"]


def test_the_model_stays_as_it_is():
    model = build(dropout=0.5).train()
    state = torch.get_rng_state()
    AttentionVisualizer(model).plot_attention_heads("The cat", 0)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_patterns_are_drawn_and_returned(tmp_path):
    patterns = AttentionVisualizer(build()).analyze_head_patterns(["The cat.", "x" * 90], tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 10_000
    assert patterns.num_cut == 1
    assert AttentionVisualizer(build()).analyze_head_patterns(["The cat."]).num_cut == 0


def test_refuses_before_the_work(tmp_path):
    visualizer = AttentionVisualizer(build())
    with pytest.raises(ValueError, match="layer 2 does not exist: layers are 0 to 1"):
        visualizer.plot_attention_heads("x", 2)
    with pytest.raises(ValueError, match="head 6 does not exist in layer 1: heads are 0 to 5"):
        visualizer.plot_head("x", 1, 6)
    with pytest.raises(ValueError, match="the text is empty"):
        visualizer.plot_head("", 1, 0)
    with pytest.raises(ValueError, match=r"\.png, \.svg, \.pdf, not '\.bmp'"):
        visualizer.plot_head("x", 99, 0, tmp_path / "a.bmp")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(IsADirectoryError, match="folder.png is a folder"):
        visualizer.plot_head("x", 99, 0, tmp_path / "folder.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        visualizer.plot_head("x", 99, 0, tmp_path / "file" / "a.png")
