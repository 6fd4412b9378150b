"""How well a model predicts a whole held-out text."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.data.examples import Batch
from glassformer.generation.streaming import evaluating
from glassformer.training.objectives import LanguageModelling, Objective


@dataclass(frozen=True)
class Evaluation:
    """The mean loss over ``num_tokens`` predicted tokens, and what follows from it."""

    nats_per_token: float
    num_tokens: int
    num_bytes: int | None = None
    """UTF-8 bytes of the text, where they are known."""

    @property
    def perplexity(self) -> float:
        """exp(nats per token): as uncertain as among so many equal choices."""
        return math.exp(self.nats_per_token) if self.nats_per_token < 700 else math.inf

    @property
    def bits_per_byte(self) -> float | None:
        """nats/token * tokens / (bytes * log 2): comparable between tokenizers.

        The first token of the text has nothing before it and is not predicted; it counts as the mean one.
        """
        if not self.num_bytes:
            return None
        return self.nats_per_token * (self.num_tokens + 1) / (self.num_bytes * math.log(2))

    def metrics(self) -> dict[str, float]:
        """The figures by name, for a log: ``loss``, ``perplexity`` and, if known, ``bits_per_byte``."""
        bits = self.bits_per_byte
        figures = {"loss": self.nats_per_token, "perplexity": self.perplexity}
        return figures if bits is None else figures | {"bits_per_byte": bits}


@torch.no_grad()
def mean_loss(model: Any, objective: Objective, batches: Iterable[Batch]) -> float:
    """The exact mean of an objective over all batches, each with the weight of what it counts; no dropout.

    Raises:
        ValueError: there is nothing to count.
    """
    total, count = 0.0, 0
    with evaluating(model):
        for batch in batches:
            number = objective.count(batch)
            total += float(objective(model, batch.to(model.device))) * number
            count += number
    if count == 0:
        raise ValueError("evaluation needs at least one target; the held-out examples have none")
    return total / count


def evaluate(
    model: nn.Module,
    windows: Iterable[tuple[Tensor, Tensor]],
    *,
    num_bytes: int | None = None,
    objective: LanguageModelling | None = None,
) -> Evaluation:
    """The exact mean over all tokens of ``windows``, without dropout.

    The model is left in the mode it was in.

    Args:
        model: with ``hidden_states`` and ``lm_head``.
        windows: ``(inputs, targets)``, each ``(batch, seq)``; sizes may differ.
        num_bytes: UTF-8 bytes of the text, for bits per byte.
        objective: what to sum; its ignored targets are not counted.

    Raises:
        ValueError: there is nothing to predict.
    """
    objective = objective or LanguageModelling()
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    total, count = 0.0, 0
    try:
        with torch.no_grad():
            for inputs, targets in windows:
                predicted = int((targets != objective.ignore_index).sum())
                loss = objective.loss(model, inputs.to(device), targets.to(device))  # type: ignore[arg-type]
                total += float(loss) * predicted
                count += predicted
    finally:
        model.train(training)
    if count == 0:
        raise ValueError("evaluation needs at least one token to predict; the held-out text has none")
    return Evaluation(total / count, count, num_bytes)
