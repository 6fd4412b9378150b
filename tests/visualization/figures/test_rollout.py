"""Bars and image overlays of attention rollout: the shares drawn are those computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from PIL import Image

from glassformer.analysis import (
    attention_rollout,
    default_target,
    deletion_test,
    gradient_rollout,
    preprocess_image,
)
from glassformer.analysis.faithfulness import DeletionResult
from glassformer.models import ViTModel
from glassformer.visualization import AttentionVisualizer
from glassformer.visualization.attributions import Attribution
from glassformer.visualization.figures.style import HATCHED, format_probability


def labels(axes, which):
    return [text.get_text() for text in getattr(axes, f"get_{which}ticklabels")()]


def bars(axes):
    return np.array([bar.get_width() for bar in axes.patches if bar.get_height() < 1])


def shares(worth):
    return (worth / worth.sum()).numpy()


def title(axes):
    return " ".join((axes.get_title("left") or axes.get_title()).split())


def in_words(test):
    low, high = test.interval()
    than = "better than" if low > 0 else "worse than" if high < 0 else "no better than"
    score, low, high = (f"{number + 0:.2g}" for number in (test.score, low, high))
    return f"{than} random orders: faithfulness {score} ({low} to {high})"


@pytest.mark.parametrize(("position", "row"), [(None, 4), (-1, 4), (2, 2)])
def test_bars_are_the_shares_of_each_token(position, row, decoder, texts_of):
    model, ids = decoder, torch.tensor([list(b"a cat")])
    outcome = default_target(model, (ids,), model(ids), position)
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
    answer = f"“{model.tokenizer.label(outcome.token)}” ({format_probability(probability)})"
    assert texts_of(figure).startswith(f"Attribution of {answer} to the input")
    assert "GPT, 2 layers x 4 heads" in texts_of(figure)
    assert "“a cat”" in texts_of(figure)
    assert "bold: position of the answer" in texts_of(figure)


def test_tokens_that_are_not_visible_are_hatched(decoder):
    plain = AttentionVisualizer(decoder).plot_rollout("a cat", 2, faithfulness=False).axes[0]
    grey = [patch for patch in plain.patches if patch.get_height() == 1]
    assert [patch.get_y() for patch in grey] == [2.5, 3.5]
    assert {patch.get_facecolor() for patch in grey} == {to_rgba(HATCHED["facecolor"])}
    assert {patch.get_hatch() for patch in grey} == {HATCHED["hatch"]}
    assert title(plain) == "rollout faithfulness not tested"


def test_without_a_head_the_mean_vector_is_explained(make_encoder, texts_of):
    model = make_encoder("none")
    figure = AttentionVisualizer(model).plot_rollout("the cat")
    (axes,) = figure.axes
    np.testing.assert_allclose(bars(axes), attention_rollout(model, "the cat").mean(0), atol=1e-12)
    assert labels(axes, "y") == ["[CLS]", "the", "cat", "[SEP]"]
    assert "Attribution of the mean of all output vectors to the input" in texts_of(figure)
    assert "no gradient-weighted rollout: the model has no head" in texts_of(figure)
    with pytest.raises(TypeError, match="give neither position nor answer"):
        AttentionVisualizer(model).plot_rollout("the cat", 1)


@pytest.mark.slow
def test_a_masked_token_and_a_target_are_explained(encoder_decoder, make_encoder, texts_of):
    model = make_encoder("masked_lm")
    figure = AttentionVisualizer(model).plot_rollout("the cat", 2, faithfulness=False)
    np.testing.assert_allclose(bars(figure.axes[0]), attention_rollout(model, "the cat")[2], atol=1e-12)
    with pytest.raises(ValueError, match="no mask token: give position="):
        AttentionVisualizer(model).plot_rollout("the cat")
    model = encoder_decoder
    figure = AttentionVisualizer(model).plot_rollout("cab", target_text="K AH", faithfulness=False)
    assert labels(figure.axes[0], "y") == ["c", "a", "b", "</s>"]
    expected = attention_rollout(model, ([*model.tokenizer.encode("cab"), 1], "K AH")).mean(0)
    np.testing.assert_allclose(bars(figure.axes[0]), expected, atol=1e-12)
    assert "“cab” → “K AH”" in texts_of(figure)
    assert "token 2 of the target, to the input" in texts_of(figure)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["classification", "none"])
def test_shares_of_patches_are_laid_over_the_image(head, tmp_path, randomize, texts_of):
    model = randomize(ViTModel(12, 4, 24, 2, 3, num_registers=2, labels=["cat", "dog"], head=head))
    path = tmp_path / "animal.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(path)
    figure = AttentionVisualizer(model).plot_rollout(path, save_path=tmp_path / "new" / "rollout.svg")
    assert (tmp_path / "new" / "rollout.svg").stat().st_size > 5000
    first, *maps = [axes for axes in figure.axes if axes.get_title()]
    assert first.get_title() == "the image"
    assert len(maps) == (2 if head == "classification" else 1)
    rolled = attention_rollout(model, preprocess_image(model, path).pixel_values)
    row = (rolled[0] if head == "classification" else rolled.mean(0))[-9:].view(3, 3).numpy()
    alpha = np.asarray(maps[0].images[1].get_array())[..., 3]
    np.testing.assert_allclose(alpha, 0.85 * np.sqrt(row / row.max()), atol=1e-6)
    assert title(maps[0]).startswith("rollout no better than random orders: faithfulness")
    assert title(maps[0]).endswith(f"{row.sum():.0%} on patches")
    assert ("Attribution of class" in texts_of(figure)) == (head == "classification")
    assert "animal.png, read as 12 x 12 pixels in 3 x 3 patches" in texts_of(figure)
    assert "resized from 24 x 24 to 12 x 12 pixels" in texts_of(figure)


@pytest.mark.slow
@pytest.mark.parametrize("length", [64, 65, 80])
def test_labels_of_a_long_text_do_not_overlap(length, decoder):
    figure = AttentionVisualizer(decoder).plot_rollout("x" * length, faithfulness=False)
    figure.draw_without_rendering()
    named = [text for text in figure.axes[0].texts if text.get_text() == "x"]
    texts = named if length > 64 else figure.axes[0].get_yticklabels()
    boxes = sorted(text.get_window_extent().y0 for text in texts)
    height = texts[0].get_window_extent().height
    assert min(np.diff(boxes)) >= height
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    np.testing.assert_allclose(widths, attention_rollout(decoder, "x" * length)[-1], atol=1e-12)


def deletion(drop, random):
    shares = np.array([0, 0.5, 1])
    return DeletionResult(shares, np.array([0, drop, drop]), np.outer(random, [0, 1, 1]).astype(float))


@pytest.mark.parametrize(
    ("test", "words"),
    [
        (deletion(0, np.zeros(39)), "faithfulness cannot be measured: no deletion changes the answer"),
        (deletion(2, np.linspace(0, 1, 39)), "better than random orders: faithfulness 1.1 (0.75 to 1.5)"),
        (deletion(-1, np.linspace(0, 1, 39)), "worse than random orders: faithfulness -1.1 (-1.5 to -0.75)"),
        (deletion(1e-17, np.linspace(-1, 1, 39)), "no better than random orders: faithfulness 0 ("),
    ],
)
def test_the_summary_of_a_deletion_test_compares_with_random_orders(test, words):
    summary = Attribution("rollout", np.ones(2), test).summary.replace("\N{MINUS SIGN}", "-")
    assert summary.startswith(f"rollout\n{words}")


@pytest.mark.slow
def test_of_a_long_text_the_largest_bars_and_the_position_of_the_answer_are_labeled(decoder, texts_of):
    text = "".join(chr(33 + place % 90) for place in range(80))
    figure = AttentionVisualizer(decoder).plot_rollout(text, 70, faithfulness=False)
    rolled = attention_rollout(decoder, text)[70].numpy()
    named = [item for item in figure.axes[0].texts if item.get_text()]
    weights = {item.get_text(): item.get_fontweight() for item in named}
    assert text[int(rolled.argmax())] in weights
    assert weights[text[70]] == "bold"
    assert f"{len(named)} of 80 tokens are labeled" in texts_of(figure)
    assert figure.axes[0].get_yticks().tolist() == sorted(figure.axes[0].get_yticks())
    assert figure.get_size_inches().max() <= 10


def test_what_cannot_be_explained_raises(decoder):
    visualizer = AttentionVisualizer(decoder)
    with pytest.raises(TypeError, match="takes no target text"):
        visualizer.plot_rollout("a", target_text="b")
