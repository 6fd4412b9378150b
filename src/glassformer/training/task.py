"""A task: from a config to data, an objective and figures. What differs between tasks, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console

from glassformer.contracts import Tokenizer
from glassformer.training.config import TrainingConfig

if TYPE_CHECKING:
    from glassformer.training.objectives import Objective
    from glassformer.training.trainer import BatchSource

Figures = Callable[[Any], Mapping[str, float]]
"""Figures of a model by name; ``loss`` decides which checkpoint is the best."""


@dataclass(frozen=True)
class Prepared:
    """All that a run needs besides the model."""

    objective: Objective
    batches: BatchSource
    key: str
    """A hash of the data as the model reads it, so that a resumed run knows its own."""
    keywords: dict[str, Any] = field(default_factory=dict)
    """Keywords of the model that the data decide: its vocabulary, its labels."""
    tokenizer: Tokenizer | None = None
    evaluate: Figures | None = None
    """On the validation split, while training."""
    test: Figures | None = None
    """On the test split, once, in the end."""


def digest_of(rows: Iterable[Any]) -> str:
    """A hash of rows of JSON values, for ``Prepared.key``."""
    digest = hashlib.blake2b(digest_size=16)
    for row in rows:
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()


class Task(Protocol):
    """What a model can be trained to do."""

    family: str
    """The family of models that can."""

    def placeholders(self, config: TrainingConfig) -> dict[str, Any]:
        """Stand-ins for ``Prepared.keywords``, to try whether a model can be built before data are read."""
        ...

    def prepare(
        self, config: TrainingConfig, tokenizer: Tokenizer | None, console: Console | None
    ) -> Prepared:
        """Read the data.

        Args:
            config: the run.
            tokenizer: of the model that the run starts from, if it starts from one.
            console: for progress.

        """
        ...
