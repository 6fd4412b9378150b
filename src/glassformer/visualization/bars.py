"""The bar that says which colour is which number, under a picture."""

from __future__ import annotations

from typing import Any

from glassformer.visualization.inks import written
from glassformer.visualization.sheet import LABEL, TITLE, Sheet

HEIGHT = 0.42
"""Inches of the bar with its numbers."""
TICKS = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0)


def draw_bar(sheet: Sheet, left: float, top: float, width: float, image: Any, label: str) -> None:
    """A bar for weights from 0 to 1, and beside it what they are."""
    axes = sheet.axes(left, top + 0.08, width, 0.1)
    bar = sheet.figure.colorbar(image, cax=axes, orientation="horizontal")
    bar.set_ticks(list(TICKS), labels=[written(tick).rstrip("0").rstrip(".") or "0" for tick in TICKS])
    bar.ax.tick_params(labelsize=LABEL, length=2, pad=1.5)
    bar.outline.set_linewidth(0.4)
    bar.set_label("")
    sheet.text(left + width + 0.12, top + 0.13, label, fontsize=TITLE, va="center")
