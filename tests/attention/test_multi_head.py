"""Multi-head attention against its formula."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassformer.attention import (
    FusedAttention,
    KVCache,
    MultiHeadAttention,
    ScaledDotProductAttention,
    causal,
    padding,
)
from glassformer.positions import RotaryPositions


def test_the_documented_calls_work():
    x = torch.randn(2, 5, 512)
    mask = torch.ones(5, 5).tril().bool()
    output, weights = ScaledDotProductAttention(dropout=0.1)(x, x, x, mask=mask)
    assert (output.shape, weights.shape) == ((2, 5, 512), (2, 5, 5))
    mha = MultiHeadAttention(d_model=512, num_heads=8)
    output, average = mha(x, x, x, mask)
    maps = mha.get_attention_maps(x, x, x, mask)
    assert (output.shape, average.shape, maps.shape) == ((2, 5, 512), (2, 5, 5), (2, 8, 5, 5))
    torch.testing.assert_close(average, maps.mean(1))
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 8, 5))


def test_multi_head_attention_is_its_formula():
    mha, x = MultiHeadAttention(6, 2).double(), torch.randn(1, 4, 6, dtype=torch.float64)
    heads = []
    for i in range(2):
        rows = slice(3 * i, 3 * i + 3)  # W_i: the rows of the projections that make head i
        q, k, v = (x @ p.weight[rows].T + p.bias[rows] for p in (mha.q_proj, mha.k_proj, mha.v_proj))
        heads.append(torch.softmax(q @ k.mT / 3**0.5, dim=-1) @ v)
    expected = torch.cat(heads, dim=-1) @ mha.out_proj.weight.T + mha.out_proj.bias
    torch.testing.assert_close(mha(x)[0], expected)


@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
@pytest.mark.parametrize("kernel", [ScaledDotProductAttention, FusedAttention])
def test_grouped_queries_share_keys_and_values(num_kv_heads, kernel):
    grouped = MultiHeadAttention(16, 4, num_kv_heads=num_kv_heads, kernel=kernel())
    full = MultiHeadAttention(16, 4)
    state = grouped.state_dict()
    for name in ("k_proj.weight", "k_proj.bias", "v_proj.weight", "v_proj.bias"):
        kv = state[name].unflatten(0, (num_kv_heads, 4))
        state[name] = kv.repeat_interleave(4 // num_kv_heads, dim=0).flatten(0, 1)
    full.load_state_dict(state)
    x = torch.randn(2, 5, 16)
    torch.testing.assert_close(grouped(x, mask=causal())[0], full(x, mask=causal())[0])
    torch.testing.assert_close(grouped.get_attention_maps(x), full.get_attention_maps(x))


def test_cross_attention_reads_another_source_and_is_never_rotated():
    plain = MultiHeadAttention(16, 2)
    rotary = MultiHeadAttention(16, 2, rotary=RotaryPositions(8))
    rotary.load_state_dict(plain.state_dict())
    x, memory = torch.randn(2, 3, 16), torch.randn(2, 7, 16)
    output, weights = plain(x, memory)
    assert (output.shape, weights.shape) == ((2, 3, 16), (2, 3, 7))
    torch.testing.assert_close(rotary(x, memory)[0], output)
    torch.testing.assert_close(plain(x, memory, memory)[0], output)
    assert not torch.allclose(rotary(x)[0], plain(x)[0])


@pytest.mark.slow
@given(cuts=st.lists(st.integers(1, 8), max_size=4, unique=True), rotary=st.booleans(), fused=st.booleans())
def test_logits_are_the_same_with_a_cache(cuts, rotary, fused):
    mha = MultiHeadAttention(
        16,
        4,
        num_kv_heads=2,
        kernel=FusedAttention() if fused else None,
        rotary=RotaryPositions(4) if rotary else None,
    )
    x = torch.randn(2, 9, 16)
    whole, _ = mha(x, mask=causal())
    cache, start, parts = KVCache(9), 0, []
    for end in [*sorted(cuts), 9]:
        parts.append(mha(x[:, start:end], mask=causal(), cache=cache)[0])
        start = end
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    assert cache.length == 9


@pytest.mark.parametrize("kernel", [ScaledDotProductAttention, FusedAttention])
def test_without_positions_permuted_tokens_give_permuted_outputs(kernel):
    mha, x, order = MultiHeadAttention(16, 4, kernel=kernel()), torch.randn(2, 6, 16), torch.randperm(6)
    torch.testing.assert_close(mha(x[:, order])[0], mha(x)[0][:, order])


@given(changed=st.integers(0, 5), fused=st.booleans(), rotary=st.booleans())
def test_attention_is_causal(changed, fused, rotary):
    mha = MultiHeadAttention(
        8, 2, kernel=FusedAttention() if fused else None, rotary=RotaryPositions(4) if rotary else None
    )
    x = torch.randn(1, 6, 8)
    other = x.clone()
    other[:, changed] += 1.0
    a, b = mha(x, mask=causal())[0], mha(other, mask=causal())[0]
    assert torch.equal(a[:, :changed], b[:, :changed])
    assert not torch.allclose(a[:, changed], b[:, changed])


def test_padding_does_not_affect_logits():
    mha, x = MultiHeadAttention(8, 2), torch.randn(1, 5, 8)
    padded = torch.cat([x, torch.full((1, 2, 8), 1e3)], dim=1)
    mask = padding(torch.tensor([[1, 1, 1, 1, 1, 0, 0]]))
    torch.testing.assert_close(mha(padded, mask=mask)[0][:, :5], mha(x)[0])


def test_gradients_reach_every_parameter():
    mha = MultiHeadAttention(12, 4, num_kv_heads=2, d_head=5)
    mha(torch.randn(2, 3, 12))[0].square().sum().backward()
    for name, parameter in mha.named_parameters():
        if name != "k_proj.bias":  # adds the same to every score of a row: softmax does not see it
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"d_model": 10, "num_heads": 4}, "d_model=10 is not divisible by num_heads=4"),
        ({"d_model": 8, "num_heads": 4, "num_kv_heads": 3}, "num_heads=4 is not divisible by num_kv_heads=3"),
        ({"d_model": 8, "num_heads": 0}, "num_heads must be positive, not 0"),
        ({"d_model": 0, "num_heads": 1}, "d_model must be positive, not 0"),
        ({"d_model": 8, "num_heads": 2, "num_kv_heads": 0}, "num_kv_heads must be positive, not 0"),
        ({"d_model": 8, "num_heads": 2, "d_head": 0}, "d_head must be positive, not 0"),
    ],
)
def test_sizes_that_do_not_fit_raise(sizes, message):
    with pytest.raises(ValueError, match=message):
        MultiHeadAttention(**sizes)


def test_numbers_of_heads_that_do_not_divide_raise():
    q, kv = torch.randn(1, 3, 4, 8), torch.randn(1, 2, 4, 8)
    with pytest.raises(ValueError, match="3 query heads are not a multiple of 2"):
        ScaledDotProductAttention()(q, kv, kv)
