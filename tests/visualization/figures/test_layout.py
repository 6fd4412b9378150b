"""Fitted text, headings and token labels of figures."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from glassformer.visualization.figures.layout import (
    Canvas,
    Heading,
    LegendEntry,
    label_notes,
    label_step,
    ordinal,
    shorten,
    shorten_together,
    text_width,
    whitespace_legend,
    wrap,
)
from glassformer.visualization.figures.style import LEFT_TO_RIGHT, figure_style, isolate


def test_measured_widths_are_those_of_drawn_text():
    figure = Figure(figsize=(9, 1), dpi=300)
    with figure_style():
        for text in ("iiiiiiii", "WWWWWWWW", "שלום עולם", "The cat sat"):
            drawn = figure.text(0, 0.5, text, fontsize=8).get_window_extent().width / 300
            assert text_width(text, 8) == pytest.approx(drawn, rel=0.05)


@pytest.mark.parametrize(
    "text", ["W" * 300, "i" * 300, "The people have the right to vote. " * 9, "שלום " * 90]
)
@pytest.mark.parametrize("width", [0.5, 2, 5])
def test_shortened_text_fills_the_width(text, width):
    short = shorten(text, width, 8)
    assert short.endswith("…")
    assert 0.5 * width - 0.1 < text_width(short, 8) <= width
    kept = short.removesuffix("…").rstrip()
    assert text.startswith(kept)
    if " " in kept:
        assert text[len(kept)] == " "
    assert shorten("a cat", 2, 8) == "a cat"


def test_a_short_text_leaves_its_room_to_a_longer_one():
    short, long = shorten_together(["a cat", "words " * 90], 5, 8)
    assert short == "a cat"
    assert text_width(long, 8) > 4


def test_lines_are_broken_at_spaces_only():
    text = "in brackets against 95\u00a0% of 39 random orders, and " + "x" * 200
    lines = wrap(text, 1.5, 8)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(text_width(line, 8) <= 1.5 for line in lines)
    assert any("95\u00a0%" in line for line in lines)


def test_quotations_keep_their_direction_in_a_heading():
    caption = f"{isolate('שלום עולם')} → {isolate('abc')}"
    heading = Heading(7, "t", caption, legend=[LegendEntry("grey")])
    (line,) = [line for line, _ in heading.lines]
    assert line.startswith("“\u2068")
    assert line.endswith("\u2069” → “\u2068abc\u2069”")
    canvas = Canvas(7, 1)
    heading.draw(canvas)
    title, caption, entry = [text.get_text() for text in canvas.figure.texts]
    assert (title, caption[0], entry) == ("t", LEFT_TO_RIGHT, "grey")


def test_a_heading_has_only_drawable_characters():
    heading = Heading(7, "a\x07", f"b\x07 {isolate('c')}", ["d\x07"])
    texts = [*heading.title_lines, *(line for line, _ in heading.lines)]
    assert texts == ["a U+0007", "b U+0007 “\u2068c\u2069”", "d U+0007"]


def test_symbols_for_white_space_are_explained_where_they_occur():
    assert [entry.text for entry in whitespace_legend(["·a", "↵"])] == ["· a space, ↵ a line break"]
    assert whitespace_legend(["a", "b"]) == []


def test_no_legend_entry_is_broken():
    entries = [LegendEntry("masked: may not be attended to", {"facecolor": "red"})] * 5
    heading = Heading(3.5, "t", legend=entries)
    assert len(heading.legend_rows) > 1
    assert [entry for row in heading.legend_rows for entry in row] == entries
    canvas = Canvas(3.5, 2)
    heading.draw(canvas)
    shown = [text for text in canvas.figure.texts if "attended" in text.get_text()]
    assert len(shown) == 5
    assert all(text.get_window_extent().x1 <= canvas.figure.bbox.width for text in shown)


def test_a_side_without_room_labels_every_nth_token():
    assert label_step(10, 1.0) == 1
    assert label_step(100, 1.0) == 10
    assert label_notes(10, 10, 1.0, 1.0) == ()
    assert label_notes(100, 100, 1.0, 1.0) == ("every 10th token is labeled",)
    assert label_notes(100, 10, 1.0, 1.0) == ("every 10th row is labeled",)
    assert [ordinal(number) for number in (2, 3, 4, 11, 12, 21, 22)] == [
        *("2nd", "3rd", "4th", "11th", "12th", "21st", "22nd")
    ]
