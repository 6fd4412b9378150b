"""Means of ratios over items, how sure they are, and how many discoveries among many tests are false.

All of it works part by part, so that the number of items is not bounded by memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[np.floating]


def halves(sizes: Sequence[int], seed: int) -> list[npt.NDArray[np.bool_]]:
    """Which items are for choosing (True), and which for scoring: half of each part, drawn at random.

    Args:
        sizes: items of each part; where one is odd, scoring gets one more.
        seed: of the draw.

    """
    chosen = []
    for part, size in enumerate(sizes):
        order = np.random.default_rng([seed, 2, part]).permutation(size)
        chosen.append(order < size // 2)
    return chosen


def bootstrap_weights(sizes: Sequence[int], replicates: int, seed: int) -> Iterator[npt.NDArray[np.float32]]:
    """How often each replicate draws each item, for one part after the other: ``(replicate, item)``.

    A replicate draws as many items as there are, each time any of them (Efron 1979): its counts are
    multinomial. They are drawn first over parts and then within each, which is the same.

    Args:
        sizes: items of each part.
        replicates: how many.
        seed: of the draws.

    """
    generator = np.random.default_rng([seed, 3])
    left, drawn = sum(sizes), np.full(replicates, sum(sizes))
    for part, size in enumerate(sizes):
        here = generator.binomial(drawn, size / left if left else 0.0)
        left, drawn = left - size, drawn - here
        within = np.random.default_rng([seed, 4, part])
        counts = within.multinomial(here, np.full(size, 1 / size)) if size else np.empty((replicates, 0))
        yield counts.astype(np.float32)


def ratio_means(sums: Array, counts: Array) -> Array:
    """Sums / counts: a mean over queries, however many of them each item has; 0 where there is none."""
    return np.divide(sums, counts, out=np.zeros(np.broadcast(sums, counts).shape), where=counts > 0)


def interval(replicates: Array, level: float = 0.95) -> tuple[Array, Array]:
    """The percentile interval over the first axis (Efron 1979): its lower and its upper end."""
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def p_above(difference: Array, replicates: Array, margin: float) -> Array:
    """One-sided p of "the difference is at most the margin": 1 - Phi((difference - margin) / s).

    Args:
        difference: as measured.
        replicates: the same in each replicate of the bootstrap, ``(replicate, ...)``; s is their deviation.
        margin: what it has to exceed.

    """
    spread = replicates.std(axis=0, ddof=1)
    over = difference - margin
    certain = np.where(over > 0, 0.0, 1.0)  # nothing varies
    z = torch.from_numpy(np.asarray(over / np.where(spread > 0, spread, 1.0), dtype=np.float64))
    p: Array = np.where(spread > 0, torch.special.ndtr(-z).numpy(), certain)
    return p


def benjamini_hochberg(p: Array) -> Array:
    """The smallest false discovery rate at which each test is one (Benjamini & Hochberg 1995).

    q of the i-th smallest of m is the minimum of p_j m / j over j >= i. Tests that are NaN were not made, and
    stay NaN.

    Args:
        p: of any shape.

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
