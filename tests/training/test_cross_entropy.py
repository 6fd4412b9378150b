"""Chunked cross-entropy against the plain one: values, gradients, cost, and memory."""

import weakref

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from glassformer.linear import product
from glassformer.training import chunked_cross_entropy, cross_entropy
from glassformer.training.cross_entropy import cross_entropy_sum


def problem(tokens, vocab, d_model, ignored=(), seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, d_model, generator=generator, dtype=dtype).requires_grad_()
    weight = torch.randn(vocab, d_model, generator=generator, dtype=dtype).requires_grad_()
    targets = torch.randint(vocab, (tokens,), generator=generator)
    targets[list(ignored)] = -100
    return hidden, weight, targets


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operation returns."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, torch.Tensor):
                self.elements = max(self.elements, value.numel())
        return result


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_loss_and_gradients_equal_the_plain_ones(data):
    tokens = data.draw(st.integers(1, 13))
    ignored = data.draw(st.sets(st.integers(0, tokens - 1), max_size=tokens - 1))
    shape = (tokens, data.draw(st.integers(1, 9)), data.draw(st.integers(1, 5)))
    hidden, weight, targets = problem(*shape, ignored, seed=data.draw(st.integers(0, 99)))
    chunk = data.draw(st.integers(1, 15))
    scale = data.draw(st.sampled_from([1.0, 0.25, -3.0]))

    expected = F.cross_entropy(hidden @ weight.T, targets)
    wanted = torch.autograd.grad(scale * expected, [hidden, weight])
    loss = chunked_cross_entropy(hidden, weight, targets, chunk_tokens=chunk)
    got = torch.autograd.grad(scale * loss, [hidden, weight])

    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_heads_with_a_bias_and_a_softcap(data):
    tokens, vocab = data.draw(st.integers(1, 13)), data.draw(st.integers(1, 9))
    hidden, weight, targets = problem(tokens, vocab, 3, seed=data.draw(st.integers(0, 99)))
    has_bias = data.draw(st.booleans())
    bias = torch.randn(vocab, dtype=torch.float64).requires_grad_() if has_bias else None
    softcap = data.draw(st.sampled_from([None, 0.5, 20.0]))
    inputs = [tensor for tensor in (hidden, weight, bias) if tensor is not None]

    logits = F.linear(hidden, weight, bias)
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    expected = F.cross_entropy(logits, targets, reduction="sum")
    loss = chunked_cross_entropy(
        hidden, weight, targets, chunk_tokens=4, reduction="sum", bias=bias, softcap=softcap
    )
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    got, wanted = (torch.autograd.grad(value, inputs) for value in (loss, expected))
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)


def test_a_bias_of_another_size_is_refused():
    hidden, weight, targets = problem(7, 5, 3)
    with pytest.raises(ValueError, match=r"bias must be \(5,\) for weight \(5, 3\), got \(4,\)"):
        chunked_cross_entropy(hidden, weight, targets, bias=torch.zeros(4))


def test_gradcheck():
    hidden, weight, targets = problem(7, 5, 3, ignored=[2])
    assert torch.autograd.gradcheck(
        lambda h, w: chunked_cross_entropy(h, w, targets, chunk_tokens=3), (hidden, weight)
    )


@pytest.mark.parametrize("wanted", ["hidden", "weight"])
def test_gradient_of_one_input_only(wanted):
    hidden, weight, targets = problem(7, 5, 3)
    (weight if wanted == "hidden" else hidden).requires_grad_(False)
    chosen = hidden if wanted == "hidden" else weight
    expected = torch.autograd.grad(F.cross_entropy(hidden @ weight.T, targets), chosen)
    got = torch.autograd.grad(chunked_cross_entropy(hidden, weight, targets, chunk_tokens=2), chosen)
    torch.testing.assert_close(got, expected)


def test_second_backward_over_a_retained_graph():
    hidden, weight, targets = problem(7, 5, 3)
    loss = chunked_cross_entropy(hidden, weight, targets, chunk_tokens=4)
    first = torch.autograd.grad(2 * loss, [hidden, weight], retain_graph=True)
    second = torch.autograd.grad(loss, [hidden, weight])
    torch.testing.assert_close(first, tuple(2 * g for g in second))


def test_leading_dimensions_and_default_chunk():
    hidden, weight, targets = problem(12, 5, 3)
    loss = chunked_cross_entropy(hidden.view(3, 4, 3), weight, targets.view(3, 4))
    torch.testing.assert_close(loss, F.cross_entropy(hidden @ weight.T, targets))


def test_custom_ignore_index():
    hidden, weight, targets = problem(12, 5, 3)
    expected = F.cross_entropy(hidden @ weight.T, targets, ignore_index=3)
    torch.testing.assert_close(chunked_cross_entropy(hidden, weight, targets, ignore_index=3), expected)


def test_loss_and_gradients_are_zero_if_all_targets_are_ignored():
    hidden, weight, targets = problem(4, 5, 3, ignored=range(4))
    loss = chunked_cross_entropy(hidden, weight, targets)
    loss.backward()
    assert loss.item() == 0
    assert hidden.grad is not None
    assert not hidden.grad.any()
    assert not weight.grad.any()


