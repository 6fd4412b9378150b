"""Linear attention: sums over keys against the table of weights, masks, decoding, and random features."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from glassformer.attention import (
    ScaledDotProductAttention,
    causal,
    global_tokens,
    padding,
    prefix,
    sliding_window,
)
from glassformer.attention.kernels.feature_maps import favor_features, random_projection
from glassformer.attention.kernels.linear import LinearAttention
from glassformer.attention.linear_state import LinearStateCache

feature_maps = pytest.mark.parametrize("feature_map", ["elu", "favor"])


def make(feature_map, **options):
    return LinearAttention(feature_map=feature_map, **{"num_features": 6, "chunk_size": 3, **options})


def randn(*shape, **options):
    return torch.randn(*shape, dtype=torch.float64, **options)


def repeat_heads(x, q):
    return x.repeat_interleave(q.size(1) // x.size(1), 1)


@st.composite
def problems(draw):
    """A kernel, q, k, v in float64 with uneven sizes, and a mask that linear attention can express."""
    batch, kv_heads, group = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    key = draw(st.integers(1, 11))
    query = draw(st.integers(1, key))
    d_head = draw(st.sampled_from([1, 3, 8]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    heads = (kv_heads * group, kv_heads, kv_heads)
    widths, lengths = (d_head, d_head, draw(st.sampled_from([d_head, 2]))), (query, key, key)
    q, k, v = (
        randn(batch, *shape, generator=generator, requires_grad=True)
        for shape in zip(heads, lengths, widths, strict=True)
    )
    real = torch.rand(batch, key, generator=generator) < 0.7
    lengths = torch.randint(0, key + 1, (batch,), generator=generator)
    mask = draw(
        st.sampled_from(
            [
                None,
                causal(),
                padding(real),
                prefix(2),
                ~prefix(lengths),
                padding(real) & (prefix(lengths) | ~prefix(3)),
                causal() & padding(real),
                causal() & causal() & ~prefix(1),
                (prefix(lengths) & causal()) & padding(real),
                torch.rand(1, key, generator=generator) < 0.6,
                torch.rand(batch, 1, key, generator=generator) < 0.6,
                torch.rand(batch, heads[0], 1, key, generator=generator) < 0.6,
            ]
        )
    )
    kernel = LinearAttention(
        scale=draw(st.sampled_from([None, 0.7])),
        feature_map=draw(st.sampled_from(["elu", "favor"])),
        num_features=draw(st.integers(1, 9)),
        chunk_size=draw(st.integers(1, 5)),
    )
    return kernel, q, k, v, mask


def gradients(output, *inputs):
    direction = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return torch.autograd.grad((output * direction).sum(), inputs, materialize_grads=True)


@given(problem=problems())
def test_sums_equal_the_table_of_weights_in_outputs_and_gradients(problem):
    kernel, q, k, v, mask = problem
    output, nothing = kernel(q, k, v, mask)
    assert nothing is None
    expected = kernel.weights(q, k, mask) @ repeat_heads(v, q)
    torch.testing.assert_close(output, expected, atol=1e-10, rtol=1e-10)
    for ours, theirs in zip(gradients(output, q, k, v), gradients(expected, q, k, v), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)


@given(problem=problems())
def test_weights_are_a_distribution_over_allowed_keys(problem):
    kernel, q, k, _, mask = problem
    weights = kernel.weights(q, k, mask)
    sums = weights.sum(-1)
    assert weights.shape == (*q.shape[:-1], k.size(-2))
    assert (weights >= 0).all()
    torch.testing.assert_close(sums[sums != 0], torch.ones_like(sums[sums != 0]))
    if mask is not None:
        dense = mask if isinstance(mask, torch.Tensor) else mask.dense(q.size(-2), k.size(-2))
        dense = dense[:, None] if dense.dim() == 3 else dense
        assert torch.equal(weights != 0, dense.expand_as(weights))


def test_the_table_of_elu_is_the_formula_of_the_paper():
    q, k = randn(2, 4, 5, 8), randn(2, 2, 5, 8)
    phi_q, phi_k = F.elu(q * 0.3) + 1, F.elu(repeat_heads(k, q)) + 1
    allowed = torch.rand(5, 5) < 0.5
    allowed[:, 0] = True
    products = torch.einsum("bhid,bhjd->bhij", phi_q, phi_k) * allowed
    weights = make("elu", scale=0.3).weights(q, k, allowed)
    torch.testing.assert_close(weights, products / products.sum(-1, keepdim=True))
    unscaled = make("elu").weights(q, k)
    torch.testing.assert_close(unscaled, make("elu", scale=1.0).weights(q, k))


def test_the_table_of_favor_is_the_formula_of_the_paper():
    q, k = randn(2, 4, 5, 8), randn(2, 2, 5, 8)
    projection = random_projection(6, 8, 3, torch.float64, q.device)

    def phi(x):
        x = x * 8**-0.25
        return torch.exp(x @ projection.T - x.square().sum(-1, keepdim=True) / 2) / math.sqrt(6)

    products = phi(q) @ phi(repeat_heads(k, q)).mT
    weights = make("favor", seed=3).weights(q, k)
    torch.testing.assert_close(weights, products / products.sum(-1, keepdim=True))
    torch.testing.assert_close(weights, make("favor", seed=3, scale=8**-0.5).weights(q, k))
    assert not torch.allclose(weights, make("favor", seed=4).weights(q, k))


@feature_maps
def test_rows_of_the_table_with_the_same_rows_of_any_mask(feature_map):
    q, k = randn(1, 2, 6, 4), randn(1, 2, 6, 4)
    mask = (causal() & sliding_window(2)) | global_tokens([0])
    whole = make(feature_map).weights(q, k, mask)
    rows = torch.tensor([4, 1])
    part = make(feature_map).weights(q[:, :, rows], k, mask.dense(6, 6)[rows])
    torch.testing.assert_close(part, whole[:, :, rows])
    assert torch.equal(whole[0, 0] != 0, mask.dense(6, 6))


@feature_maps
@pytest.mark.parametrize(
    "mask", [None, causal(), causal() & padding(torch.tensor([[False, True, False, True, True]]))]
)
def test_gradcheck(feature_map, mask):
    q, k, v = randn(1, 2, 5, 2), randn(1, 1, 5, 2), randn(1, 1, 5, 3)
    inputs = [x.requires_grad_() for x in (q, k, v)]
    kernel = make(feature_map, chunk_size=2)
    assert torch.autograd.gradcheck(lambda *args: kernel(*args, mask)[0], inputs)


@feature_maps
@pytest.mark.parametrize("size", [1, 30])
def test_the_future_does_not_change_the_past(feature_map, size):
    q, k, v = (randn(1, 2, 12, 8) for _ in range(3))
    kernel = make(feature_map, chunk_size=4)
    before, _ = kernel(q, k, v, causal())
    for first in range(1, 12):
        changed = [torch.cat((x[:, :, :first], size * randn(1, 2, 12 - first, 8)), 2) for x in (q, k, v)]
        after, _ = kernel(*changed, causal())
        torch.testing.assert_close(after[:, :, :first], before[:, :, :first], atol=1e-12, rtol=0)
        assert not torch.allclose(after[:, :, first:], before[:, :, first:])


@feature_maps
def test_fewer_queries_are_the_last_ones(feature_map):
    q, k, v = (randn(2, 2, 9, 4) for _ in range(3))
    whole, _ = make(feature_map)(q, k, v, causal())
    for last in range(1, 10):
        part, _ = make(feature_map)(q[:, :, -last:], k, v, causal())
        torch.testing.assert_close(part, whole[:, :, -last:])


@feature_maps
@pytest.mark.parametrize("joined", [True, False])
def test_a_query_without_keys_gets_zeros_and_finite_gradients(feature_map, joined):
    q, k, v = (randn(2, 2, 4, 3, requires_grad=True) for _ in range(3))
    real = padding(torch.tensor([[False, False, True, True], [False] * 4]))
    mask = causal() & real if joined else real
    output, _ = make(feature_map)(q, k, v, mask)
    empty = ~mask.dense(4, 4).any(-1).expand(2, 2, 4)
    assert (output[empty] == 0).all()
    assert (output[~empty] != 0).all()
    assert (make(feature_map).weights(q, k, mask)[empty] == 0).all()
    for gradient in gradients(output, q, k, v):
        assert gradient.isfinite().all()


@feature_maps
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("mask", [None, causal(), causal() & padding(torch.arange(40)[None] > 2)])
@pytest.mark.parametrize("size", [30, -30])
def test_large_inputs_stay_finite(feature_map, dtype, mask, size):
    q, k, v = (30 * torch.randn(1, 2, 40, 16) for _ in range(3))
    if size < 0:  # elu(x) + 1 of them is nearly zero
        q, k = -q.abs() - 30, -k.abs() - 30
    q, k, v = (x.to(dtype).requires_grad_() for x in (q, k, v))
    output, _ = make(feature_map, chunk_size=8)(q, k, v, mask)
    for tensor in (output, *gradients(output, q, k, v)):
        assert tensor.isfinite().all()
    weights = make(feature_map).weights(q.float(), k.float(), mask)
    sums = weights.sum(-1)
    torch.testing.assert_close(sums[..., 3:], torch.ones_like(sums[..., 3:]))
    if dtype == torch.float32:
        torch.testing.assert_close(output, weights @ v, atol=1e-2, rtol=1e-3)
    assert output.abs().amax(-1)[..., 3:].min() > 0.1  # nothing vanished


@feature_maps
@pytest.mark.parametrize("mask", [None, causal()])
def test_low_precision_is_computed_in_float32(feature_map, mask):
    q, k, v = (torch.randn(2, 2, 50, 8).bfloat16() for _ in range(3))
    kernel = make(feature_map)
    expected, _ = kernel(q.float(), k.float(), v.float(), mask)
    output, _ = kernel(q, k, v, mask)
    assert torch.equal(output, expected.bfloat16())
    weights = kernel.weights(q.float(), k.float())
    assert torch.equal(kernel.weights(q, k), weights.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(kernel(q.float(), k.float(), v.float(), mask)[0], expected)
        assert torch.equal(kernel.weights(q.float(), k.float()), weights)


@feature_maps
@pytest.mark.parametrize("lead", [(), (2,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize("mask", [None, causal()])
def test_any_leading_dimensions(feature_map, lead, mask):
    q, k, v = (torch.randn(*lead, 4, 8) for _ in range(3))
    output, _ = make(feature_map)(q, k, v, mask)
    torch.testing.assert_close(output, make(feature_map).weights(q, k, mask) @ v)


def test_a_padding_mask_without_a_dimension_of_heads():
    q, k, v = (torch.randn(2, 4, 8) for _ in range(3))
    mask = causal() & padding(torch.tensor([[0, 1, 1, 1], [1, 1, 0, 1]]))
    torch.testing.assert_close(make("elu")(q, k, v, mask)[0], make("elu").weights(q, k, mask) @ v)


@feature_maps
@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (causal() & sliding_window(3), "sliding_window.*block_sparse"),
        (causal() | prefix(2), "causal\\(\\) \\| prefix.*flash"),
        (~causal(), "~causal"),
        (global_tokens([0]), "global_tokens"),
        (prefix(2).at(torch.arange(4)), "at.4 slots"),
        (causal() & ~(prefix(2).at(torch.arange(4)) & prefix(3)), "~.*at.4 slots"),
        (torch.ones(4, 4, dtype=torch.bool), r"a Tensor of shape \(4, 4\)"),
    ],
)
def test_masks_that_sums_cannot_express_raise(feature_map, mask, words):
    q, k, v = (torch.randn(2, 2, 4, 4) for _ in range(3))
    with pytest.raises(ValueError, match=f"(?s)causal, over keys alone.*{words}"):
        make(feature_map)(q, k, v, mask)
    row = mask[-1:] if isinstance(mask, torch.Tensor) else mask
    if "at.4 slots" not in words:  # any mask is over keys alone for one query
        output, _ = make(feature_map)(q[:, :, -1:], k, v, row)
        torch.testing.assert_close(output, make(feature_map).weights(q[:, :, -1:], k, row) @ v)


def test_masks_of_wrong_type_or_shape_raise():
    q = torch.randn(2, 2, 3, 4)
    with pytest.raises(TypeError, match=r"boolean.*float32"):
        make("elu")(q, q, q, torch.ones(3, 3))
    with pytest.raises(TypeError, match="str"):
        make("elu")(q, q, q, "causal")
    with pytest.raises(ValueError, match="does not fit"):
        make("elu")(q, q, q, torch.ones(2, 3, 1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="3 queries cannot be the last of 2"):
        make("elu")(q, q[:, :, :2], q[:, :, :2], causal())
    with pytest.raises(ValueError, match="has 4 slots, but there are 3"):
        make("elu")(q, q, q, causal() & padding(torch.ones(2, 4, dtype=torch.bool)))
    with pytest.raises(ValueError, match="does not fit"):
        make("elu")(q, q, q, padding(torch.ones(3, 3, dtype=torch.bool)))
    with pytest.raises(ValueError, match="2 query heads are not a multiple of 3"):
        make("elu")(q, torch.randn(2, 3, 3, 4), torch.randn(2, 3, 3, 4), causal())


def test_a_bias_raises():
    q, bias = torch.randn(1, 2, 3, 4), torch.zeros(1, 2, 3, 3)
    with pytest.raises(ValueError, match="no scores.*rotary.*flash"):
        make("elu")(q, q, q, None, bias)
    with pytest.raises(ValueError, match="no scores.*rotary.*flash"):
        make("elu").weights(q, q, None, bias)
    assert not LinearAttention.takes_score_bias


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dropout": 1.0}, "dropout.*1.0"),
        ({"feature_map": "flavor"}, "unknown feature map 'flavor', did you mean 'favor'"),
        ({"num_features": 0}, "num_features must be at least 1, not 0"),
        ({"chunk_size": 0}, "chunk_size must be at least 1, not 0"),
        ({"seed": -1}, "seed.*-1"),
        ({"seed": 2**31}, "seed.*2147483648"),
        ({"feature_map": "favor", "scale": 0.0}, "scale must be positive.*0.0"),
    ],
)
def test_invalid_arguments_raise(options, words):
    with pytest.raises(ValueError, match=words):
        LinearAttention(**options)


@feature_maps
def test_dropout_has_no_effect_and_nothing_is_saved(feature_map):
    q, k, v = (torch.randn(1, 2, 5, 4) for _ in range(3))
    kernel = make(feature_map, dropout=0.5).train()
    assert torch.equal(kernel(q, k, v)[0], make(feature_map)(q, k, v)[0])
    assert not kernel.state_dict()
    assert not list(kernel.buffers())


@feature_maps
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    pads=st.lists(st.integers(0, 9), min_size=2, max_size=2),
    chunk_size=st.integers(1, 4),
    group=st.integers(1, 2),
    padded=st.booleans(),
)
def test_decoding_equals_the_whole_pass(feature_map, sizes, pads, chunk_size, group, padded):
    seq, kernel = sum(sizes), make(feature_map, chunk_size=chunk_size)
    q, k, v = randn(2, 2 * group, seq, 4), 3 * randn(2, 2, seq, 4), randn(2, 2, seq, 3)
    real = torch.arange(seq) >= torch.tensor(pads)[:, None]
    expected = kernel.weights(q, k, causal() & padding(real) if padded else causal()) @ repeat_heads(v, q)
    cache, outputs = kernel.make_cache(seq), []
    for q_new, k_new, v_new, is_real in zip(
        *(x.split(sizes, 2) for x in (q, k, v)), real.split(sizes, 1), strict=True
    ):
        k_new, v_new = cache.append(k_new, v_new)
        mask = causal() & padding(is_real) if padded else causal()
        outputs.append(kernel(q_new, k_new, v_new, mask, state=cache)[0])
    torch.testing.assert_close(torch.cat(outputs, 2), expected, atol=1e-10, rtol=1e-10)
    assert cache.length == seq


@feature_maps
def test_rows_of_a_state_are_selected_and_cleared(feature_map):
    kernel, cache = make(feature_map), LinearStateCache()
    cache.select(torch.tensor([0]))  # nothing to select from yet
    assert cache.selected_rows is None
    q, k, v = (randn(2, 2, 5, 4) for _ in range(3))
    kernel(q, *cache.append(k, v), causal(), state=cache)
    cache.select(torch.tensor([1, 1, 0]))
    cache.select(torch.tensor([0, 2]))
    rows = torch.tensor([1, 0])
    assert torch.equal(cache.selected_rows, rows)
    new_q, new_k, new_v = (randn(2, 2, 3, 4) for _ in range(3))
    output, _ = kernel(new_q, *cache.append(new_k, new_v), causal(), state=cache)
    assert cache.selected_rows is None
    whole = (torch.cat((x[rows], new), 2) for x, new in ((q, new_q), (k, new_k), (v, new_v)))
    torch.testing.assert_close(output, kernel(*whole, causal())[0][:, :, -3:])
    cache.clear()
    assert (cache.length, cache.state, cache.is_filled) == (0, None, False)
    output, _ = kernel(q[:1], *cache.append(k[:1], v[:1]), causal(), state=cache)
    torch.testing.assert_close(output, kernel(q[:1], k[:1], v[:1], causal())[0])


def test_the_state_has_constant_size_and_no_gradients():
    kernel, cache = make("favor"), LinearStateCache()
    for length in (1, 40, 1):
        q, k, v = (torch.randn(2, 3, length, 4, requires_grad=True) for _ in range(3))
        output, _ = kernel(q, *cache.append(k * 1, v), causal(), state=cache)
        assert [tuple(x.shape) for x in cache.state] == [(2, 3, 6, 5), (2, 3, 1, 1)]
        assert not any(x.requires_grad for x in cache.state)
        assert all(x.isfinite().all() for x in gradients(output, q, k, v))
    assert cache.length == 42
    assert cache.num_keys(7) == 7
    assert repr(cache) == "LinearStateCache(length=42)"


def test_wrong_uses_of_a_state_raise():
    kernel, cache = make("elu"), make("elu").make_cache(5)
    q = torch.randn(2, 2, 3, 4)
    for mask in (None, padding(torch.ones(2, 3, dtype=torch.bool)), torch.ones(1, 3, dtype=torch.bool)):
        with pytest.raises(ValueError, match="must be causal"):
            kernel(q, q, q, mask, state=cache)
        with pytest.raises(ValueError, match="must be causal"):
            kernel(q[:, :, :1], q[:, :, :1], q[:, :, :1], None, state=cache)
    with pytest.raises(ValueError, match="1 queries and 3 keys"):
        kernel(q[:, :, :1], q, q, causal(), state=cache)
    with pytest.raises(ValueError, match="sliding_window"):
        kernel(q[:, :, :1], q[:, :, :1], q[:, :, :1], causal() & sliding_window(2), state=cache)
    with pytest.raises(ValueError, match="no window of 4 keys.*block_sparse"):
        kernel.make_cache(5, window=4)
    with pytest.raises(ValueError, match="sums, not keys and values"):
        cache.read()
    cache.append(q, q)
    with pytest.raises(ValueError, match=r"\(2, 2, 0, 4\) of torch.float32, got \(1, 2, 0, 4\)"):
        cache.append(q[:1], q[:1])
    assert cache.length == 3


def test_a_later_key_with_a_large_exponent_rescales_the_state():
    kernel, cache = make("favor"), LinearStateCache()
    q, k, v = (randn(1, 1, 8, 4) for _ in range(3))
    k[:, :, 0] *= 40  # its features are about exp(-3000) times those of the others
    whole, _ = kernel(q, k, v, causal())
    for slot in range(8):
        now = slice(slot, slot + 1)
        output, _ = kernel(q[:, :, now], *cache.append(k[:, :, now], v[:, :, now]), causal(), state=cache)
        torch.testing.assert_close(output, whole[:, :, now], atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(whole[:, :, 0], v[:, :, 0])


def test_random_vectors_are_orthogonal_in_blocks_and_depend_on_the_arguments_alone():
    projection = random_projection(11, 4, 5, torch.float64, torch.device("cpu"))
    assert projection.shape == (11, 4)
    for block in projection.split(4):
        products = block @ block.T
        torch.testing.assert_close(products, products.diag().diag(), atol=1e-12, rtol=0)
    # Saved models rely on these numbers.
    first = torch.tensor([1.067579325, 0.265208320, 0.453918514, -0.868210564]).double()
    torch.testing.assert_close(projection[0], first, atol=1e-6, rtol=0)
    many = random_projection(40_000, 4, 0, torch.float64, torch.device("cpu"))
    torch.testing.assert_close(many.T @ many / 40_000, torch.eye(4).double(), atol=0.03, rtol=0)
    torch.testing.assert_close(many.mean(0), torch.zeros(4).double(), atol=0.02, rtol=0)
    assert many.norm(dim=1).std() > 0.5  # of a gaussian vector, not of one length


def test_random_features_estimate_the_exponential_without_bias():
    q, k = 0.2 * randn(20, 8), 0.2 * randn(20, 8)
    estimates = []
    for seed in range(1000):
        (phi_q, c_q), (phi_k, c_k) = favor_features(q, 16, seed), favor_features(k, 16, seed)
        estimates.append(phi_q @ phi_k.T * torch.exp(c_q + c_k.T))
    estimates = torch.stack(estimates)
    standard_error = estimates.std(0) / math.sqrt(1000)
    deviations = (estimates.mean(0) - torch.exp(q @ k.T)) / standard_error
    assert deviations.abs().max() < 4.5
    assert deviations.square().mean() < 1.5


def test_the_error_of_favor_shrinks_with_the_number_of_features():
    q, k = 0.25 * randn(1, 4, 50, 16), 0.25 * randn(1, 4, 50, 16)
    exact = ScaledDotProductAttention().weights(q, k)
    errors = [
        sum(
            (make("favor", num_features=size, seed=seed).weights(q, k) - exact).abs().mean()
            for seed in range(20)
        )
        for size in (8, 32, 128, 512)
    ]
    for fewer, more in pairwise(errors):
        assert 1.4 < fewer / more < 2.8  # about one over the root of the number


@feature_maps
@pytest.mark.parametrize("mask", [None, causal()])
def test_memory_is_linear(feature_map, mask, little_memory):  # a table of 20,000 x 20,000 has 1.6 GB
    q, k, v = (torch.randn(1, 1, 20_000, 16, requires_grad=True) for _ in range(3))
    output, _ = make(feature_map, num_features=64, chunk_size=64)(q, k, v, mask)
    output.sum().backward()
    assert output.isfinite().all()


@feature_maps
@pytest.mark.parametrize("mask", [None, causal()])
def test_products_are_linear_in_the_length(feature_map, mask):
    kernel = make(feature_map, chunk_size=64)

    def flops(length):
        q, k, v = (torch.randn(1, 2, length, 8, requires_grad=True) for _ in range(3))
        with FlopCounterMode(display=False) as counter:
            kernel(q, k, v, mask)[0].sum().backward()
        return counter.get_total_flops()

    assert flops(4 * 640) == pytest.approx(4 * flops(640), rel=0.01)


@pytest.mark.slow
@feature_maps
def test_compiled_and_exported_programs_take_any_length(feature_map):
    kernel, seq = make(feature_map), torch.export.Dim("seq", min=2, max=64)

    class Causal(torch.nn.Module):
        def forward(self, q, k, v):
            return kernel(q, k, v, causal())[0]

    first, second = ([torch.randn(1, 2, n, 4) for _ in range(3)] for n in (5, 9))
    program = torch.export.export(Causal(), tuple(first), dynamic_shapes=({2: seq}, {2: seq}, {2: seq}))
    compiled = torch.compile(Causal(), backend="eager")
    for inputs in (first, second):
        expected = kernel(*inputs, causal())[0]
        torch.testing.assert_close(program.module()(*inputs), expected)
        torch.testing.assert_close(compiled(*inputs), expected)
