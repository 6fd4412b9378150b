"""What a model carries on top of its blocks: one module a task, chosen by one word.

A head is called with the last hidden states ``(batch, seq, d_model)`` and with the model's pooler, which
makes one vector of each row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from glassformer.layers.feed_forward import Activation

Pool = Callable[[Tensor], Tensor]
"""``(batch, seq, d_model) -> (batch, d_model)``."""


class Pooler(nn.Module):
    """tanh(W first + b): the first token's vector, transformed (Devlin et al. 2019, published code)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.dense = nn.Linear(d_model, d_model)

    def forward(self, hidden: Tensor, first: Tensor | None = None) -> Tensor:
        """``(batch, seq, d_model) -> (batch, d_model)``; ``first`` as for ``FirstToken``."""
        return torch.tanh(self.dense(first_token(hidden, first)))


class FirstToken(nn.Module):
    """The first token's vector as it is."""

    def forward(self, hidden: Tensor, first: Tensor | None = None) -> Tensor:
        """``(batch, seq, d_model) -> (batch, d_model)``.

        Args:
            hidden: the last hidden states.
            first: the column of each row's first token, ``(batch,)``, where padding stands before it.
        """
        return first_token(hidden, first)


def first_token(hidden: Tensor, first: Tensor | None) -> Tensor:
    """Of each row the vector in column ``first``, or in the first one: ``(batch, d_model)``."""
    if hidden.size(1) == 0:
        raise ValueError("a text without tokens has no first one: give at least one")
    return hidden[:, 0] if first is None else hidden[torch.arange(len(hidden), device=hidden.device), first]


class NoHead(nn.Module):
    """The last hidden states as they are."""

    task: ClassVar[str] = "none"
    gives: ClassVar[str] = "hidden states"

    def forward(self, hidden: Tensor, pooler: Pool) -> Tensor:
        """``(batch, seq, d_model)``, unchanged."""
        return hidden


class MaskedLMHead(nn.Module):
    """W_vocab norm(activation(W h + b)) + b_vocab for each token (Devlin et al. 2019, published code)."""

    task: ClassVar[str] = "masked_lm"
    gives: ClassVar[str] = "guesses of hidden tokens"

    def __init__(self, d_model: int, vocab_size: int, activation: Activation, norm: nn.Module) -> None:
        super().__init__()
        self.dense = nn.Linear(d_model, d_model)
        self.activation = activation
        self.norm = norm
        self.decoder = nn.Linear(d_model, vocab_size)

    def transform(self, hidden: Tensor) -> Tensor:
        """What ``decoder`` reads: ``(..., d_model) -> (..., d_model)``."""
        transformed: Tensor = self.norm(self.activation(self.dense(hidden)))
        return transformed

    def forward(self, hidden: Tensor, pooler: Pool) -> Tensor:
        """``(batch, seq, d_model) -> (batch, seq, vocab_size)``."""
        logits: Tensor = self.decoder(self.transform(hidden))
        return logits


class ClassificationHead(nn.Module):
    """W pooled + b: one row of logits a sequence, or an image."""

    task: ClassVar[str] = "classification"
    gives: ClassVar[str] = "a class for the whole"

    def __init__(self, d_model: int, num_labels: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(d_model, num_labels)

    def forward(self, hidden: Tensor, pooler: Pool) -> Tensor:
        """``(batch, seq, d_model) -> (batch, labels)``."""
        logits: Tensor = self.classifier(self.dropout(pooler(hidden)))
        return logits


class TokenClassificationHead(nn.Module):
    """W h + b: one row of logits a token."""

    task: ClassVar[str] = "token_classification"
    gives: ClassVar[str] = "a class for each token"

    def __init__(self, d_model: int, num_labels: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(d_model, num_labels)

    def forward(self, hidden: Tensor, pooler: Pool) -> Tensor:
        """``(batch, seq, d_model) -> (batch, seq, labels)``."""
        logits: Tensor = self.classifier(self.dropout(hidden))
        return logits


def label_names(labels: int | Sequence[str]) -> list[str]:
    """The names of classes that were given by their number, or by their names.

    Raises:
        ValueError: fewer than one class, or a name that occurs twice.

    """
    if not isinstance(labels, int):
        names = list(labels)
        twice = next((name for name in names if names.count(name) > 1), None)
        if not names or twice is not None:
            raise ValueError(f"labels must be one or more different names, not {names!r}")
        return names
    if labels < 1:
        raise ValueError(f"labels must be a positive number of classes, or their names, not {labels}")
    return [str(number) for number in range(labels)]
