"""Bootstrap estimates of means over items, p-values, and false discovery rates.

Items are split into two halves: baselines and main labels are selected on one, and everything is evaluated on
the other. All sums are accumulated part by part, so that memory does not grow with the number of items.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from glassformer.analysis.head_patterns.collect import Sums

Array = npt.NDArray[np.floating]
Numbers: TypeAlias = npt.NDArray[np.float64]

REPLICATES = 2000
"""Of the intervals of ``bootstrap_interval`` and ``bootstrap_difference``."""


def selection_halves(sizes: Sequence[int], seed: int) -> list[npt.NDArray[np.bool_]]:
    """Assign a random half of each part to selection (True) and the rest to evaluation.

    Args:
        sizes: number of items of each part; evaluation gets one more of an odd number.
        seed: of the assignment.
    """
    selection = []
    for part, size in enumerate(sizes):
        order = np.random.default_rng([seed, 2, part]).permutation(size)
        selection.append(order < size // 2)
    return selection


def bootstrap_counts(sizes: Sequence[int], replicates: int, seed: int) -> Iterator[npt.NDArray[np.float32]]:
    """How often each bootstrap replicate draws each item (Efron 1979): ``(replicate, item)`` for each part.

    The counts of a replicate are multinomial; they are drawn first over parts and then within each part,
    which has the same distribution.

    Args:
        sizes: number of items of each part.
        replicates: number of replicates.
        seed: of the draws.
    """
    generator = np.random.default_rng([seed, 3])
    remaining, undrawn = sum(sizes), np.full(replicates, sum(sizes))
    for part, size in enumerate(sizes):
        drawn = generator.binomial(undrawn, size / remaining if remaining else 0.0)
        remaining, undrawn = remaining - size, undrawn - drawn
        within = np.random.default_rng([seed, 4, part])
        counts = within.multinomial(drawn, np.full(size, 1 / size)) if size else np.empty((replicates, 0))
        yield counts.astype(np.float32)


def safe_ratio(sums: Array, counts: Array) -> Array:
    """Sums / counts, or 0 where the count is 0."""
    return np.divide(sums, counts, out=np.zeros(np.broadcast(sums, counts).shape), where=counts > 0)


def percentile_interval(replicates: Array, level: float = 0.95) -> tuple[Array, Array]:
    """Lower and upper end of the percentile interval over the first axis (Efron 1979)."""
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def p_value_above(difference: Array, replicates: Array, margin: float) -> Array:
    """One-sided p-value of "the difference is at most the margin": 1 - Phi((difference - margin) / s).

    Args:
        difference: the estimate.
        replicates: its bootstrap replicates, ``(replicate, ...)``; s is their standard deviation.
        margin: the largest difference under the null hypothesis.
    """
    spread = replicates.std(axis=0, ddof=1)
    excess = difference - margin
    without_spread = np.where(excess > 0, 0.0, 1.0)
    z = torch.from_numpy(np.asarray(excess / np.where(spread > 0, spread, 1.0), dtype=np.float64))
    p: Array = np.where(spread > 0, torch.special.ndtr(-z).numpy(), without_spread)
    return p


def benjamini_hochberg(p: Array) -> Array:
    """Adjusted p-values (Benjamini & Hochberg 1995), of any shape.

    q of the i-th smallest of m p-values is the minimum of p_j m / j over j >= i. NaN marks a test that was
    not made; it stays NaN and does not count.
    """
    q = np.full(p.shape, np.nan)
    made = ~np.isnan(p)
    tests = p[made]
    order = np.argsort(tests, kind="stable")
    scaled = tests[order] * len(tests) / np.arange(1, len(tests) + 1)
    adjusted = np.empty_like(tests)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    q[made] = adjusted
    return q


@dataclass(frozen=True)
class Estimate:
    """One or several means over queries; the last axis of each array is the same."""

    selection: Array
    """On the half of the items for selection."""
    evaluation: Array
    """On the half for evaluation."""
    replicates: Array
    """On each bootstrap replicate of the half for evaluation, ``(replicate, ...)``."""

    def best(self) -> int:
        """Index of the largest value on the half for selection."""
        return int(self.selection.argmax())

    def __getitem__(self, index: int) -> Estimate:
        return Estimate(self.selection[index], self.evaluation[index], self.replicates[..., index])

    def __sub__(self, other: Estimate) -> Estimate:
        """The difference to a single estimate."""
        return Estimate(
            self.selection - other.selection,
            self.evaluation - other.evaluation,
            self.replicates - other.replicates[:, None],
        )

    def __truediv__(self, other: Estimate) -> Estimate:
        """The ratio to a single estimate, or 0 where that is 0."""
        return Estimate(
            safe_ratio(self.selection, other.selection),
            safe_ratio(self.evaluation, other.evaluation),
            safe_ratio(self.replicates, other.replicates[:, None]),
        )


@dataclass(frozen=True)
class SplitSums:
    """Sums of one model over all items of one data set, by the names of ``collect.Sums``."""

    selection: Mapping[str, Array]
    evaluation: Mapping[str, Array]
    replicates: Mapping[str, Array]
    num_items: Mapping[str, Array]
    """Number of items of the half for evaluation that are not zero."""

    @classmethod
    def from_parts(cls, parts: Iterable[Sums], sizes: Sequence[int], replicates: int, seed: int) -> SplitSums:
        """Add up parts one after another.

        Args:
            parts: sums of each item.
            sizes: number of items of each part.
            replicates: number of bootstrap replicates.
            seed: of the halves and the replicates; models with the same seed can be compared.
        """
        totals: tuple[dict[str, Array], ...] = ({}, {}, {}, {})
        halves = selection_halves(sizes, seed)
        counts = bootstrap_counts([int((~half).sum()) for half in halves], replicates, seed)
        for sums, half, weights in zip(parts, halves, counts, strict=True):
            for name, values in sums.items():
                selection, evaluation = values[torch.from_numpy(half)], values[torch.from_numpy(~half)]
                drawn = torch.from_numpy(weights) @ evaluation.float().flatten(1)
                found = (
                    selection.double().sum(0),
                    evaluation.double().sum(0),
                    drawn.view(-1, *values.shape[1:]),
                    (evaluation != 0).sum(0).double(),
                )
                for total, part in zip(totals, found, strict=True):
                    total[name] = total[name] + part.numpy() if name in total else part.numpy()
        return cls(*totals)

    def num_queries(self, level: str, pattern: int) -> int:
        """Number of queries of a pattern in the half for evaluation."""
        return (
            int(self.evaluation[f"{level}/queries"][pattern]) if f"{level}/queries" in self.evaluation else 0
        )

    def mean(self, level: str, quantity: str, pattern: int) -> Estimate:
        """Mean of ``level/quantity`` over the queries of a pattern or description."""
        halves = [self.selection, self.evaluation, self.replicates]
        sums = [half[f"{level}/{quantity}"][..., pattern] for half in halves]
        counts = [half[f"{level}/queries"][..., pattern] for half in halves]
        counts[2] = counts[2].reshape(-1, *[1] * (sums[2].ndim - 1))
        return Estimate(*(safe_ratio(total, count) for total, count in zip(sums, counts, strict=True)))


def bootstrap_interval(values: Numbers, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean (Efron & Tibshirani 1993, chapter 13).

    Args:
        values: ``(item,)``; or ``(draw, item)``, of which both draws and items are resampled.
        level: of the interval.
        seed: of the resampling.

    Returns:
        Its lower and upper end; NaN for a single item or draw.
    """
    if min(np.shape(values)) < 2:
        return math.nan, math.nan
    random = np.random.default_rng(seed)
    table = np.atleast_2d(values)
    weights = [random.multinomial(n, np.full(n, 1 / n), REPLICATES) / n for n in table.shape]
    means = np.einsum("rd,di,ri->r", weights[0], table, weights[1], optimize=True)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_difference(a: Any, b: Any) -> tuple[float, float, float]:
    """The difference of the means of two independent samples, with its 95 % percentile interval."""
    random = np.random.default_rng(0)
    means = [random.choice(values, (REPLICATES, len(values))).mean(1) for values in (a, b)]
    low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
    return float(a.mean() - b.mean()), float(low), float(high)
