"""Key and value caches."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassformer.attention import (
    CrossAttentionCache,
    KVCache,
    MultiHeadAttention,
    SlidingWindowCache,
    padding,
)


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=6))
def test_cache_returns_what_was_appended_in_order(sizes):
    cache = KVCache(sum(sizes))
    k, v = torch.randn(2, 3, sum(sizes), 4), torch.randn(2, 3, sum(sizes), 5)
    for step, size in enumerate(sizes):
        start = sum(sizes[:step])
        keys, values = cache.append(k[:, :, start : start + size], v[:, :, start : start + size])
        assert cache.length == start + size
        assert torch.equal(keys, k[:, :, : cache.length])
        assert torch.equal(values, v[:, :, : cache.length])


def test_memory_is_allocated_once():
    cache = KVCache(5)
    first, _ = cache.append(torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1, 2))
    second, _ = cache.append(torch.ones(1, 1, 4, 2), torch.ones(1, 1, 4, 2))
    assert first.data_ptr() == second.data_ptr()
    cache.clear()
    third, _ = cache.append(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
    assert third.data_ptr() == first.data_ptr()
    assert torch.equal(third, torch.zeros(1, 1, 2, 2))
    assert repr(cache) == "KVCache(length=2, capacity=5)"


def test_rows_are_selected_and_repeated():
    cache = KVCache(3)
    cache.select(torch.tensor([0]))  # nothing to select from yet
    k = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, 1, 4)
    cache.append(k, k)
    cache.select(torch.tensor([1, 1, 0]))
    keys, _ = cache.append(torch.full((3, 1, 1, 4), 9.0), torch.full((3, 1, 1, 4), 9.0))
    assert keys[:, 0, :, 0].tolist() == [[1.0, 9.0], [1.0, 9.0], [0.0, 9.0]]


@pytest.mark.parametrize("is_grad_enabled", [True, False])
def test_stored_keys_and_values_have_no_gradients(is_grad_enabled):
    cache, k = KVCache(3), torch.ones(1, 1, 2, 4, requires_grad=True)
    with torch.set_grad_enabled(is_grad_enabled):
        keys, values = cache.append(k * 2, k * 3)
    assert not keys.requires_grad
    assert not values.requires_grad
    assert torch.equal(keys, (k * 2).detach())


def test_new_rows_must_fit_the_rows_that_were_selected():
    cache = KVCache(3)
    cache.append(torch.ones(2, 1, 1, 4), torch.ones(2, 1, 1, 4))
    cache.select(torch.tensor([0]))
    with pytest.raises(ValueError, match=r"\(1, 1, 0, 4\) of torch.float32, got \(2, 1, 0, 4\)"):
        cache.append(torch.ones(2, 1, 1, 4), torch.ones(2, 1, 1, 4))


def test_cache_rejects_wrong_shapes_and_overflow():
    with pytest.raises(ValueError, match="at least 1 slot, not 0"):
        KVCache(0)
    cache = KVCache(2)
    cache.append(torch.ones(1, 2, 1, 4), torch.ones(1, 2, 1, 4))
    with pytest.raises(ValueError, match="has 2 slots, but needs 3"):
        cache.append(torch.ones(1, 2, 2, 4), torch.ones(1, 2, 2, 4))
    with pytest.raises(ValueError, match=r"\(1, 2, 0, 4\) of torch.float32, got \(3, 2, 0, 4\)"):
        cache.append(torch.ones(3, 2, 1, 4), torch.ones(3, 2, 1, 4))
    with pytest.raises(ValueError, match=r"torch.float32, got .* torch.float64"):
        cache.append(torch.ones(1, 2, 1, 4).double(), torch.ones(1, 2, 1, 4))
    with pytest.raises(ValueError, match=r"got \(1, 2, 0, 5\)"):
        cache.append(torch.ones(1, 2, 1, 4), torch.ones(1, 2, 1, 5))
    assert cache.length == 1


def test_cross_attention_keys_are_computed_once():
    attention = MultiHeadAttention(8, 2).double()
    memory, mask = (
        torch.randn(3, 5, 8).double(),
        padding(torch.tensor([[1] * 5, [1, 1, 1, 0, 0], [0, 1, 1, 1, 1]])),
    )
    queries = torch.randn(3, 4, 8).double()
    cache, calls = CrossAttentionCache(), []
    attention.k_proj.register_forward_hook(lambda *_: calls.append(1))
    assert (cache.length, cache.is_filled) == (0, False)
    for step in range(4):
        query = queries[:, step : step + 1]
        output = attention(query, memory, mask=mask, cache=cache)[0]
        torch.testing.assert_close(output, attention(query, memory, mask=mask)[0])
        assert (cache.length, cache.is_filled) == (5, True)
    assert len(calls) == 1 + 4


def test_cross_attention_cache_selects_rows():
    cache, k, v = CrossAttentionCache(), torch.randn(2, 1, 3, 4), torch.randn(2, 1, 3, 4)
    cache.select(torch.tensor([0]))  # nothing there yet, nothing to do
    cache.append(k, v)
    cache.select(torch.tensor([1, 1, 0]))
    keys, values = cache.read()
    assert torch.equal(keys, k[[1, 1, 0]])
    assert torch.equal(values, v[[1, 1, 0]])
    cache.clear()
    assert not cache.is_filled


def test_cache_error_messages():
    with pytest.raises(ValueError, match="empty"):
        CrossAttentionCache().read()
    with pytest.raises(ValueError, match="empty"):
        KVCache(3).read()
    cache = CrossAttentionCache()
    cache.append(torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1, 2))
    with pytest.raises(ValueError, match="already filled"):
        cache.append(torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1, 2))


@given(
    window=st.integers(1, 6),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    bounded=st.booleans(),
    clear=st.booleans(),
)
def test_a_window_cache_returns_what_the_new_tokens_may_attend_to(window, sizes, bounded, clear):
    cache = SlidingWindowCache(window, sum(sizes) if bounded else None)
    if clear:
        cache.append(torch.ones(2, 3, 1, 4), torch.ones(2, 3, 1, 5))
        cache.clear()
        assert cache.length == 0
    k, v = torch.randn(2, 3, sum(sizes), 4), torch.randn(2, 3, sum(sizes), 5)
    memory = None
    for step, size in enumerate(sizes):
        start, end = sum(sizes[:step]), sum(sizes[: step + 1])
        first = start - min(start, window - 1)
        assert cache.num_keys(size) == end - first
        keys, values = cache.append(k[:, :, start:end], v[:, :, start:end])
        assert torch.equal(keys, k[:, :, first:end])
        assert torch.equal(values, v[:, :, first:end])
        assert cache.length == end
        read = cache.read()[0]
        assert torch.equal(read, k[:, :, end - read.size(2) : end])
        assert read.size(2) >= min(end, window)
        assert memory in (None, cache._keys.shape)
        memory = cache._keys.shape
    assert memory[2] <= 2 * window


def test_a_window_cache_selects_rows_and_checks_what_is_appended():
    cache = SlidingWindowCache(2, 8)
    assert cache.num_keys(3) == 3
    with pytest.raises(ValueError, match="empty"):
        cache.read()
    cache.select(torch.tensor([0]))  # nothing to select from yet
    k = torch.arange(2.0, requires_grad=True).view(2, 1, 1, 1).expand(2, 1, 5, 4)
    keys, _ = cache.append(k, k)
    assert not keys.requires_grad
    cache.select(torch.tensor([1, 1, 0]))
    cache.select(torch.tensor([0, 2]))
    assert cache.selected_rows.tolist() == [1, 0]
    new = torch.full((2, 1, 1, 4), 9.0)
    keys, _ = cache.append(new, new)
    assert keys[:, 0, :, 0].tolist() == [[1.0, 9.0], [0.0, 9.0]]
    assert cache.selected_rows is None
    with pytest.raises(ValueError, match="8 slots, but needs 9"):
        cache.append(k[:, :, :3], k[:, :, :3])
    with pytest.raises(ValueError, match="create a new cache"):
        cache.append(k[:1, :, :1], k[:1, :, :1])
    assert repr(cache) == "SlidingWindowCache(length=6, window=2)"
    for window, capacity in ((0, 3), (2, 0)):
        with pytest.raises(ValueError, match="must be at least 1.*not 0"):
            SlidingWindowCache(window, capacity)
