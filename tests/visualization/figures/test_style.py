"""Characters, fonts, number formats and saved files of figures."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

from glassformer.visualization.figures import layout, style
from glassformer.visualization.figures.style import (
    DARK,
    FONT,
    LEFT_TO_RIGHT,
    drawable_label,
    drawable_text,
    figure_style,
    font_families,
    format_probability,
    format_weight,
    isolate,
    left_to_right,
    save_figure,
    set_fonts,
    text_color,
)

HAN = "漢"


@pytest.fixture
def only_bundled_fonts(monkeypatch):
    """No font is installed besides the one that comes with matplotlib."""
    monkeypatch.setattr(fontManager, "ttflist", [e for e in fontManager.ttflist if e.name == FONT])
    clear_caches()
    yield
    clear_caches()


@pytest.fixture
def one_fallback(only_bundled_fonts, tmp_path, monkeypatch):
    """One more font is installed, with a single Chinese character: a square."""
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
    entry = dataclasses.replace(
        fontManager.ttflist[0],
        **{"fname": str(tmp_path / "han.ttf"), "name": "Noto Sans CJK Test"},
        **{"style": "normal", "variant": "normal", "weight": 400, "stretch": "normal"},
    )
    monkeypatch.setattr(fontManager, "ttflist", [*fontManager.ttflist, entry])
    clear_caches()
    return entry.name


def clear_caches():
    fontManager._findfont_cached.cache_clear()
    for function in (
        *(style.fallback_font, style._fallback_families, style._has_bold, style._characters),
        *(style._in_font, layout._measure),
    ):
        function.cache_clear()


def columns_with_ink(text):
    """Which columns of pixels a drawn text marks, from the left."""
    figure = Figure(figsize=(3, 0.4), dpi=200)
    canvas = FigureCanvasAgg(figure)
    figure.text(0, 0.3, text, fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., 0].min(0) < 128


# Characters and fonts


def test_labels_are_made_of_characters_in_the_font():
    assert drawable_label("naïve") == "naïve"
    assert drawable_label("abcdefghijklmnopqrstuvwxyz") == "abcdefg…uvwxyz"
    assert len(drawable_label("x" * 300, 20)) == 20


@pytest.mark.usefixtures("only_bundled_fonts")
def test_characters_without_a_font_become_code_points():
    assert drawable_label(HAN) == "U+6F22"
    assert drawable_text(f"a{HAN}{HAN} b") == "a U+6F22 U+6F22 b"
    assert drawable_text("\ud800\x07") == "U+D800 U+0007"
    assert drawable_label("a" * 20 + HAN, 12) == "aaa…a U+6F22"
    assert drawable_label("a\x00🙂", 20) == "a U+0000 U+1F642"
    assert drawable_label("a\x00🙂") == "a…U+1F642"
    assert font_families("naïve שלום") == [FONT]


def test_a_fallback_font_draws_what_the_main_font_lacks(one_fallback):
    assert drawable_label(f"a{HAN}") == f"a{HAN}"
    assert font_families(HAN) == [FONT, one_fallback]
    with figure_style():
        figure = Figure(figsize=(1, 1), dpi=100)
        text = figure.text(0.1, 0.1, HAN, fontsize=40, fontweight="bold")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xticks([0], [HAN])
        set_fonts(figure)
        assert text.get_fontfamily() == [FONT, one_fallback]
        assert text.get_fontweight() == "normal"  # the fallback has no bold letters
        assert axes.get_xticklabels()[0].get_fontfamily() == [FONT, one_fallback]
        axes.remove()
        figure.canvas.draw()
    box = text.get_window_extent()
    assert box.width > 40  # the square, not the narrow box of a missing character


@pytest.mark.slow
@pytest.mark.usefixtures("only_bundled_fonts")
def test_a_listed_font_whose_file_is_gone_is_not_used(monkeypatch):
    gone = dataclasses.replace(fontManager.ttflist[0], fname="/nowhere/gone.ttf", name="Noto Sans")
    gone = dataclasses.replace(gone, style="normal", weight=400)
    monkeypatch.setattr(fontManager, "ttflist", [*fontManager.ttflist, gone])
    clear_caches()
    assert drawable_text(HAN) == "U+6F22"


@pytest.mark.usefixtures("only_bundled_fonts")
def test_every_text_of_a_saved_figure_is_drawable(tmp_path):
    figure = Figure(figsize=(2, 2), layout="constrained")
    axes = figure.subplots()
    axes.set_title(f"{HAN}\nsecond line")
    figure.suptitle(f"␍ {isolate('שלום')}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_figure(figure, tmp_path / "a.png")
    assert axes.get_title() == "U+6F22\nsecond line"
    assert figure.get_suptitle() == f"U+240D {isolate('שלום')}"


def test_text_after_a_hebrew_quotation_stays_behind_it():
    with figure_style():  # the opening quotation mark is the leftmost ink, so the line starts at the left
        whole = left_to_right(f"{isolate('שלום עולם')}, read as bytes")
        bare = whole.translate(dict.fromkeys(map(ord, "\u2068\u2069\u200e")))
        assert np.array_equal(columns_with_ink(whole)[:12], columns_with_ink("“")[:12])
        assert not np.array_equal(columns_with_ink(bare)[:12], columns_with_ink("“")[:12])
    assert whole[0] == LEFT_TO_RIGHT
    assert left_to_right("abc") == "abc"


def test_direction_controls_in_a_quoted_text_are_shown_as_code_points():
    assert isolate("a\u2069b\u202ec") == "“\u2068a U+2069 b U+202E c\u2069”"


# Numbers and colors


@pytest.mark.parametrize(
    ("value", "weight", "probability"),
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
def test_small_numbers_are_not_written_as_zero(value, weight, probability):
    assert format_weight(value) == weight
    assert format_probability(value) == probability


def test_text_is_dark_on_light_colors_and_white_on_dark_ones():
    assert text_color("#ffffff") == DARK
    assert text_color((0.0, 0.1, 0.3, 1.0)) == "white"
