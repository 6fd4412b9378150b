"""Labels of heads: p-values are uniform at the margin, and false labels are rare."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glassformer.analysis.head_patterns import report
from glassformer.analysis.head_patterns.patterns import Offset
from glassformer.analysis.head_patterns.report import label_heads
from glassformer.analysis.head_patterns.statistics import SplitSums

ITEMS, HEADS = 80, 6
HEAD_INDICES = [(0, head) for head in range(HEADS)]


def split_sums(random, rates, patterns, queries=10, seed=0):
    """Sums over items whose heads hit with these probabilities, with mass equal to hits."""
    hits = random.binomial(queries, rates, (ITEMS, patterns, len(rates))).swapaxes(
        1, 2
    )  # item, head, pattern
    sums = {
        "token/hits": hits,
        "token/mass": hits,
        "token/queries": np.full((ITEMS, patterns), queries),
        "token/chance": np.zeros((ITEMS, patterns)),
        "token/offsets": np.zeros((ITEMS, 3, patterns)),
    }
    part = {name: torch.tensor(values, dtype=torch.float32) for name, values in sums.items()}
    return SplitSums.from_parts([part], [ITEMS], 200, seed)


def results(seed, rates, baseline, margin, patterns=1):
    random = np.random.default_rng(seed)
    model, other = split_sums(random, rates, patterns), split_sums(random, baseline, patterns)
    return [
        report.test_pattern(Offset("previous", -1), n, HEAD_INDICES, model, other, margin)
        for n in range(patterns)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("margin", [0.0, 0.1])
def test_p_values_are_uniform_for_heads_that_exceed_the_baseline_by_exactly_the_margin(margin):
    baseline = [0.4, *[0.1] * (HEADS - 1)]
    p = np.array(
        [results(seed, [0.4 + margin] * HEADS, baseline, margin)[0].p_values() for seed in range(250)]
    )
    for level in (0.05, 0.2, 0.5):
        assert (p <= level).mean() == pytest.approx(level, abs=0.06)
    assert (p <= 0.05).mean() < 0.08


@pytest.mark.slow
def test_heads_that_equal_the_baseline_are_rarely_labeled():
    """Rates vary between heads, in the same way in the model and in the baseline."""
    wrong = 0
    for seed in range(60):
        random = np.random.default_rng([7, seed])
        rates = random.beta(2, 6, HEADS)
        q, _ = label_heads(results(seed, rates, rates, 0.0, patterns=12), HEADS)
        wrong += bool((q <= 0.05).any())
    assert wrong / 60 <= 0.05


def test_heads_beyond_the_margin_are_labeled():
    rates = [0.7, *[0.1] * (HEADS - 1)]
    q, main = label_heads(results(1, rates, [0.2] * HEADS, 0.1, patterns=12), HEADS)
    assert (q[:, 0] <= 0.05).all()
    assert (q[:, 1:] > 0.05).all()
    assert main[:, 0].sum() == 1
