"""Heads of pruned models keep their numbers in figures, pages, reports and tables."""

from __future__ import annotations

import pytest
import torch

from glassformer.analysis import HeadAnalysisSettings, analyze_heads, prune_heads
from glassformer.attention import record_attention
from glassformer.models import GPTModel, ViTModel
from glassformer.tokenization import ByteTokenizer
from glassformer.visualization import AttentionVisualizer, draw_head_map
from glassformer.visualization.figures.ablation import draw_ablation_maps
from glassformer.visualization.server.schema import PredictionRequest
from glassformer.visualization.server.session import ModelSession

REMAINING = [[0, 2, 3], [1, 3]]


@pytest.fixture
def whole(randomize):
    model = randomize(GPTModel(257, 24, 2, 4, max_seq_len=64)).eval()
    model.tokenizer = ByteTokenizer()
    return model


@pytest.fixture
def pruned(whole):
    return prune_heads(prune_heads(whole, [(0, 1), (1, 0)]), [(1, 2)])


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title().startswith("head")]


def test_figures_name_and_choose_heads_by_their_numbers(pruned, whole, texts_of):
    visualizer = AttentionVisualizer(pruned)
    assert titles(visualizer.plot_attention_heads("abc", 0)) == ["head 0", "head 2", "head 3"]
    assert titles(visualizer.plot_attention_heads("abc", 1)) == ["head 1", "head 3"]
    assert "Layer 1, head 3" in texts_of(visualizer.plot_head("abc", 1, 3))
    ids = torch.tensor([list(b"abc")])
    with record_attention(pruned, 0, heads=[2]) as left, record_attention(whole, 0, heads=[2]) as all_heads:
        pruned(ids), whole(ids)
    torch.testing.assert_close(left[0], all_heads[0])
    for head in (0, 2, 4):
        with pytest.raises(ValueError, match=f"head {head} does not exist in layer 1: heads are 1, 3 "):
            visualizer.plot_head("abc", 1, head)


def test_figures_of_images_name_heads_by_their_numbers(randomize):
    model = ViTModel(image_size=8, patch_size=4, d_model=24, num_layers=1, num_heads=4)
    model = prune_heads(randomize(model), [(0, 0)])
    shown = titles(AttentionVisualizer(model).plot_vit_attention(torch.rand(3, 8, 8), 0))
    assert [title.split(":")[0] for title in shown] == ["head 1", "head 2", "head 3"]


def test_pages_and_the_server_name_heads_by_their_numbers(pruned, whole):
    page = AttentionVisualizer(pruned).explore("abc", analyses=False)
    assert page.contents.attention[0].heads == REMAINING
    session = ModelSession(pruned, name="pruned")
    assert session.describe()["heads"] == {"self": REMAINING}
    smaller = prune_heads(pruned, [(0, 3)])
    request = PredictionRequest(text="abc", ablated_heads=("0.3",))
    after = {row["id"]: row["after"] for row in session.predict(request)["predictions"]}
    with torch.no_grad():
        probabilities = smaller(torch.tensor([list(b"abc")]))[0, -1].softmax(-1)
    assert after == pytest.approx({token: float(probabilities[token]) for token in after}, abs=1e-6)
    with pytest.raises(ValueError, match="head 1 does not exist in layer 0: heads are 0, 2, 3"):
        session.predict(PredictionRequest(text="abc", ablated_heads=("0.1",)))


def test_reports_and_head_maps_name_heads_by_their_numbers(pruned, texts_of):
    settings = HeadAnalysisSettings(patterns=("previous",), replicates=10)
    report = analyze_heads(pruned, ["abcd efgh"] * 8, settings)
    assert {(row["layer"], row["head"]) for row in report.rows} == {
        (layer, head) for layer, heads in enumerate(REMAINING) for head in heads
    }
    figure = AttentionVisualizer(pruned).plot_head_map(report)
    assert "heads without a cell were pruned" in texts_of(figure)
    (axes,) = [axes for axes in figure.axes if axes.get_xlabel() == "head"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "2", "3"]
    assert len(axes.patches) == 5
    assert "pruned" not in texts_of(
        draw_head_map(analyze_heads(GPTModel(257, 24, 1, 2), ["abcd"] * 4, settings))
    )


def test_maps_of_ablations_leave_out_pruned_heads():
    row = {"suite": "copying", "unit": "nats", "low": None, "high": None}
    rows = [{**row, "set": name, "drop": 0.5} for name in ("0.0", "0.2", "1.3")]
    axes = draw_ablation_maps(rows, title="", caption="").axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "2", "3"]
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {(0, 0): ".50", (2, 0): ".50", (3, 1): ".50"}
