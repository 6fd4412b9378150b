"""How rotary frequencies are changed so that a model reads texts longer than those it was trained on.

Each scaling is a pure function of the frequencies theta^(-2i/d) of the pairs i = 0 .. d/2 - 1.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from glassformer.choices import choose, suggestion


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """No scaling: the frequencies as they are."""

    amplitude: float = 1.0
    """What rotated queries and keys are multiplied by; its square multiplies the scores."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0:
                raise ValueError(f"{name} of rotary scaling must be positive, not {value}")

    def __call__(self, frequencies: Tensor, theta: float, length: Tensor) -> Tensor:
        """The changed frequencies.

        Args:
            frequencies: theta^(-2i/d), ``(d / 2,)``.
            theta: base of the frequencies.
            length: tokens that are read, ``(1,)``, or ``(batch, 1)`` where rows differ.

        Returns:
            ``(d / 2,)``, or ``(batch, d / 2)`` where they depend on the length.

        """
        return frequencies


@dataclass(frozen=True, kw_only=True)
class Linear(Scaling):
    """frequency / factor: position p turns as p / factor did (Chen et al. 2023, position interpolation)."""

    factor: float

    def __call__(self, frequencies: Tensor, theta: float, length: Tensor) -> Tensor:  # noqa: D102
        return frequencies / self.factor


@dataclass(frozen=True, kw_only=True)
class NTK(Scaling):
    """theta * factor^(d / (d - 2)): the slowest pair as if interpolated, the fastest as it was.

    Source: "NTK-aware" scaling, in the form that Peng et al. 2023 (YaRN) give in section 3.1.
    """

    factor: float

    def __call__(self, frequencies: Tensor, theta: float, length: Tensor) -> Tensor:  # noqa: D102
        return _with_theta(frequencies, theta, torch.full_like(frequencies[:1], self.factor))


@dataclass(frozen=True, kw_only=True)
class Dynamic(Scaling):
    """NTK with factor * length / original - (factor - 1), which is 1 up to the original length.

    The angles depend on the length read so far; keys in a cache keep those of the length they were read at
    (Peng et al. 2023, section 3.3).
    """

    factor: float
    original_length: int

    def __call__(self, frequencies: Tensor, theta: float, length: Tensor) -> Tensor:  # noqa: D102
        read = length.to(frequencies).clamp(min=self.original_length)
        return _with_theta(frequencies, theta, self.factor * read / self.original_length - (self.factor - 1))


@dataclass(frozen=True, kw_only=True)
class YaRN(Scaling):
    """Fast pairs as they are, slow ones interpolated, a ramp between; scores sharpened (Peng et al. 2023).

    A pair counts as fast where it turns more than ``beta_fast`` times in the original length, as slow where
    it turns less than ``beta_slow`` times (section 3.2). Queries and keys are multiplied by
    0.1 ln(factor) + 1 (section 3.4), unless ``amplitude`` is given.
    """

    factor: float
    original_length: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    amplitude: float = 0.0
    """0 stands for 0.1 ln(factor) + 1."""
    whole_pairs: bool = True
    """Whether the ramp begins and ends at whole pairs, as in the published code."""

    def __post_init__(self) -> None:
        if self.amplitude == 0:
            object.__setattr__(self, "amplitude", 0.1 * math.log(max(self.factor, 1.0)) + 1)
        super().__post_init__()

    def __call__(self, frequencies: Tensor, theta: float, length: Tensor) -> Tensor:  # noqa: D102
        pairs = len(frequencies)
        first, last = self._pair(self.beta_fast, pairs, theta), self._pair(self.beta_slow, pairs, theta)
        if self.whole_pairs:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, 2 * pairs - 1)
        width = max(last - first, 0.001)
        index = torch.arange(pairs, device=frequencies.device, dtype=frequencies.dtype)
        slow = ((index - first) / width).clamp(0, 1)  # 0 for fast pairs, 1 for slow ones
        return frequencies * (1 - slow) + frequencies / self.factor * slow

    def _pair(self, turns: float, pairs: int, theta: float) -> float:
        """The pair that turns so many times in the original length (equation 13, solved for the pair)."""
        return pairs * math.log(self.original_length / (turns * 2 * math.pi)) / math.log(theta)


@dataclass(frozen=True, kw_only=True)
class Llama3(Scaling):
    """Waves shorter than original / high_factor as they are, longer than original / low_factor interpolated.

    Between them the two are mixed by how many waves fit into the original length. Source: the published code
    of Llama 3.1 (Grattafiori et al. 2024 describe the training, not the formula).
    """

    factor: float
    original_length: int
    low_factor: float = 1.0
    high_factor: float = 4.0

    def __call__(self, frequencies: Tensor, theta: float, length: Tensor) -> Tensor:  # noqa: D102
        waves = self.original_length * frequencies / (2 * math.pi)  # that fit into the original length
        keep = ((waves - self.low_factor) / (self.high_factor - self.low_factor)).clamp(0, 1)
        return frequencies * keep + frequencies / self.factor * (1 - keep)


SCALINGS: dict[str, type[Scaling]] = {
    "none": Scaling,
    "linear": Linear,
    "ntk": NTK,
    "dynamic": Dynamic,
    "yarn": YaRN,
    "llama3": Llama3,
}
"""Scalings by the word of their ``"kind"``."""


def build_scaling(spec: Mapping[str, Any] | None) -> Scaling:
    """The scaling that ``{"kind": "linear", "factor": 4.0}`` asks for; None is none.

    Raises:
        ValueError: an unknown kind or option, one that is missing, or a number that is not positive.

    """
    options = {"kind": "none"} if spec is None else dict(spec)
    kind = options.pop("kind", None)
    if kind is None:
        raise ValueError(f'rotary scaling needs a "kind" ({", ".join(SCALINGS)}), not {options!r}')
    scaling = choose(SCALINGS, kind, "kind of rotary scaling")
    parameters = inspect.signature(scaling).parameters
    for name in options:
        if name not in parameters:
            raise ValueError(f"unknown option {name!r} of {kind} scaling{suggestion(name, parameters)}")
    missing = [name for name, p in parameters.items() if p.default is p.empty and name not in options]
    if missing:
        raise ValueError(f"{kind} scaling needs {', '.join(missing)}")
    return scaling(**options)


def _with_theta(frequencies: Tensor, theta: float, factor: Tensor) -> Tensor:
    """The frequencies of the base theta * factor^(d / (d - 2))."""
    d = 2 * frequencies.size(-1)
    pairs = torch.arange(0, d, 2, device=frequencies.device, dtype=frequencies.dtype)
    base = theta * factor ** (d / (d - 2) if d > 2 else 1.0)
    return base ** (-pairs / d)
