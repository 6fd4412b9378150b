"""The map of names: every head in its cell, legible for wide models and for deep ones."""

from __future__ import annotations

import pytest

from glassformer.analysis import HeadReport
from glassformer.visualization import draw_head_map, save_picture
from glassformer.visualization.head_map import COLOURS, short

NAMES = ("previous", "first", "offset-2", "verb->subject", "noun->determiner", "induction", "")


def report(layers, heads, names=NAMES, **data):
    rows = []
    for layer in range(layers):
        for head in range(heads):
            name = names[(layer * heads + head) % len(names)]
            row = {
                "layer": layer,
                "head": head,
                "pattern": name or "next",
                "measure": "rate",
                "main": bool(name),
            }
            row |= {"score": head / heads, "low": 0.0, "high": 1.0, "control": "shuffled labels", "lift": 0.2}
            rows.append(row | {"control_score": 0.1, "name": name})
            if head == 1:
                rows.append({**rows[-1], "pattern": "current", "name": "current", "main": False})
    return HeadReport("GPT", {"margin": 0.1, "seed": 7}, rows, {"num_items": 1234, **data})


@pytest.mark.parametrize(("layers", "heads"), [(6, 12), (30, 9), (1, 1), (24, 32)])
def test_every_head_has_a_cell_that_holds_its_name(layers, heads, tmp_path):
    found = report(layers, heads)
    figure = draw_head_map(found)
    (axes,) = figure.axes
    assert len(axes.patches) == layers * heads
    labels = {row["layer"] * heads + row["head"]: short(row["name"]) for row in found.names if row["main"]}
    assert [text.get_text() for text in axes.texts][::2] == [labels[place] for place in sorted(labels)]
    figure.draw_without_rendering()
    width, height = (axes.transData.transform((1, 1)) - axes.transData.transform((0, 0))).tolist()
    for text in axes.texts:
        box = text.get_window_extent()
        assert box.width <= width
        assert box.height <= -height
    save_picture(figure, tmp_path / "map.svg")
    assert (tmp_path / "map.svg").stat().st_size > 3000


def test_names_and_numbers_of_one_cell_do_not_overlap():
    figure = draw_head_map(report(6, 12))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    for label, number in zip(axes.texts[::2], axes.texts[1::2], strict=True):
        assert label.get_window_extent().y0 >= number.get_window_extent().y0
        assert label.get_window_extent().y0 >= number.get_window_extent().y1 - 2


@pytest.mark.parametrize(("layers", "heads"), [(6, 12), (30, 9), (2, 2)])
def test_caption_and_legend_keep_clear_of_each_other(layers, heads):
    title = "a model of a long name: GPT, 4 layers x 4 heads"
    figure = draw_head_map(report(layers, heads, num_cut=12, cut_to=64), title=title)
    figure.draw_without_rendering()
    (title,) = [text for text in figure.texts if text.get_text() == figure.get_suptitle()]
    said = " ".join(figure.get_suptitle().split())
    assert said.startswith("a model of a long name: GPT, 4 layers x 4 heads: what each head does")
    assert "1,234 texts (12 of them cut to 64 tokens)" in said
    assert "one model with random weights (seed 7)" in said
    assert "exceed every control by 0.1" in said
    (legend,) = figure.legends
    assert title.get_window_extent().x1 <= legend.get_window_extent().x0
    (axes,) = figure.axes
    assert title.get_window_extent().y0 >= axes.get_window_extent().y1
    assert legend.get_window_extent().y0 >= 0


def test_the_legend_counts_heads():
    figure = draw_head_map(report(2, 7))
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "previous (2)" in said
    assert said[-1] == "no name (2)"


def test_strength_is_in_the_colour_and_a_further_name_is_marked():
    figure = draw_head_map(report(1, 4, names=["previous"]), title="mine")
    (axes,) = figure.axes
    shades = [sum(patch.get_facecolor()[:3]) for patch in axes.patches]
    assert shades == sorted(shades, reverse=True)
    assert [text.get_text() for text in axes.texts][1::2] == [".00", ".25+", ".50", ".75"]
    assert figure.get_suptitle().startswith("mine: what each head does")


def test_there_may_be_more_names_than_colours_or_none():
    names = [f"offset+{number}" for number in range(2 * len(COLOURS))]
    assert len(draw_head_map(report(2, len(COLOURS), names=names)).axes[0].texts) == 4 * len(COLOURS)
    nobody = draw_head_map(report(2, 1, names=[""], as_bytes=True))
    assert [text.get_text() for text in nobody.legends[0].get_texts()] == ["no name (2)"]
    assert "read as bytes: the model has no tokenizer" in nobody.get_suptitle()
