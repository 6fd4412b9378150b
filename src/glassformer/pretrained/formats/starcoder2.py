"""The checkpoint format of StarCoder2: grouped-query attention and layer norms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glassformer.models import GPTModel
from glassformer.pretrained.checkpoint_format import CheckpointFormat, require, resolve_d_head
from glassformer.pretrained.config_reader import ConfigReader
from glassformer.pretrained.formats.decoder_layout import (
    ATTENTION,
    NORMS,
    decoder_table,
    read_sizes,
    require_biases,
    same_bias,
    write_activation,
    write_rotary,
    write_sizes,
)
from glassformer.pretrained.formats.layer_types import (
    window_of_all,
)
from glassformer.pretrained.rope_config import read_rope
from glassformer.pretrained.weight_table import TensorReader, WeightTable

DROPOUTS = ("residual_dropout", "embedding_dropout", "attention_dropout")


def read_config(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel``."""
    config.expect("mlp_type", "default")
    config.expect("norm_type", "layer_norm")
    sizes = read_sizes(config, 2)
    return {
        **sizes,
        "bias": config.get_bool("use_bias", True),
        "norm_bias": True,
        "norm_eps": config.get_float("norm_epsilon", default=1e-5),
        "positions": read_rope(config, sizes["d_model"] // sizes["num_heads"]),
        "activation": config.get_activation("hidden_act", "gelu_pytorch_tanh"),
        "window": config.get_int("sliding_window", None),
        "tie_embeddings": config.get_bool("tie_word_embeddings", True),
        "dropout": config.get_dropout(*DROPOUTS),
    }


def write_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config; raise ValueError if StarCoder2 cannot express the keywords."""
    require(config, norm="layer", residual="pre")
    require_biases(config, norm_bias=True)
    require({"d_head": resolve_d_head(config)}, d_head=config["d_model"] // config["num_heads"])
    return {
        **write_sizes(config, "Starcoder2ForCausalLM"),
        "use_bias": same_bias(config, "qkv_bias", "out_bias", "ff_bias"),
        "norm_epsilon": config["norm_eps"],
        "rope_parameters": write_rotary(config),
        "hidden_act": write_activation(config, gated=False),
        "sliding_window": window_of_all(config),
        **dict.fromkeys(DROPOUTS, config["dropout"]),
    }


def weight_table(config: Mapping[str, Any]) -> WeightTable:
    """Return the tensor names."""
    feed_forward = {"feed_forward.up_proj": "mlp.c_fc", "feed_forward.down_proj": "mlp.c_proj"}
    return decoder_table(config, NORMS | ATTENTION | feed_forward)


STARCODER2 = CheckpointFormat(
    GPTModel,
    read_config,
    write_config,
    weight_table,
    ignored_keys=(  # of the first StarCoder, or of precision
        *("activation_function", "layer_norm_epsilon", "attention_softmax_in_fp32"),
        *("scale_attention_softmax_in_fp32", "scale_attn_weights"),
    ),
)
