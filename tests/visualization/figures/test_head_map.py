"""The head map: every head in its cell, legible for wide models and for deep ones."""

from __future__ import annotations

import re

import pytest
from matplotlib.colors import rgb_to_hsv

from glassformer.analysis import HeadReport
from glassformer.visualization import draw_head_map, save_figure
from glassformer.visualization.figures.head_map import GROUP_COLORS, abbreviate, group_of, shade
from glassformer.visualization.figures.style import DARK, relative_luminance, text_color

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


def texts_of(figure):
    """The texts of a figure, without the controls for the direction of writing."""
    text = " ".join(text.get_text() for text in figure.texts)
    return " ".join(re.sub("[\u2068\u2069\u200e]", "", text).split())


@pytest.mark.parametrize(
    ("layers", "heads"), [(6, 12), (30, 9), (1, 1), pytest.param(24, 32, marks=pytest.mark.slow)]
)
def test_every_head_has_a_cell_that_holds_its_label(layers, heads, tmp_path):
    found = report(layers, heads)
    figure = draw_head_map(found)
    axes = figure.axes[0]
    assert len(axes.patches) == layers * heads
    labels = {
        row["layer"] * heads + row["head"]: abbreviate(row["name"]) for row in found.names if row["main"]
    }
    shown = [text.get_text().replace("\n", "") for text in axes.texts[::2]]
    assert shown == [labels[place].replace("\n", "") for place in sorted(labels)]
    figure.draw_without_rendering()
    width, height = (axes.transData.transform((1, 1)) - axes.transData.transform((0, 0))).tolist()
    for text in axes.texts:
        box = text.get_window_extent()
        assert box.width <= width
        assert box.height <= -height
    save_figure(figure, tmp_path / "map.svg")
    assert (tmp_path / "map.svg").stat().st_size > 3000


@pytest.mark.slow
def test_label_and_number_of_a_cell_do_not_overlap():
    figure = draw_head_map(report(6, 12))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    for label, number in zip(axes.texts[::2], axes.texts[1::2], strict=True):
        assert label.get_window_extent().y0 >= number.get_window_extent().y0
        assert label.get_window_extent().y0 >= number.get_window_extent().y1 - 2


@pytest.mark.slow
@pytest.mark.parametrize(("layers", "heads"), [(6, 12), (30, 9), (2, 2)])
def test_caption_and_legend_do_not_overlap(layers, heads):
    title = "a model of a long name: GPT, 4 layers x 4 heads"
    figure = draw_head_map(report(layers, heads, num_cut=12, cut_to=64), title=title)
    figure.draw_without_rendering()
    shown = texts_of(figure)
    assert shown.startswith("Where each head looks: a model of a long name: GPT, 4 layers x 4 heads")
    assert "1,234 texts (12 of them cut to 64 tokens)" in shown
    assert "one model with random weights (seed 7)" in shown
    assert "exceed every baseline by 0.1" in shown
    axes = figure.axes[0]
    top, bottom = axes.get_window_extent().y1, axes.get_tightbbox().y0
    boxes = [text.get_window_extent() for text in figure.texts]
    assert all(box.y0 >= top or box.y1 <= bottom for box in boxes)
    assert all(box.x1 <= figure.bbox.width and box.y0 >= 0 for box in boxes)
    assert figure.get_size_inches()[0] <= 7.5


@pytest.mark.slow
def test_a_deep_model_fits_on_a_page():
    for names in (NAMES, ("first", "induction", "")):
        figure = draw_head_map(report(30, 9, names=names))
        assert figure.get_size_inches().max() <= 10
        assert {text.get_fontsize() for text in figure.axes[0].texts} == {6}


def test_the_legend_counts_heads():
    shown = texts_of(draw_head_map(report(2, 7)))
    assert "tokens: first (2), previous (2)" in shown
    assert "copying: induction (2)" in shown
    assert shown.endswith("no label (2)")
    assert "rate (darker is higher)" in shown


def test_higher_rates_are_darker_and_further_labels_are_marked():
    figure = draw_head_map(report(1, 4, names=["previous"]), title="mine")
    axes = figure.axes[0]
    shades = [sum(patch.get_facecolor()[:3]) for patch in axes.patches]
    assert shades == sorted(shades, reverse=True)
    assert [text.get_text() for text in axes.texts][1::2] == ["0", ".25+", ".50", ".75"]
    assert texts_of(figure).startswith("Where each head looks: mine")


def test_there_may_be_many_labels_or_none():
    names = [f"offset+{number}" for number in range(10)]
    assert len(draw_head_map(report(2, 5, names=names)).axes[0].texts) == 20
    unlabeled = texts_of(draw_head_map(report(2, 1, names=[""], as_bytes=True)))
    assert unlabeled.endswith("no label (2)")
    assert "read as bytes: the model has no tokenizer" in unlabeled


def test_labels_of_a_group_share_a_hue():
    figure = draw_head_map(report(1, 4, names=["first", "previous", "induction", "verb->subject"]))
    hues = [rgb_to_hsv(patch.get_facecolor()[:3])[0] for patch in figure.axes[0].patches]
    assert hues[0] == pytest.approx(hues[1], abs=1e-6)
    assert len({round(hue, 3) for hue in hues}) == 3
    assert group_of("mine") == "others"


def test_text_has_contrast_on_every_shade():
    for group in GROUP_COLORS:
        for rate in (0.0, 0.3, 0.5, 0.6, 0.7, 1.0):
            ground = shade(group, rate)
            assert contrast(text_color(ground), ground) >= 4.5
    assert text_color("#ffffff") == DARK


def contrast(one, other):
    low, high = sorted(relative_luminance(color) for color in (one, other))
    return (high + 0.05) / (low + 0.05)
