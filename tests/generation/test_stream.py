"""Generation token by token."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from glassformer.generation import generate, stream


class Bigram(nn.Module):
    """Logits from the last token only, with dropout that reveals the mode of the model."""

    def __init__(self, positions):
        super().__init__()
        self.vocab_size, self.max_seq_len, self.positions = 13, 8, positions
        self.embedding = nn.Embedding(13, 13)
        self.dropout = nn.Dropout(0.9)
        self.frozen = nn.Dropout(0.9).eval()
        self.fail_at = None
        self.calls = 0

    def next_token_logits(self, input_ids, attention_mask=None, cache=None):
        self.calls += 1
        if self.calls == self.fail_at:
            raise RuntimeError("out of memory")
        return self.dropout(self.embedding(input_ids[:, -1]))

    def make_cache(self, capacity):
        return []


@pytest.fixture
def model(make_positions):
    torch.manual_seed(0)
    return Bigram(make_positions())


def modes(model):
    return [module.training for module in model.modules()]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 15), st.integers(1, 3), st.integers(0, 99))
def test_generate_returns_the_tokens_of_stream(make_model, count, copies, seed):
    options = {"seed": seed, "num_return_sequences": copies, "stop_tokens": [0, 1], "pad_id": -1}
    prompt = torch.tensor([[1, 2], [3, 4]])
    steps = list(stream(make_model(), prompt, count, **options))
    result = generate(make_model(), prompt, count, **options)
    assert [step.tolist() for step in steps] == result[:, 2:].T.tolist()


def test_each_token_is_yielded_before_the_next_is_computed(model):
    steps = stream(model, [1, 2], 5)
    assert model.calls == 0
    for number, tokens in enumerate(steps, start=1):
        assert tokens.shape == (1,)
        assert tokens.dtype == torch.int64
        assert model.calls == number
    assert number == 5


def test_errors_are_raised_at_the_call(model):
    with pytest.raises(ValueError, match="empty"):
        stream(model, [], 5)
    with pytest.raises(ValueError, match="num_beams must be 1, got 2"):
        stream(model, [1], 5, num_beams=2)


def test_the_yielded_tensors_may_be_modified(make_model):
    expected = generate(make_model(), [1, 2], 6, temperature=0)
    got = [1, 2]
    for tokens in stream(make_model(), [1, 2], 6, temperature=0):
        got.append(int(tokens))
        tokens.zero_()
    assert got == expected


def test_the_mode_of_each_module_is_restored(model):
    before = modes(model)
    assert True in before
    assert False in before
    generate(model, [1], 3)
    assert modes(model) == before


def test_dropout_is_off_during_generation(model):
    assert generate(model, [1], 8, temperature=0) == generate(model.eval(), [1], 8, temperature=0)


def test_modes_are_restored_after_an_error(model):
    before = modes(model)
    model.fail_at = 3
    with pytest.raises(RuntimeError, match="out of memory"):
        generate(model, [1], 5)
    assert modes(model) == before


def test_modes_are_restored_when_a_stream_is_closed(model):
    before = modes(model)
    steps = stream(model, [1], 5)
    next(steps)
    assert not any(modes(model))
    steps.close()
    assert modes(model) == before


def test_gradients_are_disabled_for_the_model_only(model):
    for tokens in stream(model, [1], 3):
        assert torch.is_grad_enabled()
        assert not tokens.is_inference()
    with torch.no_grad():
        generate(model, [1], 3)
        assert not torch.is_grad_enabled()


def test_generated_tokens_can_be_used_in_training(model):
    ids = generate(model, torch.tensor([[1, 2]]), 4)
    model.embedding(ids).sum().backward()
    assert model.embedding.weight.grad is not None
