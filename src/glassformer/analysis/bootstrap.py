"""Bootstrap confidence intervals of means (Efron & Tibshirani 1993, chapter 13)."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Numbers: TypeAlias = npt.NDArray[np.float64]

REPLICATES = 2000


def bootstrap_interval(values: Numbers, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile interval of a mean.

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
