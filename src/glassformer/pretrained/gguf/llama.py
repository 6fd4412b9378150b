"""Metadata of Llama, Qwen2, Qwen3, SmolLM3, OLMo 2 and Phi-3: decoders with RMSNorm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glassformer.pretrained.checkpoint_format import require, resolve_d_head
from glassformer.pretrained.formats.decoder_layout import (
    qk_norm_kind,
    require_biases,
    same_bias,
)
from glassformer.pretrained.gguf.metadata import (
    Metadata,
    has_tensor,
    head_width,
    read_factors,
    read_positions,
    read_rms,
    write_rms,
    write_rotary,
)
from glassformer.pretrained.weight_table import TensorReader

LONG, SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
"""Tensors of factors of LongRoPE."""


def read_llama(m: Metadata, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of Llama besides the sizes."""
    d_head = head_width(m)
    return {
        **read_rms(m),
        "d_head": d_head,
        "positions": read_positions(m, tensors, d_head),
        "qkv_bias": has_tensor(tensors, "attn_q.bias"),
        "out_bias": has_tensor(tensors, "attn_output.bias"),
    }


def read_qwen3(m: Metadata, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of Qwen3 besides the sizes."""
    return {**read_llama(m, tensors), "qk_norm": "head"}


def read_smollm3(m: Metadata, tensors: TensorReader) -> dict[str, Any]:
    """Every fourth layer has no positions, which the file does not say."""
    shared, count = read_llama(m, tensors), m.get_int("block_count")
    positions = [shared["positions"] if (layer + 1) % 4 else "none" for layer in range(count)]
    return {**shared, "positions": positions if "none" in positions else shared["positions"]}


def read_olmo2(m: Metadata, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of OLMo 2 besides the sizes."""
    return {**read_llama(m, tensors), "qk_norm": "projection", "input_norm": False, "output_norm": True}


def read_phi3(m: Metadata, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of Phi-3 besides the sizes."""
    d_head = head_width(m)
    length, window = m.get_int("context_length"), m.get_int("attention.sliding_window", None)
    original = m.get_int("rope.scaling.original_context_length", length)
    factor = m.get_float("rope.scaling.attn_factor", default=1.0)
    positions = read_positions(m, tensors, d_head, partial=True)
    if (LONG in tensors.shapes) != (SHORT in tensors.shapes):
        raise ValueError(f"{tensors.source}: {LONG} and {SHORT} must be given together")
    if LONG in tensors.shapes:
        d_rotary = positions.get("d_rotary", d_head)
        positions["scaling"] = {
            "kind": "longrope",
            "short_factors": read_factors(tensors, SHORT, d_rotary).tolist(),
            "long_factors": read_factors(tensors, LONG, d_rotary).tolist(),
            "original_max_seq_len": original,
            "attention_factor": factor,
        }
    # Files say a window as long as the text, or longer, where the model has none.
    return {
        **read_rms(m),
        "d_head": d_head,
        "positions": positions,
        "window": None if window is None or window >= length else window,
    }


def write_llama(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of Llama; raise ValueError if it cannot express the keywords."""
    require(config, window=None)
    same_bias(config, "qkv_bias", "out_bias")
    return {**write_rms(config), **write_rotary(config)}


def write_qwen2(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of Qwen2; raise ValueError if it cannot express the keywords."""
    require(config, window=None)
    require_biases(config, qkv_bias=True, out_bias=False)
    return {**write_rms(config), **write_rotary(config)}


def write_qwen3(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of Qwen3; raise ValueError if it cannot express the keywords."""
    require({"qk_norm": qk_norm_kind(config)}, qk_norm="head")
    require(config, window=None)
    require_biases(config, qkv_bias=False, out_bias=False)
    return {**write_rms(config), **write_rotary(config)}


def write_smollm3(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of SmolLM3; raise ValueError if it cannot express the keywords."""
    positions, count = config["positions"], config["num_layers"]
    require(config, window=None)
    require_biases(config, qkv_bias=False, out_bias=False)
    if isinstance(positions, str | Mapping):
        raise ValueError("positions must be 'none' in every fourth layer")
    expected = [positions[0] if (layer + 1) % 4 else "none" for layer in range(count)]
    if list(positions) != expected:
        raise ValueError(f"positions must be 'none' in every fourth layer alone, got {positions!r:.200}")
    return {**write_rms(config), **write_rotary(config, positions[0])}


def write_olmo2(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of OLMo 2; raise ValueError if it cannot express the keywords."""
    require({"qk_norm": qk_norm_kind(config)}, qk_norm="projection")
    require(config, input_norm=False, output_norm=True, window=None, tie_embeddings=False)
    require({"d_head": resolve_d_head(config)}, d_head=config["d_model"] // config["num_heads"])
    require_biases(config, qkv_bias=False, out_bias=False)
    return {**write_rms(config), **write_rotary(config)}


def write_phi3(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of Phi-3; raise ValueError if it cannot express the keywords."""
    require_biases(config, qkv_bias=False, out_bias=False)
    require({"d_head": resolve_d_head(config)}, d_head=config["d_model"] // config["num_heads"])
    require(config, window=None)
    return {
        **write_rms(config),
        **write_rotary(config, partial=True),
        "rope.scaling.original_context_length": config["max_seq_len"],
    }
