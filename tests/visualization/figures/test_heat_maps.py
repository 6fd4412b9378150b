"""Cells of heat maps: none is lost, all have the same size, and masked ones are hatched."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from glassformer.visualization import draw_head, draw_heads
from glassformer.visualization.figures.heat_maps import fit_cells
from glassformer.visualization.figures.layout import label_step, ordinal
from glassformer.visualization.figures.style import DPI, HATCHED, figure_style


def pixels(figure):
    buffer = io.BytesIO()
    with figure_style():
        figure.savefig(buffer, format="png")
    return np.asarray(Image.open(buffer).convert("RGB")).astype(int).sum(-1)


def pixels_inside(figure, axes):
    """Pixels of one map."""
    shown, box = pixels(figure), axes.get_position()
    height, width = shown.shape
    rows = slice(round((1 - box.y1) * height), round((1 - box.y0) * height))
    return shown[rows, round(box.x0 * width) : round(box.x1 * width)]


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [20, 257, 350, 512, 1024, 2100])
def test_every_strong_column_of_a_long_text_is_drawn_with_the_same_width(tokens):
    weights = np.zeros((9, tokens, tokens), np.float32)
    strong = range(0, tokens, 10)
    weights[:, :, strong] = 1
    names = ["a"] * tokens
    figure = draw_heads(weights, names, names, title="t", caption="c")
    for axes in (figure.axes[0], figure.axes[4]):
        dark = pixels_inside(figure, axes)[-1] < 300
        ends = np.flatnonzero(np.diff(np.concatenate([[0], dark.astype(int), [0]])))
        widths = np.diff(ends.reshape(-1, 2), axis=1).ravel()
        grid = fit_cells(tokens, axes.get_position().width * figure.get_size_inches()[0])
        assert len({place // grid.block for place in strong}) == round(widths.sum() / widths.min())
        if grid.block <= 3:
            assert len(widths) == len(strong)
            assert len(set(widths)) == 1
    said = " ".join(text.get_text() for text in figure.texts)
    assert ("each cell is the largest weight of its block" in said) == (tokens in (350, 1024, 2100))
    assert figure.get_size_inches().max() <= 10


@pytest.mark.parametrize("tokens", [1, 7, 300, 630, 631, 5000])
@pytest.mark.parametrize("inches", [0.3, 2.1, 6])
def test_cells_fill_most_of_a_side_with_whole_pixels(tokens, inches):
    grid = fit_cells(tokens, inches)
    assert grid.inches <= inches
    assert grid.inches >= 0.75 * int(inches * DPI) / DPI
    assert round(grid.inches * DPI) % grid.cells == 0
    assert (grid.cells - 1) * grid.block < tokens <= grid.cells * grid.block


@pytest.mark.slow
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
    shown = pixels_inside(figure, axes)
    corner = shown[: len(shown) // 12, -(len(shown) // 12) :]
    assert len(np.unique(corner)) > 5  # stripes
    said = [text.get_text() for text in figure.texts]
    assert "masked: may not be attended to" in said
    swatches = [patch for patch in figure.patches + figure.artists if getattr(patch, "get_hatch", None)]
    assert [swatch.get_hatch() for swatch in swatches] == [HATCHED["hatch"]]


@pytest.mark.slow
def test_a_partly_masked_block_shows_the_other_weights():
    tokens = 2501
    weights = np.triu(np.full((tokens, tokens), np.nan), 1) + np.tril(np.full((tokens, tokens), 0.5))
    allowed = np.tril(np.ones((tokens, tokens), dtype=bool))
    names = ["a"] * tokens
    figure = draw_head(np.nan_to_num(weights), names, names, title="t", caption="c", allowed=allowed)
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_array_equal(np.ma.getmaskarray(shown), np.triu(np.ones(shown.shape, dtype=bool), 1))
    assert set(shown.compressed()) == {0.5}


@pytest.mark.slow
def test_a_note_tells_which_labels_are_left_out():
    figure = draw_head(np.full((150, 150), 0.1), ["a"] * 150, ["a"] * 150, title="t", caption="c")
    said = " ".join(text.get_text() for text in figure.texts)
    step = label_step(150, figure.axes[0].get_position().width * figure.get_size_inches()[0])
    assert f"every {ordinal(step)} token is labeled" in said
    assert figure.axes[0].yaxis.get_tick_params()["length"] > 0
    tall = draw_head(np.full((150, 9), 0.1), ["a"] * 150, ["b"] * 9, title="t", caption="c")
    assert "row is labeled" in " ".join(text.get_text() for text in tall.texts)
