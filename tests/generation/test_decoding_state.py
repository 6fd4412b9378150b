"""Overflow policies and sliding windows."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.generation.decoding_state import check_length, overflow_policy, window_start
from glassformer.generation.prompts import batch_prompts

lengths = st.integers(1, 2000)


@settings(deadline=None)
@given(lengths, lengths)
def test_a_window_has_all_tokens_that_fit(length, max_len):
    window = length - window_start(length, max_len)
    assert window == length if length <= max_len else max_len // 2 < window <= max_len


@settings(deadline=None)
@given(lengths, lengths)
def test_a_full_window_drops_its_oldest_half(length, max_len):
    before, after = window_start(length, max_len), window_start(length + 1, max_len)
    full = length - before == max_len
    assert after - before == (max_len - max_len // 2 if full else 0)


@pytest.mark.parametrize(
    ("extrapolates", "max_positions", "policy"),
    [(True, None, "extend"), (False, None, "slide"), (False, 8, "slide")],
)
def test_the_default_policy_depends_on_the_positions(
    make_model, make_positions, extrapolates, max_positions, policy
):
    model = make_model(positions=make_positions(max_positions, extrapolates))
    assert overflow_policy(model, None) == policy
    assert overflow_policy(model, "slide") == "slide"
    assert overflow_policy(model, "error") == "error"


def test_a_position_table_cannot_be_extended(make_model, make_positions):
    assert overflow_policy(make_model(), "extend") == "extend"
    with pytest.raises(ValueError, match=r"extend.* 8"):
        overflow_policy(make_model(positions=make_positions(max_positions=8)), "extend")


def test_an_unknown_policy_raises(make_model):
    with pytest.raises(ValueError, match="'wrap'"):
        overflow_policy(make_model(), "wrap")


def test_the_length_check_counts_the_longest_prompt_without_the_last_token():
    batch = batch_prompts([[1, 2, 3], [1]], None, 10)
    check_length(batch, 6, 8)
    with pytest.raises(ValueError, match=r"3 tokens and 7 new .* 8"):
        check_length(batch, 7, 8)
