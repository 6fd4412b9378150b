"""Packed linear layers: products of the stored weights, with and without PyTorch's private operators."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from glassformer import backends, packed_linear
from glassformer.packed_linear import FORMATS

formats = pytest.mark.parametrize("weights", FORMATS)
PROBES = ("onednn_operators", "fbgemm_float16", "fbgemm_int8")


def layer(inputs=70, outputs=33, bias=True):
    torch.manual_seed(0)
    return torch.nn.Linear(inputs, outputs, bias=bias)


def activations(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def error(packed, x):
    expected = F.linear(x, packed.weight, packed.bias)
    return float((packed(x) - expected).norm() / expected.norm())


@formats
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_the_product_is_that_of_the_stored_weight(weights, bias):
    packed = FORMATS[weights](layer(bias=bias))
    for shape in ((70,), (1, 70), (5, 70), (2, 3, 70), (1, 130, 70), (0, 70)):
        x = activations(*shape)
        assert packed(x).shape == (*shape[:-1], 33)
        if x.numel():
            assert error(packed, x) < (0.02 if weights == "int8" else 1e-6)
    strided = activations(70, 6).T
    torch.testing.assert_close(packed(strided), packed(strided.contiguous()))


def test_rounded_weights_are_as_near_as_their_format():
    linear = layer()
    assert torch.equal(FORMATS["float32"](linear).weight, linear.weight)
    assert torch.equal(FORMATS["bfloat16"](linear).weight, linear.weight.bfloat16().float())
    steps = linear.weight.abs().amax(1, keepdim=True) / 127
    distance = (FORMATS["int8"](linear).weight - linear.weight).abs()
    assert (distance <= steps / 2 * 1.001).all()


@torch.no_grad()
def test_int8_sums_do_not_saturate():
    linear = layer(1024, 16, bias=False)
    linear.weight.fill_(0.5)
    packed = FORMATS["int8"](linear)
    for rows in (1, 4):
        torch.testing.assert_close(
            packed(torch.ones(rows, 1024)), torch.full((rows, 16), 512.0), rtol=0.01, atol=0
        )


@torch.no_grad()
def test_the_outliers_of_one_token_do_not_cost_others_precision():
    packed, x = FORMATS["int8"](layer(bias=False)), activations(4, 70)
    expected = packed(x)
    x[0, 3] = 1e4
    torch.testing.assert_close(packed(x)[1:], expected[1:], rtol=0, atol=0.03)


@torch.no_grad()
def test_a_zero_row_gives_the_bias():
    packed = FORMATS["int8"](layer())
    x = torch.cat((torch.zeros(1, 70), activations(1, 70)))
    torch.testing.assert_close(packed(x)[0], packed.bias.data)
    torch.testing.assert_close(packed(x[:1])[0], packed.bias.data)


@formats
@torch.no_grad()
def test_without_the_private_operators_the_result_is_nearly_the_same(weights, monkeypatch):
    linear, x = layer(), activations(5, 70)
    packed = FORMATS[weights](linear)
    stored = pickle.dumps(packed)
    expected, weight = packed(x), packed.weight
    for name in PROBES:
        monkeypatch.setattr(packed_linear, name, lambda: None)
    for plain in (FORMATS[weights](linear), pickle.loads(stored)):
        torch.testing.assert_close(plain.weight, weight)
        torch.testing.assert_close(plain(x), expected, rtol=0.02, atol=0.05)
        assert error(plain, x) < 1e-6
        assert torch.equal(copy.deepcopy(plain)(x), plain(x))


def test_operators_of_onednn_that_are_absent_are_not_found(monkeypatch):
    monkeypatch.setattr(packed_linear.torch, "ops", object())
    assert packed_linear.onednn_operators.__wrapped__() is None


@pytest.mark.parametrize("layout", ["plain", "packed"])
def test_float32_weights_are_exact_in_both_layouts(layout, monkeypatch):
    if layout == "packed" and packed_linear.onednn_operators() is None:
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(packed_linear, "float32_layout", lambda: layout)
    linear = layer()
    packed = FORMATS["float32"](linear)
    assert packed._packed.is_mkldnn == (layout == "packed")
    for same in (packed, copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        assert torch.equal(same.weight, linear.weight)
        for x in (*(activations(*shape) for shape in ((70,), (1, 70), (2, 3, 70))), activations(70, 6).T):
            with torch.no_grad():
                assert error(same, x) < 1e-6
        x = activations(3, 70).requires_grad_()
        same(x).sum().backward()
        torch.testing.assert_close(x.grad, linear.weight.sum(0).expand(3, 70))
        with pytest.raises(RuntimeError, match="3x71"), torch.no_grad():
            same(activations(3, 71))


@pytest.mark.parametrize("layout", ["plain", "packed"])
def test_the_faster_layout_is_chosen_and_remembered(layout, monkeypatch, tmp_path):
    if packed_linear.onednn_operators() is None:
        pytest.skip("this PyTorch has no oneDNN")
    timed = []

    def choose(candidates):
        timed.extend(len(run()) for run in candidates.values())
        return layout

    monkeypatch.setattr(packed_linear, "fastest", choose)
    monkeypatch.setattr(backends, "fastest", lambda candidates: next(iter(candidates)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("GLASSFORMER_BACKEND")
    find = packed_linear.float32_layout.__wrapped__
    assert find() == find() == layout
    assert timed == 2 * [16]  # both layouts, once


@torch.no_grad()
def test_numbers_beyond_float16_are_kept_in_bfloat16():
    linear = layer()
    linear.weight[0, 0] = 1e6
    packed = FORMATS["bfloat16"](linear)
    assert torch.equal(packed.weight, linear.weight.bfloat16().float())
    assert error(packed, activations(3, 70)) < 1e-6


@formats
def test_gradients_reach_the_input_also_under_transforms(weights):
    packed = FORMATS[weights](layer())
    x = activations(3, 70).requires_grad_()
    packed(x).sum().backward()
    torch.testing.assert_close(x.grad, packed.weight.sum(0).expand(3, 70))
    with torch.no_grad():
        batched = torch.func.vmap(packed)(x)
        torch.testing.assert_close(batched, F.linear(x, packed.weight, packed.bias))


@formats
@pytest.mark.parametrize("record", [torch.jit.trace, torch.export.export], ids=["trace", "export"])
def test_a_traced_layer_is_refused(weights, record):
    packed, x = FORMATS[weights](layer()).eval(), activations(3, 70)
    with pytest.raises(RuntimeError, match="do so with the original model"):
        record(packed, (x,))


def test_the_operators_are_found_whatever_the_defaults_are():
    probes = [getattr(packed_linear, name) for name in PROBES]
    expected = [probe() is not None for probe in probes]
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            assert [probe.__wrapped__() is not None for probe in probes] == expected
    finally:
        torch.set_default_dtype(torch.float32)


@formats
def test_what_the_layer_says_of_itself(weights):
    packed = FORMATS[weights](layer())
    assert "in_features=70, out_features=33, bias=True" in repr(packed)
    assert list(packed.state_dict()) == ["weight", "bias"]
    assert [p.requires_grad for p in packed.parameters()] == [False]
    assert packed.weight_bytes >= 33 * 70
    for call in (packed.double, packed.half, lambda: packed.to("meta")):
        with pytest.raises(ValueError, match="cannot be moved to"):
            call()
    with pytest.raises(ValueError, match="cannot be loaded into packed layers"):
        packed.load_state_dict(packed.state_dict())
