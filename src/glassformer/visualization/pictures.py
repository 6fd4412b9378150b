"""One style for all pictures, and how they get onto the disk."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.colors import Colormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from glassformer.files import atomic_path
from glassformer.visualization.shortening import shortened_quotes
from glassformer.visualization.writing import check_folder

SUFFIXES = (".png", ".svg", ".pdf")
FONT = "DejaVu Sans"
MASKED = "#d9d9d9"
"""The colour of a cell that may not be attended to; no weight has it."""

STYLE: Any = {
    "font.family": FONT,
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.edgecolor": "#666666",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=["#0072b2", "#d55e00", "#009e73", "#cc79a7"]),  # Okabe & Ito
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "savefig.dpi": 150,
    "svg.hashsalt": "glassformer",
    "svg.fonttype": "path",
    "text.parse_math": False,  # a dollar sign in a token is a dollar sign
}


def style() -> Any:
    """A context in which figures are made and saved in the project's style."""
    return matplotlib.rc_context(STYLE)


def weight_colours() -> tuple[Colormap, PowerNorm]:
    """Colours of weights 0 to 1, on a square-root scale so that small ones can be told from none."""
    return matplotlib.colormaps["Blues"].with_extremes(bad=MASKED), PowerNorm(0.5, vmin=0.0, vmax=1.0)


def printable(text: str, longest: int = 14) -> str:
    """A label that the font can draw: unknown characters become □, long labels lose their middle."""
    known = _characters()
    text = "".join(char if ord(char) in known and char.isprintable() else "□" for char in text)
    half = (longest - 1) // 2
    return text if len(text) <= longest else f"{text[: longest - 1 - half]}…{text[-half:]}"


def character_width(text: str) -> float:
    """Mean width of a text's characters, in multiples of the font's size."""
    font = get_font(findfont(FontProperties(family=FONT)))
    font.set_size(100, 72)
    font.set_text(text, 0.0)
    return float(font.get_width_height()[0]) / 64 / 100 / max(1, len(text))


def add_heading(
    figure: Figure, title: str, caption: str, notes: Sequence[str] = (), legend: str = ""
) -> None:
    """Put a title over a picture, and under it what was read, which gives way where the picture is narrow.

    Args:
        figure: larger pictures get larger letters.
        title: what is shown.
        caption: the text; shortened where all of it does not fit into one line.
        notes: what a reader should know; never shortened.
        legend: what signs mean that the picture does not explain itself; never shortened.
    """
    width = figure.get_size_inches()[0]
    size = min(max(9.0, width), 18)
    ems = width * 72 / size
    heading = textwrap.wrap(title, int(0.97 * ems / character_width(title)))
    lines = _caption_lines(caption, "; ".join(notes), f"   {legend}" if legend else "", ems)
    figure.suptitle("\n".join([*heading, *lines]), fontsize=size, x=0.01, ha="left")


def check_writable(path: str | Path) -> Path:
    """Make sure, before any work, that a picture can be saved there; its folder is made if it is missing.

    Raises:
        ValueError: a suffix that stands for no format.
        OSError: the folder cannot be made or written to, or the path is a folder itself.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"a picture is saved as {', '.join(SUFFIXES)}, not {path.suffix or path.name!r}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name the picture that is to be written")
    check_folder(path.parent)
    return path


def save_picture(figure: Figure, path: str | Path) -> Path:
    """Write a figure in the format of the suffix: whole or not at all, the same picture in the same bytes."""
    path = check_writable(path)
    kind = path.suffix.lower().removeprefix(".")
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": None}
    with style(), atomic_path(path) as temporary:
        figure.savefig(temporary, format=kind, metadata=dates[kind], facecolor="white")
    return path


def _caption_lines(caption: str, notes: str, legend: str, ems: float) -> list[str]:
    """One line where all of it fits; else the caption gives way, and the notes follow it whole.

    A line holds ``ems`` characters as wide as they are high.
    """
    whole = f"{caption}; {notes}{legend}" if notes else f"{caption}{legend}"
    room = int(ems / max(0.6, character_width(printable(whole, len(whole)))))
    if len(whole) <= room:
        return [printable(whole, room)]
    return [
        printable(shortened_quotes(caption, room), room),
        *textwrap.wrap(f"{notes}{legend}".strip(), room),
    ]


@cache
def _characters() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties(family=FONT))).get_charmap())
