"""Models with packed weights, for fast inference on a processor."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from glassformer.choices import choose
from glassformer.layers import Float32Linear
from glassformer.linear import Linear
from glassformer.models.base import TransformerModel
from glassformer.packed_linear import FORMATS, frozen

Model = TypeVar("Model", bound=TransformerModel)


@torch.no_grad()
def optimize_for_inference(model: Model, weights: str = "float32") -> Model:
    """Return a model for inference whose linear layers hold packed weights.

    The model computes in float32. It generates, records and is ablated like the given one, but cannot be
    trained, converted or moved to another device. Gradients of activations are those of the stored weights.

    Args:
        model: a model on the CPU, in float32, bfloat16 or float16. It is left unchanged. If it is in float32,
            its embeddings, norms and biases, and on some machines its float32 weights, share memory with the
            result: to train it further, optimize a copy. With no other reference to it, its linear layers
            are freed.
        weights: format of the weights of linear layers: ``"float32"``; ``"bfloat16"``, rounded, two bytes for
            each number; or ``"int8"``, rounded with one scale for each output channel, one byte (without
            gradients, the activations are rounded for each token). Rows of the latter two are padded to a
            multiple of 512 numbers.

    Returns:
        A model of the same class in evaluation mode, with the same tokenizer and options of generation.

    Raises:
        ValueError: an unknown format, or a model on another device, in float64, or optimized already, or
            with a linear layer that has hooks or a forward of its own.
        TypeError: something that is not a model of this library.

    """
    packed = choose(FORMATS, weights, "format of weights")
    if not isinstance(model, TransformerModel):
        raise TypeError(f"optimize_for_inference needs a TransformerModel, not a {type(model).__name__}")
    if model.weights_format is not None:
        raise ValueError(
            f"the model has packed {model.weights_format} weights already: give the original model"
        )
    if model.device.type != "cpu":
        raise ValueError(f"packed weights need a model on the CPU, not on {model.device}: use model.cpu()")
    if model.dtype == torch.float64:
        raise ValueError("packed weights compute in float32, but the model is in float64: use model.float()")
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and _does_more(module):
            raise ValueError(
                f"{name} has hooks or a forward of its own, which packed weights would lose: remove them, "
                "or leave the with block of a recording or an ablation"
            )
    # A copy that takes packed layers and shared tensors where deepcopy would copy the originals.
    replaced: dict[int, Any] = {id(model.tokenizer): model.tokenizer}
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    replaced |= {id(linear): packed(linear) for linear in linears}
    others = (module for module in model.modules() if not isinstance(module, nn.Linear))
    replaced |= {id(own): frozen(own) for module in others for own in module.parameters(recurse=False)}
    optimized = copy.deepcopy(model, replaced)
    optimized.weights_format = weights
    return optimized.eval()


def _does_more(layer: nn.Linear) -> bool:
    """Whether a layer computes more than W x + b."""
    has_own_forward = type(layer) not in (nn.Linear, Linear, Float32Linear) and not is_parametrized(layer)
    return has_own_forward or bool(layer._forward_hooks or layer._forward_pre_hooks)
