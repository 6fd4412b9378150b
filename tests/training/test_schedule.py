"""Learning rate schedules."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassformer.training import Schedule


@given(
    kind=st.sampled_from(["cosine", "wsd", "constant"]),
    warmup=st.integers(0, 50),
    total=st.integers(1, 200),
    final=st.floats(0, 1),
    decay=st.floats(0.01, 1),
)
def test_the_learning_rate_rises_to_the_peak_and_then_never_again(kind, warmup, total, final, decay):
    schedule = Schedule(kind, warmup, final, decay)
    factors = [schedule.multiplier(step, total) for step in range(total)]
    assert all(0 <= f <= 1 + 1e-12 for f in factors)
    up, down = factors[:warmup], factors[warmup:]
    assert up == sorted(up)
    assert all(a >= b - 1e-12 for a, b in pairwise(down))
    if len(down) > 1:
        assert down[0] == pytest.approx(1)
        assert down[-1] == pytest.approx(1 if kind == "constant" else final)


def test_warmup_is_linear_and_starts_above_zero():
    assert [Schedule(warmup_steps=4).multiplier(step, 100) for step in range(5)] == [0.25, 0.5, 0.75, 1, 1]


def test_cosine_is_half_way_in_the_middle():
    schedule = Schedule("cosine", warmup_steps=10, final=0.2)
    assert schedule.multiplier(10 + 45, 101) == pytest.approx(0.6)
    assert schedule.multiplier(10 + 30, 101) == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi / 3)) / 2)


def test_wsd_is_constant_and_then_linear():
    schedule = Schedule("wsd", warmup_steps=0, final=0, decay_fraction=0.25)
    assert [schedule.multiplier(step, 101) for step in (0, 50, 75, 80, 100)] == pytest.approx(
        [1, 1, 1, 0.8, 0]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "linear"}, "one of cosine, wsd, inverse_sqrt, constant, got 'linear'"),
        ({"warmup_steps": -1}, "at least 0, got -1"),
        ({"final": 1.5}, "between 0 and 1, got 1.5"),
        ({"decay_fraction": 0.0}, "above 0 and at most 1, got 0.0"),
    ],
)
def test_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**change)
