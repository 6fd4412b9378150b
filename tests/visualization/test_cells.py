"""Cells of heat maps: none is lost, all are as wide, masked ones cannot be taken for small weights."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from glassformer.visualization import draw_head, draw_heads
from glassformer.visualization.cells import laid_out
from glassformer.visualization.heading import HATCHED
from glassformer.visualization.pictures import style
from glassformer.visualization.sheet import DPI
from glassformer.visualization.sides import every, ordinal


def pixels(figure):
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png")
    return np.asarray(Image.open(buffer).convert("RGB")).astype(int).sum(-1)


def inside(figure, axes):
    """The pixels of one map."""
    shown, box = pixels(figure), axes.get_position()
    height, width = shown.shape
    rows = slice(round((1 - box.y1) * height), round((1 - box.y0) * height))
    return shown[rows, round(box.x0 * width) : round(box.x1 * width)]


@pytest.mark.parametrize("tokens", [20, 257, 350, 512, 1024, 2100])
def test_every_strong_column_of_a_long_text_is_drawn_and_none_is_wider(tokens):
    weights = np.zeros((9, tokens, tokens), np.float32)
    strong = range(0, tokens, 10)
    weights[:, :, strong] = 1
    names = ["a"] * tokens
    figure = draw_heads(weights, names, names, title="t", caption="c")
    for axes in (figure.axes[0], figure.axes[4]):
        dark = inside(figure, axes)[-1] < 300
        ends = np.flatnonzero(np.diff(np.concatenate([[0], dark.astype(int), [0]])))
        widths = np.diff(ends.reshape(-1, 2), axis=1).ravel()
        side = laid_out(tokens, axes.get_position().width * figure.get_size_inches()[0])
        assert len({place // side.block for place in strong}) == round(widths.sum() / widths.min())
        if side.block <= 3:
            assert len(widths) == len(strong)
            assert len(set(widths)) == 1
    said = " ".join(text.get_text() for text in figure.texts)
    assert ("each cell is the largest weight of its block" in said) == (tokens in (350, 1024, 2100))
    assert figure.get_size_inches().max() <= 10


@pytest.mark.parametrize("tokens", [1, 7, 300, 630, 631, 5000])
@pytest.mark.parametrize("inches", [0.3, 2.1, 6])
def test_cells_fill_most_of_a_side_with_whole_pixels(tokens, inches):
    side = laid_out(tokens, inches)
    assert side.inches <= inches
    assert side.inches >= 0.75 * int(inches * DPI) / DPI
    assert round(side.inches * DPI) % side.cells == 0
    assert (side.cells - 1) * side.block < tokens <= side.cells * side.block


def test_masked_cells_are_hatched_and_zero_is_not():
    weights = np.zeros((12, 12))
    allowed = np.tril(np.ones((12, 12), dtype=bool))
    names = ["a"] * 12
    figure = draw_head(weights, names, names, title="t", caption="c", allowed=allowed)
    axes = figure.axes[0]
    (hatch,) = axes.patches
    assert hatch.get_hatch() == HATCHED["hatch"]
    for row, column in np.ndindex(12, 12):
        assert hatch.get_path().contains_point((column, row)) == (not allowed[row, column])
    assert {text.get_text() for text in axes.texts} == {"0"}
    shown = inside(figure, axes)
    corner = shown[: len(shown) // 12, -(len(shown) // 12) :]
    assert len(np.unique(corner)) > 5  # stripes
    said = [text.get_text() for text in figure.texts]
    assert "may not be attended to" in said
    swatches = [patch for patch in figure.patches + figure.artists if getattr(patch, "get_hatch", None)]
    assert [swatch.get_hatch() for swatch in swatches] == [HATCHED["hatch"]]


def test_a_block_that_is_masked_in_part_shows_what_is_not():
    tokens = 2501
    weights = np.triu(np.full((tokens, tokens), np.nan), 1) + np.tril(np.full((tokens, tokens), 0.5))
    allowed = np.tril(np.ones((tokens, tokens), dtype=bool))
    names = ["a"] * tokens
    figure = draw_head(np.nan_to_num(weights), names, names, title="t", caption="c", allowed=allowed)
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_array_equal(np.ma.getmaskarray(shown), np.triu(np.ones(shown.shape, dtype=bool), 1))
    assert set(shown.compressed()) == {0.5}


def test_labels_that_are_left_out_are_announced():
    figure = draw_head(np.full((150, 150), 0.1), ["a"] * 150, ["a"] * 150, title="t", caption="c")
    said = " ".join(text.get_text() for text in figure.texts)
    step = every(150, figure.axes[0].get_position().width * figure.get_size_inches()[0])
    assert f"every {ordinal(step)} token is named" in said
    assert [ordinal(number) for number in (2, 3, 4, 11, 12, 21, 22)] == [
        *("2nd", "3rd", "4th", "11th", "12th", "21st", "22nd")
    ]
    assert figure.axes[0].yaxis.get_tick_params()["length"] > 0
    tall = draw_head(np.full((150, 9), 0.1), ["a"] * 150, ["b"] * 9, title="t", caption="c")
    assert "row is named" in " ".join(text.get_text() for text in tall.texts)
