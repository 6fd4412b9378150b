"""The result of a head analysis: a table of all heads and patterns, and the labels of heads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from glassformer.analysis.head_patterns.collect import DESCRIPTIONS, MAX_DISTANCE
from glassformer.analysis.head_patterns.patterns import Pattern
from glassformer.analysis.head_patterns.schema import check_content
from glassformer.analysis.head_patterns.statistics import (
    Array,
    Estimate,
    SplitSums,
    benjamini_hochberg,
    p_value_above,
    percentile_interval,
)
from glassformer.files import read_json, save_table

FORMAT = "glassformer-heads-1"

COLUMNS = (
    *("layer", "head", "pattern", "measure", "score", "low", "high", "control", "control_score", "lift"),
    *("p", "q", "num_queries", "num_items", "name", "main"),
)
"""Columns of the table, which has one row for each head, pattern and measure:

score, low, high        on the half of the items for evaluation, with its 95 % bootstrap interval
control, control_score  the strongest baseline there
lift                    the effect: score - control_score
p                       p-value of "the score does not exceed some baseline by the margin"
q                       adjusted p-value of the head and pattern, from the larger p of rate and mass
num_queries, num_items  that the score is a mean over
name                    the pattern, if the head is labeled with it
main                    whether that is the main label of the head
"""

Row = dict[str, Any]


@dataclass(frozen=True)
class HeadReport:
    """The table of a head analysis and the labels of heads."""

    model: str
    """Name of the model."""
    settings: Mapping[str, Any]
    """All that the numbers depend on besides model and data."""
    rows: Sequence[Row]
    """One row for each head, pattern and measure, with the keys of ``COLUMNS``."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """num_items, num_cut, cut_to, as_bytes and notes: what was done to the data."""

    @property
    def names(self) -> list[Row]:
        """The labels of heads, with layer, head, name, score, low, high, control, control_score and main.

        Scores are rates. A head can have several labels, one of which is its main label.
        """
        return [
            {"layer": row["layer"], "head": row["head"], "name": row["name"]}
            | {key: row[key] for key in ("score", "low", "high", "control", "control_score", "main")}
            for row in self.rows
            if row["name"] and row["measure"] == "rate"
        ]

    @property
    def num_cut(self) -> int:
        """Number of texts that were truncated."""
        return int(self.data.get("num_cut", 0))

    @property
    def as_bytes(self) -> bool:
        """Whether texts were encoded as bytes because the model has no tokenizer."""
        return bool(self.data.get("as_bytes", False))

    @property
    def notes(self) -> list[str]:
        """Remarks on how the numbers were obtained."""
        return list(self.data.get("notes", []))

    def best(self) -> list[Row]:
        """For each pattern, the row of the head with the highest rate; labeled heads come first."""
        best: dict[str, Row] = {}
        for row in self.rows:
            if row["measure"] == "rate":
                before = best.setdefault(row["pattern"], row)
                if (bool(row["name"]), row["score"]) > (bool(before["name"]), before["score"]):
                    best[row["pattern"]] = row
        return list(best.values())

    def save(self, path: str | Path) -> None:
        """Write the table as CSV, or the whole report as JSON, by the suffix.

        Raises:
            ValueError: another suffix.
        """
        content: Row = {"format": FORMAT, "model": self.model, "settings": dict(self.settings)}
        content |= {"data": dict(self.data), "names": self.names, "rows": list(self.rows)}
        save_table(self.rows, path, COLUMNS, json_content=content)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load a report that was saved as JSON.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is no report.
        """
        content = read_json(Path(path))
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f'{path} is not of the format "{FORMAT}"')
        try:
            check_content(content)
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}") from None
        return cls(content["model"], content["settings"], content["rows"], content["data"])


FALSE_DISCOVERY_RATE = 0.05
MIN_ITEMS = 30
"""Items of the half for evaluation that have a query for a pattern; below this no head is labeled with it."""
MEASURES = {"rate": "hits", "mass": "mass"}
"""The quantity of ``collect.Sums`` of each measure."""
SINKS = ("first", "delimiter")

Heads = Sequence[tuple[int, int]]
"""(layer, head) of each head."""


@dataclass(frozen=True)
class MeasureTest:
    """All heads compared with the baselines of one pattern by one measure."""

    measure: str
    estimate: Estimate
    """``(head,)``."""
    baselines: dict[str, Estimate]
    """A scalar each, by the name of the baseline."""
    margin: float

    def selection_effect(self) -> Array:
        """Difference of each head to the strongest baseline, on the half for selection."""
        return np.asarray(
            np.min([(self.estimate - some).selection for some in self.baselines.values()], axis=0)
        )

    def p_values(self) -> Array:
        """p-value of "some baseline is not exceeded by the margin" for each head."""
        effects = [self.estimate - baseline for baseline in self.baselines.values()]
        p = [p_value_above(effect.evaluation, effect.replicates, self.margin) for effect in effects]
        return np.asarray(np.max(p, axis=0))

    def columns(self) -> dict[str, Array]:
        """Columns of the table for each head: score, interval and p-value."""
        low, high = percentile_interval(self.estimate.replicates)
        return {"score": self.estimate.evaluation, "low": low, "high": high, "p": self.p_values()}

    def strongest_baseline(self) -> tuple[str, float]:
        """Name and score of the baseline with the highest score on the half for evaluation."""
        scores = ((name, float(some.evaluation)) for name, some in self.baselines.items())
        return max(scores, key=lambda pair: pair[1])


