"""Metadata of GPT-2, GPT-NeoX, Falcon and StarCoder2: decoders with layer norms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glassformer.pretrained.checkpoint_format import require, resolve_bias
from glassformer.pretrained.formats.decoder_layout import (
    require_biases,
)
from glassformer.pretrained.gguf.metadata import (
    Metadata,
    has_tensor,
    head_width,
    read_layer_norm,
    read_positions,
    write_layer_norm,
    write_rotary,
)
from glassformer.pretrained.weight_table import TensorReader


def read_gpt2(m: Metadata, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of GPT-2 besides the sizes."""
    return {**read_layer_norm(m), "d_head": head_width(m), "activation": "gelu_tanh"}


def read_gpt_neox(m: Metadata, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of GPT-NeoX besides the sizes."""
    is_parallel = m.get_bool("use_parallel_residual", True)
    return {
        **read_layer_norm(m),
        "activation": "gelu",
        "residual": "parallel" if is_parallel else "pre",
        "positions": read_positions(m, tensors, head_width(m), partial=True),
    }


def read_falcon(m: Metadata, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of Falcon besides the sizes."""
    return {
        **read_layer_norm(m),
        "bias": False,
        "norm_bias": True,
        "activation": "gelu",
        "residual": "parallel" if has_tensor(tensors, "attn_norm_2.weight") else "parallel_shared",
        "positions": read_positions(m, tensors, head_width(m)),
    }


def read_starcoder2(m: Metadata, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of StarCoder2 besides the sizes."""
    return {
        **read_layer_norm(m),
        "bias": has_tensor(tensors, "attn_q.bias"),
        "norm_bias": True,
        "activation": "gelu_tanh",
        "window": m.get_int("attention.sliding_window", None),
        "positions": read_positions(m, tensors, head_width(m)),
    }


def write_gpt2(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of GPT-2; raise ValueError if it cannot express the keywords."""
    require(config, positions=("learned", {"kind": "learned"}), activation="gelu_tanh", window=None)
    require(config, residual="pre", num_kv_heads=(None, config["num_heads"]))
    require_biases(config, qkv_bias=True, out_bias=True, ff_bias=True)
    return write_layer_norm(config)


def write_gptneox(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of GPT-NeoX; raise ValueError if it cannot express the keywords."""
    require(config, residual=("parallel", "pre"), activation="gelu", window=None, tie_embeddings=False)
    require_biases(config, qkv_bias=True, out_bias=True, ff_bias=True)
    is_parallel = config["residual"] == "parallel"
    rope = write_rotary(config, partial=True)
    return {**write_layer_norm(config), **rope, "use_parallel_residual": is_parallel}


def write_falcon(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of Falcon; raise ValueError if it cannot express the keywords."""
    require(config, residual=("parallel", "parallel_shared"), activation="gelu", window=None)
    require_biases(config, qkv_bias=False, out_bias=False, ff_bias=False)
    return {**write_layer_norm(config), **write_rotary(config)}


def write_starcoder2(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of StarCoder2; raise ValueError if it cannot express the keywords."""
    require(config, residual="pre", activation="gelu_tanh", window=None)
    if not resolve_bias(config, "qkv_bias"):
        raise ValueError("qkv_bias must be True")
    require_biases(config, out_bias=True, ff_bias=True)
    return {**write_layer_norm(config), **write_rotary(config)}
