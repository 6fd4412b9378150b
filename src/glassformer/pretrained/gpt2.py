"""GPT-2's layout: matrices kept as (in, out), and query, key and value side by side in one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from glassformer.models import GPTModel
from glassformer.pretrained.configs import ACTIVATIONS, ConfigReader
from glassformer.pretrained.conversion import Entry, Table, Tensors, layers, named, same, transposed
from glassformer.pretrained.layouts import Layout, require, width_inside, written_activation


def read_config(config: ConfigReader, tensors: Tensors) -> dict[str, Any]:
    """Keywords of ``GPTModel``."""
    config.expect("scale_attn_weights", True)
    config.expect("scale_attn_by_inverse_layer_idx", False)
    config.expect("tie_word_embeddings", True)
    return {
        "vocab_size": config.size("vocab_size"),
        "d_model": config.size("n_embd"),
        "num_layers": config.size("n_layer"),
        "num_heads": config.size("n_head"),
        "d_ff": config.size("n_inner", None),
        "max_seq_len": config.size("n_positions"),
        "activation": config.activation("activation_function", "gelu_new"),
        "norm_eps": config.number("layer_norm_epsilon", default=1e-5),
        "dropout": config.dropout("resid_pdrop", "embd_pdrop", "attn_pdrop", default=0.1),
    }


def write_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config that says the same; the keywords that GPT-2 leaves open are checked."""
    require(config, positions=("learned", {"kind": "learned"}), norm="layer", residual="pre", bias=True)
    require(config, tie_embeddings=True, window=None, num_kv_heads=(None, config["num_heads"]))
    require(config, d_head=(None, config["d_model"] // config["num_heads"]))
    require(config, qkv_bias=(None, True), out_bias=(None, True), ff_bias=(None, True))
    return {
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": config["vocab_size"],
        "n_embd": config["d_model"],
        "n_layer": config["num_layers"],
        "n_head": config["num_heads"],
        "n_inner": width_inside(config),
        "n_positions": config["max_seq_len"],
        "activation_function": written_activation(config["activation"], ACTIVATIONS),
        "layer_norm_epsilon": config["norm_eps"],
        "resid_pdrop": config["dropout"],
        "embd_pdrop": config["dropout"],
        "attn_pdrop": config["dropout"],
        "tie_word_embeddings": True,
    }


def table(config: Mapping[str, Any]) -> Table:
    """All names."""
    both = ("weight", "bias")
    entries = [
        same("token_embedding.weight", "transformer.wte.weight"),
        same("positions.embedding.weight", "transformer.wpe.weight"),
        *named("", "transformer.", {"norm": "ln_f"}, both),
    ]
    for ours, theirs in layers(config["num_layers"], "blocks.", "transformer.h."):
        entries += named(ours, theirs, {"norm1": "ln_1", "norm2": "ln_2"}, both)
        for kind, split, join in (
            ("weight", split_columns, join_columns),
            ("bias", split_thirds, join_thirds),
        ):
            projections = tuple(f"{ours}attention.{part}_proj.{kind}" for part in "qkv")
            entries.append(Entry(projections, (f"{theirs}attn.c_attn.{kind}",), split, join))
        for own, other in _MATRICES.items():
            entries.append(transposed(f"{ours}{own}.weight", f"{theirs}{other}.weight"))
            entries.append(same(f"{ours}{own}.bias", f"{theirs}{other}.bias"))
    return Table(
        entries,
        doubles={"lm_head.weight": "transformer.wte.weight"},
        prefix="transformer.",
        ignored=r".*\.attn\.(bias|masked_bias)",
    )


_MATRICES = {
    "attention.out_proj": "attn.c_proj",
    "feed_forward.up_proj": "mlp.c_fc",
    "feed_forward.down_proj": "mlp.c_proj",
}


def split_columns(fused: Tensor) -> tuple[Tensor, ...]:
    """``(in, q + k + v)`` to three of ``(out, in)``."""
    return tuple(part.T.contiguous() for part in fused.chunk(3, dim=1))


def join_columns(*parts: Tensor) -> tuple[Tensor]:
    """Three of ``(out, in)`` to ``(in, q + k + v)``."""
    return (torch.cat([part.T for part in parts], dim=1),)


def split_thirds(fused: Tensor) -> tuple[Tensor, ...]:
    """``(q + k + v)`` to three, each in memory of its own."""
    return tuple(part.clone() for part in fused.chunk(3))


def join_thirds(*parts: Tensor) -> tuple[Tensor]:
    """Three to ``(q + k + v)``."""
    return (torch.cat(parts),)


GPT2 = Layout(
    GPTModel,
    read_config,
    write_config,
    table,
    harmless=(
        "n_ctx",
        "n_special",
        "predict_special_tokens",
        "reorder_and_upcast_attn",  # a matter of precision
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "summary_type",
        "summary_use_proj",
    ),
)
