"""Feed-forward networks, norms and blocks."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from glassformer.attention import CrossAttentionCache, MultiHeadAttention, causal, padding
from glassformer.layers import (
    BLOCKS,
    FEED_FORWARDS,
    NORMS,
    ConstantScale,
    FeedForward,
    Float32Linear,
    GatedFeedForward,
    LayerNorm,
    LayerScale,
    NormPerHead,
    PreNormBlock,
    RMSNorm,
    SharedNormParallelBlock,
)
from glassformer.linear import cast_once

X = torch.linspace(-3, 3, 12, dtype=torch.float64).view(1, 2, 6)
FUNCTIONS = {
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "quick_gelu": lambda x: x / (1 + torch.exp(-1.702 * x)),
    "relu": lambda x: x.clamp(min=0),
    "silu": lambda x: x / (1 + torch.exp(-x)),
}
GATES = {"swiglu": "silu", "geglu": "gelu", "geglu_tanh": "gelu_tanh", "reglu": "relu"}


@pytest.mark.parametrize("kind", FEED_FORWARDS)
@pytest.mark.parametrize("bias", [True, False])
def test_feed_forward_is_its_formula(kind, bias):
    make, function = FEED_FORWARDS[kind]
    network = make(6, 10, function, bias).double()
    state = network.state_dict()

    def project(name, x):
        return x @ state[f"{name}.weight"].T + (state[f"{name}.bias"] if bias else 0)

    gated = "gate_proj.weight" in state
    assert gated == (kind in GATES)
    inner = FUNCTIONS[GATES.get(kind, kind)](project("gate_proj" if gated else "up_proj", X))
    inner = inner * project("up_proj", X) if gated else inner
    torch.testing.assert_close(network(X), project("down_proj", inner))
    assert set(state) == {
        f"{name}.{part}"
        for name in ("up_proj", "down_proj", *(["gate_proj"] if gated else []))
        for part in ("weight", *(["bias"] if bias else []))
    }


@torch.no_grad()
def test_a_float32_linear_does_not_overflow_in_float16():
    layer, x = Float32Linear(6, 3).half(), torch.full((2, 6), 60_000.0, dtype=torch.float16)
    plain = nn.Linear(6, 3).half()
    state = {"weight": torch.full((3, 6), 1.1).half(), "bias": torch.ones(3).half()}
    for module, assign in ((layer, True), (layer, False), (plain, False)):
        module.load_state_dict(state, assign=assign)
        expected = x.double() @ state["weight"].double().T + 1  # of the weights in float16
        assert (expected > torch.finfo(torch.float16).max).all()
        if module is plain:
            assert module(x).isinf().all()
        else:
            torch.testing.assert_close(module(x), expected.float())
    assert layer.bfloat16().weight.dtype == torch.bfloat16
    assert layer.double().weight.dtype == torch.float64


@pytest.mark.parametrize("norm", sorted(NORMS.keys() - {"nonparametric"}))
@torch.no_grad()
def test_norms_with_float16_weights_read_a_float32_stream(norm):
    exact = NORMS[norm](6, 1e-6, True)
    for parameter in exact.parameters():
        nn.init.normal_(parameter)
    x = 1e6 * torch.randn(2, 6, generator=torch.Generator().manual_seed(1))
    expected = exact.half().float()(x)
    output = exact.half()(x)
    assert output.dtype == torch.float16
    torch.testing.assert_close(output.float(), expected, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("shape", [6, (2, 6)])
def test_norms_are_their_formulas_over_one_dimension_or_two(shape):
    x = torch.randn(3, 2, 6, dtype=torch.float64)
    dims = (-1,) if shape == 6 else (-2, -1)
    centered = x - x.mean(dims, keepdim=True)
    plain = centered / (centered.square().mean(dims, keepdim=True) + 1e-6).sqrt()
    divided = x / (x.square().mean(dims, keepdim=True) + 1e-6).sqrt()
    for name, expected in (
        ("layer", lambda w: plain * w),
        ("nonparametric", lambda w: plain),
        ("rms", lambda w: divided * w),
        ("unit_offset_rms", lambda w: divided * (1 + w)),
    ):
        norm = NORMS[name](shape, 1e-6, False).double()
        weight = torch.randn(shape, dtype=torch.float64)
        if list(norm.parameters()):
            norm.weight.data = weight
        torch.testing.assert_close(norm(x), expected(weight))


def test_a_norm_per_head_normalizes_each_head_with_its_own_weights():
    norms = [NORMS["layer"](6, 1e-6, True) for _ in range(2)]
    for norm in norms:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    x = torch.randn(4, 3, 2, 6)
    found = NormPerHead(norms)(x)
    for head, norm in enumerate(norms):
        torch.testing.assert_close(found[..., head, :], norm(x[..., head, :]))


def test_unit_offset_norms_start_at_one_and_constant_scales_multiply():
    x = torch.randn(2, 6)
    torch.testing.assert_close(NORMS["unit_offset_rms"](6, 1e-6, True)(x), NORMS["rms"](6, 1e-6, True)(x))
    torch.testing.assert_close(ConstantScale(0.3)(x), 0.3 * x)
    assert str(ConstantScale(0.3)) == "ConstantScale(0.3)"


@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm_is_its_formula(bias):
    norm = LayerNorm(6, eps=0.1, bias=bias).double()
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    centred = X - X.mean(-1, keepdim=True)
    expected = centred / (centred.square().mean(-1, keepdim=True) + 0.1).sqrt() * norm.weight
    torch.testing.assert_close(norm(X), expected + norm.bias if bias else expected)


def test_rms_norm_is_its_formula():
    norm = RMSNorm(6, eps=0.1).double()
    nn.init.normal_(norm.weight)
    torch.testing.assert_close(norm(X), X / (X.square().mean(-1, keepdim=True) + 0.1).sqrt() * norm.weight)


@pytest.mark.parametrize("kind", NORMS)
def test_initial_norms_only_normalize(kind):
    y = NORMS[kind](6, 1e-5, True)(torch.randn(4, 6) * 7)
    torch.testing.assert_close(y.square().mean(-1), torch.ones(4), atol=1e-3, rtol=0)


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


def parts(cross=False, norms=2):
    return {
        "attention": MultiHeadAttention(8, 2),
        "feed_forward": FeedForward(8, 16),
        "norms": [LayerNorm(8) for _ in range(norms)],
        "cross_attention": MultiHeadAttention(8, 2) if cross else None,
    }


@pytest.mark.parametrize("residual", BLOCKS)
@pytest.mark.parametrize("cross", [False, True])
def test_a_block_of_any_residual_scheme_trains_every_parameter(residual, cross):
    block = build(residual, cross)
    x, memory = torch.randn(2, 5, 8).double(), torch.randn(2, 3, 8).double() if cross else None
    (block(x, causal(), memory=memory) * torch.randn(8)).sum().backward()
    for name, parameter in block.named_parameters():
        if not name.endswith("k_proj.bias"):
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def build(residual, cross):
    block_class = BLOCKS[residual]
    block = block_class(**parts(cross, 1 if block_class.shares_norm else 2 + cross))
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    return block.double()


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("residual", BLOCKS)
def test_each_block_is_its_formula(residual, cross):
    block = build(residual, cross)
    x, memory = torch.randn(1, 4, 8).double(), torch.randn(1, 3, 8).double()
    mask, memory_mask = causal(), padding(torch.tensor([[1, 1, 0]]))
    sublayers = [lambda h: block.attention(h, mask=mask)[0], block.feed_forward]
    if cross:
        sublayers.insert(1, lambda h: block.cross_attention(h, memory, mask=memory_mask)[0])
    shared = residual == "parallel_shared"
    norms = [block.norm1 if shared else getattr(block, f"norm{n}") for n in range(1, len(sublayers) + 1)]
    y = x
    for sublayer, norm in zip(sublayers, norms, strict=True):
        if residual == "pre":
            y = y + sublayer(norm(y))
        elif residual == "post":
            y = norm(y + sublayer(y))
        else:
            y = y + sublayer(norm(x))
    torch.testing.assert_close(block(x, mask, memory=memory, memory_mask=memory_mask), y)


@pytest.mark.parametrize("residual", BLOCKS)
def test_cross_attention_without_memory_raises(residual):
    block, x, memory = (
        build(residual, cross=True),
        torch.randn(1, 4, 8).double(),
        torch.randn(1, 3, 8).double(),
    )
    cache = CrossAttentionCache()
    for inputs in ({}, {"memory_cache": cache}, {"memory_mask": padding(torch.ones(1, 4, dtype=torch.bool))}):
        with pytest.raises(ValueError, match="needs memory, the encoder's output"):
            block(x, causal(), **inputs)
    expected = block(x, causal(), memory=memory, memory_cache=cache)
    torch.testing.assert_close(block(x, causal(), memory_cache=cache), expected)  # has the keys and values


def test_scales_apply_to_the_output_of_each_sublayer():
    block = PreNormBlock(**parts(), scales=[Scale(0.0), Scale(0.5)])
    x = torch.randn(1, 4, 8)
    torch.testing.assert_close(block(x), x + 0.5 * block.feed_forward(block.norm2(x)))


def test_dropout_acts_on_sublayers_in_training_only():
    block, x = PreNormBlock(**parts(), dropout=0.5), torch.randn(1, 4, 8)
    assert torch.equal(block.eval()(x), block(x))
    torch.manual_seed(1)
    assert not torch.equal(block.train()(x), block(x))


def test_wrong_numbers_of_parts_raise():
    with pytest.raises(ValueError, match="2 sublayers need 2 norms here, not 3"):
        PreNormBlock(**parts(norms=3))
    with pytest.raises(ValueError, match="2 sublayers need 1 norms here, not 2"):
        SharedNormParallelBlock(**parts(norms=2))
    with pytest.raises(ValueError, match="2 sublayers need 2 scales, not 1"):
        PreNormBlock(**parts(), scales=[Scale(1.0)])
    with pytest.raises(ValueError, match=r"dropout.*2\.0"):
        PreNormBlock(**parts(), dropout=2.0)


def test_layer_scale_is_a_factor_for_each_dimension_of_a_sublayers_output():
    scale = LayerScale(6, 1e-3).double()
    torch.testing.assert_close(scale(X), X * 1e-3)
    nn.init.normal_(scale.weight)
    torch.testing.assert_close(scale(X), X * scale.weight)
    assert scale(X)[0, 0, 1] == X[0, 0, 1] * scale.weight[1]


def test_under_autocast_the_input_of_several_projections_is_converted_once():
    attention = MultiHeadAttention(8, 2)
    block = PreNormBlock(attention, GatedFeedForward(8, 12), [LayerNorm(8), LayerNorm(8)])
    inputs = {}
    for name, layer in block.named_modules():
        if name.endswith("_proj"):
            layer.register_forward_pre_hook(lambda _, args, name=name: inputs.update({name: args[0]}))
    x = torch.randn(1, 3, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert block(x).dtype == torch.float32  # the residual stream is not rounded
    attended, gated = (
        [inputs[f"attention.{name}_proj"] for name in "qkv"],
        [inputs[f"feed_forward.{name}_proj"] for name in ("gate", "up")],
    )
    for shared in (attended, gated):
        assert shared[0].dtype == torch.bfloat16
        assert all(other is shared[0] for other in shared)
    block(x)
    assert inputs["attention.q_proj"].dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):  # float64 is not converted, nor anything on meta
        assert cast_once(x.double()).dtype == torch.float64
        assert cast_once(x.to("meta")).dtype == torch.float32
