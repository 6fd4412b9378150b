"""The interface of a setup: a model, its pretraining on bytes, and how it answers the study's questions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from glassformer.data import Batches
from glassformer.models import TransformerModel
from glassformer.models.costs import describe, total
from glassformer.training.task import BatchSource, Objective

NUM_BYTES = 257
"""The bytes, and the end of a text."""
END, MASK, SEPARATOR, FIRST_SENTINEL = 256, 257, 258, 259
"""The end of a text, as ``ByteTokenizer`` has it, and further ids; the sentinels are the last ones."""
SHARED = {"norm": "rms", "norm_eps": 1e-5, "activation": "gelu", "residual": "pre", "bias": False}
"""Hyperparameters that are the same in all setups."""


class Setup(ABC):
    """A model, its pretraining, and how it answers the questions of the study.

    Args:
        settings: see ``ArchitecturesStudy.runs``.
    """

    name: ClassVar[str]

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self.vocab_size = FIRST_SENTINEL + settings["num_sentinels"]

    @abstractmethod
    def build(self) -> TransformerModel:
        """The model with random weights."""

    @abstractmethod
    def objective(self) -> Objective:
        """The loss of pretraining."""

    @abstractmethod
    def batches(self, windows: Batches) -> BatchSource:
        """Batches of pretraining, from windows of ``seq_len + 1`` bytes."""

    @abstractmethod
    def next_byte(self, model: Any, contexts: Tensor) -> Tensor:
        """Log p of the byte after each context: ``(batch, length) -> (batch, 257)``."""

    @abstractmethod
    def hidden_byte(self, model: Any, rows: Tensor, position: int, candidates: Tensor) -> Tensor:
        """Log p of the byte at a position, given those on both sides.

        Args:
            model: in evaluation mode.
            rows: ``(batch, length)``; the byte at the position is not used.
            position: the same in all rows.
            candidates: the bytes that are possible, ``(candidate,)``.

        Returns:
            ``(batch, candidate)``; sums to one over the candidates.
        """

    @abstractmethod
    def features(self, model: Any, rows: Tensor, mask: Tensor) -> Tensor:
        """Mean of the last hidden states of each text, ``(batch, d_model)``, which a classifier is given."""

    def flops_per_update(self, model: TransformerModel) -> float:
        """Of forward and backward pass: three times those of a forward pass."""
        s = self.settings
        return 3.0 * total(describe(model, s["seq_len"], s["batch_size"])).flops

    def sizes(self) -> dict[str, Any]:
        """Hyperparameters that all models share."""
        s = self.settings
        return {
            "vocab_size": self.vocab_size,
            "d_model": s["d_model"],
            "num_heads": s["num_heads"],
            "max_seq_len": s["max_seq_len"],
            "positions": "rotary",
            **SHARED,
        }


def byte_log_p(logits: Tensor) -> Tensor:
    """Log p over bytes and the end of a text, without the other ids: ``(..., vocab_size) -> (..., 257)``."""
    return logits[..., :NUM_BYTES].float().log_softmax(-1)


def chosen(log_p: Tensor, ids: Tensor) -> Tensor:
    """Log p of ids: ``(batch, seq, 257)`` and ``(batch, seq)`` to ``(batch, seq)``."""
    return log_p.gather(-1, ids[..., None])[..., 0]


def mean_over(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real tokens: ``(batch, seq, d_model) -> (batch, d_model)``."""
    weights = mask[..., None].to(hidden)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
