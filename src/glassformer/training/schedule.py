"""Learning-rate schedules: pure functions of the step, so a restart needs to remember nothing.

Each gives the factor, 0 to 1, on the peak learning rate for the update number ``step``, counted from zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


def cosine(progress: float, final: float) -> float:
    """From 1 to ``final`` along half a cosine, for ``progress`` from 0 to 1.

    Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts" (2017), equation 5.
    """
    return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2


def stable_decay(progress: float, final: float, decay_fraction: float) -> float:
    """1, and from 1 to ``final`` along a line in the last ``decay_fraction`` of the way.

    Source: Hu et al., "MiniCPM" (2024), section 4 (warmup-stable-decay); the line is that of Hägele et al.,
    "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations" (2024), section 3.
    """
    left = min(1.0, (1 - progress) / decay_fraction)
    return final + (1 - final) * left


def inverse_sqrt(step: int, warmup_steps: int) -> float:
    """sqrt(warmup / (step + 1)) for steps after warmup, counted from zero: 1 at its end.

    Source: Vaswani et al., "Attention Is All You Need" (2017), equation 3, over its value at the peak.
    """
    return math.sqrt(max(warmup_steps, 1) / (step + 1))


@dataclass(frozen=True)
class Schedule:
    """How the learning rate goes: up along a line for ``warmup_steps``, then down as ``kind`` says.

    Raises:
        ValueError: an unknown kind, or a number out of its range.
    """

    kind: Literal["cosine", "wsd", "inverse_sqrt", "constant"] = "cosine"
    """cosine: down along half a cosine; wsd: warmup, stable, decay; inverse_sqrt: as 1 / sqrt(step);
    constant: stays."""
    warmup_steps: int = 100
    """Updates until the peak learning rate is reached."""
    final: float = 0.1
    """The last update's learning rate, as a fraction of the peak."""
    decay_fraction: float = 0.2
    """wsd: the part of the updates after warmup in which the rate goes down."""

    def __post_init__(self) -> None:
        """Refuse what no run could use."""
        if self.kind not in _AFTER_WARMUP:
            raise ValueError(f"schedule.kind must be one of {', '.join(_AFTER_WARMUP)}, not {self.kind!r}")
        if self.warmup_steps < 0:
            raise ValueError(f"schedule.warmup_steps must be at least 0, not {self.warmup_steps}")
        if not 0 <= self.final <= 1:
            raise ValueError(f"schedule.final must be a fraction, 0 to 1, not {self.final}")
        if not 0 < self.decay_fraction <= 1:
            raise ValueError(
                f"schedule.decay_fraction must be above 0 and at most 1, not {self.decay_fraction}"
            )

    def multiplier(self, step: int, total_steps: int) -> float:
        """The factor for update ``step`` of ``total_steps``, both counted from zero: 1 at the peak."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        after = total_steps - 1 - self.warmup_steps
        progress = min(1.0, (step - self.warmup_steps) / after) if after > 0 else 1.0
        return _AFTER_WARMUP[self.kind](self, progress, step)


_AFTER_WARMUP: dict[str, Callable[[Schedule, float, int], float]] = {
    "cosine": lambda schedule, progress, step: cosine(progress, schedule.final),
    "wsd": lambda schedule, progress, step: stable_decay(progress, schedule.final, schedule.decay_fraction),
    "inverse_sqrt": lambda schedule, progress, step: inverse_sqrt(step, schedule.warmup_steps),
    "constant": lambda schedule, progress, step: 1.0,
}
