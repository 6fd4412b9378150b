"""A map of all heads of a model (layers x heads) with the attention pattern that each is labeled with."""

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

from glassformer.analysis.head_patterns import PATTERN_GROUPS, HeadReport
from glassformer.analysis.head_patterns.report import Row
from glassformer.attention import all_heads, choose_kind
from glassformer.models import TransformerModel
from glassformer.terminal import count_of
from glassformer.visualization.figures.layout import (
    LABEL_SIZE,
    NUMBER_SIZE,
    PAGE_HEIGHT,
    PAGE_WIDTH,
    TITLE_SIZE,
    Canvas,
    Heading,
    text_width,
    wrap,
)
from glassformer.visualization.figures.style import (
    BLUE,
    BROWN,
    GREEN,
    NO_VALUE,
    PURPLE,
    VERMILION,
    drawable_text,
    figure_style,
    format_weight,
    set_fonts,
    text_color,
)
from glassformer.visualization.model_input import model_title

CELL_WIDTH, CELL_HEIGHT = 0.52, 0.36
"""Inches of a cell; narrower if there are many heads, as far as the labels stay legible."""
MIN_HEIGHTS = {1: 0.235, 2: 0.33}
"""Least inches of the height of a cell, by the lines of its label."""
HEADING_AND_LEGEND = 2.5
LEFT = 0.5
"""Inches of the layer numbers."""
ABBREVIATIONS = {
    "previous": "prev",
    "current": "self",
    "delimiter": "delim",
    "induction": "induct",
    "duplicate": "dupl",
    "subject": "subj",
    "object": "obj",
    "adjective": "adj",
    "determiner": "det",
}
GROUP_COLORS = {
    "tokens": BLUE,
    "offsets": BROWN,
    "copying": GREEN,
    "syntax": VERMILION,
    "others": PURPLE,
}
"""A hue for each group of patterns."""


def draw_head_map(report: HeadReport, *, title: str | None = None) -> Figure:
    """Draw each head's main label, darker the higher its rate; heads without a label are grey.

    A + marks a head with further labels. The legend counts heads by main label.

    Args:
        report: The result of ``analysis.analyze_heads``.
        title: The model. Default: the report's.

    Raises:
        ValueError: The report is empty.
    """
    _check_rows(report)
    heads = sorted({(row["layer"], row["head"]) for row in report.rows})
    num_labels = Counter((row["layer"], row["head"]) for row in report.names)
    main = {(row["layer"], row["head"]): row for row in report.names if row["main"]}
    counts = Counter(row["name"] for row in main.values())
    rows, columns = 1 + max(layer for layer, _ in heads), 1 + max(head for _, head in heads)
    cell, height, lines = _cell_size(counts, rows, columns)
    width = max(4.6, LEFT + columns * cell + 0.1)
    notes = ["read as bytes: the model has no tokenizer"] if report.as_bytes else []
    if len(heads) < rows * columns:
        notes.append("heads without a cell were pruned")
    heading = Heading(width, f"Where each head looks: {title or report.model}", _caption(report), notes)
    legend = _Legend(counts, len(heads) - len(main), width)
    with figure_style():
        bottom = heading.height + rows * height
        canvas = Canvas(width, bottom + 0.42 + legend.height)
        heading.draw(canvas)
        axes = canvas.axes(LEFT, heading.height, columns * cell, rows * height)
        for layer, head in heads:
            _draw_cell(axes, layer, head, main.get((layer, head)), num_labels[layer, head] > 1, lines)
        axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
        axes.set_xticks(range(columns), map(str, range(columns)), fontsize=LABEL_SIZE)
        axes.set_yticks(range(rows), map(str, range(rows)), fontsize=LABEL_SIZE)
        axes.set_xlabel("head", fontsize=TITLE_SIZE, labelpad=1)
        axes.set_ylabel("layer", fontsize=TITLE_SIZE)
        legend.draw(canvas, bottom + 0.42)
        return set_fonts(canvas.figure)


def head_map_of_model(
    model: TransformerModel, report: HeadReport | str | Path, name: str | None = None
) -> Figure:
    """Draw the head map of a report, or of the file that holds it, after checking that it fits a model.

    Raises:
        OSError: The file does not exist.
        ValueError: The file holds no report, or one about a model with other heads.
    """
    report = load_head_report(report)
    kind = check_head_report(model, report)
    return draw_head_map(report, title=model_title(model, kind, name))


def load_head_report(report: HeadReport | str | Path) -> HeadReport:
    """Return a report, or the one that a file holds.

    Raises:
        OSError: The file does not exist.
        ValueError: The file holds no report.
        TypeError: Neither a report nor a path.
    """
    if isinstance(report, HeadReport):
        return report
    if not isinstance(report, str | Path):
        raise TypeError(f"report must be a HeadReport or the path of its .json file, got {report!r}.")
    return HeadReport.load(report)


def check_head_report(model: TransformerModel, report: HeadReport, *, complete: bool = True) -> str:
    """Check that a report is about the heads of a model.

    Args:
        model: The model whose heads are to be labeled.
        report: Of an analysis.
        complete: Whether the report must contain every head of the model.

    Returns:
        The kind of attention that the report is about.

    Raises:
        ValueError: The report is empty, or about a model with other heads.
    """
    _check_rows(report)
    kind, attentions = choose_kind(model, report.settings.get("kind"))
    heads = set(all_heads(attentions))
    reported = {(row["layer"], row["head"]) for row in report.rows}
    different = reported ^ heads if complete else reported - heads
    if different:
        layer, head = min(different)
        lacking = "the model" if (layer, head) in reported else "the report"
        raise ValueError(
            f"The report on {report.model} is about another model: {lacking} has no head {layer}.{head}."
        )
    return kind


