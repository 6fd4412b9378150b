import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from glassformer.generation import generate, stream


class Bigram(nn.Module):
    """Logits of the next token from the last, with dropout that shows in which mode the model is."""

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
def test_generate_is_the_stream_collected(make_model, count, copies, seed):
    options = {"seed": seed, "num_return_sequences": copies, "stop_tokens": [0, 1], "pad_id": -1}
    prompt = torch.tensor([[1, 2], [3, 4]])
    steps = list(stream(make_model(), prompt, count, **options))
    result = generate(make_model(), prompt, count, **options)
    assert [step.tolist() for step in steps] == result[:, 2:].T.tolist()


def test_a_token_comes_before_the_next_is_computed(model):
    steps = stream(model, [1, 2], 5)
    assert model.calls == 0
    for number, tokens in enumerate(steps, start=1):
        assert tokens.shape == (1,)
        assert tokens.dtype == torch.int64
        assert model.calls == number
    assert number == 5


def test_errors_come_at_the_call(model):
    with pytest.raises(ValueError, match="empty"):
        stream(model, [], 5)


def test_the_caller_may_change_what_it_gets(make_model):
    expected = generate(make_model(), [1, 2], 6, temperature=0)
    got = [1, 2]
    for tokens in stream(make_model(), [1, 2], 6, temperature=0):
        got.append(int(tokens))
        tokens.zero_()
    assert got == expected


def test_each_module_gets_its_mode_back(model):
    before = modes(model)
    assert True in before
    assert False in before
    generate(model, [1], 3)
    assert modes(model) == before


def test_dropout_is_off_while_generating(model):
    assert generate(model, [1], 8, temperature=0) == generate(model.eval(), [1], 8, temperature=0)


def test_modes_come_back_after_a_failure(model):
    before = modes(model)
    model.fail_at = 3
    with pytest.raises(RuntimeError, match="out of memory"):
        generate(model, [1], 5)
    assert modes(model) == before


def test_modes_come_back_when_a_stream_is_closed(model):
    before = modes(model)
    steps = stream(model, [1], 5)
    next(steps)
    assert not any(modes(model))
    steps.close()
    assert modes(model) == before


def test_gradients_are_off_for_the_model_and_untouched_for_the_caller(model):
    for tokens in stream(model, [1], 3):
        assert torch.is_grad_enabled()
        assert not tokens.is_inference()
    with torch.no_grad():
        generate(model, [1], 3)
        assert not torch.is_grad_enabled()


def test_training_goes_on_with_what_was_generated(model):
    ids = generate(model, torch.tensor([[1, 2]]), 4)
    model.embedding(ids).sum().backward()
    assert model.embedding.weight.grad is not None
