"""Rollout in closed form, gradient rollout by hand, and flow against an independent solver."""

from __future__ import annotations

import builtins
import weakref

import networkx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.analysis.attribution_targets import NextTokenLogProb, Similarity
from glassformer.analysis.inputs import model_inputs
from glassformer.analysis.rollout import (
    CAPACITY_SCALE,
    add_residual,
    attention_flow,
    attention_rollout,
    attribution_for,
    gradient_rollout,
    max_flow,
    retain_attention_weights,
    rollout,
)
from glassformer.attention import FusedAttention, record_attention
from glassformer.attention.self_attention import attention_weights
from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel

TEXT = {"vocab_size": 40, "d_model": 24, "num_layers": 3, "num_heads": 4}
IDS = [3, 1, 4, 1, 5, 9]
IMAGE = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def randomize(model):
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.double()


def gpt(**options):
    options = {"positions": "rotary", "num_kv_heads": 2, **options}
    return randomize(GPTModel(**TEXT, max_seq_len=16, **options))


def vit():
    return randomize(ViTModel(image_size=8, patch_size=4, d_model=24, num_layers=3, num_heads=4, labels=5))


MODELS = {
    "causal": (gpt, IDS),
    "window": (lambda: gpt(window=2), IDS),
    "limited, normalized": (
        lambda: gpt(attention_softcap=1.0, qk_norm="head", output_norm=True, window=[None, 2, None]),
        IDS,
    ),
    "bidirectional": (lambda: randomize(BERTModel(**TEXT, head="classification")), IDS),
    "image": (vit, IMAGE),
    "encoder-decoder": (lambda: randomize(T5Model(**TEXT)), (IDS, [7, 8])),
}


def maps_of(model, example):
    """The weights of each layer of the first stack, ``(head, seq, seq)``."""
    kind = next(iter(model.attentions()))
    with torch.no_grad(), record_attention(model, kind=kind) as recording:
        model(*model_inputs(model, example))
    return [recording[layer][0] for layer in recording]


def random_weights(layers, heads, length, seed=0, causal=False):
    generator = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(layers, heads, length, length, generator=generator, dtype=torch.float64)
    if causal:
        scores = scores.masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), -torch.inf)
    return list(scores.softmax(-1))


def test_rollout_of_two_layers_in_closed_form():
    """Token 0 attends to token 1 with weight a in the first and b in the second layer."""
    a, b = 0.25, 0.5
    first, second = (torch.tensor([[[1 - x, x], [0.0, 1.0]]], dtype=torch.float64) for x in (a, b))
    expected = torch.tensor([[(1 - b / 2) * (1 - a / 2), (1 - b / 2) * a / 2 + b / 2], [0, 1]])
    torch.testing.assert_close(rollout([first, second]), expected.double(), atol=1e-15, rtol=0)


def test_rollout_of_two_layers_is_their_product():
    first, second = random_weights(2, 3, 4)
    eye = torch.eye(4)
    expected = 0.5 * (second.mean(0) + eye) @ (0.5 * (first.mean(0) + eye))
    torch.testing.assert_close(rollout([first, second]), expected)
    assert not torch.allclose(rollout([second, first]), expected)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 6), st.integers(0, 99))
def test_rows_of_rollout_sum_to_one(layers, heads, length, seed):
    rolled = rollout(random_weights(layers, heads, length, seed))
    assert rolled.min() >= 0
    torch.testing.assert_close(rolled.sum(-1), torch.ones(length, dtype=torch.float64))


def test_a_token_without_attention_has_only_the_residual_connection():
    weights = torch.tensor([[[0.0, 0.0], [0.5, 0.5]]])
    assert add_residual(weights).tolist() == [[1, 0], [0.25, 0.75]]


def test_other_shapes_and_kinds_raise_errors():
    with pytest.raises(ValueError, match="must be \\(head, seq, seq\\), not \\(2, 3, 4\\)"):
        add_residual(torch.rand(2, 3, 4))
    with pytest.raises(ValueError, match="there are no layers"):
        rollout([])
    with pytest.raises(ValueError, match="'cross' attention also attend.*give kind='encoder'"):
        attention_rollout(T5Model(**TEXT), (IDS, [1]), kind="cross")


