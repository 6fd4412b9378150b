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


@pytest.mark.parametrize("baselines", [{"unigram": 2.0, "bigram": 1.93}, {"a": 1.9, "b": 1.9}])
def test_labels_of_close_lines_do_not_overlap(baselines):
    figure = draw_loss_curve(METRICS, baselines)
    figure.draw_without_rendering()
    one, two = [text.get_window_extent() for text in figure.axes[0].texts if "model" in text.get_text()]
    assert not one.overlaps(two)
