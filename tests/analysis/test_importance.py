"""Gradients against finite differences, ablation by hand, and rank correlations against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from glassformer.analysis.ablation import ablate, reference_outputs
from glassformer.analysis.importance import (
    ablation_importance,
    ablation_loss_delta,
    gradient_importance,
    head_mask_gradients,
    head_masks,
    next_token_loss,
    rank_correlation,
    rank_interval,
)
from glassformer.models import BERTModel, GPTModel, T5Model

EXAMPLES = [[1, 2, 3, 4, 5], [6, 7], [8, 9, 10, 11]]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    model = GPTModel(30, 16, 2, 4, max_seq_len=16, positions="rotary").double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def loss_with_mask(model, ids, layer, head, value):
    with head_masks(model) as masks, torch.no_grad():
        masks[layer][head] = value
        return float(next_token_loss(model, ids))


def test_gradients_equal_finite_differences_in_the_head_mask(model):
    found = gradient_importance(model, iter(EXAMPLES))
    each = head_mask_gradients(model, iter(EXAMPLES))
    assert sorted(found) == [(layer, head) for layer in range(2) for head in range(4)]
    step = 1e-4
    for (layer, head), importance in found.items():
        gradients = [
            (
                loss_with_mask(model, ids, layer, head, 1 + step)
                - loss_with_mask(model, ids, layer, head, 1 - step)
            )
            / (2 * step)
            for ids in EXAMPLES
        ]
        assert importance == pytest.approx(np.abs(gradients).mean(), rel=1e-5)
        assert each[layer, head] == pytest.approx(np.array(gradients), rel=1e-5)
    assert min(map(min, each.values())) < 0 < max(map(max, each.values()))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_masks_of_one_have_no_effect_and_masks_of_zero_are_ablation(model):
    ids = EXAMPLES[0]
    intact = next_token_loss(model, ids)
    with head_masks(model):
        assert torch.equal(next_token_loss(model, ids), intact)
    with ablate(model, [(1, 2)]), torch.no_grad():
        expected = float(next_token_loss(model, ids))
    assert loss_with_mask(model, ids, 1, 2, 0.0) == pytest.approx(expected, rel=1e-12)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_importance_is_normalized_by_layer(model):
    plain = gradient_importance(model, EXAMPLES)
    found = gradient_importance(model, EXAMPLES, normalize=True)
    for layer in range(2):
        norm = math.hypot(*(plain[layer, head] for head in range(4)))
        for head in range(4):
            assert found[layer, head] == pytest.approx(plain[layer, head] / norm)


def test_gradients_in_training_mode_with_checkpointing(model):
    expected = gradient_importance(model, EXAMPLES)
    model.gradient_checkpointing = True
    model.train()
    with torch.no_grad():
        assert gradient_importance(model, EXAMPLES) == pytest.approx(expected)
    assert model.training
    model.gradient_checkpointing = False


@pytest.mark.parametrize("how", ["zero", "mean"])
def test_ablation_importance_is_the_increase_of_the_loss(model, how):
    reference = reference_outputs(model, EXAMPLES)
    found = ablation_importance(model, iter(EXAMPLES), how=how, reference=reference)
    each = ablation_loss_delta(model, EXAMPLES, how=how, reference=reference)
    assert len(found) == len(each) == 8
    for head, delta in found.items():
        assert each[head].shape == (3,)
        assert each[head].mean() == pytest.approx(delta)
        with ablate(model, [head], how, reference=reference), torch.no_grad():
            without = np.mean([float(next_token_loss(model, ids)) for ids in EXAMPLES])
        with torch.no_grad():
            intact = np.mean([float(next_token_loss(model, ids)) for ids in EXAMPLES])
        assert delta == pytest.approx(without - intact, abs=1e-12)
    assert list(ablation_importance(model, EXAMPLES, heads=[(1, 3)])) == [(1, 3)]


def test_gradients_and_loss_deltas_agree_for_a_loss_linear_in_the_masks(model):
    def linear(model, ids):
        seen = []
        handle = model.blocks[1].attention.out_proj.register_forward_hook(lambda m, a, out: seen.append(out))
        model(torch.tensor([ids]))
        handle.remove()
        return seen[0].sum()

    gradients, deltas = (
        head_mask_gradients(model, EXAMPLES, linear),
        ablation_loss_delta(model, EXAMPLES, linear),
    )
    for head in range(4):
        assert -gradients[1, head] == pytest.approx(deltas[1, head])


def test_other_families_with_their_own_loss():
    bert = BERTModel(30, 16, 2, 4, head="classification")

    def classify(model, example):
        ids, label = example
        return F.cross_entropy(model(torch.tensor([ids])), torch.tensor([label]))

    data = [([1, 2, 3], 0), ([4, 5], 1)]
    assert min(gradient_importance(bert, data, classify).values()) >= 0
    assert len(ablation_importance(bert, data, classify)) == 8
    t5 = T5Model(30, 16, 1, 4)

    def translate(model, pair):
        return model(*pair).square().mean()

    pair = (torch.tensor([[1, 2]]), torch.tensor([[3]]))
    assert len(gradient_importance(t5, [pair], translate, kind="cross")) == 4
    with pytest.raises(TypeError, match="a BERTModel predicts no next token: give loss="):
        gradient_importance(bert, ["a"])
    with pytest.raises(ValueError, match="give kind="):
        ablation_importance(t5, [pair], translate)


def test_empty_data_raises_an_error(model):
    for measure in (gradient_importance, ablation_importance):
        with pytest.raises(ValueError, match="the data set is empty"):
            measure(model, [])
        with pytest.raises(ValueError, match="one token has no next token"):
            measure(model, [[1]])


VALUES = st.lists(st.tuples(st.integers(0, 5), st.floats(-1, 1)), min_size=3, max_size=30)


@given(values=VALUES)
def test_rank_correlation_equals_that_of_scipy(values):
    a = {(0, n): float(x) for n, (x, _) in enumerate(values)}
    b = {(0, n): y for n, (_, y) in enumerate(values)}
    if len(set(a.values())) == 1 or len(set(b.values())) == 1:
        assert math.isnan(rank_correlation(a, b))
        return
    expected = spearmanr(list(a.values()), list(b.values())).statistic
    assert rank_correlation(a, dict(reversed(b.items()))) == pytest.approx(expected, abs=1e-12)


def test_rank_correlation_needs_the_same_heads():
    with pytest.raises(ValueError, match="values are of 2 and 1 heads: give the same"):
        rank_correlation({(0, 0): 1.0, (0, 1): 2.0}, {(0, 0): 1.0})


@pytest.mark.slow
def test_the_interval_of_a_rank_correlation_covers_the_true_one():
    """For two normal variables rho is (6 / pi) arcsin(r / 2) (Pearson 1907)."""
    r, covered, draw = 0.6, 0, np.random.default_rng(0)
    for _ in range(100):
        x = draw.normal(size=50)
        y = r * x + math.sqrt(1 - r**2) * draw.normal(size=50)
        low, high = rank_interval({(0, n): v for n, v in enumerate(x)}, {(0, n): v for n, v in enumerate(y)})
        covered += low <= 6 / math.pi * math.asin(r / 2) <= high
    assert 88 <= covered <= 99
    assert high - low < 0.6
    level = dict.fromkeys([(0, 0), (0, 1)], 1.0)
    assert all(map(math.isnan, rank_interval(level, level)))
