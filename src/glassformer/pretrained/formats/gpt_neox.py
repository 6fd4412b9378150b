"""The checkpoint format of GPT-NeoX and Pythia: query, key and value fused head by head in one matrix."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from glassformer.models import GPTModel
from glassformer.pretrained.checkpoint_format import (
    CheckpointFormat,
    activation_name,
    require,
    resolve_bias,
    resolve_d_ff,
    resolve_d_head,
)
from glassformer.pretrained.config_reader import ACTIVATIONS, ConfigReader
from glassformer.pretrained.rope_config import read_rope, write_rope
from glassformer.pretrained.weight_table import (
    TensorReader,
    WeightEntry,
    WeightTable,
    join_groups,
    layer_prefixes,
    renamed,
    renamed_modules,
    split_groups,
)


def read_config(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel``."""
    d_model, heads = config.get_int("hidden_size"), config.get_int("num_attention_heads")
    bias = config.get_bool("attention_bias", True)
    return {
        "vocab_size": config.get_int("vocab_size"),
        "d_model": d_model,
        "num_layers": config.get_int("num_hidden_layers"),
        "num_heads": heads,
        "d_ff": config.get_int("intermediate_size"),
        "max_seq_len": config.get_int("max_position_embeddings", 2048),
        "positions": read_rope(config, d_model // heads, "rotary_emb_base", "rotary_pct"),
        "norm_eps": config.get_float("layer_norm_eps", default=1e-5),
        "activation": config.get_activation("hidden_act", "gelu"),
        "residual": "parallel" if config.get_bool("use_parallel_residual", True) else "pre",
        "qkv_bias": bias,
        "out_bias": bias,
        "tie_embeddings": config.get_bool("tie_word_embeddings", False),
        "dropout": config.get_dropout("hidden_dropout", "attention_dropout"),
    }


def write_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config; raise ValueError if GPT-NeoX cannot express the keywords."""
    require(config, norm="layer", residual=("parallel", "pre"), bias=True, ff_bias=(None, True))
    require(config, window=None, num_kv_heads=(None, config["num_heads"]))
    require(config, d_head=(None, config["d_model"] // config["num_heads"]))
    bias = resolve_bias(config, "qkv_bias")
    if resolve_bias(config, "out_bias") != bias:
        raise ValueError(f"out_bias must equal qkv_bias, {bias!r}")
    rope = write_rope(config["positions"], resolve_d_head(config), config["max_seq_len"])
    return {
        "architectures": ["GPTNeoXForCausalLM"],
        "vocab_size": config["vocab_size"],
        "hidden_size": config["d_model"],
        "num_hidden_layers": config["num_layers"],
        "num_attention_heads": config["num_heads"],
        "intermediate_size": resolve_d_ff(config),
        "max_position_embeddings": config["max_seq_len"],
        "rope_parameters": {"partial_rotary_factor": 1.0} | rope,
        "layer_norm_eps": config["norm_eps"],
        "hidden_act": activation_name(config["activation"], ACTIVATIONS),
        "use_parallel_residual": config["residual"] == "parallel",
        "attention_bias": bias,
        "tie_word_embeddings": config["tie_embeddings"],
        "hidden_dropout": config["dropout"],
        "attention_dropout": config["dropout"],
    }


def weight_table(config: Mapping[str, Any]) -> WeightTable:
    """Return the tensor names."""
    both = ("weight", "bias")
    entries = [
        renamed("token_embedding.weight", "gpt_neox.embed_in.weight"),
        *renamed_modules("", "gpt_neox.", {"norm": "final_layer_norm"}, both),
    ]
    attention = both if resolve_bias(config, "qkv_bias") else ("weight",)
    split = partial(split_groups, num_kv_heads=config["num_heads"], group=1)
    join = partial(join_groups, num_kv_heads=config["num_heads"])
    for ours, theirs in layer_prefixes(config["num_layers"], "blocks.", "gpt_neox.layers."):
        entries += renamed_modules(ours, theirs, _NORMS | _FEED_FORWARD, both)
        entries += renamed_modules(ours, theirs, {"attention.out_proj": "attention.dense"}, attention)
        for kind in attention:
            projections = tuple(f"{ours}attention.{part}_proj.{kind}" for part in "qkv")
            entries.append(
                WeightEntry(projections, (f"{theirs}attention.query_key_value.{kind}",), split, join)
            )
    head = renamed("lm_head.weight", "embed_out.weight")
    tied = config["tie_embeddings"]
    return WeightTable(
        entries if tied else [*entries, head],
        tied_aliases={"embed_out.weight": "gpt_neox.embed_in.weight"} if tied else {},
        base_prefix="gpt_neox.",
        legacy_names=[(r"^lm_head\.", "embed_out.")],
        ignored_pattern=r".*\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)",
    )


_NORMS = {"norm1": "input_layernorm", "norm2": "post_attention_layernorm"}
_FEED_FORWARD = {"feed_forward.up_proj": "mlp.dense_h_to_4h", "feed_forward.down_proj": "mlp.dense_4h_to_h"}


GPT_NEOX = CheckpointFormat(
    GPTModel,
    read_config,
    write_config,
    weight_table,
    ignored_keys=("attention_probs_dropout_prob", "classifier_dropout", "hidden_dropout_prob"),
)
