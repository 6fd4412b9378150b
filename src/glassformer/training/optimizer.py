"""AdamW with weight decay on matrices only.

Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), algorithm 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
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


def adamw(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over the trained parameters of ``model``, fused where the device supports it.

    Raises:
        ValueError: no parameter of the model requires a gradient.
    """
    groups = decay_groups(model, config.weight_decay)
    if not groups:
        raise ValueError("there is nothing to train: no parameter of the model requires a gradient")
    fused = all(p.device.type in FUSED_DEVICES for p in model.parameters())
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), eps=config.epsilon, fused=fused
    )
