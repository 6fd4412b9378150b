"""Sampling of the next token: logits processors, and the sampler that applies them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from glassformer.generation.options import GenerationConfig, GenerationOptions

LogitsProcessor = Callable[[Tensor, Tensor], Tensor]
"""A function of ``logits (batch, vocab_size)`` and ``input_ids (batch, seq)``, the tokens so far.

It returns new logits, with ``-inf`` for tokens that must not be sampled.
"""


@dataclass(frozen=True)
class RepetitionPenalty:
    """Divide positive logits of the tokens so far by the penalty, and multiply negative ones.

    A penalty above 1 makes repetition less likely. How often a token occurs does not matter.

    Source: Keskar et al. 2019, "CTRL", section 4.1, in the common form that depends on the sign.
    """

    penalty: float

    def __post_init__(self) -> None:
        if not 0 < self.penalty < math.inf:
            raise ValueError(f"repetition_penalty must be above 0 (1 is off), got {self.penalty}")

    def __call__(self, logits: Tensor, input_ids: Tensor) -> Tensor:
        """Return the logits with the penalty."""
        seen = logits.gather(-1, input_ids)  # (batch, seq)
        penalized = torch.where(seen < 0, seen * self.penalty, seen / self.penalty)
        return logits.scatter(-1, input_ids, penalized)


@dataclass(frozen=True)
class Temperature:
    """Divide logits by the temperature: below 1 likely tokens become more likely, above 1 less.

    A temperature below the smallest normal number of float32, 1.2e-38, counts as that number.
    """

    temperature: float

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be 0 (greedy) or above, and finite, got {self.temperature}")

    def __call__(self, logits: Tensor, input_ids: Tensor) -> Tensor:
        """Return the divided logits."""
        # Subtracting the maximum changes no probability and avoids overflow at a tiny temperature.
        smallest = torch.finfo(torch.float32).tiny
        return (logits - logits.amax(-1, keepdim=True)) / max(self.temperature, smallest)


@dataclass(frozen=True)
class TopK:
    """Keep the ``k`` most likely tokens and ties with the k-th; all tokens if ``k`` exceeds the vocabulary.

    Source: Fan et al. 2018, "Hierarchical Neural Story Generation", section 5.4.
    """

    k: int

    def __post_init__(self) -> None:
        if not isinstance(self.k, int):
            raise TypeError(f"top_k must be an int, got {self.k!r}")
        if self.k < 1:
            raise ValueError(f"top_k must be 0 (off) or above, got {self.k}")

    def __call__(self, logits: Tensor, input_ids: Tensor) -> Tensor:
        """Set all other logits to -inf."""
        kth = logits.topk(min(self.k, logits.shape[-1])).values[..., -1:]
        return logits.masked_fill(logits < kth, -math.inf)


@dataclass(frozen=True)
class TopP:
    """Keep the nucleus: the smallest set of most likely tokens with total probability at least ``p``.

    Equivalently, the least likely tokens are dropped while their sum is at most ``1 - p``. The most likely
    token is always kept.

    Source: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 3.1.
    """

    p: float

    def __post_init__(self) -> None:
        if not 0 < self.p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1 (off), got {self.p}")

    def __call__(self, logits: Tensor, input_ids: Tensor) -> Tensor:
        """Set all other logits to -inf."""
        ascending, order = logits.sort(dim=-1)
        drop = ascending.softmax(-1).cumsum(-1) <= 1 - self.p
        drop[..., -1] = False
        return logits.masked_fill(drop.scatter(-1, order, drop), -math.inf)


@dataclass(frozen=True)
class MinP:
    """Keep tokens with at least ``p`` times the probability of the most likely one.

    Source: Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling", section 3.
    """

    p: float

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"min_p must be between 0 (off) and 1, got {self.p}")

    def __call__(self, logits: Tensor, input_ids: Tensor) -> Tensor:
        """Set all other logits to -inf."""
        if self.p == 0:
            return logits
        # A ratio of probabilities is a difference of logits, so no softmax is needed.
        least = logits.amax(-1, keepdim=True) + math.log(self.p)
        return logits.masked_fill(logits < least, -math.inf)


def repetition_processors(config: GenerationConfig) -> list[LogitsProcessor]:
    """Return the repetition penalty of the options, or nothing if it is off."""
    penalty = config.repetition_penalty
    return [] if penalty is None or penalty == 1 else [RepetitionPenalty(penalty)]


def sampling_processors(config: GenerationConfig) -> list[LogitsProcessor]:
    """Return the processors of temperature, top-k, top-p and min-p that are on, in this order."""
    processors: list[LogitsProcessor] = []
    if config.temperature not in (0, 1):
        processors.append(Temperature(config.temperature))
    if config.top_k is not None and config.top_k != 0:
        processors.append(TopK(config.top_k))
    if config.top_p is not None and config.top_p != 1:
        processors.append(TopP(config.top_p))
    if config.min_p is not None and config.min_p != 0:
        processors.append(MinP(config.min_p))
    return processors


class Sampler:
    """Choose one next token for each row.

    At temperature 0 this is the most likely token, which no processor but the repetition penalty can change,
    so no other one runs.

    Args:
        config: options of generation, of which those of sampling are used.
        generator: source of random numbers; None is PyTorch's global generator.
        options: the fields of ``config`` as keywords, if ``config`` is not given.

    Raises:
        ValueError: an option is out of its range.
        TypeError: ``top_k`` is not an int.
    """

    def __init__(
        self,
        config: GenerationConfig | None = None,
        *,
        generator: torch.Generator | None = None,
        **options: Unpack[GenerationOptions],
    ) -> None:
        config = GenerationConfig(**options) if config is None else config
        penalty, sampling = repetition_processors(config), sampling_processors(config)
        self.greedy = config.temperature == 0
        self.processors = penalty if self.greedy else penalty + sampling
        self.generator = generator

    def __call__(self, logits: Tensor, input_ids: Tensor) -> Tensor:
        """Return ids ``(batch,)`` for ``logits (batch, vocab_size)`` after ``input_ids (batch, seq)``."""
        logits = logits.float()  # half precision is too coarse for sums of probabilities
        for process in self.processors:
            logits = process(logits, input_ids)
        if self.greedy:
            return logits.argmax(-1)
        return draw(logits.softmax(-1), self.generator)


def draw(probabilities: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw one index from each row of ``(batch, n)`` by inverting the cumulative distribution.

    The uniform number is in (0, total]: without 0, an index without probability is never drawn; with the
    total, an index is always found. ``torch.multinomial`` needs a random number for each of the n entries
    instead, and takes about fifteen times as long at 50,000 tokens.
    """
    exact = torch.float32 if probabilities.device.type == "mps" else torch.float64
    cumulative = probabilities.cumsum(-1, dtype=exact)
    below_one = torch.rand(len(probabilities), 1, dtype=exact, device=cumulative.device, generator=generator)
    return torch.searchsorted(cumulative, cumulative[:, -1:] * (1 - below_one)).squeeze(-1)
