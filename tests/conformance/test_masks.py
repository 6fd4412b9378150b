"""Conformance of masks: the dense mask equals the predicate."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from glassformer.attention import (
    causal,
    dilated_window,
    global_tokens,
    padding,
    prefix,
    random_blocks,
    sliding_window,
)
from glassformer.attention import mask_algebra as masks
from glassformer.attention.patterns import Shifted
from glassformer.contracts import Mask

CHOSEN = random_blocks(1, 2, 6, seed=3)
CHOSEN_BLOCKS = CHOSEN.dense(6, 6)[::2, ::2]

REAL = torch.tensor([[True] * 6, [False, True, True, True, True, False]])
LENGTHS = torch.tensor([1, 4])

# Each mask beside the sentence that defines it: (batch row, query slot, key slot) -> may attend.
MASKS = {
    "causal": (causal(), lambda b, i, j: j <= i),
    "padding": (padding(REAL), lambda b, i, j: bool(REAL[b, j])),
    "sliding_window": (sliding_window(2), lambda b, i, j: abs(i - j) < 2),
    "global_tokens": (global_tokens([0, 3]), lambda b, i, j: i in (0, 3) or j in (0, 3)),
    "dilated_window": (dilated_window(2, 2), lambda b, i, j: abs(i - j) in (0, 2)),
    "random_blocks": (CHOSEN, lambda b, i, j: bool(CHOSEN_BLOCKS[i // 2, j // 2])),
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


@given(
    mask=joined(),
    q_len=st.integers(1, 6),
    size=st.one_of(st.integers(1, 7), st.tuples(st.integers(1, 7), st.integers(1, 7))),
)
def test_blocks_are_empty_or_full_where_the_mask_says_so(mask, q_len, size):
    check_blocks(mask[0], q_len, size)


@given(mask=joined(), slots=st.lists(st.integers(0, 5), min_size=1, max_size=8), size=st.integers(1, 7))
def test_blocks_of_a_bound_mask(mask, slots, size):
    check_blocks(mask[0].at(torch.tensor(slots)) & padding(REAL), len(slots), size)


@given(mask=joined(), padded=st.tuples(st.integers(0, 5), st.integers(0, 5)), size=st.integers(1, 4))
def test_a_shifted_mask_is_that_of_the_text_after_the_padding(mask, padded, size):
    mask, says = mask
    assume(mask.dense(6, 6).dim() == 2)  # the same for all rows
    shifted = Shifted(mask, torch.tensor(padded))
    dense = shifted.dense(6, 6).expand(2, 1, 6, 6)
    for row, first in enumerate(padded):
        for i, j in product(range(first, 6), repeat=2):
            assert dense[row, 0, i, j] == says(row, i - first, j - first)
    check_blocks(shifted, 6, size)


def check_blocks(mask, q_len, size, *, exact=False):
    """No allowed pair is in a block that is called empty, no other one in a block that is called full."""
    q_size, k_size = (size, size) if isinstance(size, int) else size
    dense = mask.dense(q_len, 6).expand(2, 1, q_len, 6)
    blocks = mask.blocks(q_len, 6, size)
    shape = 2, 1, -(-q_len // q_size), -(-6 // k_size)
    assert blocks.possible.shape in (shape, shape[2:])
    possible, certain = (table.expand(shape) for table in (blocks.possible, blocks.certain))
    for b, i, j in product(range(2), range(shape[2]), range(shape[3])):
        block = dense[b, 0, i * q_size : (i + 1) * q_size, j * k_size : (j + 1) * k_size]
        assert possible[b, 0, i, j] >= block.any()
        assert certain[b, 0, i, j] <= block.all()
        if exact:
            assert possible[b, 0, i, j] == block.any()
            assert certain[b, 0, i, j] == block.all()
    assert torch.equal(blocks.partial, blocks.possible & ~blocks.certain)


@pytest.mark.parametrize("name", MASKS)
@given(q_len=st.integers(1, 6), size=st.tuples(st.integers(1, 7), st.integers(1, 7)))
def test_blocks_of_a_single_mask_are_exact(name, q_len, size):
    mask, _ = MASKS[name]
    check_blocks(mask, q_len, size, exact=True)
    check_blocks(~mask, q_len, size, exact=True)


@given(q_len=st.integers(1, 6), window=st.integers(1, 7), size=st.integers(1, 6))
def test_blocks_of_a_causal_window_are_exact(q_len, window, size):
    check_blocks(causal() & sliding_window(window), q_len, size, exact=True)


def test_a_mask_of_which_nothing_is_known_has_partial_blocks():
    class Even(masks.Mask):
        def allows(self, query, key):
            return (query + key) % 2 == 0

    assert Even().blocks(5, 6, 2).partial.all()
    check_blocks(Even() & causal(), 5, 2)


def test_blocks_of_a_long_text_need_no_table(little_memory):
    length = 200_000  # of which a table would take 40 GB
    mask = (causal() & sliding_window(256)) | global_tokens([0]) | prefix(3)
    blocks = (mask & padding(torch.ones(1, length).long())).blocks(length, length, 256)
    assert blocks.possible[0, 0].sum(-1)[1:].max() == 3


@given(mask=joined(), q_len=st.integers(1, 6), data=st.data())
def test_a_tile_is_a_part_of_the_dense_mask(mask, q_len, data):
    mask, dense = mask[0], mask[0].dense(q_len, 6)
    queries = torch.tensor(data.draw(st.lists(st.integers(0, q_len - 1), min_size=1, max_size=4)))
    keys = torch.tensor(data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=4)))
    tile = mask.tile(queries[:, None], keys[None, :], q_len, 6)
    expected = dense[..., queries[:, None], keys[None, :]]
    assert torch.equal(tile.expand_as(expected), expected)


@given(mask=joined())
def test_a_relative_mask_depends_on_distances_alone(mask):
    mask, _ = mask
    dense = mask.dense(6, 6)
    if mask.is_relative:
        assert torch.equal(dense[1:, 1:], dense[:-1, :-1])


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


@pytest.mark.parametrize("size", [0, -1, (0, 2), (2, 0)])
def test_blocks_have_a_positive_size(size):
    with pytest.raises(ValueError, match="at least 1"):
        causal().blocks(4, 4, size)


def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match="window must be at least 1.*-3"):
        dilated_window(-3, 2)
    with pytest.raises(ValueError, match="dilation must be at least 1.*0"):
        dilated_window(3, 0)
    with pytest.raises(ValueError, match="global token 6 is outside the text: its slots are 0 to 5"):
        (causal() | global_tokens([1, 6])).dense(6, 6)
    with pytest.raises(ValueError, match="global token 6 is outside the text"):
        (~global_tokens([6])).blocks(6, 6, 2)
    with pytest.raises(ValueError, match="7 queries"):
        causal().dense(7, 6)
    with pytest.raises(ValueError, match="bound to 2 queries, not 3"):
        causal().at(torch.tensor([0, 1])).dense(3, 6)
    with pytest.raises(ValueError, match="window must be at least 1.*0"):
        sliding_window(0)
    with pytest.raises(ValueError, match="slot must be at least 0, not -1"):
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
        assert "_results" not in vars(copied)
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


def test_masks_are_shown_as_they_are_written():
    assert repr((causal() & sliding_window(3)) | ~global_tokens([0, 2])) == (
        "((causal() & sliding_window(3)) | ~global_tokens([0, 2]))"
    )
    assert repr(dilated_window(2, 3) & padding(REAL)) == "(dilated_window(2, 3) & padding(2 x 6 slots))"
    assert repr(prefix(2).at(torch.tensor([1]))) == "prefix(2).at(1 slots)"
    assert repr(prefix(LENGTHS)) == "prefix([1, 4])"


def test_threads_that_share_a_mask_get_their_own_results():
    mask, wrong = causal() & sliding_window(5), []

    def ask(length):
        for _ in range(300):
            if mask.dense(length, length).shape != (length, length):
                wrong.append(length)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask, (3, 4, 5, 6)))
    assert not wrong


def test_a_mask_is_made_on_the_default_device():
    mask = causal()
    assert mask.dense(4, 4).device.type == "cpu"
    with torch.device("meta"):
        assert mask.dense(4, 4).device.type == "meta"
    assert mask.dense(4, 4).device.type == "cpu"
