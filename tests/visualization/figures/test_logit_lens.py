"""Tables of the logit lens: the tokens and probabilities drawn are those computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glassformer.analysis import logit_lens
from glassformer.visualization import AttentionVisualizer
from glassformer.visualization.figures.style import format_weight


def labels(axes, which):
    return [text.get_text() for text in getattr(axes, f"get_{which}ticklabels")()]


def test_each_cell_is_the_most_likely_token_and_its_probability(decoder, texts_of):
    model = decoder
    lens = logit_lens(model, "a cat", 1)
    figure = AttentionVisualizer(model).plot_logit_lens("a cat")
    axes, _bar = figure.axes
    assert "probability (square-root scale)" in texts_of(figure)
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
    start = "The most likely token after each layer “a cat” GPT, 2 layers x 4 heads"
    assert texts_of(figure).startswith(start)


@pytest.mark.slow
def test_given_positions_and_layers_are_drawn(decoder, encoder_decoder, make_encoder, texts_of):
    visualizer = AttentionVisualizer(decoder)
    figure = visualizer.plot_logit_lens("abcdef", positions=[0, -2], layers=[0, 2])
    assert labels(figure.axes[0], "x") == ["a", "e"]
    assert labels(figure.axes[0], "y") == ["embedding", "1"]
    whole = visualizer.plot_logit_lens("abcdef").axes[0].images[0].get_array()
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), whole[[0, 2]][:, [0, 4]], atol=1e-6)
    long = visualizer.plot_logit_lens("x" * 50)
    assert len(labels(long.axes[0], "x")) == 16
    assert "the last 16 of 50 positions" in texts_of(long)
    of_target = AttentionVisualizer(encoder_decoder).plot_logit_lens("cab", target_text="K AH")
    assert labels(of_target.axes[0], "x") == ["<pad>", "K", "AH"]
    assert "T5 decoder attention, 3 layers x 4 heads" in texts_of(of_target)
    assert (
        len(AttentionVisualizer(make_encoder("masked_lm")).plot_logit_lens("the cat").axes[0].texts) == 3 * 4
    )


def test_the_probabilities_of_followed_tokens_are_drawn(decoder, texts_of):
    figure = AttentionVisualizer(decoder).plot_logit_lens("a cat", follow=["t", 98, "t"], layers=[0, 2])
    table, of_t, of_b, _bar = figure.axes
    lens = logit_lens(decoder, "a cat", 1, [0, 2], [116, 98])
    assert table.get_title(loc="left") == ""
    for axes, token, column in ((of_t, "t", 0), (of_b, "b", 1)):
        assert f"\u2068{token}\u2069" in axes.get_title(loc="left")
        expected = lens.followed[..., column].exp().numpy()
        np.testing.assert_allclose(axes.images[0].get_array(), expected, atol=1e-6)
        written = {text.get_position(): text.get_text() for text in axes.texts}
        assert written[4, 1] == format_weight(expected[1, 4])
        assert labels(axes, "y") == ["embedding", "1"]
    alone = logit_lens(decoder, "a cat", 257).log_probabilities
    tokens = logit_lens(decoder, "a cat", 257).tokens
    at_98 = alone.gather(-1, (tokens == 98).int().argmax(-1, keepdim=True))[..., 0]
    torch.testing.assert_close(logit_lens(decoder, "a cat", follow=[98]).followed[..., 0], at_98)
    assert logit_lens(decoder, "a cat").followed is None


def test_tokens_that_do_not_exist_cannot_be_followed(decoder):
    visualizer = AttentionVisualizer(decoder)
    with pytest.raises(ValueError, match="'ca' must be a single token to be followed \\(it is: c, a\\)"):
        visualizer.plot_logit_lens("a cat", follow=["ca"])
    for token in (257, -1):
        with pytest.raises(ValueError, match=f"token id {token} does not exist: ids are 0 to 256"):
            visualizer.plot_logit_lens("a cat", follow=[token])


def test_the_table_fits_on_a_page_and_labels_into_cells(decoder):
    figure = AttentionVisualizer(decoder).plot_logit_lens("Wq" * 30)
    assert figure.get_size_inches().max() <= 7.5
    figure.draw_without_rendering()
    axes = figure.axes[0]
    width = np.diff(axes.transData.transform([(0, 0), (1, 0)])[:, 0])[0]
    for text in (*axes.texts, *axes.get_xticklabels()):
        assert text.get_window_extent().width <= width
        assert text.get_fontsize() >= 6


def test_what_the_lens_cannot_show_raises(decoder, make_encoder):
    with pytest.raises(TypeError, match='BERTModel with head="masked_lm"'):
        AttentionVisualizer(make_encoder("none")).plot_logit_lens("the cat")
    with pytest.raises(ValueError, match="stream 3 does not exist"):
        AttentionVisualizer(decoder).plot_logit_lens("the cat", layers=[3])
    with pytest.raises(ValueError, match="positions must not be empty"):
        AttentionVisualizer(decoder).plot_logit_lens("the cat", positions=[])
