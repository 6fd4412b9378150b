"""The checkpoint formats of BLOOM and Falcon, whose queries, keys and values are one matrix, head by head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from glassformer.models import GPTModel
from glassformer.pretrained.checkpoint_format import CheckpointFormat, require, resolve_d_ff, resolve_d_head
from glassformer.pretrained.config_reader import ConfigReader
from glassformer.pretrained.formats.decoder_layout import (
    decoder_table,
    parameters_of,
    renamed_parameters,
    require_biases,
    same_bias,
    write_activation,
    write_rotary,
)
from glassformer.pretrained.rope_config import read_rope
from glassformer.pretrained.weight_table import (
    TensorReader,
    WeightEntry,
    WeightTable,
    join_groups,
    split_groups,
)


def read_bloom(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel``."""
    config.expect("apply_residual_connection_post_layernorm", False)
    config.expect("n_inner", None)
    return {
        "vocab_size": config.get_int("vocab_size"),
        "d_model": config.get_int(config.first_key("n_embed", "hidden_size")),
        "num_layers": config.get_num_layers(config.first_key("n_layer", "num_hidden_layers")),
        "num_heads": config.get_int(config.first_key("n_head", "num_attention_heads")),
        "max_seq_len": config.get_int("seq_length", 2048),
        "positions": "alibi",
        "norm_eps": config.get_float("layer_norm_epsilon", default=1e-5),
        "embedding_norm": True,
        "tie_embeddings": config.get_bool("tie_word_embeddings", True),
        "dropout": config.get_dropout("hidden_dropout", "attention_dropout"),
    }


