"""One style for all pictures, and how they get onto the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.colors import Colormap, PowerNorm
from matplotlib.figure import Figure

from glassformer.files import atomic_path
from glassformer.visualization.glyphs import FONT
from glassformer.visualization.sheet import DPI
from glassformer.visualization.writing import check_folder

SUFFIXES = (".png", ".svg", ".pdf")
MASKED = "#d9d9d9"
"""The colour of a cell that has no value."""

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
    "hatch.linewidth": 0.35,
    "legend.frameon": False,
    "figure.dpi": DPI,  # so that a notebook shows the pixels that a file has
    "savefig.dpi": DPI,
    "svg.hashsalt": "glassformer",
    "svg.fonttype": "path",
    "text.parse_math": False,  # a dollar sign in a token is a dollar sign
}


def style() -> Any:
    """A context in which figures are made and saved in the project's style."""
    return matplotlib.rc_context(STYLE)


def weight_colours() -> tuple[Colormap, PowerNorm]:
    """Colours of weights 0 to 1, on a square-root scale so that small ones can be told from none."""
    return matplotlib.colormaps["Blues"].with_extremes(bad=(1, 1, 1, 0)), PowerNorm(0.5, vmin=0.0, vmax=1.0)


def check_writable(path: str | Path) -> Path:
    """Make sure, before any work, that a picture can be saved there; its folder is made if it is missing.

    Raises:
        ValueError: a suffix that stands for no format.
        OSError: the folder cannot be made or written to, or the path is a folder itself.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name the picture that is to be written")
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"a picture is saved as {', '.join(SUFFIXES)}, not {path.suffix or path.name!r}")
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
