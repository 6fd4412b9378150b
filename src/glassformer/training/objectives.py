"""What a model is trained for: an objective turns a model and a batch into one number to make small.

The trainer knows no more than that. What a batch holds is between the objective and whoever draws the
batches; an objective is defined beside them: masked tokens, span corruption, sequences, classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from glassformer.training.cross_entropy import chunked_cross_entropy

IGNORED = -100
"""A target that does not count."""


class HiddenStates(Protocol):
    """A language model, as far as its loss is concerned."""

    @property
    def lm_head(self) -> nn.Linear:
        """``(vocab_size, d_model)``, without bias."""
        ...

    def hidden_states(self, input_ids: Tensor) -> Tensor:
        """``(batch, seq, d_model)`` for ids ``(batch, seq)``, ready for ``lm_head``."""
        ...


class Objective(Protocol):
    """A mean loss that can be differentiated."""

    unit: ClassVar[str]
    """What the mean is taken over: ``"tokens"`` or ``"examples"``."""

    def __call__(self, model: Any, batch: Any) -> Tensor:
        """The mean loss, a scalar."""
        ...

    def count(self, batch: Any) -> int:
        """How many of its units are in a batch."""
        ...


@dataclass(frozen=True)
class LanguageModelling:
    """mean of -log p(token t+1 | tokens 0 to t), in nats per token.

    Args:
        ignore_index: targets that do not count.
        chunk_tokens: see ``chunked_cross_entropy``.
    """

    unit: ClassVar[str] = "tokens"

    ignore_index: int = IGNORED
    chunk_tokens: int | None = None

    def __call__(self, model: HiddenStates, batch: Tensor) -> Tensor:
        """The loss of ids ``(batch, seq + 1)``: each row's first ``seq`` predict its last ``seq``."""
        return self.loss(model, batch[:, :-1], batch[:, 1:])

    def count(self, batch: Tensor) -> int:
        """Predicted tokens: all but the first of each row."""
        return batch.size(0) * (batch.size(1) - 1)

    def loss(self, model: HiddenStates, inputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of ``targets`` ``(batch, seq)`` after ``inputs`` ``(batch, seq)``."""
        return chunked_cross_entropy(
            model.hidden_states(inputs),
            model.lm_head.weight,
            targets,
            ignore_index=self.ignore_index,
            chunk_tokens=self.chunk_tokens,
        )
