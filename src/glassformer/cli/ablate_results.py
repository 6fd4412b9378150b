"""Results of ``glassformer ablate``: tables, figures, and printed summaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from glassformer.analysis.ablation import Head, head_name, parse_heads
from glassformer.analysis.behaviors import BehaviorTable, BehaviorTask, compare_group, item_loss
from glassformer.analysis.head_patterns.statistics import Numbers
from glassformer.analysis.importance import head_mask_gradients, rank_correlation, rank_interval
from glassformer.analysis.partial_results import PartialResults
from glassformer.files import save_table
from glassformer.terminal import count_of, printable
from glassformer.visualization import save_figure
from glassformer.visualization.figures.ablation import draw_ablation_maps, draw_ablation_table

MAX_SINGLE_ROWS = 40
"""Figures of groups also show each head alone if these are at most so many."""
COMPARISONS = {"signed": ("gradient", "drop"), "unsigned": ("abs_gradient", "abs_drop")}
"""Columns whose ranks are compared: a first-order estimate, and the measured effect."""


def write_groups(
    table: BehaviorTable,
    tasks: Sequence[BehaviorTask],
    draws: Mapping[str, Sequence[str]],
    folder: Path,
    title: str,
    caption: str,
) -> None:
    """Write and print the effects of groups of heads, with the comparisons of ``compare_group``.

    Args:
        table: the measured scores.
        tasks: those in the table.
        draws: for each group the names of its random sets in the table.
        folder: of the run.
        title: of the figure.
        caption: of the figure.
    """
    console = _console()
    _print_all_heads(table, tasks, console)
    rows = list(table.rows())
    compared = [row for group in draws for row in compare_group(table, group, draws[group])]
    table.save(folder / "capabilities.csv")
    table.save(folder / "capabilities.json")
    save_table(compared, folder / "groups.csv")
    save_table(compared, folder / "groups.json")
    random_sets = {name for names in draws.values() for name in names}
    singles = [row for row in rows if row["set"] not in draws and row["set"] not in random_sets]
    shown = [row for row in rows if row["set"] in draws]
    for group, names in draws.items():
        random = [row for row in compared if row["group"] == group and row["measure"] == "random"]
        label = f"{count_of(len(names), 'random set')} like {group}"
        shown += [{**row, "set": label, "drop": row["value"]} for row in random]
    bold = {row["set"] for row in shown}
    if len({row["set"] for row in singles}) <= MAX_SINGLE_ROWS:
        shown += singles
    figure = draw_ablation_table(shown, title=title, caption=caption, groups=bold)
    save_figure(figure, folder / "capabilities.png")
    for group in draws:
        heads = ", ".join(map(head_name, table.sets[group]))
        measures = list(dict.fromkeys(row["measure"] for row in compared if row["group"] == group))
        number = len(draws[group])
        compared_with = (
            f"; random and p: {count_of(number, 'draw')}, p at least {1 / (1 + number):.3f}" if number else ""
        )
        grid = Table(
            "task",
            *measures,
            title=f"{escape(printable(group))}: {heads}{compared_with}",
            title_justify="left",
        )
        for task in table.tasks:
            cells = {r["measure"]: _cell(r) for r in compared if (r["group"], r["suite"]) == (group, task)}
            grid.add_row(task, *(cells.get(measure, "") for measure in measures))
        console.print(grid)
    if singles:
        grid = Table("head", *table.tasks, title="Drop without each head alone", title_justify="left")
        for name in dict.fromkeys(row["set"] for row in singles):
            grid.add_row(name, *(f"{row['drop']:.3f}" for row in singles if row["set"] == name))
        console.print(grid)


def compute_gradients(
    model: Any, tasks: Sequence[BehaviorTask], parts: PartialResults
) -> dict[str, dict[Head, Numbers]]:
    """``head_mask_gradients`` of the loss of each item of each task, stored in the run folder."""
    gradients = {}
    for task in tasks:
        name = f"gradient {task.name}"
        if parts.read(name) is None:
            computed = head_mask_gradients(model, task.items, item_loss)
            parts.write(name, {head_name(head): values.tolist() for head, values in computed.items()})
        gradients[task.name] = parts.read(name, _parse_gradients)
    return gradients


def _parse_gradients(stored: Mapping[str, Sequence[float]]) -> dict[Head, Numbers]:
    return {parse_heads(head)[0]: np.array(values, dtype=np.float64) for head, values in stored.items()}


def write_every_head(
    table: BehaviorTable,
    tasks: Sequence[BehaviorTask],
    gradients: Mapping[str, Mapping[Head, Numbers]],
    folder: Path,
    title: str,
    caption: str,
) -> None:
    """Write and print the effect of each head alone, compared with its first-order estimate.

    The estimate of ``drop``, the mean over items, is -E dL/dmask, in the column ``gradient``; that of
    ``abs_drop``, the mean of |drop|, is E |dL/dmask|, in ``abs_gradient`` (Michel, Levy & Neubig 2019,
    equation 3).

    ``gradients`` are those of ``compute_gradients``; the other arguments are as in ``write_groups``.
    """
    console = _console()
    _print_all_heads(table, tasks, console)
    rows = list(table.rows())
    for row in rows:
        of_items = gradients[row["suite"]][parse_heads(row["set"])[0]]
        row["abs_drop"] = float(np.abs(table.drops(row["set"], row["suite"])).mean())
        row["gradient"] = -float(of_items.mean())
        row["abs_gradient"] = float(np.abs(of_items).mean())
    save_table(rows, folder / "capabilities.csv")
    save_table(rows, folder / "capabilities.json")
    save_figure(draw_ablation_maps(rows, title=title, caption=caption), folder / "capabilities.png")
    correlations = [
        {"suite": task, "comparison": name, **_correlation([r for r in rows if r["suite"] == task], *columns)}
        for task in table.tasks
        for name, columns in COMPARISONS.items()
    ]
    save_table(correlations, folder / "importance.csv")
    headings = [f"{estimate} and {measured}" for estimate, measured in COMPARISONS.values()]
    grid = Table("task", "largest drops", *headings, title_justify="left")
    grid.title = (
        "Each head alone; drops with 95 % intervals over items, for each head by itself and not for the "
        f"largest of {len(table.sets)}; rank correlations with 95 % intervals over heads, on these items"
    )
    for task in table.tasks:
        of_task = sorted((r for r in rows if r["suite"] == task), key=lambda row: -row["drop"])
        largest = [f"{r['set']}: {r['drop']:.2f} ({r['low']:.2f} to {r['high']:.2f})" for r in of_task[:3]]
        cells = [
            f"{r['spearman']:.2f} ({r['low']:.2f} to {r['high']:.2f})"
            for r in correlations
            if r["suite"] == task
        ]
        grid.add_row(task, ", ".join(largest), *cells)
    console.print(grid)


def _correlation(rows: Sequence[Mapping[str, Any]], estimate: str, measured: str) -> dict[str, Any]:
    """Rank correlation of two columns over heads, with its interval."""
    a, b = ({parse_heads(row["set"])[0]: row[column] for row in rows} for column in (estimate, measured))
    low, high = rank_interval(a, b)
    return {"heads": len(rows), "spearman": rank_correlation(a, b), "low": low, "high": high}


def _print_all_heads(table: BehaviorTable, tasks: Sequence[BehaviorTask], console: Console) -> None:
    columns = ("task", "measures", "chance", "accuracy", "score", "unit")
    grid = Table(*columns, title="With all heads", title_justify="left")
    for task in tasks:
        grid.add_row(
            task.name,
            task.measures,
            f"{task.chance:.1%}",
            f"{table.all_heads.accuracy[task.name].mean():.1%}",
            f"{table.all_heads.score[task.name].mean():.3f}",
            task.unit,
        )
    console.print(grid)


def _cell(row: Mapping[str, Any]) -> str:
    value = f"{row['value']:z.3f}"
    return value if row["low"] is None else f"{value} ({row['low']:z.3f} to {row['high']:z.3f})"


def _console() -> Console:
    console = Console()
    console.width = max(console.width, 160)
    return console
