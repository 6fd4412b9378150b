"""Training a model with one position scheme on one task and seed, and measuring it at each length."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from glassformer.backends import use_backends
from glassformer.eval_mode import eval_mode
from glassformer.experiments.lengths.tasks import (
    TESTING,
    AnswerModeling,
    LengthBatches,
    Symbols,
    answer_tokens,
    draw_examples,
    input_tokens,
)
from glassformer.experiments.positions.models import build_model
from glassformer.experiments.training import run_config, train
from glassformer.models import GPTModel
from glassformer.training import Schedule, TrainingConfig
from glassformer.training.task import IGNORE_INDEX

TOKENS_AT_A_TIME = 8192
"""Tokens of a batch of the test."""


def train_task(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Train one scheme on one task and seed and measure it; continues where an earlier call was stopped.

    The seed gives the initial weights and all examples, so schemes with one seed learn from the same batches.

    Args:
        settings: see ``LengthsStudy.runs``.
        folder: for the run folder ``training``.

    Returns:
        ``num_parameters``, ``train_to``, and ``lengths``: for each length, what ``measure_length`` returns.

    Raises:
        ValueError: no test length is longer than the trained ones, or an unknown task or scheme.
    """
    train_to, test_to = settings["train_to"], settings["test_to"]
    if test_to <= train_to:
        raise ValueError(f"test_to must be above train_to, got {test_to} and {train_to}")
    symbols = Symbols(settings["num_symbols"])
    task, seed = settings["task"], settings["seed"]
    batches = LengthBatches(task, symbols, settings["batch_size"], train_to, seed)
    tokens = input_tokens(task, test_to) + answer_tokens(task, test_to)
    build = partial(build_model, settings["scheme"], settings, symbols.vocab_size, tokens)
    data_key = f"{task} {symbols.count} {train_to}"
    model = train(build, _config(settings, folder), batches, AnswerModeling(), data_key=data_key)
    with use_backends("torch"):  # as in training
        lengths = {
            str(n): measure_length(model, task, symbols, n, settings["test_examples"], seed)
            for n in range(1, test_to + 1)
        }
    return {"num_parameters": model.num_parameters(), "train_to": train_to, "lengths": lengths}


@torch.no_grad()
def measure_length(
    model: GPTModel, task: str, symbols: Symbols, n: int, examples: int, seed: int
) -> dict[str, float]:
    """How well a model answers examples of one length.

    Each token of an answer is predicted from the correct ones before it. Greedy decoding gives the correct
    answer exactly where all these predictions are correct.

    Args:
        model: trained on the task.
        task: a key of ``TASKS``.
        symbols: ids.
        n: length.
        examples: number of examples.
        seed: of the examples; other ones than in training, but short ones occur in both.

    Returns:
        ``exact``: share of the answers that are correct to the end; ``token``: share of their tokens that
        are; ``loss`` in nats per token.
    """
    batch = draw_examples(task, symbols, examples, n, seed, TESTING, n)
    inputs, targets = batch.tensors["inputs"], batch.tensors["targets"]
    size = max(1, TOKENS_AT_A_TIME // inputs.size(1))
    exact = right = 0
    loss = 0.0
    with eval_mode(model):
        for start in range(0, examples, size):
            expected = targets[start : start + size]
            answered = expected[0] != IGNORE_INDEX  # the same places in every row
            hidden = model.hidden_states(inputs[start : start + size].to(model.device))[:, answered]
            logits = model.unembed(hidden).float().cpu()  # (example, answer, vocab_size)
            expected = expected[:, answered]
            correct = logits.argmax(-1) == expected
            exact += int(correct.all(dim=1).sum())
            right += int(correct.sum())
            loss -= float(logits.log_softmax(-1).gather(-1, expected[..., None]).sum())
    tokens = examples * answer_tokens(task, n)
    return {"exact": exact / examples, "token": right / tokens, "loss": loss / tokens}


def _config(settings: Mapping[str, Any], folder: Path) -> TrainingConfig:
    return run_config(
        folder / "training",
        steps=settings["steps"],
        batch_size=settings["batch_size"],
        seed=settings["seed"],
        learning_rate=settings["learning_rate"],
        schedule=Schedule("cosine", settings["warmup_steps"]),
        precision=settings["precision"],
        weight_decay=settings["weight_decay"],
    )
