"""Conformance of attention kernels. Add a kernel to ``KERNELS``."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from glassformer.attention import (
    KERNELS,
    MultiHeadAttention,
    ScaledDotProductAttention,
    causal,
    global_tokens,
    padding,
    prefix,
    sliding_window,
)

kernels = pytest.mark.parametrize("kernel", KERNELS)


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
@given(problem=problems())
def test_equals_the_textbook_in_outputs_and_gradients(kernel, problem):
    q, k, v, mask, bias = problem
    inputs = [tensor for tensor in (q, k, v, bias) if tensor is not None]
    expected, _ = ScaledDotProductAttention()(q, k, v, mask, bias)
    output, _ = KERNELS[kernel](0.0, None)(q, k, v, mask, bias)
    torch.testing.assert_close(output, expected, atol=1e-12, rtol=1e-10)
    for ours, theirs in zip(gradients(output, *inputs), gradients(expected, *inputs), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-10)


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
