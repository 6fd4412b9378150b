"""Characters for the eye: drawn where some installed font has them, named by code point where none has."""

from __future__ import annotations

from functools import cache

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

FONT = "DejaVu Sans"
PREFERRED = (
    *("Noto Sans CJK", "Source Han Sans", "Noto Sans JP", "Noto Sans SC", "Noto Sans KR", "WenQuanYi"),
    *("Droid Sans Fallback", "PingFang", "Hiragino Sans", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic"),
    *("Nanum", "IPA", "Noto Emoji", "Symbola", "Segoe UI", "Noto Sans", "Arial Unicode", "Unifont"),
)
"""Beginnings of the names of fonts that are asked first for what ``FONT`` does not have."""
UNFIT = ("Color", "Last Resort", "LastResort")
"""In the names of fonts whose letters are pictures, or boxes."""


def printable(text: str, longest: int = 14) -> str:
    """A label that can be drawn: other characters become ``U+6F22``, long labels lose their middle."""
    pieces = _pieces(text)
    if sum(map(len, pieces)) <= longest:
        return "".join(pieces)
    first, last = 0, len(pieces)
    room, at_start = longest - 1, True
    while True:  # a piece from the start, one from the end, ...
        sides = [pieces[first], pieces[last - 1]]
        at_start = at_start if len(sides[not at_start]) <= room else not at_start
        room -= len(sides[not at_start])
        if room < 0:
            break
        first, last = (first + 1, last) if at_start else (first, last - 1)
        at_start = not at_start
    return f"{''.join(pieces[:first]).rstrip()}…{''.join(pieces[last:]).lstrip()}"


def drawable(text: str) -> str:
    """The same of a whole text, none of which is left out."""
    return "".join(_pieces(text))


def families_for(text: str) -> list[str]:
    """Names of the fonts that have a text's characters."""
    others = (font_for(char) for char in text if char.isprintable() and ord(char) not in _of_font())
    return list(dict.fromkeys([FONT, *(family for family in others if family)]))


def dress(figure: Figure) -> None:
    """Let each text of a finished picture be drawn with the fonts that have its characters."""
    for axes in figure.axes:
        axes.get_xticklabels()  # makes those that are not there yet
        axes.get_yticklabels()
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        families = families_for(text.get_text())
        if len(families) > 1:
            text.set_fontfamily(families)
            if not all(map(_has_bold, families)):
                text.set_fontweight("normal")


@cache
def font_for(character: str) -> str | None:
    """The first installed font that has a character besides ``FONT``."""
    return next((name for name, path in _installed() if ord(character) in _characters(path)), None)


def _pieces(text: str) -> list[str]:
    """A piece for each character: itself, or its code point, apart from what stands before and behind."""
    pieces: list[str] = []
    after_code = False
    for character in text:
        known = ord(character) in _of_font() or font_for(character) is not None
        if character.isprintable() and known:
            pieces.append(f" {character}" if after_code and character != " " else character)
        else:
            code = f"U+{ord(character):04X}"
            pieces.append(f" {code}" if pieces and pieces[-1][-1] != " " else code)
        after_code = pieces[-1].lstrip().startswith("U+") and len(pieces[-1]) > 1
    return pieces


@cache
def _installed() -> tuple[tuple[str, str], ...]:
    """Names and files of the upright fonts of regular weight, the preferred ones first."""
    found = {
        entry.name: entry.fname
        for entry in fontManager.ttflist
        if entry.style == "normal" and entry.weight in (400, "normal", "regular", "book")
    }
    fit = [name for name in found if name != FONT and not any(word in name for word in UNFIT)]

    def rank(name: str) -> tuple[int, str]:
        places = [place for place, start in enumerate(PREFERRED) if name.startswith(start)]
        return min(places, default=len(PREFERRED)), name

    return tuple((name, found[name]) for name in sorted(fit, key=rank))


@cache
def _has_bold(family: str) -> bool:
    return any(entry.name == family and entry.weight in (700, "bold") for entry in fontManager.ttflist)


@cache
def _characters(path: str) -> frozenset[int]:
    try:
        return frozenset(get_font(path).get_charmap())
    except (OSError, RuntimeError):  # it is listed, but gone, or no font that can be drawn with
        return frozenset()


@cache
def _of_font() -> frozenset[int]:
    """What the font has in both of its weights."""
    paths = (findfont(FontProperties(family=FONT, weight=weight)) for weight in ("normal", "bold"))
    return frozenset.intersection(*map(_characters, paths))
