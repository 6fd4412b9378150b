"""The checkpoint formats of Gemma, Gemma 2 and the text models of Gemma 3.

Norms have the weight 1 + w and embeddings the factor sqrt(d_model). Gemma 2 has a norm after each sublayer
and limits of scores and logits; Gemma 3 a norm of queries and keys, and other rotary frequencies in layers
with a window.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glassformer.models import GPTModel
from glassformer.pretrained.checkpoint_format import CheckpointFormat, require, resolve_d_head
from glassformer.pretrained.config_reader import ConfigReader
from glassformer.pretrained.formats.decoder_layout import (
    ATTENTION,
    GATED,
    NORMS,
    QK_NORM,
    decoder_table,
    head_width,
    qk_norm_kind,
    read_rms_norm,
    read_sizes,
    require_biases,
    same_bias,
    write_activation,
    write_rotary,
    write_sizes,
)
from glassformer.pretrained.formats.layer_types import (
    FULL,
    SLIDING,
    layer_types_of,
    positions_by_layer,
    read_layer_types,
    window_of,
    windows_by_layer,
    windows_of,
)
from glassformer.pretrained.rope_config import read_rope, write_rope
from glassformer.pretrained.weight_table import TensorReader, WeightTable


def _read_shared(config: ConfigReader, num_kv_heads: int, activation_key: str) -> dict[str, Any]:
    """Return the keywords that all Gemma models share, without positions."""
    config.expect("use_bidirectional_attention", None, False)
    sizes = read_sizes(config, num_kv_heads)
    bias = config.get_bool("attention_bias", False)
    return {
        **sizes,
        **read_rms_norm(config),
        "norm": "unit_offset_rms",
        "d_head": head_width(config, sizes, 256),
        "activation": config.get_activation(activation_key, "gelu_pytorch_tanh", gated=True),
        "qkv_bias": bias,
        "out_bias": bias,
        "scale_embeddings": True,
        "tie_embeddings": config.get_bool("tie_word_embeddings", True),
        "dropout": config.get_dropout("attention_dropout"),
    }


def _write_shared(config: Mapping[str, Any], architecture: str, activation_key: str) -> dict[str, Any]:
    require(config, norm="unit_offset_rms", residual="pre")
    if config["scale_embeddings"] is not True:
        raise ValueError(f"scale_embeddings must be True, got {config['scale_embeddings']!r}")
    require_biases(config, ff_bias=False)
    return {
        **write_sizes(config, architecture),
        "head_dim": resolve_d_head(config),
        "rms_norm_eps": config["norm_eps"],
        activation_key: write_activation(config),
        "attention_bias": same_bias(config, "qkv_bias", "out_bias"),
        "attention_dropout": config["dropout"],
    }


def read_gemma(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel``."""
    config.expect("hidden_activation", None, "gelu_pytorch_tanh")
    shared = _read_shared(config, 16, "hidden_act")
    if shared["activation"] == "geglu":  # so in older configs, of models with the approximation
        shared["activation"] = "geglu_tanh"
    return {**shared, "positions": read_rope(config, shared["d_head"])}