def _check_rows(report: HeadReport) -> None:
    if not report.rows:
        raise ValueError(
            f"The report on {report.model} is empty: its texts have no token that a pattern points to."
        )


def abbreviate(label: str, lines: int = 2) -> str:
    """Shorten the name of a pattern for a cell of one or two lines."""
    if "->" in label:
        arrow = "→\n" if lines > 1 else "→"
        return arrow.join(ABBREVIATIONS.get(end, end) for end in label.split("->"))
    return ABBREVIATIONS.get(label, drawable_text(label.removeprefix("offset")))


def group_of(label: str) -> str:
    """The group of patterns that a label belongs to."""
    return next((group for group, members in PATTERN_GROUPS.items() if label in members), "others")


def shade(group: str, rate: float) -> tuple[float, float, float]:
    """The hue of a group: nearly white for a rate of 0, pure for 1."""
    strength = 0.12 + 0.88 * min(1.0, max(0.0, rate))
    red, green, blue = (1 - strength * (1 - value) for value in to_rgb(GROUP_COLORS[group]))
    return red, green, blue


def _draw_cell(axes: Axes, layer: int, head: int, row: Row | None, has_more_labels: bool, lines: int) -> None:
    fill = to_rgb(NO_VALUE) if row is None else shade(group_of(row["name"]), row["score"])
    axes.add_patch(Rectangle((head - 0.5, layer - 0.5), 1, 1, facecolor=fill, edgecolor="white", linewidth=1))
    if row is None:
        return
    label = abbreviate(row["name"], lines)
    middle, aligned = (0.16, "center") if "\n" in label else (0.19, "center_baseline")
    options: Any = {"ha": "center", "fontsize": NUMBER_SIZE, "color": text_color(fill)}
    axes.text(head, layer - middle, label, va=aligned, linespacing=0.95, **options)
    number = format_weight(row["score"]) + ("+" if has_more_labels else "")
    axes.text(head, layer + 0.28, number, va="center_baseline", **options)


def _cell_size(counts: Mapping[str, int], rows: int, columns: int) -> tuple[float, float, int]:
    """Inches of a cell, as large as a page allows while labels stay legible, and the lines of its label."""

    def label_width(lines: int) -> float:
        parts = (part for label in counts for part in abbreviate(label, lines).split("\n"))
        return max(0.3, 0.04 + max((text_width(part, NUMBER_SIZE) for part in parts), default=0.0))

    room = (PAGE_WIDTH - LEFT - 0.1) / columns
    height = min(CELL_HEIGHT, (PAGE_HEIGHT - HEADING_AND_LEGEND) / rows)
    no_gain = label_width(2) == label_width(1)
    lines = 1 if no_gain or (height < MIN_HEIGHTS[2] and label_width(1) <= room) else 2
    return max(label_width(lines), min(CELL_WIDTH, room)), max(height, MIN_HEIGHTS[lines]), lines


class _Legend:
    """For each group the shades of rates from 0 to 1, and its labels with the number of heads."""

    def __init__(self, counts: Mapping[str, int], num_unlabeled: int, width: float) -> None:
        groups: dict[str, list[str]] = {group: [] for group in GROUP_COLORS}
        for label in sorted(counts, key=lambda label: (-counts[label], label)):
            groups[group_of(label)].append(f"{drawable_text(label)}\u00a0({counts[label]})")
        room = width - LEFT - 1.45
        self.lines = {
            group: wrap(f"{group}: {', '.join(labels)}", room, LABEL_SIZE)
            for group, labels in groups.items()
            if labels
        }
        self.num_unlabeled = num_unlabeled

    @property
    def height(self) -> float:
        lines = sum(map(len, self.lines.values()))
        return 0.115 * (lines + 1) + 0.06 * (len(self.lines) + 1) + 0.42

    def draw(self, canvas: Canvas, top: float) -> None:
        heading = "rate (darker is higher), and main labels (number of heads)"
        canvas.text(LEFT, top, heading, fontsize=TITLE_SIZE)
        top += 0.2
        axes = None
        for group, lines in self.lines.items():
            axes = canvas.axes(LEFT, top + 0.01, 1.2, 0.1)
            colors = [[shade(group, rate) for rate in np.linspace(0, 1, 64)]]
            axes.imshow(colors, aspect="auto", interpolation="nearest", extent=(0, 1, 0, 1))
            axes.set_xticks([])
            axes.set_yticks([])
            canvas.text(LEFT + 1.3, top, "\n".join(lines), linespacing=1.25)
            top += 0.115 * len(lines) + 0.06
        if axes is not None:  # numbers below the last one
            axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"], fontsize=NUMBER_SIZE)
            axes.tick_params(axis="x", length=1.5, pad=1)
            top += 0.12
        canvas.box(LEFT, top + 0.02, 0.2, 0.09, facecolor=NO_VALUE, lw=0)
        canvas.text(LEFT + 0.27, top, f"no label ({self.num_unlabeled})")


def _caption(report: HeadReport) -> str:
    items = int(report.data.get("num_items", 0))
    cut_to = f" to {count_of(report.data['cut_to'], 'token')}" if "cut_to" in report.data else ""
    cut = f" ({report.num_cut:,} of them cut{cut_to})" if report.num_cut else ""
    seed = f" (seed {report.settings['seed']})" if "seed" in report.settings else ""
    margin = f" by {report.settings['margin']:g}" if "margin" in report.settings else ""
    return (
        f"The number is the rate: how often the head's largest weight is where its label says, over the half "
        f"of {count_of(items, 'text')}{cut} that labels are scored on. A head is labeled if rate and mass "
        f"exceed every baseline{margin} at a false discovery rate of 5 %; + has further labels. "
        f"Baselines: fixed offset, shuffled labels, one model with random weights{seed}."
    )
