"""Colors, fonts, number formats and saving of figures."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.colors import Colormap, LinearSegmentedColormap, PowerNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

from glassformer import files
from glassformer.files import atomic_path

DPI = 300
"""Dots per inch of a saved .png."""
FORMATS = files.FIGURE_SUFFIXES
FONT = "DejaVu Sans"
"""The font that comes with matplotlib."""
PREFERRED_FALLBACKS = (
    *("Noto Sans CJK", "Source Han Sans", "Noto Sans JP", "Noto Sans SC", "Noto Sans KR", "WenQuanYi"),
    *("Droid Sans Fallback", "PingFang", "Hiragino Sans", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic"),
    *("Nanum", "IPA", "Noto Emoji", "Symbola", "Segoe UI", "Noto Sans", "Arial Unicode", "Unifont"),
)
"""Prefixes of font families, in the order in which they are tried for characters that ``FONT`` lacks."""
UNSUITABLE_FALLBACKS = ("Color", "Last Resort", "LastResort")
"""Parts of the names of fonts with bitmap glyphs or placeholder boxes."""
ISOLATE, END_ISOLATE, LEFT_TO_RIGHT = "\u2068", "\u2069", "\u200e"
CONTROLS = ISOLATE + END_ISOLATE + LEFT_TO_RIGHT + "\u00a0"
"""Unicode controls for the direction of writing, and the space at which no line is broken."""

DARK = "#1a1a1a"
GREY = "#555555"
NO_VALUE = "#d9d9d9"
"""Color of a cell without a value."""
WEIGHT_COLORS = ("#ffffff", "#d3e4f1", "#8dbbdc", "#3f87bd", "#11568f", "#07264d")
"""Colors of weights from 0 to 1, those of the explorer."""
HATCHED: dict[str, Any] = {"facecolor": "#f3f0ea", "hatch": "/" * 7, "edgecolor": "#b9b1a2", "lw": 0}
"""Patch style of masked cells and of tokens that cannot be attended to."""
BLUE, VERMILION, GREEN, PURPLE, BROWN = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a5a00"
"""Colors after Okabe and Ito (2008), which color-blind readers can tell apart."""

_RC_PARAMS: Any = {
    "font.family": FONT,
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.edgecolor": "#666666",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=[BLUE, VERMILION, GREEN, PURPLE]),
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "hatch.linewidth": 0.35,
    "legend.frameon": False,
    "figure.dpi": DPI,  # so that a notebook shows the pixels of a saved file
    "savefig.dpi": DPI,
    "svg.hashsalt": "glassformer",
    "svg.fonttype": "path",
    "text.parse_math": False,  # a dollar sign in a token is a dollar sign
}


def figure_style() -> Any:
    """Return the ``rc_context`` in which all figures are made and saved."""
    return matplotlib.rc_context(_RC_PARAMS)


# Colors


def weight_colors() -> tuple[Colormap, PowerNorm]:
    """Color map of weights from 0 to 1, on a square-root scale that tells small ones from zero."""
    colors = LinearSegmentedColormap.from_list("weights", WEIGHT_COLORS).with_extremes(bad=(1, 1, 1, 0))
    return colors, PowerNorm(0.5, vmin=0.0, vmax=1.0)


def text_color(background: str | Sequence[float]) -> str:
    """White or nearly black, whichever has more contrast with a background color."""
    light = relative_luminance(background)
    return "white" if 1.05 / (light + 0.05) > (light + 0.05) / (relative_luminance(DARK) + 0.05) else DARK


def relative_luminance(color: str | Sequence[float]) -> float:
    """Relative luminance of an sRGB color (WCAG 2)."""
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in to_rgb(color if isinstance(color, str) else tuple(color)[:3])  # type: ignore[arg-type]
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


# Numbers


def format_weight(value: float) -> str:
    """A number from 0 to 1 in few characters: ``.25``, ``.031``, ``<.001``, ``1.00``, ``0``."""
    if value == 0:
        return "0"
    if value < 0.0005:
        return "<.001"
    return f"{value:.{2 if value >= 0.0995 else 3}f}".removeprefix("0")


def format_probability(value: float) -> str:
    """A probability for a sentence: ``p = .25``, ``p < .001``."""
    number = format_weight(value)
    return f"p < {number[1:]}" if number[0] == "<" else f"p = {number}"


# Characters and fonts


def drawable_label(text: str, max_length: int = 14) -> str:
    """A short label of drawable characters.

    Args:
        text: Any text. Characters that no font has become code points, such as ``U+6F22``.
        max_length: Number of characters. A longer label loses its middle.
    """
    pieces = _drawable_pieces(text)
    if sum(map(len, pieces)) <= max_length:
        return "".join(pieces)
    first, last = 0, len(pieces)  # pieces[:first] and pieces[last:] are kept
    room, from_start = max_length - 1, True
    while True:  # alternate between both ends; take from the other end if a piece does not fit
        if len(pieces[first] if from_start else pieces[last - 1]) > room:
            from_start = not from_start
        room -= len(pieces[first] if from_start else pieces[last - 1])
        if room < 0:
            break
        first, last = (first + 1, last) if from_start else (first, last - 1)
        from_start = not from_start
    return f"{''.join(pieces[:first]).rstrip()}…{''.join(pieces[last:]).lstrip()}"


def drawable_text(text: str, keep: str = "") -> str:
    """A whole text in which characters that no font has become code points, except those in ``keep``."""
    return "".join(_drawable_pieces(text, keep))


def isolate(text: str) -> str:
    """Quote a text so that its direction of writing does not reorder what stands around it."""
    return f"“{ISOLATE}{drawable_text(text)}{END_ISOLATE}”"


def left_to_right(line: str) -> str:
    """Fix the direction of a line that may quote a text written from right to left."""
    mixed = any(unicodedata.bidirectional(character) in ("R", "AL") for character in line)
    return LEFT_TO_RIGHT + line if mixed else line


def font_families(text: str) -> list[str]:
    """Names of the fonts that together have a text's characters, ``FONT`` first."""
    missing = (character for character in text if character.isprintable() and not _in_font(character))
    return list(dict.fromkeys([FONT, *filter(None, map(fallback_font, missing))]))