@dataclass(frozen=True)
class TestResult:
    """All heads compared with the baselines of one pattern."""

    pattern: Pattern
    tests: Sequence[MeasureTest]
    """Of the rate and of the mass."""
    num_queries: int
    num_items: int

    def selection_effect(self) -> Array:
        """The smaller effect of rate and mass for each head, on the half for selection."""
        return np.asarray(np.min([test.selection_effect() for test in self.tests], axis=0))

    def p_values(self) -> Array:
        """The larger p-value of rate and mass for each head; NaN if there are too few items."""
        p = np.max([test.p_values() for test in self.tests], axis=0)
        return p if self.num_items >= MIN_ITEMS else np.full_like(p, np.nan)


def test_pattern(
    pattern: Pattern, index: int, heads: Heads, model: SplitSums, baseline: SplitSums, margin: float
) -> TestResult:
    """Compare all heads with the baselines of a pattern.

    Args:
        pattern: a pattern that has queries.
        index: its index among the patterns of its level and data set.
        heads: the heads of the model.
        model: sums of the model.
        baseline: sums of a model of the same shape with random weights.
        margin: minimum margin over every baseline.
    """
    tests = []
    for measure, quantity in MEASURES.items():
        random = baseline.mean(pattern.level, quantity, index)
        layer, head = heads[random.best()]
        baselines = {
            f"random weights {layer}.{head}": random[random.best()],
            "shuffled labels": model.mean(pattern.level, "chance", index),
        }
        if measure == "rate" and not pattern.positional:
            offsets = model.mean(pattern.level, "offsets", index)
            baselines[f"fixed offset {offsets.best() - MAX_DISTANCE:+d}"] = offsets[offsets.best()]
        tests.append(MeasureTest(measure, model.mean(pattern.level, quantity, index), baselines, margin))
    num_items = int(model.num_items[f"{pattern.level}/queries"][index])
    return TestResult(pattern, tests, model.num_queries(pattern.level, index), num_items)


def label_heads(results: Sequence[TestResult], num_heads: int) -> tuple[Array, Array]:
    """Label heads at the false discovery rate, over all patterns that have queries.

    Returns:
        Adjusted p-values, and whether the pattern is the main label of the head, both ``(pattern, head)``.
    """
    if not results:
        return np.empty((0, num_heads)), np.empty((0, num_heads), dtype=bool)
    q = benjamini_hochberg(np.array([result.p_values() for result in results]))
    labeled = q <= FALSE_DISCOVERY_RATE  # False for NaN
    effect = np.array([result.selection_effect() - 2 * (result.pattern.name in SINKS) for result in results])
    effect[~labeled] = -np.inf
    return q, labeled & (np.arange(len(results))[:, None] == effect.argmax(axis=0))


def pattern_rows(results: Sequence[TestResult], heads: Heads) -> Iterator[Row]:
    """Rows of the report for all heads, patterns and measures, with columns as in ``report.COLUMNS``."""
    for result, q, main in zip(results, *label_heads(results, len(heads)), strict=True):
        for test in result.tests:
            columns = test.columns()
            baseline, baseline_score = test.strongest_baseline()
            for index, (layer, head) in enumerate(heads):
                values = {name: float(column[index]) for name, column in columns.items()}
                yield (
                    _empty_row(layer, head, result.pattern.name, test.measure)
                    | values
                    | {
                        "control": baseline,
                        "control_score": baseline_score,
                        "lift": values["score"] - baseline_score,
                        "q": None if np.isnan(q[index]) else float(q[index]),
                        "num_queries": result.num_queries,
                        "num_items": result.num_items,
                        "name": result.pattern.name if q[index] <= FALSE_DISCOVERY_RATE else "",
                        "main": bool(main[index]),
                    }
                )


def description_rows(model: SplitSums, heads: Heads) -> Iterator[Row]:
    """Rows of the report for quantities without a target, which are not tested."""
    if not model.num_queries("described", 0):
        return
    num_queries = int(model.evaluation["described/queries"][0])
    num_items = int(model.num_items["described/queries"][0])
    for index, name in enumerate(DESCRIPTIONS):
        estimate = model.mean("described", "mass", index)
        yield from _untested_rows(estimate, heads, (name, "mean"), num_queries, num_items)


def frequency_rows(pattern: Pattern, index: int, model: SplitSums, heads: Heads) -> Iterator[Row]:
    """Rows of a pattern's mass divided by the frequency of its targets among visible keys."""
    ratio = model.mean(pattern.level, "mass", index) / model.mean(pattern.level, "chance", index)
    num_items = int(model.num_items[f"{pattern.level}/queries"][index])
    measure = (pattern.name, "mass / frequency")
    yield from _untested_rows(ratio, heads, measure, model.num_queries(pattern.level, index), num_items)


def _untested_rows(
    estimate: Estimate, heads: Heads, measure: tuple[str, str], num_queries: int, num_items: int
) -> Iterator[Row]:
    low, high = percentile_interval(estimate.replicates)
    for index, (layer, head) in enumerate(heads):
        yield _empty_row(layer, head, *measure) | {
            "score": float(estimate.evaluation[index]),
            "low": float(low[index]),
            "high": float(high[index]),
            "num_queries": num_queries,
            "num_items": num_items,
        }


def _empty_row(layer: int, head: int, pattern: str, measure: str) -> Row:
    return (
        {"layer": layer, "head": head, "pattern": pattern, "measure": measure}
        | dict.fromkeys(
            ("score", "low", "high", "control", "control_score", "lift", "p", "q", "num_queries", "num_items")
        )
        | {"name": "", "main": False}
    )
