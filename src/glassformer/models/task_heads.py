"""Task heads of encoders.

A head takes the last hidden states ``(batch, seq, d_model)`` and the model's pooler, which reduces them to
one vector for each row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from glassformer.layers.feed_forward import Activation
from glassformer.linear import Linear

Pool = Callable[[Tensor], Tensor]
"""``(batch, seq, d_model) -> (batch, d_model)``."""


class Pooler(nn.Module):
    """tanh(W x + b) of the first token's vector x (Devlin et al. 2019, published code)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.dense = Linear(d_model, d_model)

    def forward(self, hidden: Tensor, first: Tensor | None = None) -> Tensor:
        """``(batch, seq, d_model) -> (batch, d_model)``; see ``FirstToken``."""
        return torch.tanh(self.dense(first_token(hidden, first)))


class FirstToken(nn.Module):
    """The first token's vector."""

    def forward(self, hidden: Tensor, first: Tensor | None = None) -> Tensor:
        """``(batch, seq, d_model) -> (batch, d_model)``.

        Args:
            hidden: the last hidden states.
            first: column of each row's first real token, ``(batch,)``. Default: 0.
        """
        return first_token(hidden, first)


def first_token(hidden: Tensor, first: Tensor | None) -> Tensor:
    """The vector of each row in column ``first``, by default 0: ``(batch, d_model)``."""
    if hidden.size(1) == 0:
        raise ValueError("the text is empty: give at least one token")
    if first is None:
        return hidden[:, 0]
    return hidden[torch.arange(hidden.size(0), device=hidden.device), first]


class NoHead(nn.Module):
    """No head: the last hidden states."""

    task: ClassVar[str] = "none"
    gives: ClassVar[str] = "hidden states"

    def forward(self, hidden: Tensor, pooler: Pool) -> Tensor:
        """``(batch, seq, d_model)``, unchanged."""
        return hidden


class MaskedLMHead(nn.Module):
    """W_vocab norm(activation(W h + b)) + b_vocab for each token (Devlin et al. 2019, published code)."""

    task: ClassVar[str] = "masked_lm"
    gives: ClassVar[str] = "predictions of masked tokens"

    def __init__(self, d_model: int, vocab_size: int, activation: Activation, norm: nn.Module) -> None:
        super().__init__()
        self.dense = Linear(d_model, d_model)
        self.activation = activation
        self.norm = norm
        self.decoder = Linear(d_model, vocab_size)

    def transform(self, hidden: Tensor) -> Tensor:
        """The input of ``decoder``: ``(..., d_model) -> (..., d_model)``."""
        transformed: Tensor = self.norm(self.activation(self.dense(hidden)))
        return transformed

    def forward(self, hidden: Tensor, pooler: Pool) -> Tensor:
        """``(batch, seq, d_model) -> (batch, seq, vocab_size)``."""
        logits: Tensor = self.decoder(self.transform(hidden))
        return logits


class ClassificationHead(nn.Module):
    """W pooled + b: logits for each sequence or image."""

    task: ClassVar[str] = "classification"
    gives: ClassVar[str] = "one class for each sequence"

    def __init__(self, d_model: int, num_labels: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = Linear(d_model, num_labels)

    def forward(self, hidden: Tensor, pooler: Pool) -> Tensor:
        """``(batch, seq, d_model) -> (batch, labels)``."""
        logits: Tensor = self.classifier(self.dropout(pooler(hidden)))
        return logits


class TokenClassificationHead(nn.Module):
    """W h + b: logits for each token."""

    task: ClassVar[str] = "token_classification"
    gives: ClassVar[str] = "one class for each token"

    def __init__(self, d_model: int, num_labels: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = Linear(d_model, num_labels)

    def forward(self, hidden: Tensor, pooler: Pool) -> Tensor:
        """``(batch, seq, d_model) -> (batch, seq, labels)``."""
        logits: Tensor = self.classifier(self.dropout(hidden))
        return logits


def label_names(labels: int | Sequence[str]) -> list[str]:
    """The names of classes, given their number or their names."""
    return [str(number) for number in range(labels)] if isinstance(labels, int) else list(labels)