@pytest.mark.parametrize("name", MODELS)
def test_rollout_of_a_model(name):
    build, example = MODELS[name]
    model = build()
    rolled = attention_rollout(model, example)
    torch.testing.assert_close(rolled, rollout(maps_of(model, example)))
    torch.testing.assert_close(rolled.sum(-1), torch.ones(len(rolled), dtype=torch.float64))
    if name == "causal":
        assert torch.equal(rolled, rolled.tril())
    if name == "window":
        assert rolled[5, 1] == 0 < rolled[5, 2]  # each of three layers attends one token back


@pytest.mark.parametrize("follow", [attention_rollout, attention_flow])
def test_one_attention_map_is_in_memory_at_a_time(follow, monkeypatch):
    model, maps, compute = gpt(), [], FusedAttention.weights

    def watched(*arguments):
        assert all(seen() is None for seen in maps)
        weights = compute(*arguments)
        maps.append(weakref.ref(weights))
        return weights

    monkeypatch.setattr(FusedAttention, "weights", watched)
    follow(model, IDS)
    assert len(maps) == 3


@pytest.mark.parametrize("name", MODELS)
def test_retaining_kernels_do_not_change_the_output(name):
    build, example = MODELS[name]
    model = build()
    inputs = (
        (example[None],) if name == "image" else tuple(map(row, example if name[0] == "e" else [example]))
    )
    attentions = next(iter(model.attentions().values()))
    own = [attention.kernel for attention in attentions]
    assert all(isinstance(kernel, FusedAttention) for kernel in own)
    expected = model(*inputs)
    with retain_attention_weights(attentions) as kernels:
        output = model(*inputs)
    torch.testing.assert_close(output, expected, atol=1e-12, rtol=1e-12)
    for kernel, weights in zip(kernels, maps_of(model, example), strict=True):
        torch.testing.assert_close(kernel.last_weights[0], weights, atol=1e-12, rtol=0)
    assert [attention.kernel for attention in attentions] == own


def row(ids):
    return torch.tensor([ids])


def test_kernels_are_restored_after_an_exception():
    model = gpt()
    own = [attention.kernel for attention in model.attentions()["self"]]

    def broken(output, kept):
        raise RuntimeError("no target")

    broken.differentiable = True
    with pytest.raises(RuntimeError, match="no target"):
        gradient_rollout(model, IDS, broken)
    assert all(a.kernel is kernel for a, kernel in zip(model.attentions()["self"], own, strict=True))
    assert model.training


@pytest.mark.parametrize("frozen", [False, True])
def test_gradient_rollout_against_one_by_hand(frozen):
    """Two layers without norms and feed-forward, computed step by step."""
    torch.manual_seed(2)
    x = torch.randn(5, 8, dtype=torch.float64)
    model = randomize(GPTModel(11, 8, 2, 2, max_seq_len=8, positions="none", bias=False, d_ff=8))
    model.norm = torch.nn.Identity()
    for block in model.blocks:
        block.norm1 = torch.nn.Identity()
        torch.nn.init.zeros_(block.feed_forward.down_proj.weight)
    model.token_embedding.weight.data[:5] = x
    model.requires_grad_(not frozen)

    def heads(linear, h):
        return linear(h).view(5, 2, 4).transpose(0, 1)

    stream, maps = x, []
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    for block in model.blocks:
        a = block.attention
        q, k, v = heads(a.q_proj, stream), heads(a.k_proj, stream), heads(a.v_proj, stream)
        weights = attention_weights(q, k, mask, None, None)
        weights = weights.detach().requires_grad_() if frozen and not maps else weights
        maps.append(weights)
        stream = stream + a.out_proj((weights @ v).transpose(0, 1).flatten(1))
    value = model.lm_head(stream)[3].log_softmax(-1)[7]
    slopes = torch.autograd.grad(value, maps)
    expected = torch.eye(5, dtype=torch.float64)
    for weights, slope in zip(maps, slopes, strict=True):
        expected = expected + (weights * slope).clamp(min=0).mean(0).detach() @ expected
    found = gradient_rollout(model, [0, 1, 2, 3, 4], NextTokenLogProb(3, 7))
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert float(found.tril(-1).sum()) > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_gradient_rollout_of_a_model(name):
    build, example = MODELS[name]
    model = build()
    with torch.no_grad():
        rolled = gradient_rollout(model, example)
    assert rolled.shape == attention_rollout(model, example).shape
    assert rolled.min() >= 0
    assert bool((rolled.diagonal() >= 1).all())
    assert float(rolled.sum()) > len(rolled)


