"""From logits to the next token: filters, each one small callable, and the sampler that applies them.

A filter maps ``logits (batch, vocab_size)`` and ``context (batch, seq)``, the token ids so far, to new
logits; what it forbids gets ``-inf``. Filters have no state, so a list of them is a whole way of sampling.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Filter = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class RepetitionPenalty:
    """Of the tokens in the context, logits above zero are divided by the penalty and those below multiplied.

    A penalty above 1 makes repetition rarer, below 1 more frequent. How often a token occurs does not matter.

    Source: Keskar et al. 2019, "CTRL", section 4.1; the sign-aware form is the one in common use.
    """

    penalty: float

    def __post_init__(self) -> None:
        if not 0 < self.penalty < math.inf:
            raise ValueError(f"repetition_penalty must be above 0 (1 is off), got {self.penalty}")

    def __call__(self, logits: Tensor, context: Tensor) -> Tensor:
        """Penalize what the context holds."""
        seen = logits.gather(-1, context)  # (batch, seq)
        return logits.scatter(-1, context, torch.where(seen < 0, seen * self.penalty, seen / self.penalty))


@dataclass(frozen=True)
class Temperature:
    """logits / temperature: below 1 the likely tokens gain, above 1 the unlikely ones.

    A temperature below the smallest normal number of float32, 1.2e-38, is taken as that number.
    """

    temperature: float

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be 0 (greedy) or above, and finite, got {self.temperature}")

    def __call__(self, logits: Tensor, context: Tensor) -> Tensor:
        """Divide; the context does not matter."""
        # The shift changes no probability; it keeps the largest quotient finite at a tiny temperature.
        smallest = torch.finfo(torch.float32).tiny
        return (logits - logits.amax(-1, keepdim=True)) / max(self.temperature, smallest)


@dataclass(frozen=True)
class TopK:
    """Only the ``k`` most likely tokens and those as likely as the k-th; above the vocabulary, all of it.

    Source: Fan et al. 2018, "Hierarchical Neural Story Generation", section 5.4.
    """

    k: int

    def __post_init__(self) -> None:
        if not isinstance(self.k, int):
            raise TypeError(f"top_k must be an integer, got {self.k!r}")
        if self.k < 1:
            raise ValueError(f"top_k must be 0 (off) or above, got {self.k}")

    def __call__(self, logits: Tensor, context: Tensor) -> Tensor:
        """Cut off what is less likely than the k-th."""
        kth = logits.topk(min(self.k, logits.shape[-1])).values[..., -1:]
        return logits.masked_fill(logits < kth, -math.inf)


@dataclass(frozen=True)
class TopP:
    """The nucleus: the fewest most likely tokens that together hold at least the probability ``p``.

    Seen from the other end: the least likely tokens go as long as their sum is at most ``1 - p``. The most
    likely token always stays.

    Source: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 3.1.
    """

    p: float

    def __post_init__(self) -> None:
        if not 0 < self.p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1 (off), got {self.p}")

    def __call__(self, logits: Tensor, context: Tensor) -> Tensor:
        """Cut off the tail."""
        ascending, order = logits.sort(dim=-1)
        drop = ascending.softmax(-1).cumsum(-1) <= 1 - self.p
        drop[..., -1] = False
        return logits.masked_fill(drop.scatter(-1, order, drop), -math.inf)


@dataclass(frozen=True)
class MinP:
    """Only tokens at least ``p`` times as likely as the most likely one.

    Source: Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling", section 3.
    """

    p: float

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"min_p must be between 0 (off) and 1, got {self.p}")

    def __call__(self, logits: Tensor, context: Tensor) -> Tensor:
        """Cut off what is too unlikely beside the likeliest."""
        if self.p == 0:
            return logits
        # A ratio of probabilities is a difference of logits: no softmax needed.
        least = logits.amax(-1, keepdim=True) + math.log(self.p)
        return logits.masked_fill(logits < least, -math.inf)


class Sampler:
    """Chooses one next token for each row.

    The filters run in the order repetition penalty, temperature, top-k, top-p, min-p; those that are off cost
    nothing. At ``temperature=0`` the likeliest token is taken: no filter but the penalty can change which one
    that is, so no other runs.

    Args:
        temperature: 0 is greedy, 1 leaves the model's distribution.
        top_k: as ``TopK``; None or 0 is off.
        top_p: as ``TopP``; None or 1 is off.
        min_p: as ``MinP``; None or 0 is off.
        repetition_penalty: as ``RepetitionPenalty``; None or 1 is off.
        generator: where the random numbers come from; None is PyTorch's global generator.

    Raises:
        ValueError: a number is out of its range.
        TypeError: ``top_k`` is no integer.
    """

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        penalty: list[Filter] = []
        if repetition_penalty is not None and repetition_penalty != 1:
            penalty.append(RepetitionPenalty(repetition_penalty))
        shape: list[Filter] = []
        if temperature not in (0, 1):
            shape.append(Temperature(temperature))
        if top_k is not None and top_k != 0:
            shape.append(TopK(top_k))
        if top_p is not None and top_p != 1:
            shape.append(TopP(top_p))
        if min_p is not None and min_p != 0:
            shape.append(MinP(min_p))
        self.greedy = temperature == 0
        self.filters = penalty if self.greedy else penalty + shape
        self.generator = generator

    def __call__(self, logits: Tensor, context: Tensor) -> Tensor:
        """Token ids ``(batch,)`` from ``logits (batch, vocab_size)`` after ``context (batch, seq)``."""
        logits = logits.float()  # half precision is too coarse to add up probabilities
        for change in self.filters:
            logits = change(logits, context)
        if self.greedy:
            return logits.argmax(-1)
        return draw(logits.softmax(-1), self.generator)


def draw(probabilities: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One index from each row of ``(batch, n)``: the first where the cumulative probability reaches u.

    u is uniform in (0, total], one number a row: as 0 is excluded, an index without probability is never the
    first to reach u; as the total is included, some index always does. ``torch.multinomial`` draws a number
    for each of the n instead; at 50,000 tokens that takes some fifteen times as long.
    """
    exact = torch.float32 if probabilities.device.type == "mps" else torch.float64
    cumulative = probabilities.cumsum(-1, dtype=exact)
    below_one = torch.rand(len(probabilities), 1, dtype=exact, device=cumulative.device, generator=generator)
    return torch.searchsorted(cumulative, cumulative[:, -1:] * (1 - below_one)).squeeze(-1)
