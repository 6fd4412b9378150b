"""Description of a model's architecture for the forward pass that a live page computes itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from glassformer.attention import attentions_of
from glassformer.models import BERTModel, GPTModel, TransformerModel
from glassformer.positions import (
    ALiBi,
    LearnedPositions,
    NoPositions,
    RelativeBias,
    RotaryPositions,
    SinusoidalPositions,
)

MAX_NUMBERS = 2**25
"""Maximum number of attention weights and logits of a text, which limits its length."""


NORMS = ("layer", "rms")
UNSUPPORTED = {
    *("qk_norm", "input_norm", "output_norm", "norm_bias", "attention_softcap", "residual_scale"),
    *("scale_embeddings", "d_embedding", "embedding_norm", "head_bias", "logit_scale", "logit_softcap"),
}
"""Hyperparameters that must have their defaults."""


def check_architecture(model: TransformerModel) -> None:
    """Check that a page can compute the model's forward pass.

    Raises:
        ValueError: if it cannot; the message names the part that is not supported.
    """
    if type(model) not in (GPTModel, BERTModel):
        raise _unsupported(f"a {type(model).__name__}", "GPTModel and BERTModel")
    if model.weights_format is not None:
        raise _unsupported(f"packed {model.weights_format} weights", "a model before optimize_for_inference")
    config: Any = model.config
    if any(not module.kernel.is_softmax for module in attentions_of(model)["self"]):
        raise _unsupported("linear attention", "kernels that compute a softmax")
    if config.pattern is not None:
        raise _unsupported("a pattern of sparse attention", "causal or full attention, and a window")
    if any(config.pruned_heads.values() if config.pruned_heads else ()):
        raise _unsupported("pruned heads", "models with all of their heads")
    for name in UNSUPPORTED & set(config):
        if config[name] != (default := _default(model, name)):
            raise _unsupported(f"{name}={config[name]!r}", repr(default))
    if config.norm not in NORMS:
        raise _unsupported(f"the norm {config.norm!r}", " and ".join(map(repr, NORMS)))
    if config.activation == "quick_gelu":
        raise _unsupported("the activation 'quick_gelu'", "all others")
    if not isinstance(config.positions, str | Mapping):
        raise _unsupported("positions that differ between layers", "the same in all layers")
    if getattr(model.positions, "offset", 0):
        raise _unsupported("learned positions with an offset", "those without one")
    if not isinstance(getattr(config, "window", None), int | None):
        raise _unsupported("windows that differ between layers", "the same in all layers")
    if getattr(config, "head", "none") not in ("none", "masked_lm"):
        raise _unsupported(f"the head {config.head!r}", "BERT models without a head or with 'masked_lm'")
    positions = model.positions
    if isinstance(positions, RotaryPositions) and positions.max_cached_len is not None:
        raise _unsupported("rotary positions whose frequencies depend on the length", "all other scalings")


def describe_architecture(model: TransformerModel) -> dict[str, Any]:
    """What the forward pass needs to know besides the weights, as JSON values."""
    config: Any = model.config
    d_head = config.d_head or config.d_model // config.num_heads
    return {
        "num_layers": config.num_layers,
        "num_heads": config.num_heads,
        "num_kv_heads": config.num_kv_heads or config.num_heads,
        "d_head": d_head,
        "scale": 1 / math.sqrt(d_head) if config.attention_scale is None else config.attention_scale,
        "is_causal": isinstance(model, GPTModel),
        "window": getattr(config, "window", None),
        "norm": config.norm,
        "norm_eps": config.norm_eps,
        "activation": config.activation,
        "residual": config.residual,
        "positions": _describe_positions(model),
        "task": model.task,
    }


def position_bias(model: TransformerModel, max_tokens: int) -> Tensor | None:
    """The bias of the scores by distance, ``(head, 2 * max_tokens - 1)``; None for schemes without one.

    Column ``max_tokens - 1`` is that of a query's own position, the columns before it of earlier keys.
    """
    positions: Any = model.positions
    if not positions.has_bias:
        return None
    with torch.no_grad():
        bias = positions.bias(torch.tensor([max_tokens - 1]), torch.arange(2 * max_tokens - 1))
    return bias[0, :, 0].float()  # type: ignore[no-any-return]


def max_live_tokens(model: TransformerModel) -> int:
    """Length of the longest text for which a page may compute."""
    config = model.config
    heads = sum(module.num_heads for module in attentions_of(model)["self"])
    vocab_size = 0 if model.task == "none" else int(config["vocab_size"])
    # heads n^2 + vocab_size n = MAX_NUMBERS
    root = math.sqrt(vocab_size**2 + 4 * heads * MAX_NUMBERS)
    return max(1, min(int(config["max_seq_len"]), int((root - vocab_size) / (2 * heads))))


def _describe_positions(model: TransformerModel) -> dict[str, Any]:
    positions = model.positions
    if isinstance(positions, LearnedPositions):
        return {"kind": "learned"}
    if isinstance(positions, SinusoidalPositions):
        return {"kind": "sinusoidal", "theta": positions.theta}
    if isinstance(positions, RotaryPositions):
        spec = model.config["positions"]
        pairs = torch.arange(0, positions.d_rotary, 2, dtype=torch.float64)
        frequencies = positions.theta ** (-pairs / positions.d_rotary)
        return {
            "kind": "rotary",
            "frequencies": positions.scaling(frequencies, positions.theta, torch.ones(1)).tolist(),
            "attention_factor": positions.scaling.attention_factor,
            "pairing": spec.get("pairing", "half") if isinstance(spec, Mapping) else "half",
        }
    if isinstance(positions, ALiBi | RelativeBias):
        return {"kind": "bias"}
    if isinstance(positions, NoPositions):
        return {"kind": "none"}
    raise _unsupported(f"the position scheme {type(positions).__name__}", "the library's own")


def _default(model: TransformerModel, name: str) -> Any:
    return next(field.default for field in fields(model.config) if field.name == name)


def _unsupported(part: str, supported: str) -> ValueError:
    return ValueError(f"A live page cannot compute {part}; it supports {supported}.")
