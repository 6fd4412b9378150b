"""Generation of whole sequences."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.generation import generate
from glassformer.generation.decoding_state import window_start

VOCAB = 11
prompt_lists = st.lists(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=14), min_size=1, max_size=4)
max_lens = st.integers(1, 9)
counts = st.integers(0, 20)
policies = st.sampled_from(["slide", "extend"])


def greedy_reference(model, ids, count, max_len):
    """Repeat: process the window and append the most likely token."""
    ids = list(ids)
    for _ in range(count):
        window = ids if max_len is None else ids[window_start(len(ids), max_len) :]
        ids.append(int(model.next_token_logits(torch.tensor([window])).argmax()))
    return ids


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(prompt_lists, counts, max_lens, policies, st.booleans())
def test_greedy_decoding_equals_a_simple_implementation(
    make_model, prompts, count, max_len, overflow, use_cache
):
    model = make_model(VOCAB, max_len)
    ids = generate(model, prompts, count, temperature=0, use_cache=use_cache, overflow=overflow)
    window = max_len if overflow == "slide" else None
    assert ids == [greedy_reference(model, prompt, count, window) for prompt in prompts]


@settings(deadline=None, max_examples=60)
@given(prompt_lists, counts, max_lens)
def test_a_sliding_window_never_exceeds_max_seq_len(make_model, prompts, count, max_len):
    model = make_model(VOCAB, max_len)
    generate(model, prompts, count, temperature=0)
    assert all(length <= max_len for length in model.window_lengths)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(prompt_lists, counts, max_lens, st.integers(0, 99))
def test_sampling_is_the_same_with_and_without_a_cache(make_model, prompts, count, max_len, seed):
    model = make_model(VOCAB, max_len)
    options = {"temperature": 0.8, "top_p": 0.9, "seed": seed, "num_return_sequences": 2}
    assert generate(model, prompts, count, **options) == generate(
        model, prompts, count, use_cache=False, **options
    )


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(prompt_lists, counts, counts, max_lens)
def test_continuing_a_result_equals_one_longer_generation(make_model, prompts, first, more, max_len):
    model = make_model(VOCAB, max_len)
    halfway = generate(model, prompts, first, temperature=0)
    assert generate(model, halfway, more, temperature=0) == generate(
        model, prompts, first + more, temperature=0
    )


def test_with_a_cache_every_token_is_processed_once(make_model):
    model = make_model(max_seq_len=50)
    generate(model, [[1, 2, 3]], 4, temperature=0)
    assert model.calls == [(1, 3), (1, 1), (1, 1), (1, 1)]


def test_windows_are_processed_again_only_when_full(make_model):
    model = make_model(max_seq_len=8)
    generate(model, [1, 2, 3], 30, temperature=0)
    assert model.calls[:7] == [(1, 3), *[(1, 1)] * 5, (1, 5)]
    assert sum(1 for _, new in model.calls if new > 1) == 1 + 24 // 4


def test_without_a_cache_the_window_is_processed_each_time(make_model):
    model = make_model(max_seq_len=4)
    generate(model, [1, 2, 3], 4, temperature=0, use_cache=False)
    assert model.calls == [(1, 3), (1, 4), (1, 3), (1, 4)]


# Form of the prompt and of the result


def test_the_result_has_the_form_of_the_prompt(make_model):
    model = make_model()
    flat = generate(model, [1, 2], 3, temperature=0)
    assert [type(token) for token in flat] == [int] * 5
    assert flat[:2] == [1, 2]
    assert generate(model, [[1, 2]], 3, temperature=0) == [flat]
    assert generate(model, ((1, 2),), 3, temperature=0) == [flat]
    assert generate(model, [torch.tensor([1, 2])], 3, temperature=0) == [flat]
    assert generate(model, torch.tensor([1, 2]), 3, temperature=0).equal(torch.tensor(flat))
    assert generate(model, torch.tensor([[1, 2]], dtype=torch.int32), 3, temperature=0).equal(
        torch.tensor([flat])
    )


@pytest.mark.parametrize(
    "prompt", [[1, 2], [[1], [2, 3]], torch.tensor([1, 2]), torch.tensor([[1, 2], [3, 4]])]
)
def test_zero_new_tokens_return_a_copy_of_the_prompt(make_model, prompt):
    model = make_model()
    result = generate(model, prompt, 0)
    assert result.equal(prompt) if isinstance(prompt, torch.Tensor) else result == prompt
    assert result is not prompt
    assert model.calls == []


def test_the_prompt_is_not_modified(make_model):
    rows, ids = [[1], [2, 3]], torch.tensor([[9, 1], [2, 3]])
    mask = torch.tensor([[0, 1], [1, 1]])
    generate(make_model(), rows, 3)
    generate(make_model(), ids, 3, attention_mask=mask)
    assert rows == [[1], [2, 3]]
    assert ids.tolist() == [[9, 1], [2, 3]]


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(prompt_lists, counts, st.sampled_from([-1, 0, VOCAB]))
def test_a_padded_tensor_keeps_its_padding_and_continues_like_its_rows(make_model, prompts, count, pad):
    longest = max(map(len, prompts))
    padding = [[pad] * (longest - len(prompt)) for prompt in prompts]
    ids = torch.tensor([left + prompt for left, prompt in zip(padding, prompts, strict=True)])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    result = generate(make_model(VOCAB), ids, count, temperature=0, attention_mask=mask).tolist()
    rows = generate(make_model(VOCAB), prompts, count, temperature=0)
    assert result == [left + row for left, row in zip(padding, rows, strict=True)]


def test_padding_is_not_a_repetition(make_model):
    model = make_model(VOCAB)
    ids, mask = torch.tensor([[5, 5, 5, 1, 2], [3, 4, 5, 6, 7]]), torch.tensor([[0, 0, 0, 1, 1], [1] * 5])
    options = {"temperature": 0, "repetition_penalty": 50.0}
    alone = generate(model, [1, 2], 6, **options)
    assert generate(model, ids, 6, attention_mask=mask, **options)[0, 3:].tolist() == alone


def test_the_repetition_penalty_covers_prompt_and_new_tokens(make_model):
    model = make_model(VOCAB, max_seq_len=50)
    model.table = model.table.abs() + 1  # positive, so that a huge penalty excludes tokens that have occurred
    ids = generate(model, [1, 2, 3], VOCAB - 3, temperature=0, repetition_penalty=1e6)
    assert sorted(ids) == list(range(VOCAB))


# Stop tokens


class ScriptedModel:
    """A model that generates given tokens for each row, whatever the prompt."""

    def __init__(self, make_model, *rows):
        self.model = make_model(VOCAB, 50)
        self.rows = torch.tensor(rows)
        self.vocab_size, self.max_seq_len, self.positions = VOCAB, 50, self.model.positions
        self.steps = 0

    def next_token_logits(self, input_ids, attention_mask=None, cache=None):
        self.steps += 1
        return torch.nn.functional.one_hot(self.rows[:, self.steps - 1], VOCAB).float()

    def make_cache(self, capacity):
        return []


def test_each_row_ends_with_its_stop_token(make_model):
    rows = ([7, 9, 5, 5], [8, 7, 6, 9])
    lists = generate(ScriptedModel(make_model, *rows), [[1], [2, 3]], 4, temperature=0, stop_tokens=[9])
    assert lists == [[1, 7, 9], [2, 3, 8, 7, 6, 9]]
    tensor = generate(
        ScriptedModel(make_model, *rows), torch.tensor([[1], [2]]), 4, temperature=0, stop_tokens=[9]
    )
    assert tensor.tolist() == [[1, 7, 9, 9, 9], [2, 8, 7, 6, 9]]


def test_pad_id_fills_a_row_after_its_stop_token(make_model):
    model = ScriptedModel(make_model, [7, 9, 5, 5], [8, 7, 6, 4])
    ids = generate(model, torch.tensor([[1], [2]]), 4, temperature=0, stop_tokens=[3, 9], pad_id=-1)
    assert ids.tolist() == [[1, 7, 9, -1, -1], [2, 8, 7, 6, 4]]


def test_generation_ends_with_the_last_row(make_model):
    model = ScriptedModel(make_model, [7, 9, 5, 5], [4, 7, 5, 5])
    ids = generate(model, torch.tensor([[1], [2]]), 4, temperature=0, stop_tokens=[4, 9])
    assert ids.tolist() == [[1, 7, 9], [2, 4, 4]]
    assert model.steps == 2


def test_a_stop_token_in_the_prompt_is_ignored(make_model):
    model = ScriptedModel(make_model, [7, 8])
    assert generate(model, [9, 9], 2, temperature=0, stop_tokens=[9]) == [9, 9, 7, 8]


# Randomness and several sequences


def test_a_seed_is_reproducible_and_keeps_the_global_random_state(make_model):
    model = make_model()
    before = torch.get_rng_state()
    first = generate(model, [1, 2], 20, seed=3)
    assert generate(model, [1, 2], 20, seed=3) == first
    assert generate(model, [1, 2], 20, seed=4) != first
    assert torch.get_rng_state().equal(before)


def test_without_a_seed_the_global_random_state_is_used(make_model):
    model = make_model()
    torch.manual_seed(5)
    first = generate(model, [1, 2], 20)
    assert generate(model, [1, 2], 20) != first
    torch.manual_seed(5)
    assert generate(model, [1, 2], 20) == first


def test_several_sequences_process_the_prompt_once(make_model):
    model = make_model(max_seq_len=50)
    ids = generate(model, [[1, 2, 3], [4]], 9, num_return_sequences=3, seed=0)
    assert [row[:-9] for row in ids] == [[1, 2, 3]] * 3 + [[4]] * 3
    assert len({tuple(row) for row in ids}) == 6
    assert model.calls[:2] == [(2, 3), (6, 1)]
    tensor = generate(model, torch.tensor([[1, 2]]), 5, num_return_sequences=4, seed=0)
    assert tensor.shape == (4, 7)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(prompt_lists, counts, max_lens, st.booleans())
def test_several_greedy_sequences_are_equal(make_model, prompts, count, max_len, use_cache):
    model = make_model(VOCAB, max_len)
    twice = generate(model, prompts, count, temperature=0, num_return_sequences=2, use_cache=use_cache)
    once = generate(model, prompts, count, temperature=0)
    assert twice == [row for row in once for _ in range(2)]


# Invalid arguments


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": -1}, "max_new_tokens .* -1"),
        ({"num_return_sequences": 0}, "num_return_sequences .* 0"),
        ({"num_return_sequences": 2, "prompt": [1, 2]}, r"\[prompt\]"),
        ({"num_return_sequences": 2, "prompt": torch.tensor([1, 2])}, r"\[prompt\]"),
        ({"temperature": -1}, "temperature .* -1"),
        ({"stop_tokens": [VOCAB]}, f"stop token {VOCAB} .* 0 to {VOCAB - 1}"),
        ({"stop_tokens": [-1]}, "stop token -1"),
        ({"overflow": "error", "max_new_tokens": 8}, "2 tokens and 8 new"),
        ({"overflow": "wrap"}, "'wrap'"),
        ({"prompt": []}, "empty"),
        ({"prompt": [[1, VOCAB]]}, f"id {VOCAB} in row 0, position 1"),
    ],
)
def test_invalid_arguments_raise_before_the_model_is_called(make_model, options, message):
    model = make_model()
    with pytest.raises(ValueError, match=message):
        generate(model, **{"prompt": [[1, 2]], "max_new_tokens": 3, **options})
    assert model.calls == []


@pytest.mark.parametrize("stop_tokens", [3, "end"])
def test_stop_tokens_must_be_a_sequence_of_ids(make_model, stop_tokens):
    with pytest.raises(TypeError, match="stop_tokens"):
        generate(make_model(), [1], 3, stop_tokens=stop_tokens)


def test_a_sequence_that_just_fits_does_not_overflow(make_model):
    assert len(generate(make_model(max_seq_len=8), [1, 2], 7, overflow="error")) == 9


def test_a_model_with_nan_logits_raises(make_model):
    model = make_model()
    model.table[:] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        generate(model, [1], 3)
