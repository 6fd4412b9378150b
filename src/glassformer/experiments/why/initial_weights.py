"""Initial weights that keep the variance of activations at one."""

from __future__ import annotations

from torch import nn


def draw_unit_variance(model: nn.Module) -> None:
    """Draw weights so that inputs of unit variance have outputs of unit variance; biases are zero.

    Embeddings have variance 1 and weights 1 / fan-in. Then queries and keys have unit variance, as Vaswani et
    al. (2017, footnote 4) assume. GPT-2's weights, with standard deviation .02, make scores so small that
    attention is nearly uniform at first.
    """
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
