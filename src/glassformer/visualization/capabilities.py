"""Which capability each ablation hurts: a table in colours, or a map of layers x heads for each suite."""

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
from glassformer.visualization.glyphs import printable
from glassformer.visualization.pictures import MASKED, style

COLOURS = "RdBu_r"
Rows = Sequence[Mapping[str, Any]]


def draw_capabilities(rows: Rows, *, title: str, caption: str, groups: Collection[str] = ()) -> Figure:
    """A row for each set of heads, a column for each suite, the drop in colour and in numbers.

    Args:
        rows: tidy, with ``set``, ``suite``, ``unit``, ``drop``, ``low`` and ``high``, as
            ``CapabilityTable.rows`` gives them; drawn in their order.
        title: of which model.
        caption: what was done.
        groups: sets that are written larger, with their intervals.
    """
    sets, suites = _names(rows, "set"), _names(rows, "suite")
    cells = {(row["set"], row["suite"]): row for row in rows}
    longest = max(len(printable(name, 34)) for name in sets)
    with style():
        width, height = 0.078 * longest + 0.86 * len(suites) + 1.6, 0.26 * len(sets) + 1.5
        figure = Figure(figsize=(max(width, 4.2), height), layout="constrained")
        axes = figure.subplots()
        drops = np.array([[cells[name, suite]["drop"] for suite in suites] for name in sets])
        norm = _norm(drops)
        image = axes.imshow(drops, cmap=COLOURS, norm=norm, aspect="auto", interpolation="nearest")
        for (number, column), drop in np.ndenumerate(drops):
            row, bold = cells[sets[number], suites[column]], sets[number] in groups
            text = f"{drop:z.2f}"
            if bold and row["low"] is not None:
                text += f"\n{row['low']:z.2f} to {row['high']:z.2f}"
            size = 6 if bold else 6.5
            axes.text(column, number, text, ha="center", va="center", fontsize=size, color=_ink(drop, norm))
        _label(axes, _with_units(rows, "\n"), [printable(name, 34) for name in sets])
        for label, name in zip(axes.get_yticklabels(), sets, strict=True):
            label.set_fontweight("bold" if name in groups else "normal")
        _finish(figure, [axes], image, title, caption)
    return figure


def draw_every_head(rows: Rows, *, title: str, caption: str) -> Figure:
    """A map for each suite: a row a layer, a column a head, the drop in colour and in numbers.

    Args:
        rows: as in ``draw_capabilities``, of sets that are single heads, named as ``4.7``.
        title: of which model.
        caption: what was done.
    """
    suites = _names(rows, "suite")
    places = {name: parse_heads(name)[0] for name in _names(rows, "set")}
    layers, heads = (1 + max(place[axis] for place in places.values()) for axis in (0, 1))
    maps = np.full((len(suites), layers, heads), np.nan)
    for row in rows:
        maps[(suites.index(row["suite"]), *places[row["set"]])] = row["drop"]
    columns = min(len(suites), 4)
    lines = math.ceil(len(suites) / columns)
    with style():
        size = (columns * (0.3 * heads + 0.7) + 1.2, lines * (0.2 * layers + 0.8) + 0.7)
        figure = Figure(figsize=(max(size[0], 4.2), size[1]), layout="constrained")
        norm, grid = _norm(maps), figure.subplots(lines, columns, squeeze=False).ravel().tolist()
        for axes in grid[len(suites) :]:
            axes.set_visible(False)
        for axes, suite, values in zip(grid, _with_units(rows, ", "), maps, strict=False):
            colours = matplotlib.colormaps[COLOURS].with_extremes(bad=MASKED)
            image = axes.imshow(values, cmap=colours, norm=norm, aspect="auto", interpolation="nearest")
            for (layer, head), drop in np.ndenumerate(values):
                if abs(drop) >= 0.005:
                    ink = _ink(drop, norm)
                    axes.text(head, layer, _short(drop), ha="center", va="center", fontsize=4.5, color=ink)
            axes.set_title(suite)
            _label(axes, list(map(str, range(heads))), list(map(str, range(layers))))
            axes.set_xlabel("head")
            axes.set_ylabel("layer")
        _finish(figure, grid[: len(suites)], image, title, caption)
    return figure


def _names(rows: Rows, column: str) -> list[str]:
    """The different values of a column, in order."""
    return list(dict.fromkeys(row[column] for row in rows))


def _with_units(rows: Rows, between: str) -> list[str]:
    """The suites in order, each with the unit of its drops."""
    return list(dict.fromkeys(f"{row['suite']}{between}{row['unit']}" for row in rows))


def _norm(drops: Any) -> SymLogNorm:
    """Colours on a scale that is even near zero and logarithmic beyond a tenth of a nat."""
    largest = max(0.2, float(np.nanmax(np.abs(drops))))
    return SymLogNorm(0.1, linscale=0.5, vmin=-largest, vmax=largest, base=10)


def _ink(drop: float, norm: SymLogNorm) -> str:
    return "white" if abs(float(norm(drop)) - 0.5) > 0.33 else "#333333"


def _short(drop: float) -> str:
    """``.12``, ``-.03``, ``1.2``: two places that count, in the room of a small cell."""
    return f"{drop:.1f}" if abs(drop) >= 0.995 else f"{drop:.2f}".replace("0.", ".")


def _label(axes: Axes, columns: list[str], rows: list[str]) -> None:
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _finish(figure: Figure, axes: list[Axes], image: Any, title: str, caption: str) -> None:
    width, height = figure.get_size_inches()
    bar = figure.colorbar(
        image, ax=axes, fraction=0.4 / width, pad=0.012, shrink=min(1.0, 4 / height), aspect=25
    )
    bar.set_label("drop of the score (nats; logarithmic beyond 0.1)")
    bar.outline.set_linewidth(0.4)
    ticks = [tick for tick in (0.1, 1.0, 10.0) if tick <= image.norm.vmax]
    bar.set_ticks([-tick for tick in reversed(ticks)] + [0.0] + ticks)
    bar.set_ticklabels([f"{tick:g}" for tick in bar.get_ticks()])
    bar.minorticks_off()
    figure.suptitle(f"{title}\n{caption}", fontsize=9, x=0.01, ha="left")