def set_fonts(figure: Figure) -> Figure:
    """Give every text of a finished figure characters and fonts with which it can be drawn.

    Returns:
        The figure itself.
    """
    for axes in figure.axes:
        axes.get_xticklabels()  # creates the tick labels
        axes.get_yticklabels()
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        drawable = drawable_text(text.get_text(), keep="\n" + CONTROLS)
        if drawable != text.get_text():
            text.set_text(drawable)
        families = font_families(drawable)
        if len(families) > 1:
            text.set_fontfamily(families)
            if not all(map(_has_bold, families)):
                text.set_fontweight("normal")
    return figure


@cache
def fallback_font(character: str) -> str | None:
    """The first installed font family besides ``FONT`` that has a character, or None."""
    return next((name for name in _fallback_families() if ord(character) in _characters(name)), None)


@cache
def _in_font(character: str) -> bool:
    """Whether ``FONT`` has a character in both of the weights that figures use."""
    return all(ord(character) in _characters(FONT, weight) for weight in ("normal", "bold"))


def _drawable_pieces(text: str, keep: str = "") -> list[str]:
    """One string per character: the character, or its code point set apart by spaces."""
    pieces: list[str] = []
    after_code = False
    for character in text:
        if character in keep:
            pieces.append(character)
            after_code = False
            continue
        drawable = character.isprintable() and (_in_font(character) or fallback_font(character) is not None)
        shown = character if drawable else f"U+{ord(character):04X}"
        follows_text = bool(pieces) and pieces[-1][-1] not in f" {keep}"
        needs_space = after_code and character.isalnum() if drawable else follows_text
        pieces.append(f" {shown}" if needs_space else shown)
        after_code = not drawable
    return pieces


@cache
def _fallback_families() -> tuple[str, ...]:
    """Installed font families with upright regular letters, the preferred ones first."""
    names = {
        entry.name
        for entry in fontManager.ttflist
        if entry.style == "normal" and entry.weight in (400, "normal", "regular", "book")
    }

    def rank(name: str) -> tuple[int, str]:
        places = [place for place, start in enumerate(PREFERRED_FALLBACKS) if name.startswith(start)]
        return min(places, default=len(PREFERRED_FALLBACKS)), name

    suitable = (name for name in names if not any(word in name for word in UNSUITABLE_FALLBACKS))
    return tuple(sorted((name for name in suitable if name != FONT), key=rank))


@cache
def _has_bold(family: str) -> bool:
    return any(entry.name == family and entry.weight in (700, "bold") for entry in fontManager.ttflist)


@cache
def _characters(family: str, weight: str = "normal") -> frozenset[int]:
    """Code points of the file that matplotlib draws a font family with."""
    try:
        path = findfont(FontProperties(family=family, weight=weight), fallback_to_default=False)
        return frozenset(get_font(path).get_charmap())
    except (OSError, RuntimeError, ValueError):  # a font that is listed, but was removed or cannot be drawn
        return frozenset()


# Saving


def check_writable(path: str | Path, formats: Sequence[str] = FORMATS, kind: str = "figure") -> Path:
    """See ``files.check_writable``."""
    return files.check_writable(path, formats, kind)


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure in the format of the path's suffix, atomically and with reproducible bytes."""
    path = check_writable(path)
    kind = path.suffix.lower().removeprefix(".")
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": None}
    with figure_style(), atomic_path(path) as temporary:
        set_fonts(figure).savefig(temporary, format=kind, metadata=dates[kind], facecolor="white")
    return path