def test_a_target_at_its_maximum_has_no_gradient():
    model = randomize(BERTModel(**TEXT))
    with pytest.raises(ValueError, match="BERTModel without a head .*give target=Similarity"):
        gradient_rollout(model, IDS)
    other = model(torch.tensor([[7, 8, 9]]))[0].mean(0)
    assert float(gradient_rollout(model, IDS, Similarity(other.detach())).sum()) > len(IDS)


def test_the_attribution_is_the_row_at_the_position_of_the_target():
    rolled = torch.rand(4, 4)
    assert torch.equal(attribution_for(NextTokenLogProb(2, 0), rolled), rolled[2])
    assert torch.equal(attribution_for(Similarity(torch.ones(3)), rolled), rolled.mean(0))


def networkx_flow(layers, position):
    """The maximum flow by networkx, with floating-point capacities."""
    graph = networkx.DiGraph()
    length = layers[0].size(-1)
    for layer, weights in enumerate(layers):
        capacities = add_residual(weights)
        for i in range(length):
            for j in range(length):
                graph.add_edge((layer + 1, i), (layer, j), capacity=float(capacities[i, j]))
    return [networkx.maximum_flow_value(graph, (len(layers), position), (0, j)) for j in range(length)]


@given(st.integers(1, 4), st.integers(2, 6), st.integers(0, 999), st.booleans(), st.data())
@settings(max_examples=20)
def test_flow_against_an_independent_solver(num_layers, length, seed, causal, data):
    position = data.draw(st.integers(0, length - 1))
    layers = random_weights(num_layers, 2, length, seed, causal)
    resolution = num_layers * length**2 / 2 / CAPACITY_SCALE
    expected = torch.tensor(networkx_flow(layers, position), dtype=torch.float64)
    torch.testing.assert_close(max_flow(layers, position), expected, atol=resolution + 1e-12, rtol=0)


def test_the_flow_of_one_layer_is_its_capacities():
    (weights,) = random_weights(1, 3, 5)
    torch.testing.assert_close(
        max_flow([weights], 2), add_residual(weights)[2], atol=0.5 / CAPACITY_SCALE, rtol=0
    )


def test_the_minimum_cut_limits_the_flow():
    """Two paths lead from token 1 to input 0, each with an edge of capacity 1/4."""
    weights = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]], dtype=torch.float64)
    assert max_flow([weights, weights], 1).tolist() == pytest.approx([0.5, 0.75])
    assert rollout([weights, weights])[1].tolist() == pytest.approx([0.4375, 0.5625])


@pytest.mark.slow
@given(st.integers(0, 99))
def test_flow_is_at_least_rollout(seed):
    """The paths that rollout adds up form a flow."""
    layers = random_weights(3, 2, 5, seed)
    for position in range(5):
        assert bool((max_flow(layers, position) >= rollout(layers)[position] - 1e-7).all())


def test_flow_of_a_model():
    model = GPTModel(40, 16, 2, 2, max_seq_len=8, positions="alibi")
    found = attention_flow(model, [1, 2, 3, 4], 1)
    with torch.no_grad(), record_attention(model) as recording:
        model(torch.tensor([[1, 2, 3, 4]]))
    torch.testing.assert_close(found, max_flow([recording[layer][0].double() for layer in recording], 1))
    assert found[2:].tolist() == [0, 0]
    assert torch.equal(attention_flow(model, [1, 2, 3, 4]), attention_flow(model, [1, 2, 3, 4], 3))
    assert len(attention_flow(BERTModel(40, 16, 2, 2), [1, 2, 3])) == 3
    assert len(attention_flow(T5Model(40, 16, 2, 2), ([1, 2, 3], [4]))) == 3
    with pytest.raises(ValueError, match="position 4 does not exist: positions are 0 to 3"):
        attention_flow(model, [1, 2, 3, 4], 4)


def test_missing_layers_and_positions_raise_errors():
    with pytest.raises(ValueError, match="there are no layers"):
        max_flow([], 0)
    with pytest.raises(ValueError, match="position -1 does not exist: positions are 0 to 2"):
        max_flow(random_weights(1, 1, 3), -1)


def test_the_error_without_scipy_names_the_extra(monkeypatch):
    original = builtins.__import__

    def without(name, *others):
        if name.startswith("scipy"):
            raise ImportError("No module named 'scipy'")
        return original(name, *others)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="pip install 'glassformer\\[analysis\\]'"):
        max_flow(random_weights(1, 1, 2), 0)
