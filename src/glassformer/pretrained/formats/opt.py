"""The checkpoint format of OPT: learned positions with an offset, and in OPT-350M narrower embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glassformer.models import GPTModel
from glassformer.pretrained.checkpoint_format import CheckpointFormat, require, resolve_d_ff, resolve_d_head
from glassformer.pretrained.config_reader import ConfigReader
from glassformer.pretrained.formats.decoder_layout import (
    decoder_table,
    require_biases,
    same_bias,
    write_activation,
)
from glassformer.pretrained.weight_table import TensorReader, WeightTable, renamed

POSITIONS = {"kind": "learned", "offset": 2}
EPS = 1e-5
"""Of the norms, not in the config."""


def read_config(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel``."""
    config.expect("_remove_final_layer_norm", False)
    d_model = config.get_int("hidden_size")
    width = config.get_int("word_embed_proj_dim", d_model)
    has_weights = config.get_bool("layer_norm_elementwise_affine", True)
    return {
        "vocab_size": config.get_int("vocab_size"),
        "d_model": d_model,
        "num_layers": config.get_num_layers("num_hidden_layers"),
        "num_heads": config.get_int("num_attention_heads"),
        "d_ff": config.get_int("ffn_dim", 3072),
        "max_seq_len": config.get_int("max_position_embeddings", 2048),
        "positions": POSITIONS,
        "residual": "pre" if config.get_bool("do_layer_norm_before", True) else "post",
        "norm": "layer" if has_weights else "nonparametric",
        "norm_eps": EPS,
        "norm_bias": True,
        "bias": config.get_bool("enable_bias", True),
        "activation": config.get_activation("activation_function", "relu"),
        "d_embedding": None if width == d_model else width,
        "tie_embeddings": config.get_bool("tie_word_embeddings", True),
        "dropout": config.get_dropout("dropout", "attention_dropout", "activation_dropout", default=0.1),
    }


def write_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config; raise ValueError if OPT cannot express the keywords."""
    require(
        config, positions=POSITIONS, residual=("pre", "post"), norm=("layer", "nonparametric"), norm_eps=EPS
    )
    require(config, num_kv_heads=(None, config["num_heads"]))
    require_biases(config, norm_bias=True)
    require({"d_head": resolve_d_head(config)}, d_head=config["d_model"] // config["num_heads"])
    return {
        "architectures": ["OPTForCausalLM"],
        "vocab_size": config["vocab_size"],
        "hidden_size": config["d_model"],
        "num_hidden_layers": config["num_layers"],
        "num_attention_heads": config["num_heads"],
        "ffn_dim": resolve_d_ff(config),
        "max_position_embeddings": config["max_seq_len"],
        "do_layer_norm_before": config["residual"] == "pre",
        "layer_norm_elementwise_affine": config["norm"] == "layer",
        "enable_bias": same_bias(config, "qkv_bias", "out_bias", "ff_bias"),
        "activation_function": write_activation(config, gated=False),
        "word_embed_proj_dim": config["d_embedding"] or config["d_model"],
        "tie_word_embeddings": config["tie_embeddings"],
        "dropout": config["dropout"],
        "attention_dropout": config["dropout"],
    }


_LAYER = {
    "norm1": "self_attn_layer_norm",
    **{f"attention.{part}_proj": f"self_attn.{part}_proj" for part in ("q", "k", "v", "out")},
    "norm2": "final_layer_norm",
    "feed_forward.up_proj": "fc1",
    "feed_forward.down_proj": "fc2",
}


def weight_table(config: Mapping[str, Any]) -> WeightTable:
    """Return the tensor names."""
    body = "model.decoder."
    others = [renamed("positions.embedding.weight", f"{body}embed_positions.weight")]
    if (config["d_embedding"] or config["d_model"]) != config["d_model"]:
        others.append(renamed("embedding_proj.weight", f"{body}project_in.weight"))
        others.append(renamed("head_proj.weight", f"{body}project_out.weight"))
    return decoder_table(
        config,
        _LAYER,
        body=body,
        norm="final_layer_norm",
        others=others,
        legacy_names=[(r"^decoder\.", "model.decoder.")],
    )


OPT = CheckpointFormat(
    GPTModel, read_config, write_config, weight_table, ignored_keys=("layerdrop", "init_std")
)
