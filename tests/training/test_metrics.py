"""Evaluation metrics."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassformer.training import Evaluation
from glassformer.training.metrics import edit_distance, error_rates

words = st.lists(st.sampled_from("abc"), max_size=6)


def brute_force(a, b):
    """Edit distance by its recursive definition."""
    if not a or not b:
        return len(a) + len(b)
    if a[0] == b[0]:
        return brute_force(a[1:], b[1:])
    return 1 + min(brute_force(a[1:], b), brute_force(a, b[1:]), brute_force(a[1:], b[1:]))


@given(a=words, b=words)
def test_edit_distance_equals_brute_force(a, b):
    assert edit_distance(a, b) == brute_force(a, b) == edit_distance(b, a)


def test_error_rates_use_the_nearest_reference():
    rates = error_rates([["K", "AE"], ["T"], ["S"]], [[["K", "AE", "T"], ["K", "AE"]], [["D", "T"]], [["S"]]])
    assert rates == {"symbol_error_rate": 1 / 5, "sequence_error_rate": 1 / 3}
    with pytest.raises(ValueError, match="got 2 predictions and 1 references"):
        error_rates([["a"], ["b"]], [[["a"]]])


def test_perplexity_and_bits_per_byte():
    result = Evaluation(nats_per_token=2.0, num_tokens=99, num_bytes=400)
    assert result.perplexity == pytest.approx(math.exp(2))
    assert result.bits_per_byte == pytest.approx(2 / math.log(2) / 4)
    assert result.metrics() == {
        "loss": 2.0,
        "perplexity": result.perplexity,
        "bits_per_byte": result.bits_per_byte,
    }
    assert Evaluation(2.0, 99).metrics() == {"loss": 2.0, "perplexity": result.perplexity}
    assert Evaluation(1000.0, 99).perplexity == math.inf
