import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.generation.context import check_room, overflow_policy, window_start
from glassformer.generation.prompts import read_prompt

lengths = st.integers(1, 2000)


@settings(deadline=None)
@given(lengths, lengths)
def test_a_window_shows_all_that_fits_and_never_too_much(length, max_len):
    shown = length - window_start(length, max_len)
    assert shown == length if length <= max_len else max_len // 2 < shown <= max_len


@settings(deadline=None)
@given(lengths, lengths)
def test_a_window_moves_by_its_oldest_half_and_only_when_full(length, max_len):
    before, after = window_start(length, max_len), window_start(length + 1, max_len)
    full = length - before == max_len
    assert after - before == (max_len - max_len // 2 if full else 0)


@pytest.mark.parametrize(
    ("extrapolates", "max_positions", "policy"),
    [(True, None, "extend"), (False, None, "slide"), (False, 8, "slide")],
)
def test_the_scheme_decides_unless_the_caller_does(
    make_model, make_positions, extrapolates, max_positions, policy
):
    model = make_model(positions=make_positions(max_positions, extrapolates))
    assert overflow_policy(model, None) == policy
    assert overflow_policy(model, "slide") == "slide"
    assert overflow_policy(model, "error") == "error"


def test_positions_from_a_table_cannot_extend(make_model, make_positions):
    assert overflow_policy(make_model(), "extend") == "extend"
    with pytest.raises(ValueError, match=r"extend.* 8"):
        overflow_policy(make_model(positions=make_positions(max_positions=8)), "extend")


def test_an_unknown_policy_is_refused(make_model):
    with pytest.raises(ValueError, match="'wrap'"):
        overflow_policy(make_model(), "wrap")


def test_room_is_counted_for_the_longest_prompt_and_not_for_the_last_token():
    batch = read_prompt([[1, 2, 3], [1]], None, 10)
    check_room(batch, 6, 8)
    with pytest.raises(ValueError, match=r"3 tokens and 7 new .* 8"):
        check_room(batch, 7, 8)
