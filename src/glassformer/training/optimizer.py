"""AdamW with weight decay on matrices only, and learning rate schedules.

A schedule is a function of the step alone, so a resumed run continues it without restoring anything. This
module is imported by the configuration, so it imports torch only when an optimizer is made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import AdamW

    from glassformer.training.config import OptimizerConfig

FUSED_DEVICES = frozenset({"cpu", "cuda", "mps"})
"""Devices with a fused kernel for the update; on a CPU it takes a quarter of the time."""


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Parameter groups for an optimizer: matrices and embeddings decay, biases and gains (vectors) do not.

    Only parameters that require gradients are included; a shared parameter is included once.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, object]] = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def adamw(model: nn.Module, config: OptimizerConfig) -> AdamW:
    """AdamW over the trained parameters of ``model``, fused where the device supports it.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), algorithm 2.

    Raises:
        ValueError: no parameter of the model requires a gradient.
    """
    from torch.optim import AdamW

    groups = decay_groups(model, config.weight_decay)
    if not groups:
        raise ValueError("there is nothing to train: no parameter of the model requires a gradient")
    fused = all(p.device.type in FUSED_DEVICES for p in model.parameters())
    return AdamW(
        groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), eps=config.epsilon, fused=fused
    )


def cosine(progress: float, final: float) -> float:
    """Half a cosine from 1 at ``progress`` 0 to ``final`` at ``progress`` 1.

    Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts" (2017), equation 5.
    """
    return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2


def stable_decay(progress: float, final: float, decay_fraction: float) -> float:
    """1, then linear decay to ``final`` over the last ``decay_fraction`` of the updates.

    Source: Hu et al., "MiniCPM" (2024), section 4 (warmup-stable-decay), with the linear decay of Hägele et
    al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations" (2024), section 3.
    """
    remaining = min(1.0, (1 - progress) / decay_fraction)
    return final + (1 - final) * remaining


def inverse_sqrt(step: int, warmup_steps: int) -> float:
    """sqrt(warmup_steps / (step + 1)): 1 at the end of the warmup.

    Source: Vaswani et al., "Attention Is All You Need" (2017), equation 3, divided by its peak.
    """
    return math.sqrt(max(warmup_steps, 1) / (step + 1))


ScheduleKind = Literal["cosine", "wsd", "inverse_sqrt", "constant"]


@dataclass(frozen=True)
class Schedule:
    """Linear warmup over ``warmup_steps``, then the decay given by ``kind``.

    Raises:
        ValueError: an unknown kind, or a number out of range.
    """

    kind: ScheduleKind = "cosine"
    """Shape after the warmup: cosine, wsd (warmup-stable-decay: constant, then linear), inverse_sqrt (as
    1 / sqrt(step)), or constant."""
    warmup_steps: int = 100
    """Updates until the peak learning rate is reached."""
    final: float = 0.1
    """cosine, wsd: learning rate of the last update, as a fraction of the peak."""
    decay_fraction: float = 0.2
    """wsd: fraction of the updates after the warmup in which the learning rate decays."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(ScheduleKind):
            kinds = ", ".join(get_args(ScheduleKind))
            raise ValueError(f"schedule.kind must be one of {kinds}, got {self.kind!r}")
        if self.warmup_steps < 0:
            raise ValueError(f"schedule.warmup_steps must be at least 0, got {self.warmup_steps}")
        if not 0 <= self.final <= 1:
            raise ValueError(f"schedule.final must be between 0 and 1, got {self.final}")
        if not 0 < self.decay_fraction <= 1:
            raise ValueError(
                f"schedule.decay_fraction must be above 0 and at most 1, got {self.decay_fraction}"
            )

    def multiplier(self, step: int, total_steps: int) -> float:
        """Factor of the peak learning rate for update ``step`` of ``total_steps``, counted from zero."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        after = total_steps - 1 - self.warmup_steps
        progress = min(1.0, (step - self.warmup_steps) / after) if after > 0 else 1.0
        match self.kind:
            case "cosine":
                return cosine(progress, self.final)
            case "wsd":
                return stable_decay(progress, self.final, self.decay_fraction)
            case "inverse_sqrt":
                return inverse_sqrt(step, self.warmup_steps)
            case "constant":
                return 1.0
