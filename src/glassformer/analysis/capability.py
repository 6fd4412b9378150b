"""Which capability each ablation hurts: sets of heads x suites, each drop with its interval.

    drop = score of an item with all heads - its score without the set's heads

Items are paired: the same ones with and without, so that hard and easy items do not blur the difference.
Intervals are 95 % bootstrap percentiles over items (Efron & Tibshirani 1993, chapter 13): where the mean drop
of other items of the same making would be. Each is of its row alone, not of the largest of many rows.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glassformer.analysis.ablation import Head, ReferenceOutputs, ablate, head_name
from glassformer.analysis.branching import CausalModel, stretches
from glassformer.analysis.marking import ItemBatch, Numbers
from glassformer.analysis.suites import Suite
from glassformer.attention import attentions_of
from glassformer.files import atomic_write
from glassformer.generation.streaming import evaluating

RESAMPLES = 2000


@dataclass(frozen=True)
class Scores:
    """How a model did, item by item: for each suite an array ``(item,)``."""

    score: dict[str, Numbers]
    """Mean log p(right), or log p(right) - log p(wrong), in nats."""
    correct: dict[str, Numbers]
    """The part of an item's places where the right id is the likeliest, or likelier than the wrong one."""

    def as_lists(self) -> dict[str, Any]:
        """The same as JSON has it."""
        parts = (("score", self.score), ("correct", self.correct))
        return {name: {suite: v.tolist() for suite, v in part.items()} for name, part in parts}

    @classmethod
    def from_lists(cls, part: Mapping[str, Any]) -> Scores:
        """What ``as_lists`` gave."""
        read = ({suite: np.array(v) for suite, v in part[name].items()} for name in ("score", "correct"))
        return cls(*read)


