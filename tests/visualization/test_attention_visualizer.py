"""Figures of AttentionVisualizer: the numbers drawn are those computed, and every token can be read."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import numpy as np
import pytest
import torch

from glassformer.analysis import HeadReport, preprocess_image, prune_heads
from glassformer.attention import record_attention
from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel
from glassformer.tokenization import ByteTokenizer, WordPieceTokenizer
from glassformer.visualization import AttentionVisualizer, draw_head_map
from glassformer.visualization.figures.image_maps import COLORS
from glassformer.visualization.figures.style import format_weight

UNUSUAL = ["$x_1^$ \\frac", "🙂👩‍👩‍👧 ﷽", "\x00\x1b[31m\r\n\t", "שלום عالم", "e\u0301 中文"]


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


@pytest.mark.slow
@pytest.mark.parametrize("heads", [1, 3, 4, 5, 6, 8, 12])
def test_every_head_is_drawn_with_its_weights(heads, texts_of):
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
    title = texts_of(figure)
    assert "Layer 1" in title
    assert "The cat." in title


def test_one_head_large_with_its_numbers(texts_of):
    model = build()
    figure = AttentionVisualizer(model).plot_head("abc", 0, 4)
    axes = figure.axes[0]
    weights = axes.images[0].get_array()
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    assert shown == {(j, i): format_weight(weights[i, j]) for i in range(3) for j in range(i + 1)}
    assert "Layer 0, head 4" in texts_of(figure)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("draw", "length", "expected"),
    [("heads", 16, 16), ("heads", 64, 16), ("heads", 80, 16), ("head", 64, 64), ("head", 80, 40)],
)
def test_labels_stay_legible(draw, length, expected):
    visualizer = AttentionVisualizer(build())
    if draw == "head":
        figure = visualizer.plot_head("x" * length, 0, 0)
        shown = [("y", figure.axes[0]), ("x", figure.axes[0])]
    else:
        figure = visualizer.plot_attention_heads("x" * length, 0)
        shown = [("y", panels(figure)[0]), ("x", panels(figure)[-1])]
    figure.draw_without_rendering()
    for which, axes in shown:
        texts = getattr(axes, f"get_{which}ticklabels")()
        assert len(texts) == expected
        boxes = [text.get_window_extent() for text in texts]
        ends = sorted((box.y0, box.y1) if which == "y" else (box.x0, box.x1) for box in boxes)
        gaps = [b[0] - a[1] for a, b in pairwise(ends)]
        assert min(gaps) > -0.015 * figure.dpi  # inches: neighbours do not run into each other


@pytest.mark.slow
@pytest.mark.parametrize("text", UNUSUAL)
def test_unusual_characters_are_drawn_without_a_warning(text, tmp_path):
    AttentionVisualizer(build()).plot_attention_heads(text, 0, tmp_path / "a.png")
    AttentionVisualizer(build()).plot_head(text, 0, 0, tmp_path / "b.svg")


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_a_saved_figure_has_the_same_bytes_again(suffix, start, tmp_path):
    visualizer = AttentionVisualizer(build())
    for name in ("one", "two"):
        visualizer.plot_attention_heads("The cat", 0, tmp_path / "new" / f"{name}.{suffix}")
    one, two = ((tmp_path / "new" / f"{name}.{suffix}").read_bytes() for name in ("one", "two"))
    assert one.startswith(start)
    assert one == two
    if suffix == "svg":
        ElementTree.fromstring(one)
    assert sorted(os.listdir(tmp_path / "new")) == [f"one.{suffix}", f"two.{suffix}"]


@pytest.mark.slow
def test_notes_tell_what_was_done_to_the_text(texts_of):
    model = build()
    title = texts_of(AttentionVisualizer(model).plot_head("x" * 90, 0, 0))
    assert "cut to the model's 80 tokens of 90" in title
    model.tokenizer = None
    assert "read as bytes" in texts_of(AttentionVisualizer(model).plot_head("x", 0, 0))
    assert "3 token ids" in texts_of(AttentionVisualizer(model).plot_head([1, 2, 3], 0, 0))


@pytest.mark.slow
@pytest.mark.parametrize("heads", [1, 2, 4, 12])
def test_notes_of_a_long_text_stay_whole_and_inside_the_figure(heads, texts_of):
    model = build(heads)
    model.tokenizer = None
    visualizer = AttentionVisualizer(model)
    text = "The people of the United States have the right to vote. " * 3
    for figure in (visualizer.plot_attention_heads(text, 0), visualizer.plot_head(text, 0, 0)):
        shown = texts_of(figure)
        assert "read as bytes: the model has no tokenizer" in shown
        assert "cut to the model's 80 tokens of 168" in shown
        assert "may not be attended to" in shown
        figure.draw_without_rendering()
        heading = [text.get_window_extent() for text in figure.texts if text.get_rotation() == 0]
        top = max(axes.get_tightbbox().y1 for axes in panels(figure) or figure.axes[:1])
        assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width for box in heading)
        assert all(box.y0 >= top or box.y1 <= figure.axes[0].get_window_extent().y0 for box in heading)


@pytest.mark.slow
def test_a_caption_that_fits_stays_on_one_line():
    figure = AttentionVisualizer(build(4)).plot_attention_heads("The cat", 0)
    lines = [text.get_text() for text in figure.texts][1:5]
    legend = ["masked: may not be attended to", "· a space"]
    assert lines == ["“\u2068The cat\u2069”", "GPT, 2 layers x 4 heads", *legend]


@pytest.mark.slow
def test_the_head_map_notes_that_texts_were_read_as_bytes(tmp_path):
    model = build()
    visualizer = AttentionVisualizer(model)
    visualizer.analyze_head_patterns(["The cat."], tmp_path / "tokens.svg")
    model.tokenizer = None
    assert visualizer.analyze_head_patterns(["The cat."], tmp_path / "bytes.svg").as_bytes
    svg = {name: (tmp_path / f"{name}.svg").read_text("utf-8") for name in ("tokens", "bytes")}
    assert "read as bytes: the model has no tokenizer" in svg["bytes"]
    assert "read as bytes" not in svg["tokens"]


@pytest.mark.slow
def test_the_model_is_not_changed():
    model = build(dropout=0.5).train()
    state = torch.get_rng_state()
    AttentionVisualizer(model).plot_attention_heads("The cat", 0)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.slow
def test_patterns_are_drawn_and_returned(tmp_path):
    patterns = AttentionVisualizer(build()).analyze_head_patterns(["The cat.", "x" * 90], tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 10_000
    assert patterns.num_cut == 1
    assert AttentionVisualizer(build()).analyze_head_patterns(["The cat."]).num_cut == 0


def test_wrong_arguments_raise_before_any_work(tmp_path):
    visualizer = AttentionVisualizer(build())
    with pytest.raises(ValueError, match="layer 2 does not exist: layers are 0 to 1"):
        visualizer.plot_attention_heads("x", 2)
    with pytest.raises(ValueError, match="head 6 does not exist in layer 1: heads are 0 to 5"):
        visualizer.plot_head("x", 1, 6)
    with pytest.raises(ValueError, match="the text is empty"):
        visualizer.plot_head("", 1, 0)
    with pytest.raises(ValueError, match=r"\.png, \.svg, \.pdf, got '\.bmp'"):
        visualizer.plot_head("x", 99, 0, tmp_path / "a.bmp")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(IsADirectoryError, match="folder.png is a folder"):
        visualizer.plot_head("x", 99, 0, tmp_path / "folder.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        visualizer.plot_head("x", 99, 0, tmp_path / "file" / "a.png")


def test_an_encoder_has_no_hatched_cells_and_its_special_tokens_are_labeled(texts_of):
    tokenizer = WordPieceTokenizer.train(["the cat sat"] * 9, 40)
    model = BERTModel(tokenizer.vocab_size, 8, 2, 4)
    model.tokenizer = tokenizer
    figure = AttentionVisualizer(model).plot_attention_heads("the cat", 1)
    assert figure.get_suptitle() == "Layer 1: where each head looks"
    assert "“the cat” BERT, 2 layers x 4 heads" in texts_of(figure)
    assert labels(panels(figure)[0], "y") == ["[CLS]", "the", "cat", "[SEP]"]
    for axes in panels(figure):
        data = axes.images[0].get_array()
        assert not np.ma.getmaskarray(data).any()
        np.testing.assert_allclose(data.sum(-1), 1, atol=1e-6)


def test_a_window_is_hatched_on_both_sides():
    axes = panels(AttentionVisualizer(build(window=3)).plot_attention_heads("abcdef", 0))[0]
    seen = np.triu(np.tril(np.ones((6, 6), dtype=bool)), -2)
    np.testing.assert_array_equal(axes.images[0].get_array().mask, ~seen)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "rows", "columns", "name"),
    [
        ("encoder", ["c", "a", "b", "</s>"], ["c", "a", "b", "</s>"], "encoder attention, 2 layers"),
        ("decoder", ["<pad>", "K", "AH"], ["<pad>", "K", "AH"], "decoder attention, 3 layers"),
        ("cross", ["K", "AH", "</s>"], ["c", "a", "b", "</s>"], "cross attention, 3 layers"),
    ],
)
def test_an_encoder_decoder_has_three_kinds_of_attention(
    kind, rows, columns, name, encoder_decoder, texts_of
):
    model = encoder_decoder
    source, target = model.tokenizer.encode("cab"), model.tokenizer.encode("K AH")
    with record_attention(model, [1], kind=kind) as recording, torch.no_grad():
        model(torch.tensor([[*source, 1]]), torch.tensor([[0, *target]]))
    visualizer = AttentionVisualizer(model)
    figure = visualizer.plot_attention_heads("cab", 1, kind=kind, target_text="K AH")
    large = visualizer.plot_head("cab", 1, 2, kind=kind, target_text="K AH")
    assert texts_of(figure).startswith(f"Layer 1, {kind} attention: where each head looks")
    assert f"T5 {name} x 4 heads" in texts_of(figure)
    assert texts_of(large).startswith(f"Layer 1, {kind} attention, head 2: where each token looks")
    for axes, head in ((panels(figure)[2], 2), (large.axes[0], 2), (panels(figure)[0], 0)):
        data = axes.images[0].get_array()
        np.testing.assert_allclose(data.data, recording[1][0, head].numpy(), atol=1e-6)
        assert np.ma.getmaskarray(data).any() == (kind == "decoder")
    assert labels(large.axes[0], "y") == rows
    assert labels(large.axes[0], "x") == columns
    assert ("“cab” → “K AH”" in texts_of(figure)) == (kind != "encoder")
    assert large.axes[0].get_ylabel() == ("predicted token (query)" if kind == "cross" else "query token")


@pytest.mark.slow
def test_without_a_target_the_model_generates_one_and_a_note_says_so(encoder_decoder, texts_of):
    model = encoder_decoder
    generated = model.generate(
        model.tokenizer.add_special_tokens(model.tokenizer.encode("ab")), 64, temperature=0
    )
    figure = AttentionVisualizer(model).plot_head("ab", 0, 0, kind="cross")
    assert len(figure.axes[0].images[0].get_array()) == len(generated)
    assert "the target is generated by the model" in texts_of(figure)


@pytest.mark.slow
def test_captions_of_wide_characters_stay_inside_the_figure():
    for text in ("w" * 60, "\ufffd" * 60, "i" * 60):
        figure = AttentionVisualizer(build(1)).plot_attention_heads(text, 0)
        figure.draw_without_rendering()
        assert all(shown.get_window_extent().x1 <= figure.bbox.width for shown in figure.texts)


@pytest.mark.slow
@pytest.mark.parametrize(("heads", "registers", "channels"), [(1, 0, 1), (4, 2, 3), (6, 0, 3)])
def test_attention_of_the_class_token_is_laid_over_the_image(heads, registers, channels, tmp_path):
    model = ViTModel(12, 4, 24, 2, heads, num_registers=registers, num_channels=channels)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    image = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    figure = AttentionVisualizer(model).plot_vit_attention(image, 1, tmp_path / "vit.png")
    assert (tmp_path / "vit.png").stat().st_size > 5000
    first, *maps = [axes for axes in figure.axes if axes.get_title()]
    assert first.get_title() == "the image"
    with record_attention(model) as recording, torch.no_grad():
        model(preprocess_image(model, image).pixel_values)
    weights = recording[1][0, :, 0, 1 + registers :]
    assert len(maps) == heads
    for head, axes in enumerate(maps):
        assert axes.get_title() == f"head {head}: {weights[head].sum():.0%} on patches"
        under, over = axes.images
        alpha = np.asarray(over.get_array())[..., 3]
        strength = np.sqrt(weights[head].view(3, 3).numpy() / weights.max().item())
        np.testing.assert_allclose(alpha, 0.85 * strength, atol=1e-5)
        assert over.get_extent() == [-0.5, 11.5, 11.5, -0.5]
        assert under.get_array().shape == (12, 12)


@pytest.mark.slow
@pytest.mark.parametrize(("heads", "free"), [(6, 1), (3, 0), (12, 3)])
def test_the_color_bar_shows_the_blended_colors(heads, free, texts_of):
    model = ViTModel(12, 4, 24, 2, heads)
    figure = AttentionVisualizer(model).plot_vit_attention(np.zeros((12, 12, 3)), 1)
    *maps, bar = figure.axes
    colors = np.asarray(bar.images[0].get_array())
    strength, grey = colors.shape[1] // 2, np.linspace(1 / 1.5, 0, len(colors))
    over = COLORS(strength / (colors.shape[1] - 1))[:3]
    cover = 0.85 * strength / (colors.shape[1] - 1)
    expected = np.outer(grey, np.ones(3)) * (1 - cover) + np.array(over) * cover
    np.testing.assert_allclose(colors[:, strength], expected, atol=0.01)
    lowest = min(axes.get_position().y0 for axes in maps)
    assert (bar.get_position().y0 > lowest) == (free > 0)  # in the free cell, or below
    assert "an image (ndarray), read as 12 x 12 pixels in 3 x 3 patches" in texts_of(figure)
    figure.draw_without_rendering()
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width for box in boxes)
    assert not any(boxes[-1].overlaps(axes.get_window_extent()) for axes in maps)
    assert figure.get_size_inches().max() <= 10


def test_a_wrong_kind_of_input_raises(encoder_decoder):
    vit = AttentionVisualizer(ViTModel(8, 4, 4, 2, 1))
    with pytest.raises(TypeError, match="a ViTModel takes no text"):
        vit.plot_attention_heads("a", 0)
    with pytest.raises(ValueError, match="layer 2 does not exist: layers are 0 to 1"):
        vit.plot_vit_attention(np.zeros((8, 8)), 2)
    with pytest.raises(TypeError, match="a GPTModel takes no images"):
        AttentionVisualizer(build()).plot_vit_attention(np.zeros((8, 8)), 0)
    with pytest.raises(TypeError, match="a GPTModel takes no target text"):
        AttentionVisualizer(build()).plot_head("a", 0, 0, target_text="b")
    with pytest.raises(ValueError, match='give kind="encoder", "decoder" or "cross"'):
        AttentionVisualizer(encoder_decoder).plot_head("a", 0, 0)


def test_the_title_counts_the_heads_of_a_pruned_model(texts_of):
    model = prune_heads(GPTModel(vocab_size=50, d_model=24, num_layers=2, num_heads=4), [(1, 2)])
    figure = AttentionVisualizer(model).plot_attention_heads([1, 2, 3], layer=1)
    assert "2 layers with 7 heads" in texts_of(figure)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("heads", "length", "grid"),
    [
        (9, 137, (3, 3)),
        (12, 40, (3, 4)),
        (20, 12, (4, 5)),
        (5, 137, (2, 3)),
        (32, 60, (4, 8)),
        (64, 9, (8, 8)),
    ],
)
def test_a_figure_of_many_heads_fits_on_a_page(heads, length, grid):
    model = GPTModel(257, 2 * heads, 1, heads, max_seq_len=160)
    figure = AttentionVisualizer(model).plot_attention_heads([65] * length, 0)
    width, height = figure.get_size_inches()
    assert width <= 7.5
    boxes = [axes.get_position() for axes in panels(figure)]
    assert (len({round(box.y0, 3) for box in boxes}), len({round(box.x0, 3) for box in boxes})) == grid
    assert panels(figure)[0].get_yticklabels()[0].get_fontsize() >= 6
    assert height <= 10


@pytest.mark.slow
def test_a_caption_is_shortened_between_words(encoder_decoder):
    text = "The people of the United States have the right to vote. " * 3
    figure = AttentionVisualizer(build()).plot_attention_heads(text, 0)
    caption = figure.texts[1].get_text().removeprefix("“\u2068").removesuffix(" …\u2069”")
    assert text.startswith(f"{caption} ")
    assert len(caption) > 50
    model = encoder_decoder
    figure = AttentionVisualizer(model).plot_head("abc" * 40, 0, 0, kind="cross", target_text="K AH " * 30)
    caption = next(text.get_text() for text in figure.texts if "→" in text.get_text())
    assert caption.count("“") == caption.count("”") == caption.count("…") == 2


@pytest.mark.slow
def test_special_tokens_of_an_encoder_decoder_are_labeled_in_every_figure(randomize):
    model = randomize(T5Model(257, 8, 2, 4))
    model.tokenizer = ByteTokenizer()
    visualizer = AttentionVisualizer(model)
    bars = visualizer.plot_rollout("ab", target_text="xy", faithfulness=False)
    assert labels(bars.axes[0], "y") == ["a", "b", "⟨end⟩"]
    lens = visualizer.plot_logit_lens("ab", target_text="xy")
    assert labels(lens.axes[0], "x") == ["⟨start⟩", "x", "y"]
    cross = visualizer.plot_cross_attention("ab", 0, target_text="xy")
    assert labels(cross.axes[0], "y")[-1] == "⟨end⟩"


@pytest.mark.slow
@pytest.mark.parametrize("text", [*UNUSUAL, "a", "w" * 60])
def test_unusual_texts_stay_inside_the_figure(text, tmp_path, decoder):
    visualizer = AttentionVisualizer(decoder)
    figures = [
        visualizer.plot_logit_lens(text, tmp_path / "lens.png"),
        visualizer.plot_rollout(text, save_path=tmp_path / "rollout.pdf", faithfulness=False),
    ]
    for figure in figures:
        figure.draw_without_rendering()
        for box in (item.get_tightbbox() for item in (*figure.axes, *figure.texts)):
            assert box.x0 >= 0
            assert box.x1 <= figure.bbox.width
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lens.png", "rollout.pdf"]


@pytest.mark.slow
def test_cross_attention_is_that_kind_of_attention(decoder, encoder_decoder):
    visualizer = AttentionVisualizer(encoder_decoder)
    figure = visualizer.plot_cross_attention("cab", 2, target_text="K AH")
    other = visualizer.plot_attention_heads("cab", 2, kind="cross", target_text="K AH")
    for axes, same in zip(figure.axes[:4], other.axes[:4], strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), same.images[0].get_array())
    assert labels(figure.axes[0], "y") == ["K", "AH", "</s>"]
    with pytest.raises(ValueError, match="cross"):
        AttentionVisualizer(decoder).plot_cross_attention("cab", 0)
    with pytest.raises(ValueError, match="figure must be saved as .*, got 'K AH'"):
        visualizer.plot_cross_attention("cab", 2, "K AH")


def head_report(layers, heads):
    rows = [
        {"layer": layer, "head": head, "pattern": "first", "measure": "rate", "name": "first", "main": True}
        | {"score": head / heads, "low": 0.0, "high": 1.0, "control": "", "control_score": 0.1, "lift": 0.2}
        for layer in range(layers)
        for head in range(heads)
    ]
    return HeadReport("GPT", {"margin": 0.1, "kind": "self"}, rows, {"num_items": 12})


@pytest.mark.slow
def test_a_head_map_is_drawn_from_a_report_or_its_file(tmp_path, decoder, texts_of):
    report, visualizer = head_report(2, 4), AttentionVisualizer(decoder)
    report.save(tmp_path / "heads.json")
    expected = [text.get_text() for text in draw_head_map(report).axes[0].texts]
    for source in (report, tmp_path / "heads.json"):
        figure = visualizer.plot_head_map(source, tmp_path / "map.png")
        assert [text.get_text() for text in figure.axes[0].texts] == expected
        assert texts_of(figure).startswith("Where each head looks: GPT, 2 layers x 4 heads")
    with pytest.raises(ValueError, match=r"is about another model: the model has no head 0\.4"):
        visualizer.plot_head_map(head_report(2, 5))
    with pytest.raises(ValueError, match=r"is about another model: the report has no head 1\.0"):
        visualizer.plot_head_map(head_report(1, 4))
    with pytest.raises(FileNotFoundError):
        visualizer.plot_head_map(tmp_path / "missing.json")


@pytest.mark.slow
def test_every_figure_names_the_model(tmp_path, decoder, randomize, texts_of):
    visualizer = AttentionVisualizer(decoder, "mine/best")
    for figure in (
        visualizer.plot_attention_heads("a cat", 0),
        visualizer.plot_head("a cat", 0, 1),
        visualizer.plot_rollout("a cat", faithfulness=False),
        visualizer.plot_logit_lens("a cat"),
        visualizer.plot_head_map(head_report(2, 4)),
    ):
        assert "mine/best: GPT, 2 layers x 4 heads" in texts_of(figure)
    vit = AttentionVisualizer(randomize(ViTModel(12, 4, 24, 2, 3)), "eye")
    shown = texts_of(vit.plot_vit_attention(np.zeros((12, 12, 3)), 0))
    assert shown.startswith("Layer 0: where the class token looks")
    assert "eye: ViT, 2 layers x 3 heads" in shown
