"""The checkpoint formats of Phi (1, 1.5 and 2), a parallel decoder, and of Phi-3, with fused matrices."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from glassformer.models import GPTModel
from glassformer.pretrained.checkpoint_format import CheckpointFormat, require, resolve_d_ff, resolve_d_head
from glassformer.pretrained.config_reader import ConfigReader
from glassformer.pretrained.formats.decoder_layout import (
    NORMS,
    decoder_table,
    parameters_of,
    qk_norm_kind,
    read_rms_norm,
    read_sizes,
    require_biases,
    write_activation,
    write_rotary,
    write_sizes,
)
from glassformer.pretrained.formats.layer_types import (
    window_of_all,
)
from glassformer.pretrained.rope_config import read_rope
from glassformer.pretrained.weight_table import (
    TensorReader,
    WeightEntry,
    WeightTable,
    concat_rows,
    split_rows,
)

DROPOUTS = ("resid_pdrop", "embd_pdrop", "attention_dropout")


def read_phi(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel``."""
    sizes = read_sizes(config)
    d_head = sizes["d_model"] // sizes["num_heads"]
    return {
        **sizes,
        "bias": True,
        "residual": "parallel_shared",
        "norm_eps": config.get_float("layer_norm_eps", default=1e-5),
        "positions": read_rope(config, d_head, fraction_key="partial_rotary_factor", fraction=0.5),
        "activation": config.get_activation("hidden_act", "gelu_new"),
        "qk_norm": "head" if config.get_bool("qk_layernorm", False) else None,
        "tie_embeddings": config.get_bool("tie_word_embeddings", False),
        "head_bias": True,
        "dropout": config.get_dropout(*DROPOUTS),
    }


def write_phi(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config; raise ValueError if Phi cannot express the keywords."""
    require(config, norm="layer", residual="parallel_shared", head_bias=True)
    require_biases(config, qkv_bias=True, out_bias=True, ff_bias=True, norm_bias=True)
    require({"qk_norm": qk_norm_kind(config)}, qk_norm=("head", None))
    if config["qk_norm"] is not None and parameters_of(config, "attention.q_norm") != ("weight", "bias"):
        raise ValueError("the norms of queries and keys must have biases")
    require({"d_head": resolve_d_head(config)}, d_head=config["d_model"] // config["num_heads"])
    return {
        **write_sizes(config, "PhiForCausalLM"),
        "layer_norm_eps": config["norm_eps"],
        "rope_parameters": write_rotary(config, partial=True),
        "hidden_act": write_activation(config, gated=False),
        "qk_layernorm": config["qk_norm"] is not None,
        **dict.fromkeys(DROPOUTS, config["dropout"]),
    }


_PHI = {
    "norm1": "input_layernorm",
    "attention.q_proj": "self_attn.q_proj",
    "attention.k_proj": "self_attn.k_proj",
    "attention.v_proj": "self_attn.v_proj",
    "attention.out_proj": "self_attn.dense",
    "feed_forward.up_proj": "mlp.fc1",
    "feed_forward.down_proj": "mlp.fc2",
}
_PHI_QK_NORM = {"attention.q_norm": "self_attn.q_layernorm", "attention.k_norm": "self_attn.k_layernorm"}


def table_of_phi(config: Mapping[str, Any]) -> WeightTable:
    """Return the tensor names."""
    modules = _PHI if config["qk_norm"] is None else _PHI | _PHI_QK_NORM
    return decoder_table(config, modules, norm="final_layernorm")


def read_phi3(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel``."""
    config.expect("attention_bias", False)
    sizes = read_sizes(config)
    return {
        **sizes,
        **read_rms_norm(config, 1e-5),
        "positions": read_rope(
            config,
            sizes["d_model"] // sizes["num_heads"],
            fraction_key="partial_rotary_factor",
            fraction=1.0,
            original=config.get_int("original_max_position_embeddings", 4096),
            renamed_kinds={"su": "longrope", "yarn": "longrope"},
        ),
        "activation": config.get_activation("hidden_act", "silu", gated=True),
        "window": config.get_int("sliding_window", None),
        "tie_embeddings": config.get_bool("tie_word_embeddings", False),
        "dropout": config.get_dropout(*DROPOUTS),
    }


def write_phi3(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config; raise ValueError if Phi-3 cannot express the keywords."""
    require(config, norm="rms", residual="pre", d_head=(None, config["d_model"] // config["num_heads"]))
    require_biases(config, qkv_bias=False, out_bias=False, ff_bias=False)
    rope = write_rotary(config, partial=True)
    require(rope, rope_type=("default", "longrope"))
    original = rope.pop("original_max_position_embeddings", None)
    return {
        **write_sizes(config, "Phi3ForCausalLM"),
        "rms_norm_eps": config["norm_eps"],
        "rope_parameters": rope,
        **({} if original is None else {"original_max_position_embeddings": original}),
        "hidden_act": write_activation(config),
        "sliding_window": window_of_all(config),
        **dict.fromkeys(DROPOUTS, config["dropout"]),
    }


def table_of_phi3(config: Mapping[str, Any]) -> WeightTable:
    """Return the tensor names; query, key and value are one matrix, and so are gate and up."""
    d_head, d_ff = resolve_d_head(config), resolve_d_ff(config)
    kv = (config["num_kv_heads"] or config["num_heads"]) * d_head
    qkv = partial(split_rows, sizes=(config["num_heads"] * d_head, kv, kv))
    gate_up = partial(split_rows, sizes=(d_ff, d_ff))

    def fused(ours: str, theirs: str) -> list[WeightEntry]:
        projections = tuple(f"{ours}attention.{part}_proj.weight" for part in "qkv")
        halves = tuple(f"{ours}feed_forward.{part}_proj.weight" for part in ("gate", "up"))
        return [
            WeightEntry(projections, (f"{theirs}self_attn.qkv_proj.weight",), qkv, concat_rows),
            WeightEntry(halves, (f"{theirs}mlp.gate_up_proj.weight",), gate_up, concat_rows),
        ]

    others = {"attention.out_proj": "self_attn.o_proj", "feed_forward.down_proj": "mlp.down_proj"}
    return decoder_table(config, NORMS | others, more=fused)


PHI = CheckpointFormat(GPTModel, read_phi, write_phi, table_of_phi)
PHI3 = CheckpointFormat(GPTModel, read_phi3, write_phi3, table_of_phi3)
