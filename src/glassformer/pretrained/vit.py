"""ViT's layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from glassformer.models import ViTModel
from glassformer.pretrained.bert import has_pooler
from glassformer.pretrained.configs import ACTIVATIONS, ConfigReader
from glassformer.pretrained.conversion import Entry, Table, Tensors, layers, named, same
from glassformer.pretrained.layouts import Layout, chosen, require, width_inside, written_activation

HEADS = {"ViTModel": "none", "ViTForImageClassification": "classification"}
"""Their classes to our word for the head."""


def read_config(config: ConfigReader, tensors: Tensors) -> dict[str, Any]:
    """Keywords of ``ViTModel``."""
    config.expect("pooler_act", "tanh")
    d_model = config.size("hidden_size")
    head = HEADS[config.architecture(HEADS, "ViTModel")]
    config.expect("pooler_output_size", d_model)
    return {
        "image_size": _side(config, "image_size", 224),
        "patch_size": _side(config, "patch_size", 16),
        "d_model": d_model,
        "num_layers": config.size("num_hidden_layers"),
        "num_heads": config.size("num_attention_heads"),
        "d_ff": config.size("intermediate_size"),
        "num_channels": config.size("num_channels", 3),
        "activation": config.activation("hidden_act", "gelu"),
        "qkv_bias": config.flag("qkv_bias", True),
        "norm_eps": config.number("layer_norm_eps", default=1e-12),
        "dropout": config.dropout("hidden_dropout_prob", "attention_probs_dropout_prob"),
        "pooler": head == "none" and has_pooler(tensors),  # their classifier reads the class token as it is
        "head": head,
        "labels": config.labels() or 2,
    }


def _side(config: ConfigReader, key: str, default: int) -> int:
    """The side of a square, that may be given as height and width."""
    value = config.take(key, default=default)
    height, width = value if isinstance(value, list) and len(value) == 2 else (value, value)
    if type(height) is not int or height != width:
        raise ValueError(f"{config.source}: {key} = {value!r} is not implemented, only squares")
    return height


def write_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config that says the same; the keywords that ViT leaves open are checked."""
    require(config, norm="layer", residual="pre", bias=True, layer_scale=None, num_registers=0)
    if config["head"] == "classification":
        require(config, pooler=False)
    classes = {head: name for name, head in HEADS.items()}
    return {
        "architectures": [classes[config["head"]]],
        "image_size": config["image_size"],
        "patch_size": config["patch_size"],
        "hidden_size": config["d_model"],
        "num_hidden_layers": config["num_layers"],
        "num_attention_heads": config["num_heads"],
        "intermediate_size": width_inside(config),
        "num_channels": config["num_channels"],
        "hidden_act": written_activation(config["activation"], ACTIVATIONS),
        "qkv_bias": chosen(config, "qkv_bias"),
        "layer_norm_eps": config["norm_eps"],
        "hidden_dropout_prob": config["dropout"],
        "attention_probs_dropout_prob": config["dropout"],
    }


def table(config: Mapping[str, Any]) -> Table:
    """All names."""
    both = ("weight", "bias")
    body = "" if config["head"] == "none" else "vit."
    entries = [
        same("class_token", f"{body}embeddings.cls_token"),
        Entry(("positions.table",), (f"{body}embeddings.position_embeddings",), one_less, one_more),
        *named("", body, {"patch_embedding": "embeddings.patch_embeddings.projection"}, both),
        *named("", body, {"norm": "layernorm"}, both),
    ]
    for ours, theirs in layers(config["num_layers"], "blocks.", f"{body}encoder.layer."):
        entries += named(ours, theirs, _LAYER, both)
        entries += named(ours, theirs, _QKV, both if chosen(config, "qkv_bias") else ("weight",))
    if config["pooler"]:
        entries += named("", body, {"pooler.dense": "pooler.dense"}, both)
    if config["head"] == "classification":
        entries += named("", "", {"head.classifier": "classifier"}, both)
    return Table(entries, prefix="vit.", ignored=r"(.*\.)?embeddings\.mask_token")


_LAYER = {
    "attention.out_proj": "attention.output.dense",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "feed_forward.up_proj": "intermediate.dense",
    "feed_forward.down_proj": "output.dense",
}
_QKV = {
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
}


def one_less(positions: Tensor) -> tuple[Tensor]:
    """``(1, 1 + patch, d_model)`` to ``(1 + patch, d_model)``."""
    return (positions.squeeze(0),)


def one_more(positions: Tensor) -> tuple[Tensor]:
    """``(1 + patch, d_model)`` to ``(1, 1 + patch, d_model)``."""
    return (positions.unsqueeze(0),)


VIT = Layout(ViTModel, read_config, write_config, table, harmless=("encoder_stride",))
