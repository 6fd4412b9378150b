"""The checkpoint formats of Qwen2, with biases of q, k and v, and Qwen3, with norms of q and k."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glassformer.models import GPTModel
from glassformer.pretrained.checkpoint_format import CheckpointFormat, require
from glassformer.pretrained.config_reader import ConfigReader
from glassformer.pretrained.formats.decoder_layout import (
    ATTENTION,
    GATED,
    NORMS,
    QK_NORM,
    decoder_table,
    qk_norm_kind,
    require_biases,
    same_bias,
)
from glassformer.pretrained.formats.layer_types import (
    FULL,
    SLIDING,
    layer_types_of,
    read_layer_types,
    window_of,
    windows_of,
)
from glassformer.pretrained.formats.llama import read_shared, weight_table, write_shared
from glassformer.pretrained.weight_table import TensorReader, WeightTable


def read_qwen2(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel``."""
    shared = read_shared(config, num_kv_heads=32)
    return {**shared, "qkv_bias": True, "window": _read_window(config, shared["num_layers"])}


def write_qwen2(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config; raise ValueError if Qwen2 cannot express the keywords."""
    require_biases(config, qkv_bias=True, out_bias=False, ff_bias=False)
    return {**write_shared(config, "Qwen2ForCausalLM"), **_write_window(config)}


def read_qwen3(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel``."""
    shared = read_shared(config, num_kv_heads=32, d_head=128)
    bias = config.get_bool("attention_bias", False)
    return {
        **shared,
        "qk_norm": "head",
        "qkv_bias": bias,
        "out_bias": bias,
        "window": _read_window(config, shared["num_layers"]),
    }


def write_qwen3(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config; raise ValueError if Qwen3 cannot express the keywords."""
    require({"qk_norm": qk_norm_kind(config)}, qk_norm="head")
    require_biases(config, ff_bias=False)
    return {
        **write_shared(config, "Qwen3ForCausalLM"),
        **_write_window(config),
        "attention_bias": same_bias(config, "qkv_bias", "out_bias"),
    }


def table_of_qwen3(config: Mapping[str, Any]) -> WeightTable:
    """Return the tensor names."""
    return decoder_table(config, NORMS | ATTENTION | QK_NORM | GATED)


def _read_window(config: ConfigReader, num_layers: int) -> Any:
    """Return the windows: by default, the layers from ``max_window_layers`` on have one."""
    window = config.get_int("sliding_window", 4096, null=None)
    window = window if config.get_bool("use_sliding_window", False) else None
    first = config.get_int("max_window_layers", 28, minimum=0)
    first = num_layers if window is None else first
    kinds = [SLIDING if layer >= first else FULL for layer in range(num_layers)]
    return windows_of(config, read_layer_types(config, kinds), window)


def _write_window(config: Mapping[str, Any]) -> dict[str, Any]:
    kinds, window = layer_types_of(config), window_of(config)
    return {
        "use_sliding_window": window is not None,
        "sliding_window": window,
        "max_window_layers": kinds.index(SLIDING) if SLIDING in kinds else len(kinds),
        "layer_types": kinds,
    }


QWEN2 = CheckpointFormat(GPTModel, read_qwen2, write_qwen2, weight_table)
QWEN3 = CheckpointFormat(GPTModel, read_qwen3, write_qwen3, table_of_qwen3)
