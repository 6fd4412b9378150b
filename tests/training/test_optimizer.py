"""AdamW with decay groups, and learning rate schedules."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassformer.training import LanguageModeling, OptimizerConfig, Schedule, adamw
from glassformer.training.optimizer import decay_groups


def test_matrices_and_embeddings_decay_and_vectors_do_not(tiny_model):
    model = tiny_model()
    decayed, plain = decay_groups(model, 0.1)
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert decayed["weight_decay"] == 0.1
    assert plain["weight_decay"] == 0
    assert {"token_embedding.weight", "blocks.0.attention.q_proj.weight"} <= {
        names[p] for p in decayed["params"]
    }
    assert {"norm.weight", "norm.bias", "blocks.1.attention.q_proj.bias"} <= {
        names[p] for p in plain["params"]
    }


def test_every_parameter_is_included_once(tiny_model):
    model = tiny_model(tie_embeddings=True)
    grouped = [p for group in decay_groups(model, 0.1) for p in group["params"]]
    assert len(grouped) == len(set(grouped)) == len(list(model.parameters()))
    assert sum(p is model.lm_head.weight for p in grouped) == 1


def test_frozen_parameters_are_excluded(tiny_model):
    model = tiny_model()
    model.requires_grad_(False)
    model.norm.weight.requires_grad_(True)
    assert [g["params"] for g in decay_groups(model, 0.1)] == [[model.norm.weight]]
    model.norm.weight.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        adamw(model, OptimizerConfig())


def test_fused_steps_equal_the_formula(tiny_model):
    """Loshchilov and Hutter (2019), algorithm 2, written out."""
    config = OptimizerConfig(learning_rate=0.01, weight_decay=0.3, beta1=0.8, beta2=0.9, epsilon=1e-6)
    model = tiny_model().double()
    optimizer = adamw(model, config)
    assert optimizer.defaults["fused"]
    expected = {name: p.detach().clone() for name, p in model.named_parameters()}
    m = {name: torch.zeros_like(p) for name, p in expected.items()}
    v = {name: torch.zeros_like(p) for name, p in expected.items()}
    for t in (1, 2, 3):
        optimizer.zero_grad()
        LanguageModeling()(model, torch.randint(11, (2, 9))).backward()
        for name, p in model.named_parameters():
            m[name] = 0.8 * m[name] + 0.2 * p.grad
            v[name] = 0.9 * v[name] + 0.1 * p.grad**2
            if p.dim() >= 2:
                expected[name] *= 1 - 0.01 * 0.3
            expected[name] -= 0.01 * (m[name] / (1 - 0.8**t)) / ((v[name] / (1 - 0.9**t)).sqrt() + 1e-6)
        optimizer.step()
    torch.testing.assert_close(dict(model.named_parameters()), expected, rtol=1e-9, atol=1e-12)


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
