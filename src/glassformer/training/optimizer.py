"""AdamW, with weight decay where it belongs.

Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), algorithm 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from glassformer.training.config import OptimizerConfig

FUSED_DEVICES = frozenset({"cpu", "cuda", "mps"})
"""Where torch has one kernel for the whole update; on a CPU it takes a quarter of the time."""


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Two groups of the parameters that are trained: matrices and embeddings decay, vectors do not.

    A norm's gain and a bias have one dimension and are left alone; so are numbers. A parameter that two
    modules share is in its group once.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, object]] = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def adamw(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over the trained parameters of ``model``, fused where the device has it.

    Raises:
        ValueError: the model has nothing to train.
    """
    groups = decay_groups(model, config.weight_decay)
    if not groups:
        raise ValueError("the model has no parameter that requires a gradient: there is nothing to train")
    fused = all(p.device.type in FUSED_DEVICES for p in model.parameters())
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), eps=config.epsilon, fused=fused
    )
