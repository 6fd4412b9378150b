"""The checkpoint format of StableLM: layer norms, and rotation of a part of each head."""

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
    read_sizes,
    require_biases,
    write_activation,
    write_rotary,
    write_sizes,
)
from glassformer.pretrained.rope_config import read_rope
from glassformer.pretrained.weight_table import TensorReader, WeightEntry, WeightTable, renamed

QK_NORM = {"kind": "per_head", "bias": False}


def read_config(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel``."""
    sizes = read_sizes(config, 32)
    d_head = sizes["d_model"] // sizes["num_heads"]
    return {
        **sizes,
        "qkv_bias": config.get_bool("use_qkv_bias", False),
        "norm_bias": True,
        "norm_eps": config.get_float("layer_norm_eps", default=1e-5),
        "residual": "parallel_shared" if config.get_bool("use_parallel_residual", False) else "pre",
        "positions": read_rope(config, d_head, fraction_key="partial_rotary_factor"),
        "activation": config.get_activation("hidden_act", "silu", gated=True),
        "qk_norm": QK_NORM if config.get_bool("qk_layernorm", False) else None,
        "tie_embeddings": config.get_bool("tie_word_embeddings", False),
        "dropout": config.get_dropout("hidden_dropout", "attention_dropout"),
    }


def write_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config; raise ValueError if StableLM cannot express the keywords."""
    require(config, norm="layer", residual=("pre", "parallel_shared"), qk_norm=(None, QK_NORM))
    require_biases(config, out_bias=False, ff_bias=False, norm_bias=True)
    require({"d_head": resolve_d_head(config)}, d_head=config["d_model"] // config["num_heads"])
    return {
        **write_sizes(config, "StableLmForCausalLM"),
        "layer_norm_eps": config["norm_eps"],
        "use_parallel_residual": config["residual"] == "parallel_shared",
        "rope_parameters": write_rotary(config, partial=True),
        "hidden_act": write_activation(config),
        "use_qkv_bias": resolve_bias(config, "qkv_bias"),
        "qk_layernorm": config["qk_norm"] is not None,
        "hidden_dropout": config["dropout"],
        "attention_dropout": config["dropout"],
    }


def weight_table(config: Mapping[str, Any]) -> WeightTable:
    """Return the tensor names."""
    norms = NORMS if config["residual"] == "pre" else {"norm1": NORMS["norm1"]}
    heads = {"q": config["num_heads"], "k": config["num_kv_heads"] or config["num_heads"]}

    def qk_norms(ours: str, theirs: str) -> list[WeightEntry]:
        if config["qk_norm"] is None:
            return []
        return [
            renamed(
                f"{ours}attention.{part}_norm.norms.{head}.weight",
                f"{theirs}self_attn.{part}_layernorm.norms.{head}.weight",
            )
            for part, count in heads.items()
            for head in range(count)
        ]

    return decoder_table(config, norms | ATTENTION | GATED, more=qk_norms)


STABLELM = CheckpointFormat(GPTModel, read_config, write_config, weight_table)