@dataclass(frozen=True)
class CapabilityTable:
    """Scores with all heads, and without each set of them."""

    sets: dict[str, tuple[Head, ...]]
    intact: Scores
    without: dict[str, Scores]
    units: dict[str, str]
    """Of the score in each suite: ``Suite.unit``."""

    @property
    def suites(self) -> list[str]:
        """Their names, in order."""
        return list(self.intact.score)

    def drops(self, name: str, suite: str) -> Numbers:
        """The drop of each item without a set of heads, ``(item,)``."""
        return self.intact.score[suite] - self.without[name].score[suite]

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row for each set of heads and suite."""
        for name, heads in self.sets.items():
            for suite in self.suites:
                drops = self.drops(name, suite)
                low, high = bootstrap_interval(drops)
                yield {
                    "set": name,
                    "heads": " ".join(map(head_name, heads)),
                    "suite": suite,
                    "unit": self.units[suite],
                    "items": len(drops),
                    "score": float(self.intact.score[suite].mean()),
                    "score_without": float(self.without[name].score[suite].mean()),
                    "drop": float(drops.mean()),
                    "low": or_none(low),
                    "high": or_none(high),
                    "accuracy": float(self.intact.correct[suite].mean()),
                    "accuracy_without": float(self.without[name].correct[suite].mean()),
                }

    def save(self, path: str | Path) -> None:
        """Write the rows as CSV or JSON, by the suffix.

        Raises:
            ValueError: another suffix.
        """
        save_rows(list(self.rows()), path)


def capability_table(
    model: Any,
    sets: Mapping[str, Sequence[Head]],
    suites: Sequence[Suite],
    how: str = "zero",
    **options: Any,
) -> CapabilityTable:
    """Measure what each set of heads is for.

    Args:
        model: a causal language model.
        sets: heads to be ablated together, by a name for them: ``{"4.7": [(4, 7)], "induction": [...]}``.
        suites: from ``build_suites``.
        how: as in ``ablate``.
        options: of ``measure``.

    Raises:
        ValueError: as ``measure``.
        TypeError: as ``measure``.
    """
    found = dict(measure(model, sets, suites, how, **options))
    return CapabilityTable(
        {name: tuple(heads) for name, heads in sets.items()},
        found[None],
        {name: found[name] for name in sets},
        {suite.name: suite.unit for suite in suites},
    )


@torch.no_grad()
def measure(
    model: Any,
    sets: Mapping[str, Sequence[Head]],
    suites: Sequence[Suite],
    how: str = "zero",
    *,
    reference: ReferenceOutputs | None = None,
    seed: int = 0,
    batch_tokens: int = 1024,
) -> Iterator[tuple[str | None, Scores]]:
    """Yield the intact model's scores, under None, then those without each set, as soon as they are there.

    Sets come in the order of their lowest layers: below it the intact stream is used again.

    Args:
        model: a causal language model.
        sets: heads to be ablated together, by name.
        suites: what to measure.
        how: as in ``ablate``.
        reference: as in ``ablate``.
        seed: as in ``ablate``.
        batch_tokens: read at once, padding included; a longer item is a batch of its own.

    Raises:
        ValueError: a set without heads, one that ``ablate`` refuses, no suites, or an item that is longer
            than the model reads.
        TypeError: a model that is no causal language model.
    """
    check_measurable(model, suites)
    for name, heads in sets.items():
        if not heads:
            raise ValueError(f"the set {name!r} has no heads")
        with ablate(model, heads, how, reference=reference, seed=seed):
            pass  # refuses now what it would refuse later
    items = [item for suite in suites for item in suite.items]
    with evaluating(model):
        batches = [
            ItemBatch(model, [items[n] for n in numbers], numbers)
            for numbers in stretches([len(item.ids) for item in items], batch_tokens)
        ]
        yield None, _scores(suites, [(b.numbers, b.marked(b.branching.hidden)) for b in batches])
        for name, heads in sorted(sets.items(), key=lambda entry: min(entry[1])[0]):
            for batch in batches:
                batch.branching.move_up(min(heads)[0])
            with ablate(model, heads, how, reference=reference, seed=seed):
                found = [(b.numbers, b.marked(b.branching.finish())) for b in batches]
            yield name, _scores(suites, found)


def check_measurable(model: Any, suites: Sequence[Suite]) -> None:
    """Make sure that a model can be asked what the suites ask.

    Raises:
        ValueError: no suites, an item that is longer than the model reads or has ids that it does not know.
        TypeError: a model that is no causal language model, or what ``torch.compile`` made of one.
    """
    attentions_of(model)
    if not isinstance(model, CausalModel):
        raise TypeError(
            f"a {type(model).__name__} does not write text from left to right, which the suites ask for: "
            "ablate its heads with analysis.ablate, and measure a loss with analysis.ablation_importance"
        )
    if not suites:
        raise ValueError("there are no suites: give at least one")
    limit, vocab_size = int(model.max_seq_len), int(model.vocab_size)  # type: ignore[attr-defined]
    for suite in suites:
        longest = max(len(item.ids) for item in suite.items)
        if longest > limit:
            raise ValueError(
                f"the suite {suite.name} has an item of {longest} tokens, and the model reads {limit}: "
                "leave the suite out"
            )
        largest = max(max(*item.ids, *item.right, *item.wrong) for item in suite.items)
        if largest >= vocab_size:
            raise ValueError(
                f"the suite {suite.name} has the id {largest}, and the model's ids are 0 to {vocab_size - 1}"
            )


def _scores(
    suites: Sequence[Suite], found: Sequence[tuple[Sequence[int], tuple[Numbers, Numbers]]]
) -> Scores:
    """What batches found, each item back in its suite."""
    count = sum(len(suite.items) for suite in suites)
    values = np.empty((2, count))
    for numbers, marks in found:
        values[:, list(numbers)] = marks
    ends = np.cumsum([len(suite.items) for suite in suites])[:-1]
    names = [suite.name for suite in suites]
    score, correct = (dict(zip(names, np.split(row, ends), strict=True)) for row in values)
    return Scores(score, correct)


def bootstrap_interval(values: Numbers, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Between which values the mean of as many items drawn anew lies in ``level`` of all draws.

    Args:
        values: ``(item,)``; or ``(draw, item)``, and then draws and items are both drawn anew.
        level: of the interval.
        seed: of the draws.

    Returns:
        Its lower and its upper end; NaN where there is a single item or draw, which does not tell how far
        another would be from it.
    """
    if min(np.shape(values)) < 2:
        return math.nan, math.nan
    random = np.random.default_rng(seed)
    table = np.atleast_2d(values)
    shares = [random.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n for n in table.shape]
    means = np.einsum("rd,di,ri->r", shares[0], table, shares[1], optimize=True)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def or_none(value: float) -> float | None:
    """A number as JSON has it, which knows no NaN."""
    return None if math.isnan(value) else value


def save_rows(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Write tidy rows as CSV or JSON, by the suffix.

    Raises:
        ValueError: another suffix.
    """
    path = Path(path)
    if path.suffix == ".json":
        atomic_write(path, json.dumps(list(rows), indent=1) + "\n")
    elif path.suffix == ".csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        atomic_write(path, text.getvalue())
    else:
        raise ValueError(f"a table is saved as .csv or .json, not {path.suffix or path.name!r}")
