"""How thoroughly a picture's deletion test is run by itself, and what its numbers are, in words."""

from __future__ import annotations

from glassformer.analysis.deletion import ORDERS, Deletion
from glassformer.analysis.outcomes import Outcome
from glassformer.models import TransformerModel

THOROUGH = 20
"""Steps of a test that is asked for."""
USUAL = 10
"""Steps at most of one that is not."""
COARSEST = 2
"""Steps of a test that still says something: half of the tokens gone, and all."""
QUICK = 1_600_000_000_000
"""Parameters times tokens that are read without being asked: some fifteen seconds of two cores."""


def steps_of(model: TransformerModel, length: int, asked: bool | None = None) -> int:
    """Steps of a deletion test: as many as are read quickly, fewer for longer inputs; 0 for none.

    At step k of s a share 1 - k / s of the tokens is read in each order: in all (s - 1) / 2 times the input.

    Args:
        model: whose answer is to fall.
        length: tokens of the input that is deleted.
        asked: True for a thorough test however long it takes, False for none.
    """
    if asked is not None:
        return THOROUGH if asked else 0
    steps = 1 + 2 * QUICK // ((ORDERS + 1) * length * model.num_parameters())
    return min(USUAL, steps) if steps >= COARSEST else 0


def score_in_words(test: Deletion, outcome: Outcome) -> str:
    """What a score and its interval are: ``how much further (area, nats) the answer falls ...``."""
    unit = "nats" if outcome.has_slope else "cosine"
    orders, steps = len(test.random_drops), len(test.shares) - 1
    return (
        f"faithfulness: how much further the answer falls (area, {unit}) when inputs are deleted in this "
        f"order than in random ones; in brackets against 95 % of {orders} random orders ({steps} steps)"
    )
