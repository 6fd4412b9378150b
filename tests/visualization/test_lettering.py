"""Texts in pictures: fonts that have their characters, cut by how wide they are, each in its direction."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

from glassformer.visualization import glyphs, measuring
from glassformer.visualization.glyphs import drawable, dress, families_for, font_for, printable
from glassformer.visualization.heading import FORWARD, Heading, Sign, forward, set_apart, signs_in
from glassformer.visualization.inks import probability, written
from glassformer.visualization.measuring import fitted, fitted_together, width_of, wrapped
from glassformer.visualization.pictures import style
from glassformer.visualization.sheet import Sheet

HAN = "漢"


@pytest.fixture
def without_fonts(monkeypatch):
    """As if nothing but the font that comes with matplotlib were installed."""
    forget()
    monkeypatch.setattr(fontManager, "ttflist", [e for e in fontManager.ttflist if e.name == glyphs.FONT])
    yield
    forget()


@pytest.fixture
def with_han(without_fonts, tmp_path, monkeypatch):
    """And one font that has a single character of Chinese: a square."""
    pen = TTGlyphPen(None)
    for number, corner in enumerate([(100, 0), (100, 800), (900, 800), (900, 0)]):
        (pen.lineTo if number else pen.moveTo)(corner)
    pen.closePath()
    square, empty = pen.glyph(), TTGlyphPen(None).glyph()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", "han"])
    font.setupCharacterMap({ord(HAN): "han"})
    font.setupGlyf({".notdef": empty, "han": square})
    font.setupHorizontalMetrics({".notdef": (1000, 0), "han": (1000, 100)})
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Noto Sans CJK Test", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(tmp_path / "han.ttf")
    entry = next(e for e in fontManager.ttflist if e.name == glyphs.FONT and e.weight == 400)
    entry = dataclasses.replace(entry, fname=str(tmp_path / "han.ttf"), name="Noto Sans CJK Test")
    monkeypatch.setattr(fontManager, "ttflist", [*fontManager.ttflist, entry])
    fontManager._findfont_cached.cache_clear()
    forget()
    return entry.name


def forget():
    for function in (font_for, glyphs._installed, measuring._width):
        function.cache_clear()


@pytest.mark.usefixtures("without_fonts")
def test_characters_that_no_font_has_are_named():
    assert printable(HAN) == "U+6F22"
    assert drawable(f"a{HAN}{HAN} b") == "a U+6F22 U+6F22 b"
    assert drawable("\ud800\x07") == "U+D800 U+0007"
    assert printable("a" * 20 + HAN, 12) == "aaa…a U+6F22"
    assert families_for("naïve שלום") == [glyphs.FONT]


def test_an_installed_font_draws_what_the_first_one_lacks(with_han):
    assert printable(f"a{HAN}") == f"a{HAN}"
    assert families_for(HAN) == [glyphs.FONT, with_han]
    with style():
        figure = Figure(figsize=(1, 1), dpi=100)
        text = figure.text(0.1, 0.1, HAN, fontsize=40)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xticks([0], [HAN])
        dress(figure)
        assert text.get_fontfamily() == [glyphs.FONT, with_han]
        assert axes.get_xticklabels()[0].get_fontfamily() == [glyphs.FONT, with_han]
        axes.remove()
        figure.canvas.draw()
    box = text.get_window_extent()
    assert box.width > 40  # the square, not the narrow box of a missing character


def test_widths_are_those_that_are_drawn():
    figure = Figure(figsize=(9, 1), dpi=300)
    with style():
        for text in ("iiiiiiii", "WWWWWWWW", "שלום עולם", "The cat sat"):
            drawn = figure.text(0, 0.5, text, fontsize=8).get_window_extent().width / 300
            assert width_of(text, 8) == pytest.approx(drawn, rel=0.05)


@pytest.mark.parametrize(
    "text", ["W" * 300, "i" * 300, "The people have the right to vote. " * 9, "שלום " * 90]
)
@pytest.mark.parametrize("width", [0.5, 2, 5])
def test_what_is_cut_fits_and_uses_the_room(text, width):
    short = fitted(text, width, 8)
    assert short.endswith("…")
    assert 0.5 * width - 0.1 < width_of(short, 8) <= width
    kept = short.removesuffix("…").rstrip()
    assert text.startswith(kept)
    if " " in kept:
        assert text[len(kept)] == " "
    assert fitted("a cat", 2, 8) == "a cat"


def test_a_short_text_leaves_its_room_to_the_longer_one():
    short, long = fitted_together(["a cat", "words " * 90], 5, 8)
    assert short == "a cat"
    assert width_of(long, 8) > 4


def test_lines_are_broken_between_words_and_only_there():
    text = "in brackets against 95\u00a0% of 39 random orders, and " + "x" * 200
    lines = wrapped(text, 1.5, 8)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(width_of(line, 8) <= 1.5 for line in lines)
    assert any("95\u00a0%" in line for line in lines)


def test_what_follows_a_hebrew_quotation_stays_behind_it():
    heading = Heading(7, "t", f"{set_apart('שלום עולם')} → {set_apart('abc')}", signs=[Sign("grey")])
    (line,) = [line for line, _ in heading.lines]
    assert line.startswith("“\u2068")
    assert line.endswith("\u2069” → “\u2068abc\u2069”")
    sheet = Sheet(7, 1)
    heading.draw(sheet)
    title, caption, sign = [text.get_text() for text in sheet.figure.texts]
    assert (title, caption[0], sign) == ("t", FORWARD, "grey")
    with style():  # the quotation mark that opens is the leftmost ink, so the line begins at the left
        whole = forward(f"{set_apart('שלום עולם')}, read as bytes")
        bare = whole.translate(dict.fromkeys(map(ord, "\u2068\u2069\u200e")))
        assert np.array_equal(ink(whole)[:12], ink("“")[:12])
        assert not np.array_equal(ink(bare)[:12], ink("“")[:12])


def ink(text):
    """Which columns of pixels have ink, from the left."""
    figure = Figure(figsize=(3, 0.4), dpi=200)
    canvas = FigureCanvasAgg(figure)
    figure.text(0, 0.3, text, fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., 0].min(0) < 128


def test_directions_that_a_text_brings_along_are_shown_and_do_nothing():
    assert set_apart("a\u2069b\u202ec") == "“\u2068a U+2069 b U+202E c\u2069”"


def test_signs_for_white_space_are_explained_where_they_occur():
    assert [sign.text for sign in signs_in(["·a", "↵"])] == ["· a space, ↵ a line's end"]
    assert signs_in(["a", "b"]) == []


def test_no_sign_is_broken():
    signs = [Sign("may not be attended to", {"facecolor": "red"})] * 5
    heading = Heading(3.5, "t", signs=signs)
    assert len(heading.rows) > 1
    assert [sign for row in heading.rows for sign in row] == signs
    sheet = Sheet(3.5, 2)
    heading.draw(sheet)
    shown = [text for text in sheet.figure.texts if "attended" in text.get_text()]
    assert len(shown) == 5
    assert all(text.get_window_extent().x1 <= sheet.figure.bbox.width for text in shown)


@pytest.mark.parametrize(
    ("value", "text", "sentence"),
    [
        (0, "0", "p = 0"),
        (1e-9, "<.001", "p < .001"),
        (0.00049, "<.001", "p < .001"),
        (0.004, ".004", "p = .004"),
        (0.0951, ".095", "p = .095"),
        (0.0996, ".10", "p = .10"),
        (0.25, ".25", "p = .25"),
        (1, "1.00", "p = 1.00"),
    ],
)
def test_small_numbers_are_not_zero(value, text, sentence):
    assert written(value) == text
    assert probability(value) == sentence
