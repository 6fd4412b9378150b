"""The checkpoint formats of Llama, Mistral and SmolLM3: decoders with rotary positions and RMSNorm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glassformer.models import GPTModel
from glassformer.pretrained.checkpoint_format import CheckpointFormat, require, resolve_bias, resolve_d_head
from glassformer.pretrained.config_reader import ConfigReader
from glassformer.pretrained.formats.decoder_layout import (
    ATTENTION,
    GATED,
    NORMS,
    decoder_table,
    head_width,
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
    window_of_all,
    windows_of,
)
from glassformer.pretrained.rope_config import read_rope
from glassformer.pretrained.weight_table import TensorReader, WeightTable


def read_shared(
    config: ConfigReader,
    num_kv_heads: int | None = None,
    d_head: int | None = None,
    theta: float = 10_000.0,
    tied: bool = False,
) -> dict[str, Any]:
    """Return the keywords that the decoders with Llama's parts share.

    Args:
        config: the config.
        num_kv_heads: if the key is missing; see ``read_sizes``.
        d_head: if the key is missing; see ``head_width``.
        theta: base of the rotary frequencies, if the key is missing.
        tied: whether embeddings are tied, if the key is missing.
    """
    sizes = read_sizes(config, num_kv_heads)
    d_head = head_width(config, sizes, d_head)
    return {
        **sizes,
        **read_rms_norm(config),
        "d_head": d_head,
        "positions": read_rope(config, d_head, theta=theta),
        "activation": config.get_activation("hidden_act", "silu", gated=True),
        "tie_embeddings": config.get_bool("tie_word_embeddings", tied),
        "dropout": config.get_dropout("attention_dropout", "hidden_dropout"),
    }


def write_shared(
    config: Mapping[str, Any], architecture: str, positions: str | Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the keys for them; raise ValueError if they cannot express the keywords.

    Args:
        config: keywords of a model.
        architecture: class of the model.
        positions: those of the layers that have any. Default: those of the config.
    """
    require(config, norm="rms", residual="pre")
    return {
        **write_sizes(config, architecture),
        "head_dim": resolve_d_head(config),
        "rms_norm_eps": config["norm_eps"],
        "rope_parameters": write_rotary(config, positions),
        "hidden_act": write_activation(config),
        "attention_dropout": config["dropout"],
    }


def read_biases(config: ConfigReader) -> dict[str, bool]:
    """Return the biases of Llama's attention and feed-forward networks."""
    bias = config.get_bool("attention_bias", False)
    return {"qkv_bias": bias, "out_bias": bias, "ff_bias": config.get_bool("mlp_bias", False)}


def write_biases(config: Mapping[str, Any]) -> dict[str, bool]:
    """Return the keys for them."""
    return {
        "attention_bias": same_bias(config, "qkv_bias", "out_bias"),
        "mlp_bias": resolve_bias(config, "ff_bias"),
    }


def weight_table(config: Mapping[str, Any]) -> WeightTable:
    """Return the tensor names."""
    return decoder_table(config, NORMS | ATTENTION | GATED)


def read_llama(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel``."""
    config.expect("sliding_window", None)
    return {**read_shared(config), **read_biases(config)}


def write_llama(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config; raise ValueError if Llama cannot express the keywords."""
    return {**write_shared(config, "LlamaForCausalLM"), **write_biases(config)}


def read_mistral(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel``."""
    shared = read_shared(config, num_kv_heads=8)
    window = config.get_int("sliding_window", 4096, null=None)
    expected = [FULL if window is None else SLIDING] * shared["num_layers"]
    if (kinds := read_layer_types(config, expected)) != expected:  # transformers ignores them
        raise ValueError(
            f"{config.source}: layer_types must be {expected[0]!r} in all layers with "
            f"sliding_window = {window}, got {kinds}"
        )
    return {**shared, "window": window}


def write_mistral(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config; raise ValueError if Mistral cannot express the keywords."""
    require_biases(config, qkv_bias=False, out_bias=False, ff_bias=False)
    return {**write_shared(config, "MistralForCausalLM"), "sliding_window": window_of_all(config)}


def read_smollm3(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel``; some layers have no positions (NoPE, Kazemnejad et al. 2023)."""
    shared = read_shared(config, num_kv_heads=4, theta=2_000_000.0, tied=True)
    count = shared["num_layers"]
    interval = config.get_int("no_rope_layer_interval", 4)
    rotates = config.get_ints("no_rope_layers", [int(bool((layer + 1) % interval)) for layer in range(count)])
    if len(rotates) != count:
        raise ValueError(
            f"{config.source}: no_rope_layers must have one entry for each layer, {count}, got {len(rotates)}"
        )
    window = config.get_int("sliding_window", None)
    slides = config.get_bool("use_sliding_window", False) and window is not None
    kinds = read_layer_types(config, [SLIDING if slides and not rotate else FULL for rotate in rotates])
    positions = [shared["positions"] if rotate else "none" for rotate in rotates]
    return {
        **shared,
        **read_biases(config),
        "positions": shared["positions"] if all(rotates) else positions,
        "window": windows_of(config, kinds, window),
    }


def write_smollm3(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config; raise ValueError if SmolLM3 cannot express the keywords."""
    by_layer = positions_by_layer(config)
    rotary = [spec for spec in by_layer if spec not in ("none", {"kind": "none"})]
    if any(spec != rotary[0] for spec in rotary):
        raise ValueError(f"positions must be the same in all layers that have any, got {by_layer!r:.200}")
    return {
        **write_shared(config, "SmolLM3ForCausalLM", rotary[0] if rotary else "rotary"),
        **write_biases(config),
        "no_rope_layers": [int(spec in rotary) for spec in by_layer],
        "use_sliding_window": window_of(config) is not None,
        "sliding_window": window_of(config),
        "layer_types": layer_types_of(config),
    }


LLAMA = CheckpointFormat(GPTModel, read_llama, write_llama, weight_table)
MISTRAL = CheckpointFormat(GPTModel, read_mistral, write_mistral, weight_table)
SMOLLM3 = CheckpointFormat(
    GPTModel, read_smollm3, write_smollm3, weight_table, ignored_keys=("max_window_layers",)
)
