"""Conformance of attention kernels that compute softmax attention. Add a kernel to ``KERNELS``."""

from __future__ import annotations

import math
from functools import partial
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from glassformer.attention import KERNELS as ALL_KERNELS
from glassformer.attention import (
    BlockSparseAttention,
    FlashAttention,
    MultiHeadAttention,
    ScaledDotProductAttention,
    causal,
    dilated_window,
    global_tokens,
    padding,
    prefix,
    random_blocks,
    sliding_window,
)
from glassformer.attention.kernels import tile_scores
from glassformer.attention.kernels.tiles import TileSizes
from glassformer.attention.random_bits import hash_uniform
from glassformer.positions import ALiBi, RelativeBias
from glassformer.positions.position_bias import PositionBias


class SmallGroups(BlockSparseAttention):
    """Blocks of two queries and keys, of which at most two are gathered."""

    def tile_sizes(self, q_len):
        return TileSizes(2, 2, 4)


KERNELS = {
    **{name: kernel for name, kernel in ALL_KERNELS.items() if name != "linear"},
    "flash, small tiles": partial(FlashAttention, query_tile=2, key_tile=3),
    "block_sparse, small blocks": partial(BlockSparseAttention, block_size=2),
    "block_sparse, small groups": SmallGroups,
}
kernels = pytest.mark.parametrize("kernel", KERNELS)
tiled = pytest.mark.parametrize("kernel", [name for name in KERNELS if name.startswith(("flash", "block"))])


