"""The map of a model: a row a layer, a column a head, in each cell its name and how strongly it holds."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from glassformer.analysis.head_report import HeadReport, Row
from glassformer.attention import choose_kind
from glassformer.models import TransformerModel
from glassformer.visualization.looking import name_of
from glassformer.visualization.pictures import MASKED, style

CELL = (0.62, 0.36)
"""Inches of a head."""
LEGEND = 2.0
"""Inches beside the map."""
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
COLOURS = ("Blues", "Oranges", "Greens", "Purples", "Reds", "RdPu", "pink_r", "GnBu", "YlOrBr", "BuGn")
"""The commonest name has the first of these colours, and so on; names beyond the last share it."""


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
    order = sorted(common, key=lambda name: (-common[name], name))
    colours = {name: COLOURS[min(place, len(COLOURS) - 1)] for place, name in enumerate(order)}
    rows, columns = 1 + max(layer for layer, _ in heads), 1 + max(head for _, head in heads)
    width = max(columns * CELL[0], 3.2) + LEGEND
    room = int((width - LEGEND) * 72 / 5)
    said = [f"{title or report.model}: what each head does", *_caption(report)]
    caption = [line for part in said for line in textwrap.wrap(part, room)]
    height = max(rows * CELL[1], 0.17 * (len(order) + 2)) + 0.9 + 0.15 * len(caption)
    with style():
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
        for layer, head in heads:
            _draw_cell(axes, layer, head, main.get((layer, head)), names[layer, head] > 1, colours)
        axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), xlabel="head", ylabel="layer")
        axes.set_xticks(range(columns))
        axes.set_yticks(range(rows))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        _add_legend(figure, common, colours, len(heads) - len(main))
        figure.suptitle("\n".join(caption), fontsize=9, x=0.01, ha="left")
    return figure


def picture_of_head_map(
    model: TransformerModel, report: HeadReport | str | Path, name: str | None = None
) -> Figure:
    """``draw_head_map`` of a report, or of the file that holds it, on this model.

    Raises:
        OSError: no such file.
        ValueError: no report, or one of a model with other heads.
    """
    report = report if isinstance(report, HeadReport) else HeadReport.load(report)
    kind, attentions = choose_kind(model, report.settings.get("kind"))
    heads = {(layer, head) for layer, module in enumerate(attentions) for head in range(module.num_heads)}
    measured = {(row["layer"], row["head"]) for row in report.rows}
    if measured != heads:
        layer, head = min(measured ^ heads)
        lacks = "the model" if (layer, head) in measured else "the report"
        raise ValueError(f"the report of {report.model} is of another: {lacks} has no head {layer}.{head}")
    return draw_head_map(report, title=name_of(model, kind, name))


def short(name: str) -> str:
    """A name for a cell: a line of few letters, or two."""
    if "->" in name:
        return "→\n".join(SHORT.get(end, end) for end in name.split("->"))
    return SHORT.get(name, name.removeprefix("offset"))


def _draw_cell(
    axes: Axes, layer: int, head: int, row: Row | None, more: bool, colours: Mapping[str, str]
) -> None:
    strength = 0.0 if row is None else row["score"]
    fill = MASKED if row is None else _colour(colours[row["name"]], strength)
    axes.add_patch(Rectangle((head - 0.5, layer - 0.5), 1, 1, facecolor=fill, edgecolor="white", linewidth=1))
    if row is not None:
        ink = "white" if strength > 0.65 else "#222222"
        label = short(row["name"])
        lines = label.count("\n") + 1
        axes.text(head, layer - 0.13, label, ha="center", va="center", fontsize=7.5 - lines, color=ink)
        number = f"{strength:.2f}".removeprefix("0") + ("+" if more else "")
        axes.text(head, layer + 0.31, number, ha="center", va="center", fontsize=5, color=ink)


def _add_legend(figure: Figure, common: Mapping[str, int], colours: Mapping[str, str], nameless: int) -> None:
    patches = [
        Rectangle((0, 0), 1, 1, facecolor=_colour(colour, 0.7), label=f"{name} ({common[name]})")
        for name, colour in colours.items()
    ]
    patches.append(Rectangle((0, 0), 1, 1, facecolor=MASKED, label=f"no name ({nameless})"))
    figure.legend(handles=patches, loc="outside right upper", title="main name (heads)", fontsize=7)


def _colour(name: str, strength: float) -> tuple[float, float, float, float]:
    return matplotlib.colormaps[name](0.15 + 0.75 * min(1.0, strength))


def _caption(report: HeadReport) -> list[str]:
    items = int(report.data.get("num_items", 0))
    cut_to = f" to {report.data['cut_to']} tokens" if "cut_to" in report.data else ""
    cut = f" ({report.num_cut:,} of them cut{cut_to})" if report.num_cut else ""
    seed = f" (seed {report.settings['seed']})" if "seed" in report.settings else ""
    lines = [
        f"Rates on the half of {items:,} texts{cut} that is for scoring. Named where rate and mass exceed "
        f"every control by {report.settings['margin']:g}, false discoveries 5 %; + has further names. "
        f"Controls: fixed offset, shuffled labels, one model with random weights{seed}."
    ]
    return [*lines, "read as bytes: the model has no tokenizer"] if report.as_bytes else lines
