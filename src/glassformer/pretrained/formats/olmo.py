"""The checkpoint formats of OLMo, with norms without weights, and OLMo 2, with norms after each sublayer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from glassformer.models import GPTModel
from glassformer.pretrained.checkpoint_format import CheckpointFormat, require
from glassformer.pretrained.config_reader import ConfigReader
from glassformer.pretrained.formats.decoder_layout import (
    ATTENTION,
    GATED,
    decoder_table,
    qk_norm_kind,
    read_rms_norm,
    read_sizes,
    require_biases,
    same_bias,
    write_activation,
    write_rotary,
    write_sizes,
)
from glassformer.pretrained.rope_config import read_rope
from glassformer.pretrained.weight_table import (
    TensorReader,
    WeightEntry,
    WeightTable,
    by_head,
    one_row,
)

EPS = 1e-5
"""Of the norms of OLMo, not in its config."""


def _read_shared(config: ConfigReader) -> dict[str, Any]:
    sizes = read_sizes(config)
    bias = config.get_bool("attention_bias", False)
    return {
        **sizes,
        "positions": read_rope(config, sizes["d_model"] // sizes["num_heads"]),
        "activation": config.get_activation("hidden_act", "silu", gated=True),
        "qkv_bias": bias,
        "out_bias": bias,
        "tie_embeddings": config.get_bool("tie_word_embeddings", False),
        "dropout": config.get_dropout("attention_dropout"),
    }


def _write_shared(config: Mapping[str, Any], architecture: str) -> dict[str, Any]:
    require(config, residual="pre", d_head=(None, config["d_model"] // config["num_heads"]))
    require_biases(config, ff_bias=False)
    return {
        **write_sizes(config, architecture),
        "hidden_act": write_activation(config),
        "rope_parameters": write_rotary(config),
        "attention_bias": same_bias(config, "qkv_bias", "out_bias"),
        "attention_dropout": config["dropout"],
    }


def read_olmo(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel``."""
    config.expect("clip_qkv", None)
    return {**_read_shared(config), "norm": "nonparametric", "norm_eps": EPS}


def write_olmo(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config; raise ValueError if OLMo cannot express the keywords."""
    require(config, norm="nonparametric", norm_eps=EPS)
    return _write_shared(config, "OlmoForCausalLM")


def table_of_olmo(config: Mapping[str, Any]) -> WeightTable:
    """Return the tensor names."""
    return decoder_table(config, ATTENTION | GATED)


def read_olmo2(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel``."""
    return {
        **_read_shared(config),
        **read_rms_norm(config, 1e-5),
        "input_norm": False,
        "output_norm": True,
        "qk_norm": "projection",
    }


def write_olmo2(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config; raise ValueError if OLMo 2 cannot express the keywords."""
    require(config, norm="rms", input_norm=False, output_norm=True)
    require({"qk_norm": qk_norm_kind(config)}, qk_norm="projection")
    return {**_write_shared(config, "Olmo2ForCausalLM"), "rms_norm_eps": config["norm_eps"]}


def table_of_olmo2(config: Mapping[str, Any]) -> WeightTable:
    """Return the tensor names; the norms of queries and keys have one row for all heads."""
    norms = {"output_norms.0": "post_attention_layernorm", "output_norms.1": "post_feedforward_layernorm"}
    heads = {"q": config["num_heads"], "k": config["num_kv_heads"] or config["num_heads"]}

    def qk_norms(ours: str, theirs: str) -> list[WeightEntry]:
        return [
            WeightEntry(
                (f"{ours}attention.{part}_norm.weight",),
                (f"{theirs}self_attn.{part}_norm.weight",),
                partial(by_head, num_heads=count),
                one_row,
            )
            for part, count in heads.items()
        ]

    return decoder_table(config, norms | ATTENTION | GATED, more=qk_norms)


OLMO = CheckpointFormat(GPTModel, read_olmo, write_olmo, table_of_olmo)
OLMO2 = CheckpointFormat(GPTModel, read_olmo2, write_olmo2, table_of_olmo2)
