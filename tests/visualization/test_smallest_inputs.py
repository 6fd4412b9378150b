"""Figures and pages of the smallest models and inputs: one token, layer, head, class or patch."""

from __future__ import annotations

import pytest
import torch

from glassformer.analysis import HeadAnalysisSettings, HeadReport, NoDeletableTokenError, deletion_test
from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel
from glassformer.terminal import count_of
from glassformer.tokenization import ByteTokenizer
from glassformer.visualization import AttentionVisualizer, draw_head_map

TEXTS = {"one token": "e", "two tokens": "ab", "a long word": "x" * 70}


@pytest.fixture
def smallest(randomize):
    model = randomize(GPTModel(257, 8, 1, 1, max_seq_len=80)).eval()
    model.tokenizer = ByteTokenizer()
    return model


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_every_figure_of_a_text_is_drawn(smallest, tmp_path, texts_of, text):
    visualizer = AttentionVisualizer(smallest)
    for name, draw in {
        "heads": lambda path: visualizer.plot_attention_heads(text, 0, path),
        "head": lambda path: visualizer.plot_head(text, 0, 0, path),
        "rollout": lambda path: visualizer.plot_rollout(text, save_path=path),
        "lens": lambda path: visualizer.plot_logit_lens(text, path),
    }.items():
        figure = draw(tmp_path / f"{name}.png")
        assert "1 layer x 1 head" in texts_of(figure)
        assert "1 layers" not in texts_of(figure)
    assert "1 layer, 1 head" in visualizer.explore(text).contents.title


@pytest.mark.parametrize("faithfulness", [None, True])
def test_a_rollout_of_one_token_is_drawn_without_a_test(smallest, faithfulness):
    visualizer = AttentionVisualizer(smallest)
    figure = visualizer.plot_rollout("e", faithfulness=faithfulness)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [f"{name}\nfaithfulness not tested" for name in ("rollout", "gradient-weighted rollout")]
    assert figure.axes[0].patches[0].get_width() == pytest.approx(1)
    rollouts = visualizer.explore("e").contents.rollouts
    assert [rollout.faithfulness for rollout in rollouts] == [None, None]
    with pytest.raises(NoDeletableTokenError, match="no token may be deleted"):
        deletion_test(smallest, "e", [1.0])


def test_a_source_of_one_token_and_an_image_of_one_patch_are_drawn(randomize):
    pair = AttentionVisualizer(randomize(T5Model(12, 8, 1, 1, num_decoder_layers=1)).eval())
    for kind in ("encoder", "decoder", "cross"):
        pair.plot_attention_heads([3], 0, kind=kind, target_text=[4])
    figure = pair.plot_rollout([3], target_text=[4], faithfulness=True)
    assert "not tested" in figure.axes[0].get_title(loc="left")
    pair.plot_logit_lens([3], target_text=[4])
    assert pair.explore([3], target_text=[4]).contents.title.count("1 layer, 1 head (") == 3
    model = ViTModel(image_size=8, patch_size=8, d_model=8, num_layers=1, num_heads=1, labels=["only"])
    image = AttentionVisualizer(randomize(model).eval())
    image.plot_vit_attention(torch.rand(3, 8, 8), 0)
    image.plot_rollout(torch.rand(3, 8, 8))


@pytest.mark.parametrize("head", ["classification", "token_classification"])
def test_a_model_of_one_class_is_drawn(randomize, head):
    model = randomize(BERTModel(12, 8, 1, 1, head=head, labels=["only"])).eval()
    figure = AttentionVisualizer(model).plot_rollout([3], 0 if head == "token_classification" else None)
    assert len(figure.axes) == 2


def test_only_figures_with_masked_cells_explain_them(smallest, texts_of):
    visualizer = AttentionVisualizer(smallest)
    assert "masked" not in texts_of(visualizer.plot_head("e", 0, 0))
    assert "masked" in texts_of(visualizer.plot_head("ab", 0, 0))


def test_a_report_without_rows_is_refused_in_words(smallest):
    settings = HeadAnalysisSettings(patterns=("previous",), replicates=10)
    visualizer = AttentionVisualizer(smallest)
    with pytest.raises(ValueError, match="report on GPTModel is empty: its texts have no token"):
        visualizer.plot_head_map(visualizer.analyze_head_patterns(["e", "f"], settings=settings))
    with pytest.raises(ValueError, match="report on mine is empty"):
        draw_head_map(HeadReport("mine", {}, []))


def test_counts_have_a_plural_unless_they_are_one():
    assert [count_of(number, "head") for number in (0, 1, 2, 1000)] == [
        "0 heads",
        "1 head",
        "2 heads",
        "1,000 heads",
    ]
