"""Language modeling loss and its evaluation over a whole text."""

import pytest
import torch
import torch.nn.functional as F

from glassformer.data import windows
from glassformer.training import LanguageModeling, evaluate


def test_evaluation_is_the_exact_mean_over_windows_of_different_sizes(tiny_model):
    model = tiny_model()
    tokens = torch.randint(11, (30,))
    result = evaluate(model, windows(tokens, seq_len=8, batch_size=2), num_bytes=90)
    parts = [(tokens[a : a + 8], tokens[a + 1 : a + 9]) for a in (0, 8, 16, 24)]
    losses = [F.cross_entropy(model(i[: len(t)][None])[0], t, reduction="sum") for i, t in parts]
    assert result.num_tokens == 29
    assert result.nats_per_token == pytest.approx(sum(losses).item() / 29, rel=1e-5)


def test_evaluation_disables_dropout_and_restores_the_mode(tiny_model):
    model = tiny_model(dropout=0.9)
    rows = torch.randint(11, (2, 9))
    batch = [(rows[:, :-1], rows[:, 1:])]
    for training in (True, False):
        model.train(training)
        assert evaluate(model, batch) == evaluate(model, batch)
        assert model.training is training
    model.train()
    with pytest.raises(ValueError, match="outside the vocabulary"):
        evaluate(model, [(rows + 99, rows)])
    assert model.training


def test_evaluation_does_not_count_ignored_targets(tiny_model):
    rows = torch.randint(11, (2, 9))
    targets = rows[:, 1:].clone()
    targets[0, :5] = 3
    objective = LanguageModeling(ignore_index=3)
    result = evaluate(tiny_model(), [(rows[:, :-1], targets)], objective=objective)
    assert result.num_tokens == int((targets != 3).sum())


def test_evaluation_without_targets_raises(tiny_model):
    with pytest.raises(ValueError, match="at least one token"):
        evaluate(tiny_model(), [])


def test_language_modeling_predicts_each_next_token(tiny_model):
    model = tiny_model()
    batch = torch.randint(11, (3, 9))
    expected = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
    torch.testing.assert_close(LanguageModeling(chunk_tokens=5)(model, batch), expected)


def test_gradients_of_every_parameter_equal_the_plain_ones(tiny_model):
    plain, chunked = tiny_model(), tiny_model()
    batch = torch.randint(11, (3, 9))
    F.cross_entropy(plain(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten()).backward()
    LanguageModeling(chunk_tokens=7)(chunked, batch).backward()
    for (name, expected), got in zip(plain.named_parameters(), chunked.parameters(), strict=True):
        assert got.grad is not None, name
        torch.testing.assert_close(got.grad, expected.grad, msg=lambda text, name=name: f"{name}: {text}")


def test_ignored_targets_are_left_out_of_the_loss(tiny_model):
    model = tiny_model()
    batch = torch.randint(11, (2, 9))
    inputs, targets = batch[:, :-1], batch[:, 1:].clone()
    targets[1] = -100
    torch.testing.assert_close(
        LanguageModeling().loss(model, inputs, targets), LanguageModeling()(model, batch[:1])
    )
