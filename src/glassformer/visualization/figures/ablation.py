"""Effects of ablations on behaviors: a table of sets of heads, or maps of layers x heads."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure

from glassformer.analysis.ablation import parse_heads
from glassformer.visualization.figures.layout import wrap
from glassformer.visualization.figures.style import (
    NO_VALUE,
    drawable_label,
    drawable_text,
    figure_style,
    set_fonts,
)

COLORS = "RdBu_r"
MIN_WIDTH = 4.2
"""Inches."""
MAX_LABEL = 34
"""Characters of the name of a set of heads."""

Rows = Sequence[Mapping[str, Any]]


def draw_ablation_table(rows: Rows, *, title: str, caption: str, groups: Collection[str] = ()) -> Figure:
    """Draw a table with a row per set of heads, a column per task, and the drop of the score in each cell.

    Args:
        rows: Tidy rows with ``set``, ``suite``, ``unit``, ``drop``, ``low`` and ``high``.
        title: The model.
        caption: What was done.
        groups: Sets whose rows are bold, with intervals.
    """
    sets, tasks = _unique(rows, "set"), _unique(rows, "suite")
    cells = {(row["set"], row["suite"]): row for row in rows}
    names = [drawable_label(name, MAX_LABEL) for name in sets]
    width, height = 0.078 * max(map(len, names)) + 0.86 * len(tasks) + 1.6, 0.26 * len(sets) + 1.5
    with figure_style():
        figure = Figure(figsize=(max(width, MIN_WIDTH), height), layout="constrained")
        axes = figure.subplots()
        drops = np.array([[cells[name, task]["drop"] for task in tasks] for name in sets])
        norm = _norm(drops)
        image = axes.imshow(drops, cmap=COLORS, norm=norm, aspect="auto", interpolation="nearest")
        for (number, column), drop in np.ndenumerate(drops):
            row, bold = cells[sets[number], tasks[column]], sets[number] in groups
            text = f"{drop:z.2f}"
            if bold and row["low"] is not None:
                text += f"\n{row['low']:z.2f} to {row['high']:z.2f}"
            _write(axes, column, number, text, 6 if bold else 6.5, drop, norm)
        _label(axes, _with_units(rows, "\n"), names)
        for label, name in zip(axes.get_yticklabels(), sets, strict=True):
            label.set_fontweight("bold" if name in groups else "normal")
        return _finish(figure, [axes], image, title, caption)


def draw_ablation_maps(rows: Rows, *, title: str, caption: str) -> Figure:
    """Draw a map per task with a row per layer, a column per head, and the drop of the score in each cell.

    Args:
        rows: See ``draw_ablation_table``; each set is a single head, such as ``4.7``.
        title: The model.
        caption: What was done.
    """
    tasks = _unique(rows, "suite")
    heads = {name: parse_heads(name)[0] for name in _unique(rows, "set")}
    num_layers, num_heads = (1 + max(head[axis] for head in heads.values()) for axis in (0, 1))
    maps = np.full((len(tasks), num_layers, num_heads), np.nan)
    for row in rows:
        maps[(tasks.index(row["suite"]), *heads[row["set"]])] = row["drop"]
    columns = min(len(tasks), 4)
    lines = math.ceil(len(tasks) / columns)
    width, height = columns * (0.3 * num_heads + 0.7) + 1.2, lines * (0.2 * num_layers + 0.8) + 0.7
    with figure_style():
        figure = Figure(figsize=(max(width, MIN_WIDTH), height), layout="constrained")
        norm, grid = _norm(maps), figure.subplots(lines, columns, squeeze=False).ravel().tolist()
        for axes in grid[len(tasks) :]:
            axes.set_visible(False)
        colors = matplotlib.colormaps[COLORS].with_extremes(bad=NO_VALUE)
        for axes, task, drops in zip(grid, _with_units(rows, ", "), maps, strict=False):
            image = axes.imshow(drops, cmap=colors, norm=norm, aspect="auto", interpolation="nearest")
            for (layer, head), drop in np.ndenumerate(drops):
                if abs(drop) >= 0.005:
                    _write(axes, head, layer, _short(drop), 4.5, drop, norm)
            axes.set_title(task)
            _label(axes, list(map(str, range(num_heads))), list(map(str, range(num_layers))))
            axes.set_xlabel("head")
            axes.set_ylabel("layer")
        return _finish(figure, grid[: len(tasks)], image, title, caption)


def _unique(rows: Rows, column: str) -> list[str]:
    """The different values of a column, in order."""
    return list(dict.fromkeys(row[column] for row in rows))


def _with_units(rows: Rows, separator: str) -> list[str]:
    """The tasks in order, each with the unit of its score."""
    return list(dict.fromkeys(drawable_text(f"{row['suite']}{separator}{row['unit']}", "\n") for row in rows))


def _norm(drops: Any) -> SymLogNorm:
    """A color scale that is linear up to 0.1 nat and logarithmic beyond."""
    largest = max(0.2, float(np.nanmax(np.abs(drops))))
    return SymLogNorm(0.1, linscale=0.5, vmin=-largest, vmax=largest, base=10)


def _write(axes: Axes, x: int, y: int, text: str, size: float, drop: float, norm: SymLogNorm) -> None:
    color = "white" if abs(float(norm(drop)) - 0.5) > 0.33 else "#333333"
    axes.text(x, y, text, ha="center", va="center", fontsize=size, color=color)


def _short(drop: float) -> str:
    """A number for a small cell: ``.12``, ``-.03``, ``1.2``."""
    return f"{drop:.1f}" if abs(drop) >= 0.995 else f"{drop:.2f}".replace("0.", ".")


def _label(axes: Axes, columns: list[str], rows: list[str]) -> None:
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _finish(figure: Figure, axes: list[Axes], image: Any, title: str, caption: str) -> Figure:
    """Add a color bar and the title."""
    width, height = figure.get_size_inches()
    shrink = min(1.0, 4 / height)
    bar = figure.colorbar(image, ax=axes, fraction=0.4 / width, pad=0.012, shrink=shrink, aspect=25)
    label = wrap("drop of the score (nats; logarithmic beyond 0.1)", shrink * (height - 0.9), 8)
    bar.set_label("\n".join(label))
    bar.outline.set_linewidth(0.4)
    ticks = [tick for tick in (0.1, 1.0, 10.0) if tick <= image.norm.vmax]
    bar.set_ticks([-tick for tick in reversed(ticks)] + [0.0] + ticks)
    bar.set_ticklabels([f"{tick:g}" for tick in bar.get_ticks()])
    bar.minorticks_off()
    lines = [line for text in (title, caption) for line in wrap(text, width - 0.1, 9)]
    figure.suptitle("\n".join(lines), fontsize=9, x=0.01, ha="left")
    return set_fonts(figure)
