"""The mean over a whole text is exact, whatever the windows."""

import math

import pytest
import torch
import torch.nn.functional as F

from glassformer.data import windows
from glassformer.training import Evaluation, LanguageModelling, evaluate


def test_exact_mean_over_windows_of_different_sizes(tiny_model):
    model = tiny_model()
    tokens = torch.randint(11, (30,))
    result = evaluate(model, windows(tokens, seq_len=8, batch_size=2), num_bytes=90)
    parts = [(tokens[a : a + 8], tokens[a + 1 : a + 9]) for a in (0, 8, 16, 24)]
    losses = [F.cross_entropy(model(i[: len(t)][None])[0], t, reduction="sum") for i, t in parts]
    assert result.num_tokens == 29
    assert result.nats_per_token == pytest.approx(sum(losses).item() / 29, rel=1e-5)


def test_figures():
    result = Evaluation(nats_per_token=2.0, num_tokens=99, num_bytes=400)
    assert result.perplexity == pytest.approx(math.exp(2))
    assert result.bits_per_byte == pytest.approx(2 / math.log(2) / 4)
    assert result.metrics() == {
        "loss": 2.0,
        "perplexity": result.perplexity,
        "bits_per_byte": result.bits_per_byte,
    }
    assert Evaluation(2.0, 99).metrics() == {"loss": 2.0, "perplexity": result.perplexity}
    assert Evaluation(1000.0, 99).perplexity == math.inf


def test_without_dropout_and_left_as_it_was(tiny_model):
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


def test_ignored_targets_do_not_count(tiny_model):
    rows = torch.randint(11, (2, 9))
    targets = rows[:, 1:].clone()
    targets[0, :5] = 3
    objective = LanguageModelling(ignore_index=3)
    result = evaluate(tiny_model(), [(rows[:, :-1], targets)], objective=objective)
    assert result.num_tokens == int((targets != 3).sum())


def test_nothing_to_predict(tiny_model):
    with pytest.raises(ValueError, match="at least one token"):
        evaluate(tiny_model(), [])
