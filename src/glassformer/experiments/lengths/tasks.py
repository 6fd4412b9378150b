"""Copying, reversing and adding sequences of symbols, with one length in each batch.

    copy       START  a b c  SEPARATOR  a b c  END
    reverse    START  a b c  SEPARATOR  c b a  END
    addition   START  0 7 + 9 6  SEPARATOR  1 0 3  END

The length n is the number of symbols of the input, or of digits of each number. The answer is what follows
the separator, with the end; a number has n digits and a sum n + 1, the highest first.

Source: Kazemnejad et al., "The Impact of Positional Encoding on Length Generalization in Transformers"
(2023), section 3, where lengths are also of at most 20 symbols in training and at most 40 in testing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glassformer.choices import choose
from glassformer.data.batches import Batch
from glassformer.models import GPTModel
from glassformer.training import LanguageModeling, Objective
from glassformer.training.task import IGNORE_INDEX

Ids = npt.NDArray[np.int64]

NUM_SPECIAL = 4
SEPARATOR, END, START, PLUS = range(NUM_SPECIAL)
"""Numbers of the special tokens, whose ids follow those of the symbols."""
TRAINING, TESTING = 0, 1
"""Streams of random numbers of a seed."""


@dataclass(frozen=True)
class Symbols:
    """Ids of the symbols, 0 to ``count - 1``, and of the special tokens after them.

    Raises:
        ValueError: fewer than ten symbols, which addition needs for its digits.
    """

    count: int

    def __post_init__(self) -> None:
        if self.count < 10:
            raise ValueError(f"there must be at least 10 symbols, got {self.count}")

    @property
    def vocab_size(self) -> int:
        """Symbols and special tokens."""
        return self.count + NUM_SPECIAL


Draw = np.random.Generator


def _copy(symbols: Symbols, draw: Draw, rows: int, n: int) -> tuple[Ids, Ids]:
    inputs = draw.integers(symbols.count, size=(rows, n))
    return inputs, inputs


def _reverse(symbols: Symbols, draw: Draw, rows: int, n: int) -> tuple[Ids, Ids]:
    inputs = draw.integers(symbols.count, size=(rows, n))
    return inputs, inputs[:, ::-1]


def _addition(symbols: Symbols, draw: Draw, rows: int, n: int) -> tuple[Ids, Ids]:
    first, second = draw.integers(10, size=(2, rows, n))
    plus = np.full((rows, 1), symbols.count + PLUS)
    total = np.zeros((rows, n + 1), dtype=np.int64)
    total[:, 1:] = first + second
    for place in range(n, 0, -1):  # carry from the lowest place
        total[:, place - 1] += total[:, place] // 10
        total[:, place] %= 10
    return np.concatenate((first, plus, second), axis=1), total


TASKS: dict[str, Callable[[Symbols, Draw, int, int], tuple[Ids, Ids]]] = {
    "copy": _copy,
    "reverse": _reverse,
    "addition": _addition,
}
"""Inputs ``(rows, ...)`` and answers ``(rows, ...)`` of a length, by the name of the task."""


def input_tokens(task: str, n: int) -> int:
    """Tokens before the answer, with start and separator."""
    return 2 + (2 * n + 1 if task == "addition" else n)


def answer_tokens(task: str, n: int) -> int:
    """Tokens of the answer, with the end."""
    return n + 2 if task == "addition" else n + 1


def draw_examples(task: str, symbols: Symbols, rows: int, n: int, *seeds: int) -> Batch:
    """Examples of one length.

    Args:
        task: a key of ``TASKS``.
        symbols: ids.
        rows: number of examples.
        n: length.
        seeds: of the random numbers.

    Returns:
        ``inputs`` and ``targets``, ``(rows, tokens)``; targets before the answer are ``IGNORE_INDEX``.

    Raises:
        ValueError: an unknown task, or a length below 1.
    """
    make = choose(TASKS, task, "task")
    if n < 1:
        raise ValueError(f"the length must be at least 1, got {n}")
    question, answer = make(symbols, np.random.default_rng(seeds), rows, n)
    special = np.broadcast_to(symbols.count + np.arange(NUM_SPECIAL), (rows, NUM_SPECIAL))
    parts = (special[:, [START]], question, special[:, [SEPARATOR]], answer, special[:, [END]])
    ids = torch.from_numpy(np.concatenate(parts, axis=1))
    targets = ids[:, 1:].clone()
    targets[:, : question.shape[1] + 1] = IGNORE_INDEX
    return Batch({"inputs": ids[:, :-1], "targets": targets})


class LengthBatches:
    """Training batches, each of one length that is drawn from 1 to the longest.

    Args:
        task: a key of ``TASKS``.
        symbols: ids.
        batch_size: examples of a batch.
        longest: the longest length.
        seed: of the lengths and the examples.

    Raises:
        ValueError: ``longest`` is below 1, or an unknown task.
    """

    def __init__(self, task: str, symbols: Symbols, batch_size: int, longest: int, seed: int) -> None:
        choose(TASKS, task, "task")
        if longest < 1:
            raise ValueError(f"the longest length must be at least 1, got {longest}")
        self.task, self.symbols, self.batch_size = task, symbols, batch_size
        self.longest, self.seed = longest, seed

    def length(self, step: int) -> int:
        """The length of an update."""
        return 1 + int(np.random.default_rng((self.seed, TRAINING, step, 1)).integers(self.longest))

    def batch(self, step: int) -> Batch:
        """The examples of an update."""
        n = self.length(step)
        return draw_examples(self.task, self.symbols, self.batch_size, n, self.seed, TRAINING, step, 0)


@dataclass(frozen=True)
class AnswerModeling(Objective):
    """-log p of each token of the answer, given the input and the answer before it."""

    unit: ClassVar[str] = "tokens"

    def loss_sum(self, model: GPTModel, batch: Batch) -> Tensor:
        """Sum of the losses of the answers."""
        return LanguageModeling().loss(model, batch.tensors["inputs"], batch.tensors["targets"], "sum")

    def count(self, batch: Batch) -> int:
        """Tokens of the answers."""
        return int((batch.tensors["targets"] != IGNORE_INDEX).sum())
