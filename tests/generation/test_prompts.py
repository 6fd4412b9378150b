"""Conversion of prompts to one padded batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.generation.prompts import batch_prompts, is_single, prompt_lists

VOCAB = 10
prompts = st.lists(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=6), min_size=1, max_size=4)


@settings(deadline=None)
@given(prompts)
def test_lists_are_padded_on_the_left(rows):
    batch = batch_prompts(rows, None, VOCAB)
    unpadded = [ids[padding:] for ids, padding in zip(batch.ids.tolist(), batch.padding, strict=True)]
    assert unpadded == rows
    assert min(batch.padding) == 0


@settings(deadline=None)
@given(prompts)
def test_padding_has_only_ids_of_its_own_row(rows):
    batch = batch_prompts(rows, None, VOCAB)
    assert [set(ids) for ids in batch.ids.tolist()] == [set(row) for row in rows]


@settings(deadline=None)
@given(prompts, st.sampled_from([-100, 0, VOCAB]), st.sampled_from([torch.bool, torch.int64, torch.uint8]))
def test_a_padded_tensor_gives_the_same_batch_as_lists(rows, pad, dtype):
    longest = max(map(len, rows))
    ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], dtype=dtype)
    ours, expected = batch_prompts(ids, mask, VOCAB), batch_prompts(rows, None, VOCAB)
    assert ours.ids.equal(expected.ids)
    assert ours.padding == expected.padding


@pytest.mark.parametrize("prompt", [[1, 2], torch.tensor([1, 2]), torch.tensor([1, 2], dtype=torch.int32)])
def test_a_flat_prompt_is_a_batch_of_one(prompt):
    assert is_single(prompt)
    batch = batch_prompts(prompt, None, VOCAB)
    assert batch.ids.tolist() == [[1, 2]]
    assert batch.ids.dtype == torch.int64


def test_tensors_and_tuples_are_accepted_as_rows():
    assert batch_prompts([torch.tensor([1, 2]), (3,)], None, VOCAB).padding == [0, 1]
    assert prompt_lists(((1, 2), (3,))) == [[1, 2], [3]]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([], "empty"),
        ([[]], "row 0 .* empty"),
        ([[1], []], "row 1 .* empty"),
        (torch.zeros(2, 0, dtype=torch.long), "empty"),
        (torch.zeros(0, dtype=torch.long), "empty"),
        (torch.zeros(0, 3, dtype=torch.long), "empty"),
        (torch.tensor(3), "shape"),
        (torch.zeros(1, 1, 1, dtype=torch.long), "shape"),
        ([[1], [2, 10]], "id 10 in row 1, position 1 .* 0 to 9"),
        ([3, -1], "id -1 in row 0, position 1"),
        (torch.tensor([[1, 2], [3, 12]]), "id 12 in row 1, position 1"),
        (torch.tensor([-7]), "id -7 in row 0, position 0"),
    ],
)
def test_invalid_prompts_raise(prompt, message):
    with pytest.raises(ValueError, match=message):
        batch_prompts(prompt, None, VOCAB)


@pytest.mark.parametrize(
    "prompt",
    ["hello", "", ["hello"], [1.0], [[1, 2.5]], [[True]], [[None]], torch.tensor([1.0]), torch.tensor([True]),
     torch.tensor([1j])],
)  # fmt: skip
def test_ids_must_be_integers(prompt):
    with pytest.raises(TypeError):
        batch_prompts(prompt, None, VOCAB)


def test_a_mix_of_rows_and_ids_raises():
    with pytest.raises(TypeError, match=r"\[2\] in row 0, position 1"):
        batch_prompts([1, [2]], None, VOCAB)
    with pytest.raises(TypeError, match=r"row 1 .* 2"):
        batch_prompts([[1], 2], None, VOCAB)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.tensor([[1, 1, 1], [1, 1, 0]]), "row 1 .* left"),
        (torch.tensor([[1, 0, 1], [1, 1, 1]]), "row 0 .* left"),
        (torch.tensor([[1, 1, 1], [0, 0, 0]]), "row 1 .* empty"),
        (torch.tensor([[1, 1, 1]]), r"\(2, 3\), got \(1, 3\)"),
    ],
)
def test_masks_other_than_left_padding_raise(mask, message):
    with pytest.raises(ValueError, match=message):
        batch_prompts(torch.ones(2, 3, dtype=torch.long), mask, VOCAB)


def test_a_float_mask_raises():
    with pytest.raises(TypeError, match="float32"):
        batch_prompts(torch.ones(2, 3, dtype=torch.long), torch.ones(2, 3), VOCAB)


def test_a_mask_for_lists_raises():
    with pytest.raises(ValueError, match="lists"):
        batch_prompts([[1, 2]], torch.ones(1, 2), VOCAB)
