"""Metadata of Gemma, Gemma 2 and Gemma 3; windows and factors of scores are not in the files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glassformer.pretrained.checkpoint_format import require, resolve_d_head
from glassformer.pretrained.formats.decoder_layout import (
    qk_norm_kind,
    require_biases,
)
from glassformer.pretrained.formats.layer_types import (
    positions_by_layer,
    window_of,
    windows_by_layer,
)
from glassformer.pretrained.gguf.llama import read_llama
from glassformer.pretrained.gguf.metadata import (
    Metadata,
    head_width,
    write_rms,
    write_rotary,
)
from glassformer.pretrained.weight_table import TensorReader

LARGE = {"gemma2": 46, "gemma3": 62}
"""Layers of the models of 27 B, whose scores are divided by the square root of another width."""


def read_gemma(m: Metadata, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of Gemma besides the sizes."""
    return {
        **read_llama(m, tensors),
        "norm": "unit_offset_rms",
        "activation": "geglu_tanh",
        "scale_embeddings": True,
    }


def read_gemma2(m: Metadata, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of Gemma 2 besides the sizes."""
    count, window = m.get_int("block_count"), m.get_int("attention.sliding_window", 4096)
    return {
        **read_gemma(m, tensors),
        "output_norm": True,
        "attention_scale": _gemma_scale(m),
        "attention_softcap": m.get_float("attn_logit_softcapping", default=50.0),
        "logit_softcap": m.get_float("final_logit_softcapping", default=30.0),
        "window": [None if layer % 2 else window for layer in range(count)],
    }


def read_gemma3(m: Metadata, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of Gemma 3 besides the sizes."""
    shared, count = read_gemma(m, tensors), m.get_int("block_count")
    window = m.get_int("attention.sliding_window", None)
    local = {"kind": "rotary", "theta": 10_000.0}
    shared["positions"]["theta"] = m.get_float("rope.freq_base", default=1e6)
    shared |= {
        "output_norm": True,
        "qk_norm": "head",
        "attention_scale": _gemma_scale(m),
        "logit_softcap": m.get_float("final_logit_softcapping"),
    }
    if window is None:
        return shared
    slides = [bool((layer + 1) % 6) for layer in range(count)]
    return {
        **shared,
        "window": [window if slide else None for slide in slides],
        "positions": [local if slide else shared["positions"] for slide in slides],
    }


def _gemma_scale(m: Metadata) -> float:
    """The factor of the scores, which llama.cpp knows by the number of layers."""
    heads, d_model = m.get_int("attention.head_count"), m.get_int("embedding_length")
    is_large = m.get_int("block_count") == LARGE[m.name]
    return float((d_model / heads if is_large else head_width(m)) ** -0.5)


def write_gemma_shared(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata that all Gemma models share."""
    if config["scale_embeddings"] is not True:
        raise ValueError(f"scale_embeddings must be True, got {config['scale_embeddings']!r}")
    require_biases(config, qkv_bias=False, out_bias=False)
    require(config, tie_embeddings=True)
    return write_rms(config, "unit_offset_rms", "geglu_tanh")


def write_gemma(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of Gemma; raise ValueError if it cannot express the keywords."""
    require(config, window=None)
    return {**write_gemma_shared(config), **write_rotary(config)}


def _require_scale(config: Mapping[str, Any], layers_of_the_large: int) -> None:
    """Check the factor of the scores, which llama.cpp knows by the number of layers."""
    is_large = config["num_layers"] == layers_of_the_large
    width = config["d_model"] / config["num_heads"] if is_large else resolve_d_head(config)
    scale = config["attention_scale"]
    if scale is not None and abs(scale - width**-0.5) > 1e-9:
        raise ValueError(f"attention_scale must be 1 / sqrt({width:g}), got {scale}")


def write_gemma2(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of Gemma 2; raise ValueError if it cannot express the keywords."""
    require(config, output_norm=True)
    _require_scale(config, LARGE["gemma2"])
    window = window_of(config)
    expected = [None if layer % 2 else window for layer in range(config["num_layers"])]
    if window is None or windows_by_layer(config) != expected:
        raise ValueError("window must be that of the even layers alone")
    if config["attention_softcap"] is None or config["logit_softcap"] is None:
        raise ValueError("attention_softcap and logit_softcap must be given")
    return {
        **write_gemma_shared(config),
        **write_rotary(config),
        "attn_logit_softcapping": float(config["attention_softcap"]),
        "final_logit_softcapping": float(config["logit_softcap"]),
        "attention.sliding_window": window,
    }


def write_gemma3(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of Gemma 3; raise ValueError if it cannot express the keywords."""
    require(config, output_norm=True, logit_softcap=None)
    require({"qk_norm": qk_norm_kind(config)}, qk_norm="head")
    _require_scale(config, LARGE["gemma3"])
    window, by_layer = window_of(config), positions_by_layer(config)
    if window is None:
        return {**write_gemma_shared(config), **write_rotary(config, by_layer[0])}
    slides = [bool((layer + 1) % 6) for layer in range(len(by_layer))]
    if windows_by_layer(config) != [window if slide else None for slide in slides]:
        raise ValueError("window must be that of all layers but every sixth")
    full = [spec for spec, slide in zip(by_layer, slides, strict=True) if not slide]
    local = [spec for spec, slide in zip(by_layer, slides, strict=True) if slide]
    if any(spec not in ("rotary", {"kind": "rotary", "theta": 10_000.0}) for spec in local):
        raise ValueError(
            f"positions of layers with a window must be rotary with theta 10,000, got {local[0]!r}"
        )
    if any(spec != full[0] for spec in full):
        raise ValueError("positions must be the same in all layers without a window")
    rope = write_rotary(config, full[0] if full else {"kind": "rotary", "theta": 1e6})
    return {**write_gemma_shared(config), **rope, "attention.sliding_window": window}
