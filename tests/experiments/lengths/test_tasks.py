"""Copying, reversing and adding: what the examples are."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F

from glassformer.experiments.lengths.tasks import (
    TASKS,
    AnswerModeling,
    LengthBatches,
    Symbols,
    answer_tokens,
    draw_examples,
    input_tokens,
)
from glassformer.experiments.positions.models import build_model

SYMBOLS = Symbols(100)
SEPARATOR, END, START, PLUS = 100, 101, 102, 103


def parts_of(batch, row):
    """The input and the answer of an example, without the special tokens, which are checked."""
    inputs, targets = batch.tensors["inputs"][row].tolist(), batch.tensors["targets"][row].tolist()
    place = inputs.index(SEPARATOR)
    assert inputs[0] == START
    assert targets[:place] == [-100] * place
    assert targets[-1] == END
    assert targets[place:-1] == inputs[place + 1 :]
    return inputs[1:place], targets[place:-1]


@pytest.mark.parametrize("n", [1, 2, 20, 40])
def test_answers_are_right(n):
    for task in TASKS:
        batch = draw_examples(task, SYMBOLS, 50, n, 0)
        assert batch.tensors["inputs"].shape == (50, input_tokens(task, n) + answer_tokens(task, n) - 1)
        assert int((batch.tensors["targets"][0] >= 0).sum()) == answer_tokens(task, n)
        for row in range(50):
            question, answer = parts_of(batch, row)
            if task == "copy":
                assert answer == question
            elif task == "reverse":
                assert answer == question[::-1]
            else:
                assert question[n] == PLUS
                first, second = (int("".join(map(str, part))) for part in (question[:n], question[n + 1 :]))
                assert len(answer) == n + 1
                assert int("".join(map(str, answer))) == first + second


def test_all_symbols_occur():
    batch = draw_examples("copy", SYMBOLS, 200, 40, 1)
    assert set(batch.tensors["inputs"].unique().tolist()) == set(range(103)) - {END}


def test_batches_have_one_length_each_and_all_lengths_occur():
    batches = LengthBatches("copy", SYMBOLS, 4, 20, seed=2)
    lengths = [batches.length(step) for step in range(600)]
    assert set(lengths) == set(range(1, 21))
    for step in range(5):
        batch = batches.batch(step)
        assert batch.tensors["inputs"].shape == (4, 2 * lengths[step] + 2)
        again = LengthBatches("copy", SYMBOLS, 4, 20, seed=2).batch(step)
        assert torch.equal(batch.tensors["inputs"], again.tensors["inputs"])
    other = LengthBatches("copy", SYMBOLS, 4, 20, seed=3)
    assert [other.length(step) for step in range(600)] != lengths


def test_the_loss_is_that_of_the_answers():
    model = build_model("rotary", {"d_model": 16, "num_layers": 1, "num_heads": 2}, 104, 16)
    batch = draw_examples("reverse", SYMBOLS, 3, 5, 0)
    logits = model(batch.tensors["inputs"])[:, 6:]
    expected = F.cross_entropy(logits.transpose(1, 2), batch.tensors["targets"][:, 6:], reduction="sum")
    found = AnswerModeling().loss_sum(model, batch)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert AnswerModeling().count(batch) == 18


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Symbols(9), "at least 10 symbols, got 9"),
        (lambda: draw_examples("copi", SYMBOLS, 1, 1, 0), "unknown task 'copi', did you mean 'copy'?"),
        (lambda: draw_examples("copy", SYMBOLS, 1, 0, 0), "the length must be at least 1, got 0"),
        (lambda: LengthBatches("copy", SYMBOLS, 1, 0, 0), "the longest length must be at least 1, got 0"),
        (lambda: LengthBatches("adition", SYMBOLS, 1, 2, 0), "did you mean 'addition'?"),
    ],
)
def test_bad_settings_are_refused(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
