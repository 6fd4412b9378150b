"""Flow against an independent solver, and its resolution."""

from __future__ import annotations

import builtins

import networkx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.analysis.flow import RESOLUTION, attention_flow, flow
from glassformer.analysis.rollout import mixing, rollout
from glassformer.attention import record_attention
from glassformer.models import BERTModel, GPTModel, T5Model


def stochastic(layers, heads, length, seed, causal=False):
    generator = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(layers, heads, length, length, generator=generator, dtype=torch.float64)
    if causal:
        scores = scores.masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), -torch.inf)
    return list(scores.softmax(-1))


def independent(layers, position):
    """The same by networkx, with floating-point widths."""
    graph = networkx.DiGraph()
    length = layers[0].size(-1)
    for layer, weights in enumerate(layers):
        widths = mixing(weights)
        for i in range(length):
            for j in range(length):
                graph.add_edge((layer + 1, i), (layer, j), capacity=float(widths[i, j]))
    return [networkx.maximum_flow_value(graph, (len(layers), position), (0, j)) for j in range(length)]


@given(st.integers(1, 4), st.integers(2, 6), st.integers(0, 999), st.booleans(), st.data())
@settings(max_examples=20)
def test_as_an_independent_solver_finds_it(num_layers, length, seed, causal, data):
    position = data.draw(st.integers(0, length - 1))
    layers = stochastic(num_layers, 2, length, seed, causal)
    resolution = num_layers * length**2 / 2 / RESOLUTION
    expected = torch.tensor(independent(layers, position), dtype=torch.float64)
    torch.testing.assert_close(flow(layers, position), expected, atol=resolution + 1e-12, rtol=0)


def test_one_layer_is_its_own_widths():
    (weights,) = stochastic(1, 3, 5, 0)
    torch.testing.assert_close(flow([weights], 2), mixing(weights)[2], atol=0.5 / RESOLUTION, rtol=0)


def test_the_narrowest_pipe_decides():
    """Token 1 reaches input 0 by way of two pipes of a quarter, one in each layer: both carry it."""
    weights = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]], dtype=torch.float64)
    assert flow([weights, weights], 1).tolist() == pytest.approx([0.5, 0.75])
    assert rollout([weights, weights])[1].tolist() == pytest.approx([0.4375, 0.5625])


@given(st.integers(0, 99))
def test_no_less_than_rollout(seed):
    """Rollout's parts flow all at once, each through its own share of a pipe."""
    layers = stochastic(3, 2, 5, seed)
    for position in range(5):
        assert bool((flow(layers, position) >= rollout(layers)[position] - 1e-7).all())


def test_of_a_model():
    model = GPTModel(40, 16, 2, 2, max_seq_len=8, positions="alibi")
    found = attention_flow(model, [1, 2, 3, 4], 1)
    with torch.no_grad(), record_attention(model) as recording:
        model(torch.tensor([[1, 2, 3, 4]]))
    torch.testing.assert_close(found, flow([recording[layer][0].double() for layer in recording], 1))
    assert found[2:].tolist() == [0, 0]
    assert torch.equal(attention_flow(model, [1, 2, 3, 4]), attention_flow(model, [1, 2, 3, 4], 3))
    assert len(attention_flow(BERTModel(40, 16, 2, 2), [1, 2, 3])) == 3
    assert len(attention_flow(T5Model(40, 16, 2, 2), ([1, 2, 3], [4]))) == 3
    with pytest.raises(ValueError, match="position 4 does not exist: positions are 0 to 3"):
        attention_flow(model, [1, 2, 3, 4], 4)


def test_refuses_nothing_and_nowhere():
    with pytest.raises(ValueError, match="there are no layers"):
        flow([], 0)
    with pytest.raises(ValueError, match="position -1 does not exist: positions are 0 to 2"):
        flow(stochastic(1, 1, 3, 0), -1)


def test_without_scipy_the_extra_is_named(monkeypatch):
    original = builtins.__import__

    def without(name, *others):
        if name.startswith("scipy"):
            raise ImportError("No module named 'scipy'")
        return original(name, *others)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="pip install 'glassformer\\[analysis\\]'"):
        flow(stochastic(1, 1, 2, 0), 0)
