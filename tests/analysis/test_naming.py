"""The test behind a name: of heads that are no better than a control it names as many as it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glassformer.analysis.naming import discoveries, judge
from glassformer.analysis.patterns import Offset
from glassformer.analysis.scores import Totals

ITEMS, HEADS = 80, 6
WHERE = [(0, head) for head in range(HEADS)]


def totals(random, rates, patterns, queries=10, seed=0):
    """Sums over items whose heads hit with these chances, and put as much mass on the target."""
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
    return Totals.over([part], [ITEMS], 200, seed)


def judged(seed, rates, control, margin, patterns=1):
    random = np.random.default_rng(seed)
    model, other = totals(random, rates, patterns), totals(random, control, patterns)
    return [judge(Offset("previous", -1), n, WHERE, model, other, margin) for n in range(patterns)]


@pytest.mark.parametrize("margin", [0.0, 0.1])
def test_p_is_even_for_heads_that_exceed_the_control_by_the_margin_and_no_more(margin):
    control = [0.4, *[0.1] * (HEADS - 1)]
    p = np.array([judged(seed, [0.4 + margin] * HEADS, control, margin)[0].p() for seed in range(250)])
    for level in (0.05, 0.2, 0.5):
        assert (p <= level).mean() == pytest.approx(level, abs=0.06)
    assert (p <= 0.05).mean() < 0.08


def test_of_heads_that_are_like_the_controls_few_analyses_name_any():
    """Rates vary from head to head, alike in the model and in the control."""
    wrong = 0
    for seed in range(60):
        random = np.random.default_rng([7, seed])
        rates = random.beta(2, 6, HEADS)
        q, _ = discoveries(judged(seed, rates, rates, 0.0, patterns=12), HEADS)
        wrong += bool((q <= 0.05).any())
    assert wrong / 60 <= 0.05


def test_heads_beyond_the_margin_are_found():
    rates = [0.7, *[0.1] * (HEADS - 1)]
    q, main = discoveries(judged(1, rates, [0.2] * HEADS, 0.1, patterns=12), HEADS)
    assert (q[:, 0] <= 0.05).all()
    assert (q[:, 1:] > 0.05).all()
    assert main[:, 0].sum() == 1
