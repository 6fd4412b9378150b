"""Scaling of rotary frequencies for texts longer than those of training.

Each scaling is a pure function of the frequencies theta^(-2i/d) of the pairs i = 0 .. d/2 - 1.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from glassformer.choices import choose, suggestion


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """No scaling; the base class of all scalings."""

    attention_factor: float = 1.0
    """Factor of rotated queries and keys; its square is a factor of the scores."""

    @property
    def max_constant_len(self) -> int | None:
        """Length up to which the frequencies do not depend on the length; None if they never do."""
        return None

    def __post_init__(self) -> None:
        for field in fields(self):
            value, problem = getattr(self, field.name), ""
            if field.type == "bool":
                problem = "" if isinstance(value, bool) else "true or false"
            elif field.type in ("int", "float"):
                if isinstance(value, bool) or not isinstance(value, int | float):
                    problem = "a number"
                elif not 0 < value < 2**63:
                    problem = "below 2**63" if value > 0 else "positive"
            if problem:
                raise ValueError(f"{field.name} of rotary scaling must be {problem}, not {value!r:.100}")

    def check_pairs(self, pairs: int) -> None:
        """Raise ValueError if the scaling is not for this number of pairs."""

    def __call__(self, frequencies: Tensor, theta: float, length: Tensor) -> Tensor:
        """Scale the frequencies.

        Args:
            frequencies: theta^(-2i/d), ``(d / 2,)``.
            theta: base of the frequencies.
            length: of the text in tokens, ``(1,)``, or ``(batch, 1)`` if rows differ.

        Returns:
            ``(d / 2,)``, or ``(batch, d / 2)`` if they depend on the length.

        """
        return frequencies


@dataclass(frozen=True, kw_only=True)
class Linear(Scaling):
    """frequency / factor: position interpolation (Chen et al. 2023)."""

    factor: float

    def __call__(self, frequencies: Tensor, theta: float, length: Tensor) -> Tensor:  # noqa: D102
        return frequencies / self.factor


@dataclass(frozen=True, kw_only=True)
class NTK(Scaling):
    """Base theta * factor^(d / (d - 2)): interpolates the slowest pair and leaves the fastest unchanged.

    "NTK-aware" scaling, in the form of Peng et al. 2023 (YaRN), section 3.1.
    """

    factor: float

    def __call__(self, frequencies: Tensor, theta: float, length: Tensor) -> Tensor:  # noqa: D102
        return _with_theta(frequencies, theta, torch.full_like(frequencies[:1], self.factor))


@dataclass(frozen=True, kw_only=True)
class Dynamic(Scaling):
    """NTK scaling by factor * length / original - (factor - 1), which is 1 up to the original length.

    The angles of all tokens depend on the length of the text so far (Peng et al. 2023, section 3.3). So do
    the hidden states: beyond the original length, each new token needs the whole text to be processed again.
    """

    factor: float
    original_max_seq_len: int

    @property
    def max_constant_len(self) -> int | None:  # noqa: D102
        return self.original_max_seq_len

    def __call__(self, frequencies: Tensor, theta: float, length: Tensor) -> Tensor:  # noqa: D102
        current = length.to(frequencies).clamp(min=self.original_max_seq_len)
        return _with_theta(
            frequencies, theta, self.factor * current / self.original_max_seq_len - (self.factor - 1)
        )


@dataclass(frozen=True, kw_only=True)
class YaRN(Scaling):
    """Interpolation of slow pairs only, with a ramp to fast ones, and sharper scores (Peng et al. 2023).

    Fast pairs turn more than ``beta_fast`` times in the original length, slow ones less than ``beta_slow``
    times (section 3.2). Queries and keys are multiplied by 0.1 ln(factor) + 1 (section 3.4), unless
    ``attention_factor`` is given.
    """

    factor: float
    original_max_seq_len: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 0.0
    """0: 0.1 ln(factor) + 1."""
    truncate: bool = True
    """Whether to round the ends of the ramp to whole pairs, as in the published code."""

    def __post_init__(self) -> None:
        if self.attention_factor == 0:
            factor = self.factor if isinstance(self.factor, int | float) else 1.0  # refused below
            object.__setattr__(self, "attention_factor", 0.1 * math.log(max(factor, 1.0)) + 1)
        super().__post_init__()

    def __call__(self, frequencies: Tensor, theta: float, length: Tensor) -> Tensor:  # noqa: D102
        pairs = len(frequencies)
        first, last = self._pair(self.beta_fast, pairs, theta), self._pair(self.beta_slow, pairs, theta)
        if self.truncate:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, 2 * pairs - 1)
        width = max(last - first, 0.001)
        index = torch.arange(pairs, device=frequencies.device, dtype=frequencies.dtype)
        slow = ((index - first) / width).clamp(0, 1)  # 0 for fast pairs, 1 for slow ones
        return frequencies * (1 - slow) + frequencies / self.factor * slow

    def _pair(self, turns: float, pairs: int, theta: float) -> float:
        """The pair that turns ``turns`` times in the original length (equation 13, solved for the pair)."""
        return pairs * math.log(self.original_max_seq_len / (turns * 2 * math.pi)) / math.log(theta)


@dataclass(frozen=True, kw_only=True)
class Llama3(Scaling):
    """Interpolation of wavelengths longer than original / low_freq_factor, as in Llama 3.1.

    Wavelengths shorter than original / high_freq_factor are unchanged; between them, both are mixed by the
    number of waves in the original length. Source: the published code (Grattafiori et al. 2024 do not give
    the formula).
    """

    factor: float
    original_max_seq_len: int
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0

    def __call__(self, frequencies: Tensor, theta: float, length: Tensor) -> Tensor:  # noqa: D102
        waves = self.original_max_seq_len * frequencies / (2 * math.pi)  # number in the original length
        keep = ((waves - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)).clamp(0, 1)
        return frequencies * keep + frequencies / self.factor * (1 - keep)


@dataclass(frozen=True, kw_only=True)
class LongRoPE(Scaling):
    """frequency_i / factors_i, with other factors beyond the original length (Ding et al. 2024).

    Queries and keys are multiplied by sqrt(1 + ln(factor) / ln(original length)), unless ``attention_factor``
    is given (section 3.4; the published code). Beyond the original length all angles change once, so that
    cached keys are outdated.
    """

    short_factors: Sequence[float]
    long_factors: Sequence[float]
    original_max_seq_len: int
    factor: float = 1.0
    """Of the length, for the attention factor."""
    attention_factor: float = 0.0
    """0: sqrt(1 + ln(factor) / ln(original length))."""

    def __post_init__(self) -> None:
        for name in ("short_factors", "long_factors"):
            object.__setattr__(self, name, _checked_factors(name, getattr(self, name)))
        if self.attention_factor == 0:
            object.__setattr__(self, "attention_factor", 1.0)
            super().__post_init__()  # checks the numbers of the formula
            gain = math.log(max(self.factor, 1.0)) / math.log(max(self.original_max_seq_len, 2))
            object.__setattr__(self, "attention_factor", math.sqrt(1 + gain))
        super().__post_init__()

    @property
    def max_constant_len(self) -> int | None:  # noqa: D102
        return self.original_max_seq_len

    def check_pairs(self, pairs: int) -> None:  # noqa: D102
        for name in ("short_factors", "long_factors"):
            if len(getattr(self, name)) != pairs:
                raise ValueError(
                    f"{name} of rotary scaling must be {pairs} numbers, not {len(getattr(self, name))}"
                )

    def __call__(self, frequencies: Tensor, theta: float, length: Tensor) -> Tensor:  # noqa: D102
        short, long = (
            frequencies / frequencies.new_tensor(f) for f in (self.short_factors, self.long_factors)
        )
        return torch.where(length > self.original_max_seq_len, long, short)


def _checked_factors(name: str, factors: Any) -> tuple[float, ...]:
    """Factors as a tuple; raises ValueError if they are not a list of positive numbers."""
    if not isinstance(factors, list | tuple) or not all(map(_is_factor, factors)):
        raise ValueError(f"{name} of rotary scaling must be a list of positive numbers, not {factors!r:.200}")
    return tuple(factors)


def _is_factor(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


@dataclass(frozen=True, kw_only=True)
class PerPair(Scaling):
    """frequency_i / factors_i: a factor for each pair, as in GGUF files of Llama 3.1."""

    factors: Sequence[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "factors", _checked_factors("factors", self.factors))
        super().__post_init__()

    def check_pairs(self, pairs: int) -> None:  # noqa: D102
        if len(self.factors) != pairs:
            raise ValueError(f"factors of rotary scaling must be {pairs} numbers, not {len(self.factors)}")

    def __call__(self, frequencies: Tensor, theta: float, length: Tensor) -> Tensor:  # noqa: D102
        return frequencies / frequencies.new_tensor(self.factors)


SCALINGS: dict[str, type[Scaling]] = {
    "none": Scaling,
    "per_pair": PerPair,
    "linear": Linear,
    "ntk": NTK,
    "dynamic": Dynamic,
    "yarn": YaRN,
    "llama3": Llama3,
    "longrope": LongRoPE,
}
"""Scaling classes by ``"kind"``."""

RENAMED_OPTIONS = {
    "amplitude": "attention_factor",
    "high_factor": "high_freq_factor",
    "low_factor": "low_freq_factor",
    "original_length": "original_max_seq_len",
    "whole_pairs": "truncate",
}
"""New names of options of version 0.1."""


def build_scaling(spec: Mapping[str, Any] | None) -> Scaling:
    """Build a scaling from a mapping such as ``{"kind": "linear", "factor": 4.0}``. None: no scaling.

    Raises:
        ValueError: if the kind or an option is unknown, an option is missing, or a number is not positive.

    """
    options = {"kind": "none"} if spec is None else dict(spec)
    kind = options.pop("kind", None)
    if kind is None:
        raise ValueError(f'rotary scaling needs a "kind" ({", ".join(SCALINGS)}), not {options!r}')
    scaling = choose(SCALINGS, kind, "kind of rotary scaling")
    parameters = inspect.signature(scaling).parameters
    for old in options.keys() & RENAMED_OPTIONS.keys():
        new = RENAMED_OPTIONS[old]
        message = f"the option {old!r} of rotary scaling is now called {new!r}"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        options[new] = options.pop(old)
    for name in options:
        if name not in parameters:
            raise ValueError(f"unknown option {name!r} of {kind} scaling{suggestion(name, parameters)}")
    missing = [name for name, p in parameters.items() if p.default is p.empty and name not in options]
    if missing:
        raise ValueError(f"{kind} scaling needs {', '.join(missing)}")
    return scaling(**options)


def migrate_scaling(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec of a scaling with the option names of version 0.1 replaced."""
    return {RENAMED_OPTIONS.get(name, name): value for name, value in spec.items()}


def _with_theta(frequencies: Tensor, theta: float, factor: Tensor) -> Tensor:
    """Frequencies of the base theta * factor^(d / (d - 2))."""
    d = 2 * frequencies.size(-1)
    pairs = torch.arange(0, d, 2, device=frequencies.device, dtype=frequencies.dtype)
    base = theta * factor ** (d / (d - 2) if d > 2 else 1.0)
    return base ** (-pairs / d)
