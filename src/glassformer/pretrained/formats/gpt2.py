"""The checkpoint format of GPT-2: matrices of shape (in, out), and query, key and value fused in one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from glassformer.models import GPTModel
from glassformer.pretrained.checkpoint_format import CheckpointFormat, activation_name, require, resolve_d_ff
from glassformer.pretrained.config_reader import ACTIVATIONS, ConfigReader
from glassformer.pretrained.weight_table import (
    TensorReader,
    WeightEntry,
    WeightTable,
    layer_prefixes,
    renamed,
    renamed_modules,
    transposed,
)


def read_config(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel``."""
    config.expect("scale_attn_weights", True)
    config.expect("scale_attn_by_inverse_layer_idx", False)
    config.expect("tie_word_embeddings", True)
    return {
        "vocab_size": config.get_int("vocab_size"),
        "d_model": config.get_int("n_embd"),
        "num_layers": config.get_int("n_layer"),
        "num_heads": config.get_int("n_head"),
        "d_ff": config.get_int("n_inner", None),
        "max_seq_len": config.get_int("n_positions"),
        "activation": config.get_activation("activation_function", "gelu_new"),
        "norm_eps": config.get_float("layer_norm_epsilon", default=1e-5),
        "dropout": config.get_dropout("resid_pdrop", "embd_pdrop", "attn_pdrop", default=0.1),
    }


def write_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config; raise ValueError if GPT-2 cannot express the keywords."""
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
        "n_inner": resolve_d_ff(config),
        "n_positions": config["max_seq_len"],
        "activation_function": activation_name(config["activation"], ACTIVATIONS),
        "layer_norm_epsilon": config["norm_eps"],
        "resid_pdrop": config["dropout"],
        "embd_pdrop": config["dropout"],
        "attn_pdrop": config["dropout"],
        "tie_word_embeddings": True,
    }


def weight_table(config: Mapping[str, Any]) -> WeightTable:
    """Return the tensor names."""
    both = ("weight", "bias")
    entries = [
        renamed("token_embedding.weight", "transformer.wte.weight"),
        renamed("positions.embedding.weight", "transformer.wpe.weight"),
        *renamed_modules("", "transformer.", {"norm": "ln_f"}, both),
    ]
    for ours, theirs in layer_prefixes(config["num_layers"], "blocks.", "transformer.h."):
        entries += renamed_modules(ours, theirs, {"norm1": "ln_1", "norm2": "ln_2"}, both)
        for kind, split, concat in (
            ("weight", split_weight, concat_weight),
            ("bias", split_bias, concat_bias),
        ):
            projections = tuple(f"{ours}attention.{part}_proj.{kind}" for part in "qkv")
            entries.append(WeightEntry(projections, (f"{theirs}attn.c_attn.{kind}",), split, concat))
        for own, other in _MATRICES.items():
            entries.append(transposed(f"{ours}{own}.weight", f"{theirs}{other}.weight"))
            entries.append(renamed(f"{ours}{own}.bias", f"{theirs}{other}.bias"))
    return WeightTable(
        entries,
        tied_aliases={"lm_head.weight": "transformer.wte.weight"},
        base_prefix="transformer.",
        ignored_pattern=r".*\.attn\.(bias|masked_bias)",
    )


_MATRICES = {
    "attention.out_proj": "attn.c_proj",
    "feed_forward.up_proj": "mlp.c_fc",
    "feed_forward.down_proj": "mlp.c_proj",
}


def split_weight(fused: Tensor) -> tuple[Tensor, ...]:
    """Split ``(in, q + k + v)`` into three matrices ``(out, in)``."""
    return tuple(part.T.contiguous() for part in fused.chunk(3, dim=1))


def concat_weight(*parts: Tensor) -> tuple[Tensor]:
    """Concatenate three matrices ``(out, in)`` to ``(in, q + k + v)``."""
    return (torch.cat([part.T for part in parts], dim=1),)


def split_bias(fused: Tensor) -> tuple[Tensor, ...]:
    """Split ``(q + k + v)`` into three copies."""
    return tuple(part.clone() for part in fused.chunk(3))


def concat_bias(*parts: Tensor) -> tuple[Tensor]:
    """Concatenate three biases to ``(q + k + v)``."""
    return (torch.cat(parts),)


GPT2 = CheckpointFormat(
    GPTModel,
    read_config,
    write_config,
    weight_table,
    ignored_keys=(
        "n_ctx",
        "n_special",
        "predict_special_tokens",
        "reorder_and_upcast_attn",  # changes the precision only
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "summary_type",
        "summary_use_proj",
    ),
)