def test_no_grad_computes_the_loss_alone():
    hidden, weight, targets = problem(9, 5, 3)
    with torch.no_grad():
        loss = chunked_cross_entropy(hidden, weight, targets, chunk_tokens=4)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, F.cross_entropy(hidden @ weight.T, targets).detach())


def test_huge_logits_stay_finite():
    hidden, weight, targets = problem(6, 5, 3)
    loss = chunked_cross_entropy(1e4 * hidden, weight, targets)
    torch.testing.assert_close(loss, F.cross_entropy(1e4 * hidden @ weight.T, targets))


def test_low_precision_accumulates_in_float32():
    """The gradient of 512 chunks would lose its small terms if it were summed in bfloat16."""
    hidden, weight, targets = problem(512, 6, 4, dtype=torch.bfloat16)
    loss = chunked_cross_entropy(hidden, weight, targets, chunk_tokens=1)
    loss.backward()
    exact_hidden, exact_weight = (t.detach().double().requires_grad_() for t in (hidden, weight))
    expected = F.cross_entropy(exact_hidden @ exact_weight.T, targets)
    expected.backward()
    assert loss.dtype == torch.float32
    assert weight.grad.dtype == hidden.grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss.double(), expected, rtol=5e-3, atol=0)
    torch.testing.assert_close(weight.grad.double(), exact_weight.grad, rtol=2e-2, atol=2e-4)


def test_autocast_matches_the_plain_version():
    hidden, weight, targets = problem(64, 32, 16, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = chunked_cross_entropy(hidden, weight, targets, chunk_tokens=10)
        plain = F.cross_entropy(F.linear(hidden, weight).float(), targets)
    got = torch.autograd.grad(loss, [hidden, weight])
    expected = torch.autograd.grad(plain, [hidden, weight])
    assert loss.dtype == torch.float32
    assert all(gradient.dtype == torch.float32 for gradient in got)
    torch.testing.assert_close(loss, plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got, expected, rtol=2e-2, atol=2e-3)
    assert loss != F.cross_entropy(F.linear(hidden, weight), targets)  # bfloat16 was used


def test_the_full_logits_are_never_in_memory():
    tokens, vocab, d_model, chunk = 512, 128, 8, 32
    hidden, weight, targets = problem(tokens, vocab, d_model, dtype=torch.float32)
    with LargestTensor() as largest:
        chunked_cross_entropy(hidden, weight, targets, chunk_tokens=chunk).backward()
    assert largest.elements == max(chunk * vocab, tokens * d_model)
    with LargestTensor() as largest:
        F.cross_entropy(hidden @ weight.T, targets).backward()
    assert largest.elements == tokens * vocab  # the measurement works


@pytest.mark.parametrize("gradients", [True, False])
def test_logits_of_a_chunk_are_freed_before_the_next(monkeypatch, gradients):
    hidden, weight, targets = problem(30, 9, 4)
    hidden, weight = hidden.detach().requires_grad_(gradients), weight.detach().requires_grad_(gradients)
    logits: list[weakref.ref[torch.Tensor]] = []

    def recorded_product(a, b, kind, rows):
        result = product(a, b, kind, rows)
        if kind == "forward":
            assert all(reference() is None for reference in logits)
            logits.append(weakref.ref(result))
        return result

    monkeypatch.setattr(cross_entropy, "product", recorded_product)
    chunked_cross_entropy(hidden, weight, targets, chunk_tokens=10)
    assert len(logits) == 3


def test_flops_equal_the_plain_version():
    from torch.utils.flop_counter import FlopCounterMode

    hidden, weight, targets = problem(64, 32, 8, dtype=torch.float32)
    with FlopCounterMode(display=False) as chunked:
        chunked_cross_entropy(hidden, weight, targets, chunk_tokens=16).backward()
    with FlopCounterMode(display=False) as plain:
        F.cross_entropy(hidden @ weight.T, targets).backward()
    assert chunked.get_total_flops() == plain.get_total_flops() == 6 * 64 * 32 * 8


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"targets": torch.zeros(7)}, TypeError, "int64 ids, got torch.float32"),
        ({"targets": torch.zeros(6, dtype=torch.int64)}, ValueError, r"targets must be \(7,\) .* got \(6,\)"),
        ({"weight": torch.zeros(5, 4)}, ValueError, r"weight must be \(vocab_size, 3\) .* got \(5, 4\)"),
        ({"targets": torch.full((7,), 5)}, ValueError, "ids from 0 to 4 or ignore_index, got 5"),
        ({"targets": torch.full((7,), -1)}, ValueError, "got -1"),
        ({"chunk_tokens": 0}, ValueError, "at least 1, got 0"),
    ],
)
def test_invalid_inputs_are_rejected(change, error, message):
    hidden, weight, targets = problem(7, 5, 3)
    inputs = {"hidden": hidden.float(), "weight": weight.float(), "targets": targets} | change
    with pytest.raises(error, match=message):
        chunked_cross_entropy(**inputs)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.int32])
def test_targets_of_the_plain_sum_may_be_integers_of_any_type(dtype):
    logits, targets = torch.randn(3, 300), torch.tensor([0, 7, 255])
    expected = F.cross_entropy(logits, targets, reduction="sum")
    torch.testing.assert_close(cross_entropy_sum(logits, targets.to(dtype)), expected)
    with pytest.raises(TypeError, match="targets must be integers, not torch.float32"):
        cross_entropy_sum(logits, targets.float())
