"""The map of a model: a row a layer, a column a head, in each cell its name and how strongly it holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from glassformer.analysis.head_report import HeadReport, Row
from glassformer.analysis.head_settings import GROUPS
from glassformer.models import TransformerModel
from glassformer.visualization.glyphs import dress
from glassformer.visualization.heading import Heading
from glassformer.visualization.inks import ink_on, written
from glassformer.visualization.looking import name_of
from glassformer.visualization.measured import check_of_model, report_from
from glassformer.visualization.measuring import width_of, wrapped
from glassformer.visualization.pictures import MASKED, style
from glassformer.visualization.sheet import HIGHEST, LABEL, SMALL, TITLE, WIDEST, Sheet

CELL = (0.52, 0.36)
"""Inches of a head; narrower where there are many, as far as its name can be read."""
ONE_LINE, TWO_LINES = 0.235, 0.33
"""Inches that a cell is high at least, by the lines of names."""
ROUND = 2.5
"""Inches of heading and legend."""
LEFT = 0.5
"""Inches of the names of layers."""
SHORT = {
    **{
        "previous": "prev",
        "current": "self",
        "delimiter": "delim",
        "induction": "induct",
        "duplicate": "dupl",
    },
    **{"subject": "subj", "object": "obj", "adjective": "adj", "determiner": "det"},
}
COLOURS = {
    "tokens": "#0072b2",
    "offsets": "#8a5a00",
    "copying": "#009e73",
    "syntax": "#d55e00",
    "others": "#cc79a7",
}
"""A hue for each group of names (Okabe & Ito, safe for the colour-blind); the names are written."""


def draw_head_map(report: HeadReport, *, title: str | None = None) -> Figure:
    """Each head's main name in its cell, darker the higher its rate; heads without a name are grey.

    A small + says that the head has earned further names. The legend counts heads by main name.

    Args:
        report: of an analysis.
        title: of which model; default: the report's.

    """
    heads = sorted({(row["layer"], row["head"]) for row in report.rows})
    names = Counter((row["layer"], row["head"]) for row in report.names)
    main = {(row["layer"], row["head"]): row for row in report.names if row["main"]}
    common = Counter(row["name"] for row in main.values())
    rows, columns = 1 + max(layer for layer, _ in heads), 1 + max(head for _, head in heads)
    cell, high, lines = _cell(common, rows, columns)
    width = max(4.6, LEFT + columns * cell + 0.1)
    heading = Heading(
        width, f"{title or report.model}: what each head does", _caption(report), _notes(report)
    )
    legend = _Legend.of(common, len(heads) - len(main), width)
    with style():
        bottom = heading.height + rows * high
        sheet = Sheet(width, bottom + 0.42 + legend.height)
        heading.draw(sheet)
        axes = sheet.axes(LEFT, heading.height, columns * cell, rows * high)
        for layer, head in heads:
            _draw_cell(axes, layer, head, main.get((layer, head)), names[layer, head] > 1, lines)
        axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
        axes.set_xticks(range(columns), map(str, range(columns)), fontsize=LABEL)
        axes.set_yticks(range(rows), map(str, range(rows)), fontsize=LABEL)
        axes.set_xlabel("head", fontsize=TITLE, labelpad=1)
        axes.set_ylabel("layer", fontsize=TITLE)
        legend.draw(sheet, bottom + 0.42)
        dress(sheet.figure)
    return sheet.figure


def picture_of_head_map(
    model: TransformerModel, report: HeadReport | str | Path, name: str | None = None
) -> Figure:
    """``draw_head_map`` of a report, or of the file that holds it, on this model.

    Raises:
        OSError: no such file.
        ValueError: no report, or one of a model with other heads.
    """
    report = report_from(report)
    kind = check_of_model(model, report)
    return draw_head_map(report, title=name_of(model, kind, name))


def short(name: str, lines: int = 2) -> str:
    """A name for a cell: a line of few letters, or two."""
    if "->" in name:
        return ("→\n" if lines > 1 else "→").join(SHORT.get(end, end) for end in name.split("->"))
    return SHORT.get(name, name.removeprefix("offset"))


def group_of(name: str) -> str:
    """Which of the groups of patterns a name is of."""
    return next((group for group, members in GROUPS.items() if name in members), "others")


def shade(group: str, rate: float) -> tuple[float, float, float]:
    """The hue of a group, nearly white for a rate of 0, pure for 1."""
    part = 0.12 + 0.88 * min(1.0, max(0.0, rate))
    red, green, blue = (1 - part * (1 - value) for value in to_rgb(COLOURS[group]))
    return red, green, blue


def _draw_cell(axes: Axes, layer: int, head: int, row: Row | None, more: bool, lines: int) -> None:
    fill = to_rgb(MASKED) if row is None else shade(group_of(row["name"]), row["score"])
    axes.add_patch(Rectangle((head - 0.5, layer - 0.5), 1, 1, facecolor=fill, edgecolor="white", linewidth=1))
    if row is not None:
        ink, label = ink_on(fill), short(row["name"], lines)
        several = "\n" in label
        middle, aligned = layer - (0.16 if several else 0.19), "center" if several else "center_baseline"
        options: Any = {"ha": "center", "fontsize": SMALL, "color": ink}
        axes.text(head, middle, label, va=aligned, linespacing=0.95, **options)
        number = written(row["score"]) + ("+" if more else "")
        axes.text(head, layer + 0.28, number, va="center_baseline", **options)


def _cell(common: Mapping[str, int], rows: int, columns: int) -> tuple[float, float, int]:
    """Inches of a cell, and how many lines a name has: as large as a page lets them be, and legible."""

    def widest(lines: int) -> float:
        names = (line for name in common for line in short(name, lines).split("\n"))
        return max(0.3, 0.04 + max((width_of(line, SMALL) for line in names), default=0.0))

    room, high = (WIDEST - LEFT - 0.1) / columns, min(CELL[1], (HIGHEST - ROUND) / rows)
    lines = 1 if widest(2) == widest(1) or (high < TWO_LINES and widest(1) <= room) else 2
    return max(widest(lines), min(CELL[0], room)), max(high, TWO_LINES if lines > 1 else ONE_LINE), lines


class _Legend:
    """For each group its shades from rate 0 to 1, and its names with how many heads bear them."""

    def __init__(self, groups: Mapping[str, str], nameless: int, width: float) -> None:
        room = width - LEFT - 1.45
        self.lines = {group: wrapped(said, room, LABEL) for group, said in groups.items()}
        self.nameless = nameless

    @classmethod
    def of(cls, common: Mapping[str, int], nameless: int, width: float) -> _Legend:
        order = sorted(common, key=lambda name: (-common[name], name))
        said: dict[str, list[str]] = {group: [] for group in COLOURS}
        for name in order:
            said[group_of(name)].append(f"{name}\u00a0({common[name]})")
        return cls(
            {group: f"{group}: {', '.join(names)}" for group, names in said.items() if names}, nameless, width
        )

    @property
    def height(self) -> float:
        lines = sum(map(len, self.lines.values()))
        return 0.115 * (lines + 1) + 0.06 * (len(self.lines) + 1) + 0.42

    def draw(self, sheet: Sheet, top: float) -> None:
        sheet.text(LEFT, top, "rate (darker is higher), and main names (heads)", fontsize=TITLE)
        top += 0.2
        axes = None
        for group, lines in self.lines.items():
            axes = sheet.axes(LEFT, top + 0.01, 1.2, 0.1)
            colours = [[shade(group, rate) for rate in np.linspace(0, 1, 64)]]
            axes.imshow(colours, aspect="auto", interpolation="nearest", extent=(0, 1, 0, 1))
            axes.set_xticks([])
            axes.set_yticks([])
            sheet.text(LEFT + 1.3, top, "\n".join(lines), linespacing=1.25)
            top += 0.115 * len(lines) + 0.06
        if axes is not None:
            axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"], fontsize=SMALL)
            axes.tick_params(axis="x", length=1.5, pad=1)
            top += 0.12
        sheet.box(LEFT, top + 0.02, 0.2, 0.09, facecolor=MASKED, lw=0)
        sheet.text(LEFT + 0.27, top, f"no name ({self.nameless})")


def _caption(report: HeadReport) -> str:
    items = int(report.data.get("num_items", 0))
    cut_to = f" to {report.data['cut_to']} tokens" if "cut_to" in report.data else ""
    cut = f" ({report.num_cut:,} of them cut{cut_to})" if report.num_cut else ""
    seed = f" (seed {report.settings['seed']})" if "seed" in report.settings else ""
    return (
        f"In each cell the rate: how often the head's largest weight is where its name says, on the half "
        f"of {items:,} texts{cut} that is for scoring. Named where rate and mass exceed "
        f"every control by {report.settings['margin']:g}, false discoveries 5 %; + has further names. "
        f"Controls: fixed offset, shuffled labels, one model with random weights{seed}."
    )


def _notes(report: HeadReport) -> list[str]:
    return ["read as bytes: the model has no tokenizer"] if report.as_bytes else []
