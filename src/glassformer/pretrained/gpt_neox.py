"""The layout of GPT-NeoX and Pythia: query, key and value of each head lie together in one matrix."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from glassformer.models import GPTModel
from glassformer.pretrained.configs import ACTIVATIONS, ConfigReader
from glassformer.pretrained.conversion import Entry, Table, Tensors, layers, named, same
from glassformer.pretrained.layouts import (
    Layout,
    chosen,
    require,
    width_inside,
    width_of_head,
    written_activation,
)
from glassformer.pretrained.rope import read_rope, write_rope


def read_config(config: ConfigReader, tensors: Tensors) -> dict[str, Any]:
    """Keywords of ``GPTModel``."""
    d_model, heads = config.size("hidden_size"), config.size("num_attention_heads")
    bias = config.flag("attention_bias", True)
    return {
        "vocab_size": config.size("vocab_size"),
        "d_model": d_model,
        "num_layers": config.size("num_hidden_layers"),
        "num_heads": heads,
        "d_ff": config.size("intermediate_size"),
        "max_seq_len": config.size("max_position_embeddings", 2048),
        "positions": read_rope(config, d_model // heads, "rotary_emb_base", "rotary_pct"),
        "norm_eps": config.number("layer_norm_eps", default=1e-5),
        "activation": config.activation("hidden_act", "gelu"),
        "residual": "parallel" if config.flag("use_parallel_residual", True) else "pre",
        "qkv_bias": bias,
        "out_bias": bias,
        "tie_embeddings": config.flag("tie_word_embeddings", False),
        "dropout": config.dropout("hidden_dropout", "attention_dropout"),
    }


def write_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config that says the same; the keywords that GPT-NeoX leaves open are checked."""
    require(config, norm="layer", residual=("parallel", "pre"), bias=True, ff_bias=(None, True))
    require(config, window=None, num_kv_heads=(None, config["num_heads"]))
    require(config, d_head=(None, config["d_model"] // config["num_heads"]))
    bias = chosen(config, "qkv_bias")
    if chosen(config, "out_bias") != bias:
        raise ValueError(f"out_bias must be qkv_bias, {bias!r}")
    rope = write_rope(config["positions"], width_of_head(config), config["max_seq_len"])
    return {
        "architectures": ["GPTNeoXForCausalLM"],
        "vocab_size": config["vocab_size"],
        "hidden_size": config["d_model"],
        "num_hidden_layers": config["num_layers"],
        "num_attention_heads": config["num_heads"],
        "intermediate_size": width_inside(config),
        "max_position_embeddings": config["max_seq_len"],
        "rope_parameters": {"partial_rotary_factor": 1.0} | rope,
        "layer_norm_eps": config["norm_eps"],
        "hidden_act": written_activation(config["activation"], ACTIVATIONS),
        "use_parallel_residual": config["residual"] == "parallel",
        "attention_bias": bias,
        "tie_word_embeddings": config["tie_embeddings"],
        "hidden_dropout": config["dropout"],
        "attention_dropout": config["dropout"],
    }


def table(config: Mapping[str, Any]) -> Table:
    """All names."""
    both = ("weight", "bias")
    entries = [
        same("token_embedding.weight", "gpt_neox.embed_in.weight"),
        *named("", "gpt_neox.", {"norm": "final_layer_norm"}, both),
    ]
    attention = both if chosen(config, "qkv_bias") else ("weight",)
    split = partial(split_heads, heads=config["num_heads"])
    join = partial(join_heads, heads=config["num_heads"])
    for ours, theirs in layers(config["num_layers"], "blocks.", "gpt_neox.layers."):
        entries += named(ours, theirs, _NORMS | _FEED_FORWARD, both)
        entries += named(ours, theirs, {"attention.out_proj": "attention.dense"}, attention)
        for kind in attention:
            projections = tuple(f"{ours}attention.{part}_proj.{kind}" for part in "qkv")
            entries.append(Entry(projections, (f"{theirs}attention.query_key_value.{kind}",), split, join))
    head = same("lm_head.weight", "embed_out.weight")
    tied = config["tie_embeddings"]
    return Table(
        entries if tied else [*entries, head],
        doubles={"embed_out.weight": "gpt_neox.embed_in.weight"} if tied else {},
        prefix="gpt_neox.",
        aliases=[(r"^lm_head\.", "embed_out.")],
        ignored=r".*\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)",
    )


_NORMS = {"norm1": "input_layernorm", "norm2": "post_attention_layernorm"}
_FEED_FORWARD = {"feed_forward.up_proj": "mlp.dense_h_to_4h", "feed_forward.down_proj": "mlp.dense_4h_to_h"}


def split_heads(fused: Tensor, heads: int) -> tuple[Tensor, ...]:
    """``(head * (q + k + v), ...)`` to three of ``(head * d_head, ...)``."""
    parts = fused.view(heads, 3, -1, *fused.shape[1:])  # (head, 3, d_head, ...)
    own = torch.contiguous_format
    return tuple(parts[:, i].clone(memory_format=own).flatten(0, 1) for i in range(3))


def join_heads(*parts: Tensor, heads: int) -> tuple[Tensor]:
    """Three of ``(head * d_head, ...)`` to ``(head * (q + k + v), ...)``."""
    split = [part.view(heads, -1, *part.shape[1:]) for part in parts]  # (head, d_head, ...) each
    return (torch.stack(split, dim=1).flatten(0, 2),)


GPT_NEOX = Layout(
    GPTModel,
    read_config,
    write_config,
    table,
    harmless=("attention_probs_dropout_prob", "classifier_dropout", "hidden_dropout_prob"),
)
