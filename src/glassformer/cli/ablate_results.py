"""What ``glassformer ablate`` found: tables, pictures, and what it prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from glassformer.analysis.ablation import Head, head_name, parse_heads
from glassformer.analysis.capability import CapabilityTable, save_rows
from glassformer.analysis.groups import group_rows
from glassformer.analysis.importance import gate_slopes, rank_correlation, rank_interval
from glassformer.analysis.kept_parts import KeptParts
from glassformer.analysis.marking import Numbers, item_loss
from glassformer.analysis.suites import Suite
from glassformer.visualization import save_picture
from glassformer.visualization.capabilities import draw_capabilities, draw_every_head

MOST_SINGLE_ROWS = 40
COMPARISONS = {"signed": ("gradient", "drop"), "unsigned": ("abs_gradient", "abs_drop")}
"""Columns of a table of every head whose ranks are compared: a first guess, and what it guesses."""


def write_groups(
    table: CapabilityTable,
    suites: Sequence[Suite],
    draws: Mapping[str, Sequence[str]],
    folder: Path,
    title: str,
    caption: str,
) -> None:
    """What groups of heads are for, against random heads, the control and their parts.

    Args:
        table: what was measured.
        suites: in the table.
        draws: for each group the names of its random sets in the table.
        folder: of the run.
        title: of the picture.
        caption: of the picture.
    """
    console = _console()
    _print_intact(table, suites, console)
    rows = list(table.rows())
    compared = [row for group in draws for row in group_rows(table, group, draws[group])]
    table.save(folder / "capabilities.csv")
    table.save(folder / "capabilities.json")
    save_rows(compared, folder / "groups.csv")
    save_rows(compared, folder / "groups.json")
    hidden = {name for names in draws.values() for name in names}
    singles = [row for row in rows if row["set"] not in draws and row["set"] not in hidden]
    shown = [row for row in rows if row["set"] in draws]
    for group, names in draws.items():
        random = [row for row in compared if row["group"] == group and row["measure"] == "random"]
        label = f"{len(names)} random sets like {group}"
        shown += [{**row, "set": label, "drop": row["value"]} for row in random]
    bold = {row["set"] for row in shown}
    if len({row["set"] for row in singles}) <= MOST_SINGLE_ROWS:
        shown += singles
    figure = draw_capabilities(shown, title=title, caption=caption, groups=bold)
    save_picture(figure, folder / "capabilities.png")
    for group in draws:
        heads = ", ".join(map(head_name, table.sets[group]))
        measures = list(dict.fromkeys(row["measure"] for row in compared if row["group"] == group))
        number = len(draws[group])
        compared_with = f"; random and p: {number} draws, p at least {1 / (1 + number):.3f}" if number else ""
        grid = Table("suite", *measures, title=f"{group}: {heads}{compared_with}", title_justify="left")
        for suite in table.suites:
            cells = {r["measure"]: _cell(r) for r in compared if (r["group"], r["suite"]) == (group, suite)}
            grid.add_row(suite, *(cells.get(measure, "") for measure in measures))
        console.print(grid)
    if singles:
        grid = Table("head", *table.suites, title="Drop without each head alone", title_justify="left")
        for name in dict.fromkeys(row["set"] for row in singles):
            grid.add_row(name, *(f"{row['drop']:.3f}" for row in singles if row["set"] == name))
        console.print(grid)


def slopes_of_gates(model: Any, suites: Sequence[Suite], parts: KeptParts) -> dict[str, dict[Head, Numbers]]:
    """dL/dgate of every head for each item of every suite: what is kept, and what is still to be found."""
    found = {}
    for suite in suites:
        name = f"gradient {suite.name}"
        if parts.read(name) is None:
            slopes = gate_slopes(model, suite.items, item_loss)
            parts.write(name, {head_name(head): values.tolist() for head, values in slopes.items()})
        kept = parts.read(name)
        found[suite.name] = {parse_heads(head)[0]: np.array(values) for head, values in kept.items()}
    return found


def write_every_head(
    table: CapabilityTable,
    suites: Sequence[Suite],
    slopes: Mapping[str, Mapping[Head, Numbers]],
    folder: Path,
    title: str,
    caption: str,
) -> None:
    """What each head alone is for: as ``write_groups``, beside the ``slopes_of_gates``.

    Beside ``drop``, the mean over items, stands its guess -E dL/dgate as ``gradient``; beside ``abs_drop``,
    the mean of |drop|, stands E |dL/dgate| as ``abs_gradient`` (Michel, Levy & Neubig 2019, equation 3).
    """
    console = _console()
    _print_intact(table, suites, console)
    rows = list(table.rows())
    for row in rows:
        of_items = slopes[row["suite"]][parse_heads(row["set"])[0]]
        row["abs_drop"] = float(np.abs(table.drops(row["set"], row["suite"])).mean())
        row["gradient"] = -float(of_items.mean())
        row["abs_gradient"] = float(np.abs(of_items).mean())
    save_rows(rows, folder / "capabilities.csv")
    save_rows(rows, folder / "capabilities.json")
    save_picture(draw_every_head(rows, title=title, caption=caption), folder / "capabilities.png")
    agreements = [
        {"suite": suite, "comparison": name, **_agreement([r for r in rows if r["suite"] == suite], *columns)}
        for suite in table.suites
        for name, columns in COMPARISONS.items()
    ]
    save_rows(agreements, folder / "importance.csv")
    headings = [f"{guess} and {truth}" for guess, truth in COMPARISONS.values()]
    grid = Table("suite", "heads that hurt most", *headings, title_justify="left")
    grid.title = (
        "Each head alone; drops with 95 % intervals over items, of this head and not of the worst of "
        f"{len(table.sets)}; rank correlations with 95 % intervals over heads, on these items"
    )
    for suite in table.suites:
        of_suite = sorted((r for r in rows if r["suite"] == suite), key=lambda row: -row["drop"])
        worst = [f"{r['set']}: {r['drop']:.2f} ({r['low']:.2f} to {r['high']:.2f})" for r in of_suite[:3]]
        cells = [
            f"{r['spearman']:.2f} ({r['low']:.2f} to {r['high']:.2f})"
            for r in agreements
            if r["suite"] == suite
        ]
        grid.add_row(suite, ", ".join(worst), *cells)
    console.print(grid)


def _agreement(rows: Sequence[Mapping[str, Any]], guess: str, truth: str) -> dict[str, Any]:
    """How far two columns rank the heads alike."""
    a, b = ({parse_heads(row["set"])[0]: row[column] for row in rows} for column in (guess, truth))
    low, high = rank_interval(a, b)
    return {"heads": len(rows), "spearman": rank_correlation(a, b), "low": low, "high": high}


def _print_intact(table: CapabilityTable, suites: Sequence[Suite], console: Console) -> None:
    grid = Table(
        *("suite", "measures", "chance", "accuracy", "score", "unit"),
        title="With all heads",
        title_justify="left",
    )
    for suite in suites:
        grid.add_row(
            suite.name,
            suite.measures,
            f"{suite.chance:.1%}",
            f"{table.intact.correct[suite.name].mean():.1%}",
            f"{table.intact.score[suite.name].mean():.3f}",
            suite.unit,
        )
    console.print(grid)


def _cell(row: Mapping[str, Any]) -> str:
    value = f"{row['value']:z.3f}"
    return value if row["low"] is None else f"{value} ({row['low']:z.3f} to {row['high']:z.3f})"


def _console() -> Console:
    console = Console()
    console.width = max(console.width, 160)
    return console
