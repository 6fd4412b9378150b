"""Conformance of masks: the dense mask equals the predicate."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassformer.attention import causal, global_tokens, padding, prefix, sliding_window
from glassformer.contracts import Mask

REAL = torch.tensor([[True] * 6, [False, True, True, True, True, False]])
LENGTHS = torch.tensor([1, 4])

# Each mask beside the sentence that defines it: (batch row, query slot, key slot) -> may attend.
MASKS = {
    "causal": (causal(), lambda b, i, j: j <= i),
    "padding": (padding(REAL), lambda b, i, j: bool(REAL[b, j])),
    "sliding_window": (sliding_window(2), lambda b, i, j: abs(i - j) < 2),
    "global_tokens": (global_tokens([0, 3]), lambda b, i, j: i in (0, 3) or j in (0, 3)),
    "prefix": (prefix(3), lambda b, i, j: j < 3),
    "prefix by row": (prefix(LENGTHS), lambda b, i, j: j < int(LENGTHS[b])),
}


@st.composite
def joined(draw, depth=3):
    """A mask built from the others, with its own sentence."""
    if depth == 0 or draw(st.booleans()):
        return MASKS[draw(st.sampled_from(sorted(MASKS)))]
    kind = draw(st.sampled_from(["and", "or", "not"]))
    left, left_says = draw(joined(depth=depth - 1))
    if kind == "not":
        return ~left, lambda b, i, j: not left_says(b, i, j)
    right, right_says = draw(joined(depth=depth - 1))
    if kind == "and":
        return left & right, lambda b, i, j: left_says(b, i, j) and right_says(b, i, j)
    return left | right, lambda b, i, j: left_says(b, i, j) or right_says(b, i, j)


def table(says, slots, k_len):
    return torch.tensor([[[says(b, i, j) for j in range(k_len)] for i in slots] for b in range(2)])[:, None]


@given(mask=joined(), q_len=st.integers(1, 6))
def test_dense_is_the_predicate_over_the_last_slots(mask, q_len):
    mask, says = mask
    dense = mask.dense(q_len, 6)
    assert isinstance(mask, Mask)
    assert dense.dtype == torch.bool
    assert dense.shape in [(q_len, 6), (2, 1, q_len, 6)]
    assert torch.equal(dense.expand(2, 1, q_len, 6), table(says, range(6 - q_len, 6), 6))


@given(mask=joined(), slots=st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_a_mask_bound_to_slots_is_evaluated_there(mask, slots):
    mask, says = mask
    dense = mask.at(torch.tensor(slots)).dense(len(slots), 6)
    assert torch.equal(dense.expand(2, 1, len(slots), 6), table(says, slots, 6))


@given(a=joined(), b=joined(), slots=st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_a_bound_mask_keeps_its_slots_when_it_is_joined(a, b, slots):
    bound = a[0].at(torch.tensor(slots))
    says = {
        bound & b[0].at(torch.tensor(slots)): lambda *where: a[1](*where) and b[1](*where),
        bound | b[0].at(torch.tensor(slots)): lambda *where: a[1](*where) or b[1](*where),
        ~bound: lambda *where: not a[1](*where),
    }
    for mask, sentence in says.items():
        dense = mask.dense(len(slots), 6)
        assert torch.equal(dense.expand(2, 1, len(slots), 6), table(sentence, slots, 6))


def test_a_mask_does_not_change_with_the_tensor_it_was_made_of():
    real = torch.tensor([[True, True]])
    mask = padding(real)
    real[0, 1] = False
    assert mask.dense(2, 2).all()


@given(a=joined(), b=joined())
def test_de_morgan(a, b):
    a, b = a[0], b[0]
    assert torch.equal(*torch.broadcast_tensors((~(a & b)).dense(6, 6), ((~a) | (~b)).dense(6, 6)))


def test_the_dense_mask_is_cached():
    mask = causal() & padding(REAL)
    assert mask.dense(3, 6) is mask.dense(3, 6)
    assert mask.dense(2, 6).shape[-2] == 2


def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match="7 queries"):
        causal().dense(7, 6)
    with pytest.raises(ValueError, match="bound to 2 queries, not 3"):
        causal().at(torch.tensor([0, 1])).dense(3, 6)
    with pytest.raises(ValueError, match="window must be at least 1.*0"):
        sliding_window(0)
    with pytest.raises(ValueError, match="not -1"):
        global_tokens([0, -1])
    with pytest.raises(ValueError, match="not -2"):
        prefix(-2)
    with pytest.raises(ValueError, match="negative"):
        prefix(torch.tensor([1, -2]))
    with pytest.raises(ValueError, match="has 6 slots, but there are 5 keys"):
        padding(REAL).dense(5, 5)
    with pytest.raises(TypeError):
        causal() & True
    with pytest.raises(TypeError):
        causal() | "padding"


def test_padding_masks_must_be_0_or_1():
    assert torch.equal(padding(torch.tensor([[1, 0]])).attention_mask, torch.tensor([[True, False]]))
    with pytest.raises(ValueError, match="only 0 and 1.*not 2"):
        padding(torch.tensor([[1, 2]]))
    with pytest.raises(TypeError, match="float32"):
        padding(torch.tensor([[1.0, 0.0]]))
    with pytest.raises(ValueError, match=r"\(batch, key\).*\(2,\)"):
        padding(torch.tensor([1, 0]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.uint64])
def test_slots_and_lengths_may_be_integers_of_any_type(dtype):
    slots = torch.tensor([1, 4])
    for mask in (causal(), sliding_window(2)):  # differences of unsigned ones are not wrapped
        assert torch.equal(mask.at(slots.to(dtype)).dense(2, 6), mask.at(slots).dense(2, 6))
    assert torch.equal(prefix(slots.to(dtype)).dense(6, 6), prefix(slots).dense(6, 6))
    assert torch.equal(
        padding(torch.tensor([[1, 0]]).to(dtype)).dense(2, 2), padding(torch.tensor([[1, 0]])).dense(2, 2)
    )


def test_slots_and_lengths_that_are_not_integers_raise():
    with pytest.raises(TypeError, match="query_slots must be integers, not torch.bool"):
        causal().at(torch.tensor([True, False]))
    with pytest.raises(TypeError, match="length must be integers, not torch.float32"):
        prefix(torch.tensor([1.0, 2.0]))


def test_copies_of_masks_have_no_cached_tensor():
    mask = causal() & padding(torch.tensor([[1, 1, 0]]))
    dense = mask.dense(3, 3)
    for copied in (copy.deepcopy(mask), pickle.loads(pickle.dumps(mask))):
        assert "_cached" not in vars(copied)
        assert torch.equal(copied.dense(3, 3), dense)


@given(mask=joined(), extra=st.integers(1, 4))
def test_more_queries_than_keys_raise_if_the_mask_depends_on_the_query(mask, extra):
    mask, says = mask
    if mask.depends_on_query:
        with pytest.raises(ValueError, match="cannot be the last of 6 key slots"):
            mask.dense(6 + extra, 6)
    else:
        dense = mask.dense(6 + extra, 6).expand(2, 1, 6 + extra, 6)
        assert torch.equal(dense, table(says, [0] * (6 + extra), 6))


def test_a_mask_is_made_on_the_default_device():
    mask = causal()
    assert mask.dense(4, 4).device.type == "cpu"
    with torch.device("meta"):
        assert mask.dense(4, 4).device.type == "meta"
    assert mask.dense(4, 4).device.type == "cpu"
