"""A model and its tokenizer as a page stores them, to show the attention of texts that are typed into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from glassformer.attention import record_attention
from glassformer.eval_mode import eval_mode
from glassformer.models import TransformerModel
from glassformer.visualization.explorer.encoding import PackedJson, pack_json
from glassformer.visualization.explorer.live_architecture import (
    check_architecture,
    describe_architecture,
    max_live_tokens,
    position_bias,
)
from glassformer.visualization.explorer.live_tokenizer import describe_tokenizer, live_tokenizer
from glassformer.visualization.explorer.live_weights import (
    MAX_SIZE,
    PackedTensor,
    dequantized_state,
    is_quantized,
    named_weights,
    pack_tensor,
    size_in_bytes,
)
from glassformer.visualization.model_input import token_labels


@dataclass(frozen=True)
class LiveModel:
    """What a page needs to compute a forward pass itself."""

    architecture: dict[str, Any]
    tensors: dict[str, PackedTensor]
    """By the names of ``state_dict``, and "position_bias"."""
    tokenizer: PackedJson
    """The result of ``describe_tokenizer``."""
    labels: PackedJson
    """The label of each token of the vocabulary."""
    max_tokens: int
    """Length of the longest text, with special tokens."""
    size: int
    """Number of 8-bit weights."""
    attention_difference: float
    """Largest difference of the attention weights of the page's text, with 8-bit and with float32 weights."""
    probability_difference: float | None
    """Largest difference of the predicted probabilities; None without predictions."""


def check_live(model: TransformerModel) -> None:
    """Check that a page can compute the attention of other texts.

    Raises:
        ValueError: if a part of the model or its tokenizer is not supported, or the weights take more than
            ``MAX_SIZE`` bytes.
    """
    check_architecture(model)
    if (size := size_in_bytes(model)) > MAX_SIZE:
        raise ValueError(
            f"The model has {size / 1e6:.1f} MB of 8-bit weights; a live page embeds at most "
            f"{MAX_SIZE / 1e6:.0f} MB. Use glassformer serve, or a smaller model."
        )
    describe_tokenizer(model)


def live_model(model: TransformerModel, inputs: Sequence[Tensor]) -> LiveModel:
    """Quantize a model, and measure how much this changes its results.

    Args:
        model: a GPT or BERT.
        inputs: of the forward pass of the page's own text.

    Raises:
        ValueError: as ``check_live``.
    """
    check_live(model)
    max_tokens = max_live_tokens(model)
    tensors = {
        name: pack_tensor(tensor, quantized=is_quantized(tensor))
        for name, tensor in named_weights(model).items()
    }
    bias = position_bias(model, max_tokens)
    if bias is not None:
        tensors["position_bias"] = pack_tensor(bias, quantized=False)
    labels = token_labels(model, live_tokenizer(model), range(int(model.config["vocab_size"])))
    return LiveModel(
        describe_architecture(model),
        tensors,
        PackedJson(pack_json(describe_tokenizer(model))),
        PackedJson(pack_json(labels)),
        max_tokens,
        size_in_bytes(model),
        *_largest_differences(model, inputs),
    )


def attention_and_output(
    model: TransformerModel, inputs: Sequence[Tensor], state: dict[str, Tensor] | None = None
) -> tuple[list[Tensor], Tensor]:
    """The attention weights of each layer, ``(1, head, query, key)``, and the model's output.

    Args:
        model: of any family.
        inputs: of its forward pass.
        state: parameters in place of the model's own. Default: none.
    """
    with torch.no_grad(), eval_mode(model), record_attention(model) as recording:
        output = model(*inputs) if state is None else torch.func.functional_call(model, state, tuple(inputs))
    return [recording[layer] for layer in recording], output


def _largest_differences(model: TransformerModel, inputs: Sequence[Tensor]) -> tuple[float, float | None]:
    state = {name: tensor.to(model.device) for name, tensor in dequantized_state(model).items()}
    attention, output = attention_and_output(model, inputs)
    rounded, rounded_output = attention_and_output(model, inputs, state)
    pairs = zip(attention, rounded, strict=True)
    attention_difference = max(float((a.float() - b.float()).abs().max()) for a, b in pairs)
    if model.task == "none":
        return attention_difference, None
    before, after = (logits.float().softmax(-1) for logits in (output, rounded_output))
    return attention_difference, float((before - after).abs().max())