def write_gemma(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config; raise ValueError if Gemma cannot express the keywords."""
    if config["activation"] == "geglu":
        raise ValueError("activation must not be 'geglu', which the format reads as 'geglu_tanh'")
    return {
        **_write_shared(config, "GemmaForCausalLM", "hidden_act"),
        "rope_parameters": write_rotary(config),
    }


def table_of_gemma(config: Mapping[str, Any]) -> WeightTable:
    """Return the tensor names."""
    return decoder_table(config, NORMS | ATTENTION | GATED)


def _read_gemma2_parts(config: ConfigReader, logit_softcap: float | None) -> dict[str, Any]:
    """Return what Gemma 2 added: output norms, the factor of the scores, and a limit of the logits."""
    return {
        "output_norm": True,
        "attention_scale": config.get_positive_float("query_pre_attn_scalar", 256.0) ** -0.5,
        "logit_softcap": config.get_float("final_logit_softcapping", default=logit_softcap, null=None),
    }


def _write_gemma2_parts(config: Mapping[str, Any]) -> dict[str, Any]:
    require(config, output_norm=True)
    scale = config["attention_scale"] or resolve_d_head(config) ** -0.5
    scalar = max(1, round(scale**-2))
    if abs(scalar**-0.5 - scale) > 1e-9:
        raise ValueError(f"attention_scale must be 1 / sqrt of a whole number, got {scale}")
    return {
        "query_pre_attn_scalar": scalar,
        "final_logit_softcapping": config["logit_softcap"],
        "sliding_window": window_of(config) or 4096,  # needed, also if no layer has one
        "layer_types": layer_types_of(config),
    }


def read_gemma2(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel``."""
    shared = _read_shared(config, 4, "hidden_activation")
    config.expect("hidden_act", config.values.get("hidden_activation"), "gelu_pytorch_tanh", None)
    window = config.get_int("sliding_window", 4096, null=None)
    config.expect("sliding_window_size", None, window)
    every_other = [FULL if layer % 2 else SLIDING for layer in range(shared["num_layers"])]
    return {
        **shared,
        **_read_gemma2_parts(config, 30.0),
        "attention_softcap": config.get_float("attn_logit_softcapping", default=50.0, null=None),
        "positions": read_rope(config, shared["d_head"]),
        "window": windows_of(config, read_layer_types(config, every_other), window),
    }


def write_gemma2(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config; raise ValueError if Gemma 2 cannot express the keywords."""
    return {
        **_write_shared(config, "Gemma2ForCausalLM", "hidden_activation"),
        **_write_gemma2_parts(config),
        "attn_logit_softcapping": config["attention_softcap"],
        "rope_parameters": write_rotary(config),
    }


_NORMS = {
    "norm1": "input_layernorm",
    "output_norms.0": "post_attention_layernorm",
    "norm2": "pre_feedforward_layernorm",
    "output_norms.1": "post_feedforward_layernorm",
}


def table_of_gemma2(config: Mapping[str, Any]) -> WeightTable:
    """Return the tensor names."""
    return decoder_table(config, _NORMS | ATTENTION | GATED)


def read_gemma3(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel``."""
    config.expect("attn_logit_softcapping", None)  # which transformers accepts and ignores
    shared = _read_shared(config, 4, "hidden_activation")
    config.expect("hidden_act", config.values.get("hidden_activation"), "gelu_pytorch_tanh", None)
    window = config.get_int("sliding_window", 4096, null=None)
    interval = config.get_int("sliding_window_pattern", config.get_int("_sliding_window_pattern", 6))
    default = [SLIDING if (layer + 1) % interval else FULL for layer in range(shared["num_layers"])]
    kinds = read_layer_types(config, default)
    by_kind = _read_ropes(config, shared["d_head"])
    positions = [by_kind[kind] for kind in kinds]
    return {
        **shared,
        **_read_gemma2_parts(config, None),
        "qk_norm": "head",
        "positions": positions[0] if all(spec == positions[0] for spec in positions) else positions,
        "window": windows_of(config, kinds, window),
    }


def _read_ropes(config: ConfigReader, d_head: int) -> dict[str, dict[str, Any]]:
    """Return the positions of each kind of layer, from ``rope_parameters`` by kind or from older keys."""
    by_kind = config.get_dict("rope_parameters")
    scaling = config.get_dict("rope_scaling")
    thetas = {
        FULL: config.get_float("rope_theta", default=1e6),
        SLIDING: config.get_float("rope_local_base_freq", default=1e4),
    }
    if unknown := by_kind.keys() - thetas.keys():
        raise ValueError(f"{config.source}: rope_parameters must be by kind of layer, got {min(unknown)!r}")
    shared = {"max_position_embeddings": config.get_int("max_position_embeddings", 131_072)}
    found = {}
    for kind, theta in thetas.items():
        own = dict(by_kind.get(kind) or {}) | (scaling if kind == FULL else {})
        found[kind] = read_rope(
            ConfigReader({**shared, "rope_parameters": own}, config.source), d_head, theta=theta
        )
    return found


def write_gemma3(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config; raise ValueError if Gemma 3 cannot express the keywords."""
    require({"qk_norm": qk_norm_kind(config)}, qk_norm="head")
    by_layer = positions_by_layer(config)
    ropes: dict[str, Any] = {}
    for window, spec in zip(windows_by_layer(config), by_layer, strict=True):
        kind = FULL if window is None else SLIDING
        if ropes.setdefault(kind, spec) != spec:
            raise ValueError("positions must be the same in all layers with a window, and in all without one")
    default = by_layer[0]
    return {
        **_write_shared(config, "Gemma3ForCausalLM", "hidden_activation"),
        **_write_gemma2_parts(config),
        "rope_parameters": {
            kind: write_rope(ropes.get(kind, default), resolve_d_head(config), config["max_seq_len"])
            for kind in (FULL, SLIDING)
        },
    }


def table_of_gemma3(config: Mapping[str, Any]) -> WeightTable:
    """Return the tensor names."""
    return decoder_table(config, _NORMS | ATTENTION | QK_NORM | GATED)


GEMMA = CheckpointFormat(GPTModel, read_gemma, write_gemma, table_of_gemma)
GEMMA2 = CheckpointFormat(
    GPTModel, read_gemma2, write_gemma2, table_of_gemma2, ignored_keys=("cache_implementation",)
)
GEMMA3 = CheckpointFormat(
    GPTModel, read_gemma3, write_gemma3, table_of_gemma3, ignored_keys=("cache_implementation",)
)