def write_bloom(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config; raise ValueError if BLOOM cannot express the keywords."""
    require(config, positions=("alibi", {"kind": "alibi"}), norm="layer", residual="pre", embedding_norm=True)
    require(config, activation="gelu_tanh", num_kv_heads=(None, config["num_heads"]))
    require(config, d_ff=(None, 4 * config["d_model"]))
    require_biases(config, qkv_bias=True, out_bias=True, ff_bias=True, norm_bias=True)
    require({"d_head": resolve_d_head(config)}, d_head=config["d_model"] // config["num_heads"])
    return {
        "architectures": ["BloomForCausalLM"],
        "vocab_size": config["vocab_size"],
        "hidden_size": config["d_model"],
        "n_layer": config["num_layers"],
        "n_head": config["num_heads"],
        "seq_length": config["max_seq_len"],
        "layer_norm_epsilon": config["norm_eps"],
        "tie_word_embeddings": config["tie_embeddings"],
        "hidden_dropout": config["dropout"],
        "attention_dropout": config["dropout"],
    }


_MODULES = {
    "attention.out_proj": "self_attention.dense",
    "feed_forward.up_proj": "mlp.dense_h_to_4h",
    "feed_forward.down_proj": "mlp.dense_4h_to_h",
}
_NORMS = {"norm1": "input_layernorm", "norm2": "post_attention_layernorm"}


def table_of_bloom(config: Mapping[str, Any]) -> WeightTable:
    """Return the tensor names."""
    names = {"embedding_norm": "word_embeddings_layernorm"}
    others = renamed_parameters(config, "", "transformer.", names)
    return _table(config, _NORMS, others)


def read_falcon(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel``.

    ALiBi is refused: the published code rounds slopes and positions to bfloat16, which no other model does.
    """
    config.expect("alibi", False)
    config.expect("apply_residual_connection_post_layernorm", False)
    d_model = config.get_int(config.first_key("n_embed", "hidden_size"))
    heads = config.get_int("num_attention_heads")
    is_new = config.get_bool("new_decoder_architecture", False)
    kv_heads = config.get_int("num_kv_heads", heads)
    is_parallel = config.get_bool("parallel_attn", True)
    if not is_new:
        kv_heads = 1 if config.get_bool("multi_query", True) else kv_heads
        config.expect("num_ln_in_parallel_attn", None, 1)
    else:
        config.expect("parallel_attn", True)
        config.get_bool("multi_query", True)  # ignored by the published code, too
    norms = config.expect("num_ln_in_parallel_attn", None, 1, 2)
    has_two = is_new and norms != 1
    return {
        "vocab_size": config.get_int("vocab_size"),
        "d_model": d_model,
        "num_layers": config.get_num_layers("num_hidden_layers"),
        "num_heads": heads,
        "num_kv_heads": kv_heads,
        "d_ff": config.get_int("ffn_hidden_size", 4 * d_model),
        "max_seq_len": config.get_int("max_position_embeddings", 2048),
        "positions": read_rope(config, d_model // heads),
        "residual": ("parallel" if has_two else "parallel_shared") if is_parallel else "pre",
        "norm_eps": config.get_float("layer_norm_epsilon", default=1e-5),
        "activation": config.get_activation("activation", "gelu"),
        "bias": config.get_bool("bias", False),
        "norm_bias": True,
        "tie_embeddings": config.get_bool("tie_word_embeddings", True),
        "dropout": config.get_dropout("hidden_dropout", "attention_dropout"),
    }


def write_falcon(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config; raise ValueError if Falcon cannot express the keywords."""
    heads, kv_heads = config["num_heads"], config["num_kv_heads"] or config["num_heads"]
    residual = config["residual"]
    require(config, norm="layer", residual=("pre", "parallel", "parallel_shared"))
    require_biases(config, norm_bias=True)
    require({"d_head": resolve_d_head(config)}, d_head=config["d_model"] // heads)
    is_new = residual == "parallel" or kv_heads not in (1, heads)
    if is_new and residual == "pre":
        raise ValueError(f"num_kv_heads must be 1 or {heads} with residual='pre', got {kv_heads}")
    return {
        "architectures": ["FalconForCausalLM"],
        "vocab_size": config["vocab_size"],
        "hidden_size": config["d_model"],
        "num_hidden_layers": config["num_layers"],
        "num_attention_heads": heads,
        "num_kv_heads": kv_heads,
        "multi_query": kv_heads == 1,
        "new_decoder_architecture": is_new,
        "num_ln_in_parallel_attn": (2 if residual == "parallel" else 1) if is_new else None,
        "parallel_attn": residual != "pre",
        "alibi": False,
        "ffn_hidden_size": resolve_d_ff(config),
        "max_position_embeddings": config["max_seq_len"],
        "rope_parameters": write_rotary(config),
        "layer_norm_epsilon": config["norm_eps"],
        "activation": write_activation(config, gated=False),
        "bias": same_bias(config, "qkv_bias", "out_bias", "ff_bias"),
        "tie_word_embeddings": config["tie_embeddings"],
        "hidden_dropout": config["dropout"],
        "attention_dropout": config["dropout"],
    }


def table_of_falcon(config: Mapping[str, Any]) -> WeightTable:
    """Return the tensor names."""
    by_residual = {
        "pre": _NORMS,
        "parallel": {"norm1": "ln_attn", "norm2": "ln_mlp"},
        "parallel_shared": {"norm1": "input_layernorm"},
    }
    return _table(config, by_residual[config["residual"]])


def _table(
    config: Mapping[str, Any], norms: Mapping[str, str], others: Sequence[WeightEntry] = ()
) -> WeightTable:
    kv_heads = config["num_kv_heads"] or config["num_heads"]
    group = config["num_heads"] // kv_heads

    def fused(ours: str, theirs: str) -> list[WeightEntry]:
        return [
            WeightEntry(
                tuple(f"{ours}attention.{part}_proj.{kind}" for part in "qkv"),
                (f"{theirs}self_attention.query_key_value.{kind}",),
                partial(split_groups, num_kv_heads=kv_heads, group=group),
                partial(join_groups, num_kv_heads=kv_heads),
            )
            for kind in parameters_of(config, "attention.q_proj")
        ]

    return decoder_table(
        config,
        {**norms, **_MODULES},
        body="transformer.",
        layers="h.",
        embedding="word_embeddings",
        norm="ln_f",
        more=fused,
        others=others,
        ignored_pattern=r".*\.(inv_freq|self_attention\.(bias|masked_bias))",
    )


BLOOM = CheckpointFormat(
    GPTModel,
    read_bloom,
    write_bloom,
    table_of_bloom,
    ignored_keys=(  # they change the order of computation, or nothing
        *(
            "slow_but_exact",
            "skip_bias_add",
            "skip_bias_add_qkv",
            "masked_softmax_fusion",
            "bias_dropout_fusion",
        ),
        *("attention_softmax_in_fp32", "offset_alibi"),
    ),
)
FALCON = CheckpointFormat(GPTModel, read_falcon, write_falcon, table_of_falcon, ignored_keys=("ff_factor",))
