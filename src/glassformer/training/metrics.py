"""Evaluation metrics: mean loss, perplexity, bits per byte, and error rates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from glassformer.data.batches import Batch
from glassformer.eval_mode import eval_mode
from glassformer.training.task import Objective


@dataclass(frozen=True)
class Evaluation:
    """Mean loss of a language model over ``num_tokens`` predicted tokens."""

    nats_per_token: float
    num_tokens: int
    num_bytes: int | None = None
    """UTF-8 bytes of the text, if known."""

    @property
    def perplexity(self) -> float:
        """exp(nats per token)."""
        return math.exp(self.nats_per_token) if self.nats_per_token < 700 else math.inf

    @property
    def bits_per_byte(self) -> float | None:
        """nats/token * tokens / (bytes * log 2), which is comparable between tokenizers.

        The first token of the text is not predicted; it is counted with the mean loss of the others.
        """
        if not self.num_bytes:
            return None
        return self.nats_per_token * (self.num_tokens + 1) / (self.num_bytes * math.log(2))

    def metrics(self) -> dict[str, float]:
        """``loss``, ``perplexity`` and, if the bytes are known, ``bits_per_byte``."""
        bits = self.bits_per_byte
        metrics = {"loss": self.nats_per_token, "perplexity": self.perplexity}
        return metrics if bits is None else metrics | {"bits_per_byte": bits}


@torch.no_grad()
def mean_loss(model: Any, objective: Objective, batches: Iterable[Batch]) -> float:
    """Exact mean of an objective over all batches, weighted by ``objective.count``, without dropout.

    Raises:
        ValueError: the batches contain no target.
    """
    total, count = 0.0, 0
    with eval_mode(model):
        for batch in batches:
            number = objective.count(batch)
            total += float(objective(model, batch.to(model.device))) * number
            count += number
    if count == 0:
        raise ValueError("evaluation needs at least one target, but the batches have none")
    return total / count


def edit_distance(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Levenshtein distance: the least number of insertions, deletions and substitutions between them."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        above, row = row, [i]
        for j, y in enumerate(b, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return row[-1]


def error_rates(
    predictions: Sequence[Sequence[Any]], references: Sequence[Sequence[Sequence[Any]]]
) -> dict[str, float]:
    """Symbol and sequence error rates, each prediction compared with its nearest reference.

    symbol_error_rate = sum of edit distances / sum of reference lengths (for phonemes: PER);
    sequence_error_rate = fraction of predictions that equal no reference (for words: WER).

    Args:
        predictions: one sequence per source.
        references: for each source its correct sequences, at least one.

    Raises:
        ValueError: there are no predictions, or their number differs from that of the references.
    """
    if not predictions or len(predictions) != len(references):
        raise ValueError(
            "error rates need at least one prediction and as many references,"
            f" got {len(predictions)} predictions"
            f" and {len(references)} references"
        )
    errors = symbols = wrong = 0
    for prediction, known in zip(predictions, references, strict=True):
        distance, length = min((edit_distance(prediction, reference), len(reference)) for reference in known)
        errors, symbols, wrong = errors + distance, symbols + length, wrong + (distance > 0)
    return {"symbol_error_rate": errors / max(symbols, 1), "sequence_error_rate": wrong / len(predictions)}
