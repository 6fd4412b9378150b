"""What ``glassformer ablate`` found: tables, pictures, and what it prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from glassformer.analysis.ablation import Head, head_name, parse_heads
from glassformer.analysis.capability import CapabilityTable, save_rows
from glassformer.analysis.groups import group_rows
from glassformer.analysis.importance import gradient_importance, rank_correlation
from glassformer.analysis.kept_parts import KeptParts
from glassformer.analysis.marking import item_loss
from glassformer.analysis.suites import Suite
from glassformer.visualization import save_picture
from glassformer.visualization.capabilities import draw_capabilities, draw_every_head

MOST_SINGLE_ROWS = 40


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
        compared_with = f"; random and p: {len(draws[group])} draws" if draws[group] else ""
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


def gradients(model: Any, suites: Sequence[Suite], parts: KeptParts) -> dict[str, dict[Head, float]]:
    """Importance by gradient of every head in every suite: what is kept, and what is still to be found."""
    found = {}
    for suite in suites:
        name = f"gradient {suite.name}"
        values = parts.read(name)
        if values is None:
            importance = gradient_importance(model, suite.items, item_loss)
            values = {head_name(head): value for head, value in importance.items()}
            parts.write(name, values)
        found[suite.name] = {parse_heads(head)[0]: value for head, value in values.items()}
    return found


def write_every_head(
    table: CapabilityTable,
    suites: Sequence[Suite],
    gradients: Mapping[str, Mapping[Head, float]],
    folder: Path,
    title: str,
    caption: str,
) -> None:
    """What each head alone is for, by brute force and by gradient; arguments as ``write_groups``."""
    console = _console()
    _print_intact(table, suites, console)
    rows = list(table.rows())
    for row in rows:
        row["gradient"] = gradients[row["suite"]][parse_heads(row["set"])[0]]
    save_rows(rows, folder / "capabilities.csv")
    save_rows(rows, folder / "capabilities.json")
    save_picture(draw_every_head(rows, title=title, caption=caption), folder / "capabilities.png")
    grid = Table(
        "suite", "heads that hurt most", "rank correlation of gradient and drop", title_justify="left"
    )
    correlations = []
    for suite in table.suites:
        of_suite = sorted((r for r in rows if r["suite"] == suite), key=lambda row: -row["drop"])
        worst = [f"{r['set']}: {r['drop']:.2f} ({r['low']:.2f} to {r['high']:.2f})" for r in of_suite[:3]]
        drops = {parse_heads(row["set"])[0]: float(row["drop"]) for row in of_suite}
        rho = rank_correlation(gradients[suite], drops)
        correlations.append({"suite": suite, "heads": len(drops), "spearman": rho})
        grid.add_row(suite, ", ".join(worst), f"{rho:.2f}")
    save_rows(correlations, folder / "importance.csv")
    console.print(grid)


def _print_intact(table: CapabilityTable, suites: Sequence[Suite], console: Console) -> None:
    grid = Table(
        "suite", "measures", "chance", "accuracy", "score", title="With all heads", title_justify="left"
    )
    for suite in suites:
        grid.add_row(
            suite.name,
            suite.measures,
            f"{suite.chance:.1%}",
            f"{table.intact.correct[suite.name].mean():.1%}",
            f"{table.intact.score[suite.name].mean():.3f}",
        )
    console.print(grid)


def _cell(row: Mapping[str, Any]) -> str:
    value = f"{row['value']:.3f}"
    return value if row["low"] is None else f"{value} ({row['low']:.3f} to {row['high']:.3f})"


def _console() -> Console:
    console = Console()
    console.width = max(console.width, 160)
    return console
