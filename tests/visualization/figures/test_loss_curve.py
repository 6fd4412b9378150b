"""Loss curves."""

from __future__ import annotations

import pytest

from glassformer.visualization import draw_loss_curve

METRICS = [
    {"step": 0, "validation_loss": 4.0, "validation_bits_per_byte": 2.0},
    {"step": 1, "loss": 3.5},
    {"step": 2, "loss": 3.0, "validation_loss": 3.0, "validation_bits_per_byte": 1.5},
]


def test_losses_are_in_bits_per_byte():
    figure = draw_loss_curve(METRICS, {"unigram": 2.2, "bigram": 1.8})
    training, validation, unigram, bigram = figure.axes[0].lines
    assert training.get_xydata().tolist() == [[1, 1.75], [2, 1.5]]
    assert validation.get_xydata().tolist() == [[0, 2.0], [2, 1.5]]
    assert (unigram.get_ydata()[0], bigram.get_ydata()[0]) == (2.2, 1.8)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "unigram model: 2.20" in texts
    assert "bigram model: 1.80" in texts
    with pytest.raises(ValueError, match="must contain validation_bits_per_byte"):
        draw_loss_curve([{"step": 1, "loss": 3.0}], {})


@pytest.mark.parametrize("baselines", [{}, {"bigram": 1.45}, {"bigram": 1.55}, {"bigram": 1.9}])
def test_the_last_value_is_not_hidden_by_a_line(baselines):
    figure = draw_loss_curve(METRICS, baselines)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    (box,) = [text.get_window_extent() for text in axes.texts if text.get_text() == "this model: 1.50"]
    for value in baselines.values():
        height = axes.transData.transform((0, value))[1]
        assert not box.y0 <= height <= box.y1


@pytest.mark.parametrize("baselines", [{"unigram": 2.0, "bigram": 1.93}, {"a": 1.9, "b": 1.9}])
def test_labels_of_close_lines_do_not_overlap(baselines):
    figure = draw_loss_curve(METRICS, baselines)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if "this" not in text.get_text()]
    assert not boxes[0].overlaps(boxes[1])
