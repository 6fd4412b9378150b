"""Rollout, logit lens, cross-attention and head maps: numbers drawn are numbers computed."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from PIL import Image

from glassformer.analysis import (
    HeadReport,
    attention_rollout,
    deletion_test,
    gradient_rollout,
    logit_lens,
    outcome_of,
    read_image,
)
from glassformer.analysis.deletion import Deletion
from glassformer.cli import main
from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel
from glassformer.tokenization import ByteTokenizer, SymbolTokenizer, WordPieceTokenizer
from glassformer.visualization import AttentionVisualizer, draw_head_map
from glassformer.visualization.heading import HATCHED
from glassformer.visualization.inks import written
from glassformer.visualization.relevances import Relevance

ODD = ["$x_1^$ \\frac", "🙂👩‍👩‍👧 ﷽", "\x00\x1b[31m\r\n\t", "שלום عالم", "e\u0301 中文"]


def spread(model):
    torch.manual_seed(3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def decoder():
    model = spread(GPTModel(257, 24, 2, 4, max_seq_len=80))
    model.tokenizer = ByteTokenizer()
    return model


def encoder(head):
    tokenizer = WordPieceTokenizer.train(["the cat sat"] * 9, 40)
    model = spread(BERTModel(tokenizer.vocab_size, 8, 2, 4, head=head))
    model.tokenizer = tokenizer
    return model


def translator():
    model = spread(T5Model(12, 8, 2, 4, num_decoder_layers=3))
    model.tokenizer = SymbolTokenizer([*"abc", "AH", "B", "K"])
    return model


def labels(axes, which):
    return [text.get_text() for text in getattr(axes, f"get_{which}ticklabels")()]


def bars(axes):
    return np.array([bar.get_width() for bar in axes.patches if bar.get_height() < 1])


def shares(worth):
    return (worth / worth.sum()).numpy()


def said(figure):
    """All that stands over a picture, without the signs that keep directions of writing apart."""
    text = " ".join(text.get_text() for text in figure.texts)
    return " ".join(re.sub("[\u2068\u2069\u200e]", "", text).split())


def title(axes):
    return " ".join((axes.get_title("left") or axes.get_title()).split())


def in_words(test):
    low, high = test.interval()
    than = "better than" if low > 0 else "worse than" if high < 0 else "no better than"
    score, low, high = (f"{number + 0:.2g}" for number in (test.score, low, high))
    return f"{than} random orders: faithfulness {score} ({low} to {high})"


# Rollout


@pytest.mark.parametrize(("position", "row"), [(None, 4), (-1, 4), (2, 2)])
def test_bars_are_the_shares_of_each_token(position, row):
    model, ids = decoder(), torch.tensor([list(b"a cat")])
    outcome = outcome_of(model, (ids,), model(ids), position)
    figure = AttentionVisualizer(model).plot_rollout("a cat", position)
    plain, weighted = figure.axes
    rolled, gradient = attention_rollout(model, "a cat"), gradient_rollout(model, "a cat", outcome)
    np.testing.assert_allclose(bars(plain), rolled[row], atol=1e-12)
    np.testing.assert_allclose(bars(weighted), shares((gradient - torch.eye(5))[row]), atol=1e-9)
    for axes, worth, name in (
        (plain, rolled[row], "rollout"),
        (weighted, gradient[row], "gradient-weighted rollout"),
    ):
        test = deletion_test(model, "a cat", worth, outcome)
        assert title(axes).replace("\N{MINUS SIGN}", "-") == f"{name} {in_words(test)}"
        assert axes.get_xlabel() == "share (square-root scale)"
    assert labels(plain, "y") == ["a", "·", "c", "a", "t"]
    weights = [text.get_fontweight() for text in plain.get_yticklabels()]
    assert [place for place, weight in enumerate(weights) if weight == "bold"] == [row]
    probability = float(model(ids)[0, row].softmax(-1).max().detach())
    answer = f"“{model.tokenizer.label(outcome.token)}” (p = {written(probability)})"
    assert said(figure).startswith(f"GPT, 2 layers x 4 heads: what {answer} was made of")
    assert "“a cat”" in said(figure)
    assert "bold: read here" in said(figure)


def test_what_a_position_does_not_see_is_grey():
    plain = AttentionVisualizer(decoder()).plot_rollout("a cat", 2, faithfulness=False).axes[0]
    grey = [patch for patch in plain.patches if patch.get_height() == 1]
    assert [patch.get_y() for patch in grey] == [2.5, 3.5]
    assert {patch.get_facecolor() for patch in grey} == {to_rgba(HATCHED["facecolor"])}
    assert {patch.get_hatch() for patch in grey} == {HATCHED["hatch"]}
    assert title(plain) == "rollout faithfulness not tested"


def test_a_model_without_a_head_is_explained_by_its_mean_vector():
    model = encoder("none")
    figure = AttentionVisualizer(model).plot_rollout("the cat")
    (axes,) = figure.axes
    np.testing.assert_allclose(bars(axes), attention_rollout(model, "the cat").mean(0), atol=1e-12)
    assert labels(axes, "y") == ["[CLS]", "the", "cat", "[SEP]"]
    assert "what the mean of all output vectors was made of" in said(figure)
    assert "no gradient-weighted rollout: the model has no head" in said(figure)
    with pytest.raises(TypeError, match="give neither position nor answer"):
        AttentionVisualizer(model).plot_rollout("the cat", 1)


def test_a_masked_token_and_a_target_are_explained():
    model = encoder("masked_lm")
    figure = AttentionVisualizer(model).plot_rollout("the cat", 2, faithfulness=False)
    np.testing.assert_allclose(bars(figure.axes[0]), attention_rollout(model, "the cat")[2], atol=1e-12)
    with pytest.raises(ValueError, match="no mask to guess: give position="):
        AttentionVisualizer(model).plot_rollout("the cat")
    model = translator()
    figure = AttentionVisualizer(model).plot_rollout("cab", target_text="K AH", faithfulness=False)
    assert labels(figure.axes[0], "y") == ["c", "a", "b", "</s>"]
    expected = attention_rollout(model, ([*model.tokenizer.encode("cab"), 1], "K AH")).mean(0)
    np.testing.assert_allclose(bars(figure.axes[0]), expected, atol=1e-12)
    assert "“cab” → “K AH”" in said(figure)
    assert "token 2 of the target" in said(figure)


@pytest.mark.parametrize("head", ["classification", "none"])
def test_rollout_is_laid_over_an_image(head, tmp_path):
    model = spread(ViTModel(12, 4, 24, 2, 3, num_registers=2, labels=["cat", "dog"], head=head))
    path = tmp_path / "animal.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(path)
    figure = AttentionVisualizer(model).plot_rollout(path, save_path=tmp_path / "new" / "rollout.svg")
    assert (tmp_path / "new" / "rollout.svg").stat().st_size > 5000
    first, *maps = [axes for axes in figure.axes if axes.get_title()]
    assert first.get_title() == "the image"
    assert len(maps) == (2 if head == "classification" else 1)
    rolled = attention_rollout(model, read_image(model, path).pixel_values)
    row = (rolled[0] if head == "classification" else rolled.mean(0))[-9:].view(3, 3).numpy()
    alpha = np.asarray(maps[0].images[1].get_array())[..., 3]
    np.testing.assert_allclose(alpha, 0.85 * np.sqrt(row / row.max()), atol=1e-6)
    assert title(maps[0]).startswith("rollout no better than random orders: faithfulness")
    assert title(maps[0]).endswith(f"{row.sum():.0%} on patches")
    assert ("what class" in said(figure)) == (head == "classification")
    assert "animal.png, read as 12 x 12 pixels in 3 x 3 patches" in said(figure)
    assert "resized from 24 x 24 to 12 x 12 pixels" in said(figure)


@pytest.mark.parametrize("length", [64, 65, 80])
def test_bars_of_long_texts_keep_their_labels_apart(length):
    figure = AttentionVisualizer(decoder()).plot_rollout("x" * length, faithfulness=False)
    figure.draw_without_rendering()
    named = [text for text in figure.axes[0].texts if text.get_text() == "x"]
    texts = named if length > 64 else figure.axes[0].get_yticklabels()
    boxes = sorted(text.get_window_extent().y0 for text in texts)
    height = texts[0].get_window_extent().height
    assert min(np.diff(boxes)) >= height
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    np.testing.assert_allclose(widths, attention_rollout(decoder(), "x" * length)[-1], atol=1e-12)


def test_marks_of_an_encoder_decoder_are_named_in_every_picture():
    model = spread(T5Model(257, 8, 2, 4))
    model.tokenizer = ByteTokenizer()
    visualizer = AttentionVisualizer(model)
    bars = visualizer.plot_rollout("ab", target_text="xy", faithfulness=False)
    assert labels(bars.axes[0], "y") == ["a", "b", "⟨end⟩"]
    lens = visualizer.plot_logit_lens("ab", target_text="xy")
    assert labels(lens.axes[0], "x") == ["⟨start⟩", "x", "y"]
    cross = visualizer.plot_cross_attention("ab", 0, target_text="xy")
    assert labels(cross.axes[0], "y")[-1] == "⟨end⟩"


def deletion(drop, random):
    shares = np.array([0, 0.5, 1])
    return Deletion(shares, np.array([0, drop, drop]), np.outer(random, [0, 1, 1]).astype(float))


@pytest.mark.parametrize(
    ("test", "words"),
    [
        (deletion(0, np.zeros(39)), "faithfulness cannot be measured: no deletion changes the answer"),
        (deletion(2, np.linspace(0, 1, 39)), "better than random orders: faithfulness 1.1 (0.75 to 1.5)"),
        (deletion(-1, np.linspace(0, 1, 39)), "worse than random orders: faithfulness -1.1 (-1.5 to -0.75)"),
        (deletion(1e-17, np.linspace(-1, 1, 39)), "no better than random orders: faithfulness 0 ("),
    ],
)
def test_what_a_deletion_test_found_is_said_in_words_first(test, words):
    said_of_it = Relevance("rollout", np.ones(2), test).said.replace("\N{MINUS SIGN}", "-")
    assert said_of_it.startswith(f"rollout\n{words}")


def test_of_a_long_text_the_largest_bars_are_named_and_the_one_that_is_read_from():
    text = "".join(chr(33 + place % 90) for place in range(80))
    figure = AttentionVisualizer(decoder()).plot_rollout(text, 70, faithfulness=False)
    rolled = attention_rollout(decoder(), text)[70].numpy()
    named = [item for item in figure.axes[0].texts if item.get_text()]
    weights = {item.get_text(): item.get_fontweight() for item in named}
    assert text[int(rolled.argmax())] in weights
    assert weights[text[70]] == "bold"
    assert f"{len(named)} of 80 tokens are named" in said(figure)
    assert figure.axes[0].get_yticks().tolist() == sorted(figure.axes[0].get_yticks())
    assert figure.get_size_inches().max() <= 10


def test_a_lens_fits_on_a_page_and_no_word_leaves_its_cell():
    figure = AttentionVisualizer(decoder()).plot_logit_lens("Wq" * 30)
    assert figure.get_size_inches().max() <= 7.5
    figure.draw_without_rendering()
    axes = figure.axes[0]
    width = np.diff(axes.transData.transform([(0, 0), (1, 0)])[:, 0])[0]
    for text in (*axes.texts, *axes.get_xticklabels()):
        assert text.get_window_extent().width <= width
        assert text.get_fontsize() >= 6


# The logit lens


def test_each_cell_of_the_lens_is_the_likeliest_token_and_its_probability():
    model = decoder()
    lens = logit_lens(model, "a cat", 1)
    figure = AttentionVisualizer(model).plot_logit_lens("a cat")
    axes, _bar = figure.axes
    assert "probability (square-root scale)" in said(figure)
    probabilities = lens.log_probabilities[..., 0].exp()
    np.testing.assert_allclose(axes.images[0].get_array(), probabilities, atol=1e-6)
    cells = {text.get_position(): text for text in axes.texts}
    assert len(cells) == 3 * 5
    for row in range(3):
        for column in range(5):
            token = int(lens.tokens[row, column, 0])
            assert cells[column, row].get_text() == model.tokenizer.label(token)
            bold = token == int(lens.tokens[-1, column, 0])
            assert (cells[column, row].get_fontweight() == "bold") == bold
    assert labels(axes, "x") == ["a", "·", "c", "a", "t"]
    assert labels(axes, "y") == ["embedding", "0", "1"]
    assert said(figure).startswith("GPT, 2 layers x 4 heads: what each layer would say “a cat”")


def test_the_lens_shows_the_positions_and_layers_that_are_asked_for():
    visualizer = AttentionVisualizer(decoder())
    figure = visualizer.plot_logit_lens("abcdef", positions=[0, -2], layers=[0, 2])
    assert labels(figure.axes[0], "x") == ["a", "e"]
    assert labels(figure.axes[0], "y") == ["embedding", "1"]
    whole = visualizer.plot_logit_lens("abcdef").axes[0].images[0].get_array()
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), whole[[0, 2]][:, [0, 4]], atol=1e-6)
    long = visualizer.plot_logit_lens("x" * 50)
    assert len(labels(long.axes[0], "x")) == 16
    assert "the last 16 of 50 positions" in said(long)
    of_target = AttentionVisualizer(translator()).plot_logit_lens("cab", target_text="K AH")
    assert labels(of_target.axes[0], "x") == ["<pad>", "K", "AH"]
    assert "T5 decoder attention, 3 layers x 4 heads" in said(of_target)
    assert len(AttentionVisualizer(encoder("masked_lm")).plot_logit_lens("the cat").axes[0].texts) == 3 * 4


@pytest.mark.parametrize("text", [*ODD, "a", "w" * 60])
def test_odd_texts_are_drawn_and_stay_inside_the_picture(text, tmp_path):
    visualizer = AttentionVisualizer(decoder())
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


# Cross-attention and the head map


def test_cross_attention_is_that_kind_of_heads():
    visualizer = AttentionVisualizer(translator())
    figure = visualizer.plot_cross_attention("cab", 2, target_text="K AH")
    other = visualizer.plot_attention_heads("cab", 2, kind="cross", target_text="K AH")
    for axes, same in zip(figure.axes[:4], other.axes[:4], strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), same.images[0].get_array())
    assert labels(figure.axes[0], "y") == ["K", "AH", "</s>"]
    with pytest.raises(ValueError, match="cross"):
        AttentionVisualizer(decoder()).plot_cross_attention("cab", 0)
    with pytest.raises(ValueError, match="a picture is saved as .*, not 'K AH'"):
        visualizer.plot_cross_attention("cab", 2, "K AH")


def head_report(layers, heads):
    rows = [
        {"layer": layer, "head": head, "pattern": "first", "measure": "rate", "name": "first", "main": True}
        | {"score": head / heads, "low": 0.0, "high": 1.0, "control": "", "control_score": 0.1, "lift": 0.2}
        for layer in range(layers)
        for head in range(heads)
    ]
    return HeadReport("GPT", {"margin": 0.1, "kind": "self"}, rows, {"num_items": 12})


def test_a_head_map_is_drawn_from_a_report_or_its_file(tmp_path):
    report, visualizer = head_report(2, 4), AttentionVisualizer(decoder())
    report.save(tmp_path / "heads.json")
    expected = [text.get_text() for text in draw_head_map(report).axes[0].texts]
    for source in (report, tmp_path / "heads.json"):
        figure = visualizer.plot_head_map(source, tmp_path / "map.png")
        assert [text.get_text() for text in figure.axes[0].texts] == expected
        assert said(figure).startswith("GPT, 2 layers x 4 heads: what each head does")
    with pytest.raises(ValueError, match=r"is of another: the model has no head 0\.4"):
        visualizer.plot_head_map(head_report(2, 5))
    with pytest.raises(ValueError, match=r"is of another: the report has no head 1\.0"):
        visualizer.plot_head_map(head_report(1, 4))
    with pytest.raises(FileNotFoundError):
        visualizer.plot_head_map(tmp_path / "missing.json")


# Bad input


@pytest.mark.parametrize("name", ["plot_rollout", "plot_logit_lens"])
def test_bad_input_is_refused(name, tmp_path, monkeypatch):
    model = decoder()
    plot = getattr(AttentionVisualizer(model), name)
    with pytest.raises(ValueError, match="the text is empty"):
        plot("")
    which = {"position": 5} if name == "plot_rollout" else {"positions": [5]}
    with pytest.raises(ValueError, match="position 5 does not exist: positions are 0 to 4"):
        plot("a cat", **which)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(model, "forward", None)  # so that computing before looking at the output fails
    with pytest.raises(ValueError, match=r"\.png, \.svg, \.pdf, not '\.bmp'"):
        plot("a cat", save_path=tmp_path / "a.bmp")
    with pytest.raises(OSError, match="file"):
        plot("a cat", save_path=tmp_path / "file" / "a.png")


def test_what_a_model_cannot_say_is_refused():
    with pytest.raises(TypeError, match='give one with head="masked_lm"'):
        AttentionVisualizer(encoder("none")).plot_logit_lens("the cat")
    with pytest.raises(ValueError, match="stream 3 does not exist"):
        AttentionVisualizer(decoder()).plot_logit_lens("the cat", layers=[3])
    with pytest.raises(ValueError, match="no positions to draw"):
        AttentionVisualizer(decoder()).plot_logit_lens("the cat", positions=[])
    with pytest.raises(ValueError, match="nothing may be deleted"):
        AttentionVisualizer(decoder()).plot_rollout("a")
    with pytest.raises(TypeError, match="no target beside it"):
        AttentionVisualizer(decoder()).plot_rollout("a", target_text="b")


# From the command line


@pytest.fixture
def folder(tmp_path):
    decoder().save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def test_pictures_of_all_layers_from_the_command_line(folder, tmp_path, capsys):
    for option in ("--rollout", "--logit-lens"):
        out = str(tmp_path / f"{option}.svg")
        assert main(["visualize", folder, option, "--text", "a cat", "--output", out]) == 0
        assert capsys.readouterr().out == f"{out}\n"
        assert "<svg" in (tmp_path / f"{option}.svg").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rollout", "--logit-lens"], "are different pictures: choose one"),
        (["--position", "1"], "--position is of --rollout"),
        (["--rollout", "--position", "99"], "position 99 does not exist"),
        (["--rollout", "--image", "missing.png"], "missing.png"),
        (["--logit-lens", "--text", ""], "the text is empty"),
    ],
)
def test_wrong_options_are_said_in_one_line(folder, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["visualize", folder, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_every_picture_says_which_model_it_is_of(tmp_path):
    visualizer = AttentionVisualizer(decoder(), "mine/best")
    for figure in (
        visualizer.plot_attention_heads("a cat", 0),
        visualizer.plot_head("a cat", 0, 1),
        visualizer.plot_rollout("a cat", faithfulness=False),
        visualizer.plot_logit_lens("a cat"),
        visualizer.plot_head_map(head_report(2, 4)),
    ):
        assert said(figure).startswith("mine/best: GPT, 2 layers x 4 heads")
    vit = AttentionVisualizer(spread(ViTModel(12, 4, 24, 2, 3)), "eye")
    assert said(vit.plot_vit_attention(np.zeros((12, 12, 3)), 0)).startswith("eye: ViT, 2 layers x 3 heads")
