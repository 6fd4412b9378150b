"""A demonstration: the function that makes its values, their analysis, and its figure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassformer.experiments.statistics import one_sample_t
from glassformer.experiments.study import ResultTable
from glassformer.files import atomic_write, read_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Value = dict[str, Any]
"""What a demonstration returns for one seed: a value for JSON."""


def few_flops(settings: Mapping[str, Any]) -> float:
    """Zero: so few operations that they do not matter."""
    return 0.0


@dataclass(frozen=True)
class Evidence:
    """What the values of a demonstration say."""

    by_claim: Mapping[str, Sequence[float]]
    """For each claim that can be tested one number per seed, or per text."""
    tables: Sequence[ResultTable]
    data: Any
    """What the figure shows, as a value for JSON."""
    untestable: Mapping[str, str] = field(default_factory=dict)
    """Why the other claims cannot be tested, in sentences."""
    notes: Sequence[str] = ()
    """What is to be known about these values, in sentences."""


@dataclass(frozen=True)
class Demonstration:
    """A part of the study with values, claims and a figure of its own."""

    make: Callable[[Mapping[str, Any], int, Path], Value]
    """The value of a seed, from settings, the seed and a folder; continues in the folder after a kill."""
    analyze: Callable[[Sequence[Value]], Evidence]
    """The evidence of the values of all seeds."""
    draw: Callable[[Any], tuple[Figure, str]]
    """Figure and caption of ``Evidence.data``."""
    summarize: Callable[[Value], dict[str, str | float | int]]
    """The most important numbers of a value."""
    flops: Callable[[Mapping[str, Any]], float] = few_flops
    """Floating-point operations of a seed."""


def stored(path: Path, compute: Callable[[], Value]) -> Value:
    """The value in a file, computed and written if there is none, so that a killed run keeps it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps(compute(), allow_nan=False) + "\n")
    value: Value = read_json(path)
    return value


def means_table(
    title: str, rows: Mapping[str, Mapping[str, Sequence[float]]], label: str = "", caption: str = ""
) -> ResultTable:
    """A table of means over seeds with intervals.

    Args:
        title: of the table.
        rows: one number per seed, by row and column.
        label: header of the first column.
        caption: a sentence below the table.
    """
    columns = list(next(iter(rows.values())))
    header = [label]
    for column in columns:
        header += [column, "99 % interval"]
    cells: list[list[str | float]] = []
    for name, row in rows.items():
        cells.append([name])
        for column in columns:
            found = one_sample_t(row[column])
            cells[-1] += [float(f"{found.mean:.4g}"), f"{found.low:.4g} to {found.high:.4g}"]
    return ResultTable(title, header, cells, caption)


def mean(numbers: Sequence[float]) -> float:
    """Arithmetic mean."""
    return float(sum(numbers) / len(numbers))
