"""Interfaces between a training task, its objective, and the trainer.

A task reads its data and returns a ``PreparedTask``; the trainer needs nothing else. What a batch contains is
known only to the objective and the batches of the same task.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from rich.console import Console
from torch import Tensor

from glassformer.contracts import Tokenizer
from glassformer.data.token_file_builder import tokenizer_hash
from glassformer.tokenization import ByteTokenizer
from glassformer.training.config import TrainingConfig

IGNORE_INDEX = -100
"""Target value that is left out of the loss, as in ``torch.nn.functional.cross_entropy``."""

Evaluate = Callable[[Any], Mapping[str, float]]
"""Metrics of a model by name; the best checkpoint is the one with the lowest ``loss``."""


class Objective(Protocol):
    """A differentiable loss: a sum over the targets of a batch, and their number.

    The two are separate, because the mean over several batches is the sum of all losses divided by the number
    of all targets, not the mean of the means.
    """

    unit: ClassVar[str]
    """What a target is one of: ``"tokens"`` or ``"examples"``."""

    def loss_sum(self, model: Any, batch: Any) -> Tensor:
        """Sum of the losses of the targets of a batch, a scalar."""
        ...

    def count(self, batch: Any) -> int:
        """Number of targets in a batch."""
        ...

    def __call__(self, model: Any, batch: Any) -> Tensor:
        """Mean loss over the targets of a batch, a scalar; zero if there is none."""
        return self.loss_sum(model, batch) / max(self.count(batch), 1)


class BatchSource(Protocol):
    """Batches that are functions of their number alone, so that a resumed run draws the same ones."""

    def batch(self, step: int) -> Any:
        """Batch number ``step`` on the CPU: an input of the objective with ``to(device)`` and row slicing."""
        ...


@dataclass(frozen=True)
class PreparedTask:
    """Everything that a run needs besides the model."""

    objective: Objective
    batches: BatchSource
    data_key: str
    """Hash of the training data, by which a resumed run recognizes its own."""
    model_keywords: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the model that follow from the data, such as the vocabulary size or the labels."""
    tokenizer: Tokenizer | None = None
    evaluate: Evaluate | None = None
    """Metrics on the validation split, during training."""
    test: Evaluate | None = None
    """Metrics on the test split, once after training."""
    held_out_key: str | None = None
    """Hash of the validation and test data, or None if ``data_key`` covers them."""

    def other_keys(self) -> dict[str, str]:
        """Hashes of the held-out data and of the tokenizer, where there are any."""
        keys = {"held_out": self.held_out_key}
        keys["tokenizer"] = None if self.tokenizer is None else tokenizer_hash(self.tokenizer)
        return {name: key for name, key in keys.items() if key is not None}


class Task(Protocol):
    """A training task: the family of its models, its data, objective and metrics."""

    family: str
    """Model family that can be trained on the task."""

    def placeholder_keywords(self, config: TrainingConfig) -> dict[str, Any]:
        """Stand-ins for ``PreparedTask.model_keywords``, for checks before any data is read.

        Default: the vocabulary of the byte tokenizer.
        """
        return {"vocab_size": ByteTokenizer().vocab_size}

    def prepare(
        self, config: TrainingConfig, tokenizer: Tokenizer | None, console: Console | None
    ) -> PreparedTask:
        """Read the data.

        Args:
            config: configuration of the run.
            tokenizer: tokenizer of the model that the run starts from, if any.
            console: where progress is shown.
        """
        ...


def loss_sum(objective: Objective, model: Any, batch: Any) -> Tensor:
    """``objective.loss_sum``, also of an objective for version 0.1, which has only the mean and the count."""
    if hasattr(objective, "loss_sum"):
        return objective.loss_sum(model, batch)
    warnings.warn(
        f"{type(objective).__name__} needs a method loss_sum(model, batch): the sum of the losses of a batch",
        DeprecationWarning,
        stacklevel=2,
    )
    return objective(model, batch) * objective.count(batch)


def hash_rows(rows: Iterable[Any]) -> str:
    """Hash of rows of JSON values, for ``PreparedTask.data_key``."""
    digest = hashlib.blake2b(digest_size=16)
    for row in rows:
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()
