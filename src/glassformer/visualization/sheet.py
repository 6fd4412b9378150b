"""A picture whose parts are placed in inches from its upper left corner, on whole pixels of a print."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

DPI = 300
"""Pixels an inch of a picture that is saved as .png."""
WIDEST = 7.2
"""Inches: a page between its margins."""
HIGHEST = 9.8
"""Inches that a picture is made to fit into as far as its letters can still be read."""
SMALL, LABEL, TITLE = 6.0, 6.5, 7.5
"""Points of numbers in cells, of labels along sides, and of titles of panels."""


class Sheet:
    """A figure, and a ruler on it."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = snapped(width), snapped(height)
        self.figure = Figure(figsize=(self.width, self.height))

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes without ticks and frame."""
        left, top, width, height = map(snapped, (left, top, width, height))
        place = (left / self.width, 1 - (top + height) / self.height)
        axes = self.figure.add_axes((*place, width / self.width, height / self.height))
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, pad=2)
        return axes

    def text(self, left: float, top: float, text: str, **options: Any) -> Text:
        """A text whose upper left corner is there, unless told otherwise."""
        options = {"ha": "left", "va": "top", "fontsize": LABEL, **options}
        return self.figure.text(left / self.width, 1 - top / self.height, text, **options)

    def box(self, left: float, top: float, width: float, height: float, **options: Any) -> None:
        """A rectangle."""
        place = (left / self.width, 1 - (top + height) / self.height)
        box = Rectangle(place, width / self.width, height / self.height, **options)
        box.set_transform(self.figure.transFigure)
        self.figure.add_artist(box)


def snapped(inches: float) -> float:
    """The same in whole pixels."""
    return round(inches * DPI) / DPI