@st.composite
def problems(draw):
    """q, k, v in float64 with uneven sizes, a mask of any kind, and perhaps a bias."""
    batch, kv_heads, group = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    key = draw(st.integers(1, 9))
    query = draw(st.integers(1, key))
    d_head = draw(st.sampled_from([1, 3, 8]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)

    heads = kv_heads * group
    q, k, v = (
        randn(batch, heads, query, d_head),
        randn(batch, kv_heads, key, d_head),
        randn(batch, kv_heads, key, d_head),
    )
    real = torch.rand(batch, key, generator=generator) < 0.7
    mask = draw(
        st.sampled_from(
            [
                None,
                causal(),
                padding(real),
                causal() & padding(real),
                causal() & sliding_window(2),
                (causal() & sliding_window(2)) | global_tokens([0]),
                causal() | prefix(2),
                ~causal(),
                dilated_window(2, 3),
                random_blocks(1, 2) | sliding_window(1),
                causal() & random_blocks(2, 2, is_causal=True) & padding(real),
                causal().at(torch.randint(0, key, (query,), generator=generator)),
                torch.rand(query, key, generator=generator) < 0.6,
                torch.rand(batch, query, key, generator=generator) < 0.6,
                torch.rand(batch, 1, query, key, generator=generator) < 0.6,
                torch.rand(batch, heads, query, key, generator=generator) < 0.6,
            ]
        )
    )
    bias = draw(st.sampled_from([None, (1, heads, query, key), (batch, heads, query, key)]))
    return q, k, v, mask, None if bias is None else randn(*bias)


def gradients(output, *inputs):
    direction = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return torch.autograd.grad((output * direction).sum(), inputs)


@kernels
@given(
    problem=problems(), scale=st.sampled_from([None, 2.0]), softcap=st.sampled_from([None, None, 0.3, 2.0])
)
def test_equals_the_textbook_in_outputs_and_gradients(kernel, problem, scale, softcap):
    q, k, v, mask, bias = problem
    inputs = [tensor for tensor in (q, k, v, bias) if tensor is not None]
    expected, _ = ScaledDotProductAttention(0.0, scale, softcap)(q, k, v, mask, bias)
    output, _ = KERNELS[kernel](0.0, scale, softcap)(q, k, v, mask, bias)
    torch.testing.assert_close(output, expected, atol=1e-12, rtol=1e-10)
    for ours, theirs in zip(gradients(output, *inputs), gradients(expected, *inputs), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-10)


@kernels
@given(problem=problems(), softcap=st.floats(0.1, 5.0))
def test_scores_stay_below_the_softcap(kernel, problem, softcap):
    q, k, _, mask, _ = problem
    v = torch.eye(k.size(-2), dtype=k.dtype).expand(*k.shape[:-1], -1)  # the outputs are the weights
    weights, _ = KERNELS[kernel](0.0, 1.0, softcap)(q, k, v, mask)
    scores = q @ k.repeat_interleave(q.size(-3) // k.size(-3), -3).transpose(-2, -1)
    capped = softcap * torch.tanh(scores / softcap)
    assert bool((capped.abs() <= softcap).all())
    allowed = weights > 0
    expected = (capped.exp() * allowed).nan_to_num()
    expected = expected / expected.sum(-1, keepdim=True).clamp(min=1e-300)
    torch.testing.assert_close(weights, expected, atol=1e-12, rtol=1e-9)


@kernels
@given(problem=problems())
def test_equals_pytorch(kernel, problem):
    q, k, v, mask, bias = problem
    if mask is None or isinstance(mask, torch.Tensor):
        dense = torch.ones(q.size(-2), k.size(-2), dtype=torch.bool) if mask is None else mask
        dense = dense[:, None] if dense.dim() == 3 else dense
    else:
        dense = mask.dense(q.size(-2), k.size(-2))
    added = torch.zeros(1, dtype=q.dtype) if bias is None else bias
    output, _ = KERNELS[kernel](0.0, None)(q, k, v, mask, bias)
    repeat = q.size(1) // k.size(1)
    expected = F.scaled_dot_product_attention(
        q,
        k.repeat_interleave(repeat, 1),
        v.repeat_interleave(repeat, 1),
        attn_mask=(added + torch.zeros_like(dense, dtype=q.dtype)).masked_fill(~dense, -math.inf),
    )
    torch.testing.assert_close(output, expected, atol=1e-12, rtol=1e-10)


@kernels
@given(problem=problems())
def test_weights_are_a_distribution_over_allowed_keys(kernel, problem):
    q, k, v, mask, bias = problem
    output, weights = KERNELS[kernel](0.0, None)(q, k, v, mask, bias)
    if weights is None:
        weights = ScaledDotProductAttention()(q, k, v, mask, bias)[1]
    assert weights.shape == (*q.shape[:-1], k.size(-2))
    assert (weights >= 0).all()
    sums = weights.sum(-1)
    has_keys = sums > 0.5
    torch.testing.assert_close(sums[has_keys], torch.ones_like(sums[has_keys]))
    assert (sums[~has_keys] == 0).all()
    assert (output[~has_keys] == 0).all()
    shared = v.repeat_interleave(q.size(1) // v.size(1), dim=1)
    torch.testing.assert_close(output, weights @ shared, atol=1e-12, rtol=1e-10)


@kernels
def test_a_query_with_nothing_to_attend_to_gets_zeros_and_finite_gradients(kernel):
    q, k, v = (torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    mask = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    output, _ = KERNELS[kernel](0.0, None)(q, k, v, mask)
    assert (output[:, :, 1] == 0).all()
    assert (output[:, :, 0] != 0).all()
    for gradient in gradients(output, q, k, v):
        assert gradient.isfinite().all()


@kernels
@pytest.mark.parametrize("mask", [None, causal(), padding(torch.tensor([[True, True, False]]))])
def test_gradcheck(kernel, mask):
    q, k, v = (torch.randn(1, 2, 3, 2, dtype=torch.float64, requires_grad=True) for _ in range(3))
    bias = torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    attend = KERNELS[kernel](0.0, None)
    assert torch.autograd.gradcheck(
        lambda *args: attend(args[0], args[1], args[2], mask, args[3])[0], (q, k, v, bias)
    )


def position_bias(kind, heads, query, key, batch=None):
    """A symbolic bias in float64 of which every query and key has a position of its own."""
    scheme = ALiBi(heads) if kind == "alibi" else RelativeBias(heads, 8, 6, bidirectional=True).double()
    shape = () if batch is None else (batch,)
    return PositionBias(scheme, torch.randint(0, 9, (*shape, query)), torch.randint(0, 9, (*shape, key)))


@tiled
@given(problem=problems(), kind=st.sampled_from(["alibi", "relative_bias"]), by_row=st.booleans())
def test_symbolic_biases_give_the_outputs_and_gradients_of_dense_ones(kernel, problem, kind, by_row):
    q, k, v, mask, _ = problem
    bias = position_bias(kind, q.size(1), q.size(2), k.size(2), q.size(0) if by_row else None)
    inputs = [q, k, v, *bias.parameters()]
    expected, _ = ScaledDotProductAttention()(q, k, v, mask, bias.dense())
    output, _ = KERNELS[kernel](0.0, None)(q, k, v, mask, bias)
    torch.testing.assert_close(output, expected, atol=1e-12, rtol=1e-10)
    for ours, theirs in zip(gradients(output, *inputs), gradients(expected, *inputs), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-10)


@tiled
@given(problem=problems(), kind=st.sampled_from([None, "alibi", "relative_bias"]))
def test_rows_of_the_batch_may_be_processed_one_after_the_other(kernel, problem, kind):
    q, k, v, mask, bias = problem
    if kind is not None:
        bias = position_bias(kind, q.size(1), q.size(2), k.size(2), q.size(0))
    inputs = [q, k, v, *([] if bias is None else [bias] if kind is None else bias.parameters())]
    expected, _ = ScaledDotProductAttention()(q, k, v, mask, bias)
    with mock.patch.object(tile_scores, "TILE_SCORES", 1):
        output, _ = KERNELS[kernel](0.0, None)(q, k, v, mask, bias)
        ours = gradients(output, *inputs)
    torch.testing.assert_close(output, expected, atol=1e-12, rtol=1e-10)
    for own, theirs in zip(ours, gradients(expected, *inputs), strict=True):
        torch.testing.assert_close(own, theirs, atol=1e-12, rtol=1e-10)


@tiled
@given(problem=problems(), rate=st.sampled_from([0.2, 0.7]), seed=st.integers(0, 2**31 - 2))
def test_dropped_weights_are_a_function_of_seed_and_place(kernel, problem, rate, seed):
    q, k, v, mask, bias = problem
    inputs = [tensor for tensor in (q, k, v, bias) if tensor is not None]
    (batch, heads, queries), keys = q.shape[:3], k.size(2)
    rows = torch.arange(batch * heads).view(batch, heads, 1, 1)
    kept = hash_uniform(seed, rows, torch.arange(queries)[:, None], torch.arange(keys)) >= rate
    weights = ScaledDotProductAttention().weights(q, k, mask, bias) * kept / (1 - rate)
    expected = weights @ v.repeat_interleave(heads // v.size(1), dim=1)
    with mock.patch("torch.randint", return_value=torch.tensor(seed)):
        output, _ = KERNELS[kernel](rate, None).train()(q, k, v, mask, bias)
    torch.testing.assert_close(output, expected, atol=1e-12, rtol=1e-10)
    for ours, theirs in zip(gradients(output, *inputs), gradients(expected, *inputs), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-10)


@kernels
@pytest.mark.parametrize("with_grad", [True, False])
@given(problem=problems())
def test_the_weights_of_a_kernel_are_the_textbook_ones(kernel, with_grad, problem):
    q, k, v, mask, bias = problem
    with torch.set_grad_enabled(with_grad):
        weights = KERNELS[kernel](0.0, None).weights(q, k, mask, bias)
    expected = ScaledDotProductAttention()(q, k, v, mask, bias)[1]
    torch.testing.assert_close(weights, expected, atol=1e-12, rtol=1e-10)


@kernels
def test_causal_mask_with_fewer_queries_than_keys_is_aligned_with_the_last_key(kernel):
    q, k, v = torch.randn(1, 2, 5, 4), torch.randn(1, 2, 5, 4), torch.randn(1, 2, 5, 4)
    attend = KERNELS[kernel](0.0, None)
    whole, _ = attend(q, k, v, causal())
    for last in range(1, 6):
        part, _ = attend(q[:, :, -last:], k, v, causal())
        torch.testing.assert_close(part, whole[:, :, -last:])


@kernels
@pytest.mark.parametrize("lead", [(), (2,), (2, 3), (2, 1, 3)])
def test_any_leading_dimensions(kernel, lead):
    q, k, v = (torch.randn(*lead, 4, 8) for _ in range(3))
    output, _ = KERNELS[kernel](0.0, None)(q, k, v, causal())
    expected = (
        torch.softmax((q @ k.mT / math.sqrt(8)).masked_fill(~torch.ones(4, 4).tril().bool(), -math.inf), -1)
        @ v
    )
    torch.testing.assert_close(output, expected)


@kernels
def test_scale_replaces_the_root_of_d_head(kernel):
    q, k, v = (torch.randn(1, 2, 4, 8) for _ in range(3))
    output, _ = KERNELS[kernel](0.0, 1.0)(q, k, v)
    torch.testing.assert_close(output, torch.softmax(q @ k.mT, -1) @ v)


@kernels
def test_dropout_acts_in_training_only_and_keeps_the_mean(kernel):
    q, k = torch.randn(1, 1, 300, 4), torch.randn(1, 1, 200, 4)
    v = torch.ones(1, 1, 200, 4)
    attend = KERNELS[kernel](0.5, None)
    assert torch.allclose(attend.eval()(q, k, v)[0], torch.ones(1))
    dropped, weights = attend.train()(q, k, v)
    assert dropped.std() > 0.01
    assert abs(dropped.mean().item() - 1) < 0.05
    if weights is not None:  # what is returned is before dropout
        torch.testing.assert_close(weights.sum(-1), torch.ones(1, 1, 300))


@kernels
def test_low_precision_stays_close(kernel):
    q, k, v = (torch.randn(2, 2, 6, 8) for _ in range(3))
    low, _ = KERNELS[kernel](0.0, None)(q.bfloat16(), k.bfloat16(), v.bfloat16(), causal())
    assert low.dtype == torch.bfloat16
    expected, _ = ScaledDotProductAttention()(q, k, v, causal())
    torch.testing.assert_close(low.float(), expected, atol=0.05, rtol=0.05)


@kernels
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_bias_of_another_dtype_is_converted(kernel, dtype):
    q, k, v = (torch.randn(1, 2, 4, 8, dtype=dtype) for _ in range(3))
    bias = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    output, _ = KERNELS[kernel](0.0, None)(q, k, v, causal(), bias)
    assert output.dtype == dtype
    expected, _ = ScaledDotProductAttention()(q.double(), k.double(), v.double(), causal(), bias)
    torch.testing.assert_close(output.double(), expected, atol=0.05, rtol=0.05)


@kernels
def test_a_mask_over_keys_alone_broadcasts_over_queries(kernel):
    q, k, v = (torch.randn(2, 2, 4, 8) for _ in range(3))
    real = torch.tensor([[True, True, True, False], [False, True, True, True]])
    output, _ = KERNELS[kernel](0.0, None)(q, k, v, real[:, None, None, :])
    expected, _ = KERNELS[kernel](0.0, None)(q, k, v, padding(real))
    torch.testing.assert_close(output, expected)


@kernels
@pytest.mark.parametrize("sizes", [(0, 0), (0, 3)])
@pytest.mark.parametrize("mask", [None, causal(), causal() & sliding_window(2)])
def test_no_queries_give_an_empty_output(kernel, sizes, mask):
    query, key = sizes
    q, k = torch.randn(2, 2, query, 4, requires_grad=True), torch.randn(2, 2, key, 4)
    output, _ = KERNELS[kernel](0.0, None)(q, k, k, mask)
    assert output.shape == (2, 2, query, 4)
    output.sum().backward()


@kernels
def test_leading_dimensions_broadcast(kernel):
    q, k = torch.randn(2, 4, 5, 8), torch.randn(1, 4, 5, 8)
    output, _ = KERNELS[kernel](0.0, None)(q, k, k, causal())
    expected, _ = ScaledDotProductAttention()(q, k.expand_as(q), k.expand_as(q), causal())
    torch.testing.assert_close(output, expected)


@tiled
def test_keys_and_values_of_different_lengths_raise(kernel):
    q, k, v = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3, 4), torch.randn(1, 2, 5, 4)
    with pytest.raises(ValueError, match="a value for each key, but there are 3 and 5"):
        KERNELS[kernel](0.0, None)(q, k, v)


@tiled
@pytest.mark.parametrize("shape", [(9, 9), (3, 2, 4, 4), (2, 2, 3, 4), (1, 1, 1, 2, 4, 4)])
def test_a_bias_of_a_wrong_shape_raises(kernel, shape):
    q = torch.randn(2, 2, 4, 8)
    with pytest.raises(ValueError, match=r"a bias of shape.*does not fit scores of shape \(2, 2, 4, 4\)"):
        KERNELS[kernel](0.0, None)(q, q, q, None, torch.randn(shape))


@tiled
@pytest.mark.parametrize("shape", [(), (4,), (1, 4), (2, 4, 4), (2, 1, 4, 1)])
def test_a_bias_broadcasts_to_the_scores(kernel, shape):
    q, bias = torch.randn(2, 2, 4, 8), torch.randn(shape)
    output, _ = KERNELS[kernel](0.0, None)(q, q, q, causal(), bias)
    torch.testing.assert_close(output, ScaledDotProductAttention()(q, q, q, causal(), bias)[0])


@kernels
def test_a_bias_of_the_least_number_everywhere_gives_the_mean(kernel):
    q, v = torch.randn(1, 1, 3, 8), torch.randn(1, 1, 3, 8)
    bias = torch.zeros(3, 3)
    bias[1] = torch.finfo(torch.float32).min  # as other libraries write masks
    bias[2, :2] = -torch.inf
    output, _ = KERNELS[kernel](0.0, None)(q, q, v, None, bias)
    torch.testing.assert_close(output[0, 0, 1], v[0, 0].mean(0))
    torch.testing.assert_close(output[0, 0, 2], v[0, 0, 2])


@tiled
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_no_worse_than_pytorchs(kernel, dtype):
    q, k, v = (3 * torch.randn(2, 2, 64, 32) for _ in range(3))
    expected, _ = ScaledDotProductAttention()(q, k, v, causal())
    errors = []
    for attend in (KERNELS[kernel](0.0, None), ALL_KERNELS["fused"]()):
        output, _ = attend(q.to(dtype), k.to(dtype), v.to(dtype), causal())
        errors.append((output.float() - expected).abs().mean())
    assert errors[0] < 1.1 * errors[1]
    large = torch.full((1, 1, 4, 64), 100.0, dtype=dtype)  # scores above the largest number of float16
    assert (KERNELS[kernel](0.0, None)(large, large, large)[0] == 100).all()


@tiled
def test_a_symbolic_bias_with_frozen_parameters(kernel):
    bias = position_bias("relative_bias", 2, 4, 4)
    bias.scheme.requires_grad_(False)
    q = torch.randn(1, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    KERNELS[kernel](0.0, None)(q, q, q, causal(), bias)[0].sum().backward()
    assert q.grad.isfinite().all()


@tiled
def test_tensors_without_data_have_a_shape(kernel):
    q = torch.empty(2, 4, 5, 8, device="meta")
    assert KERNELS[kernel](0.0, None)(q, q[:, :2], q[:, :2], causal())[0].shape == q.shape


@pytest.mark.gpu
@kernels
@pytest.mark.parametrize("mask", [None, causal(), causal() & sliding_window(3)])
def test_outputs_on_gpu_and_cpu_agree(kernel, mask):
    q, k, v = (torch.randn(2, heads, 9, 16, dtype=torch.float64) for heads in (4, 2, 2))
    attend = KERNELS[kernel](0.0, None)
    here, _ = attend(q, k, v, mask)
    there, _ = attend(q.cuda(), k.cuda(), v.cuda(), mask)
    torch.testing.assert_close(there.cpu(), here, atol=1e-10, rtol=1e-8)


@kernels
@pytest.mark.parametrize("dropout", [-0.1, 1.0, 1.5])
def test_an_invalid_dropout_raises(kernel, dropout):
    with pytest.raises(ValueError, match=f"dropout.*{dropout}"):
        KERNELS[kernel](dropout, None)


@kernels
def test_masks_of_wrong_type_or_shape_raise(kernel):
    q = torch.randn(2, 2, 3, 4)
    attend = KERNELS[kernel](0.0, None)
    with pytest.raises(TypeError, match=r"boolean.*float32"):
        attend(q, q, q, torch.ones(3, 3))
    with pytest.raises(TypeError, match="str"):
        attend(q, q, q, "causal")
    for shape in [(3, 4), (4, 3, 3), (2, 3, 3, 3), (1, 1, 1, 3, 3), (3,)]:
        with pytest.raises(ValueError, match="does not fit"):
            attend(q, q, q, torch.ones(shape, dtype=torch.bool))


@kernels
@given(
    batch=st.integers(1, 3),
    seq=st.integers(1, 7),
    heads=st.sampled_from([1, 2, 3]),
    d_head=st.sampled_from([1, 4]),
    masked=st.booleans(),
)
def test_multi_head_equals_pytorchs_with_copied_weights(kernel, batch, seq, heads, d_head, masked):
    d_model = heads * d_head
    ours = MultiHeadAttention(d_model, heads, kernel=KERNELS[kernel](0.0, None)).double()
    theirs = nn.MultiheadAttention(d_model, heads, batch_first=True).double()
    projections = [ours.q_proj, ours.k_proj, ours.v_proj]
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
        theirs.in_proj_bias.copy_(torch.cat([p.bias for p in projections]))
        theirs.out_proj.weight.copy_(ours.out_proj.weight)
        theirs.out_proj.bias.copy_(ours.out_proj.bias)
    x, y = (torch.randn(batch, seq, d_model, dtype=torch.float64, requires_grad=True) for _ in range(2))
    mask = torch.ones(seq, seq, dtype=torch.bool).tril() if masked else None
    output, average = ours(x, y, y, mask)
    expected, expected_average = theirs(x, y, y, attn_mask=None if mask is None else ~mask)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(ours.get_attention_maps(x, y, y, mask).mean(1), expected_average)
    if average is not None:
        torch.testing.assert_close(average, expected_average)
    for a, b in zip(gradients(output, x, y), gradients(expected, x, y), strict=True):
        torch.testing.assert_close(a, b)
