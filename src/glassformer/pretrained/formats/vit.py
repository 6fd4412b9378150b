"""The checkpoint format of ViT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from glassformer.models import ViTModel
from glassformer.pretrained.checkpoint_format import (
    CheckpointFormat,
    activation_name,
    require,
    resolve_bias,
    resolve_d_ff,
)
from glassformer.pretrained.config_reader import ACTIVATIONS, ConfigReader
from glassformer.pretrained.formats.bert import has_pooler
from glassformer.pretrained.weight_table import (
    TensorReader,
    WeightEntry,
    WeightTable,
    layer_prefixes,
    renamed,
    renamed_modules,
)

TASKS = {"ViTModel": "none", "ViTForImageClassification": "classification"}
"""Model classes of Hugging Face to the keyword ``head``."""


def read_config(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``ViTModel``."""
    config.expect("pooler_act", "tanh")
    d_model = config.get_int("hidden_size")
    head = TASKS[config.get_architecture(TASKS, "ViTModel")]
    config.expect("pooler_output_size", d_model)
    return {
        "image_size": _square_side(config, "image_size", 224),
        "patch_size": _square_side(config, "patch_size", 16),
        "d_model": d_model,
        "num_layers": config.get_int("num_hidden_layers"),
        "num_heads": config.get_int("num_attention_heads"),
        "d_ff": config.get_int("intermediate_size"),
        "num_channels": config.get_int("num_channels", 3),
        "activation": config.get_activation("hidden_act", "gelu"),
        "qkv_bias": config.get_bool("qkv_bias", True),
        "norm_eps": config.get_float("layer_norm_eps", default=1e-12),
        "dropout": config.get_dropout("hidden_dropout_prob", "attention_probs_dropout_prob"),
        "pooler": head == "none" and has_pooler(tensors),  # their classifier has no pooler
        "head": head,
        "labels": config.get_labels() or 2,
    }


def _square_side(config: ConfigReader, key: str, default: int) -> int:
    """Return the side of a square, which may be given as height and width."""
    value = config.get(key, default=default)
    height, width = value if isinstance(value, list) and len(value) == 2 else (value, value)
    if type(height) is not int or height != width:
        raise ValueError(f"{config.source}: {key} = {value!r} is not implemented, only a square")
    return height


def write_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config; raise ValueError if ViT cannot express the keywords."""
    require(config, norm="layer", residual="pre", bias=True, layer_scale=None, num_registers=0)
    if config["head"] == "classification":
        require(config, pooler=False)
    classes = {head: name for name, head in TASKS.items()}
    return {
        "architectures": [classes[config["head"]]],
        "image_size": config["image_size"],
        "patch_size": config["patch_size"],
        "hidden_size": config["d_model"],
        "num_hidden_layers": config["num_layers"],
        "num_attention_heads": config["num_heads"],
        "intermediate_size": resolve_d_ff(config),
        "num_channels": config["num_channels"],
        "hidden_act": activation_name(config["activation"], ACTIVATIONS),
        "qkv_bias": resolve_bias(config, "qkv_bias"),
        "layer_norm_eps": config["norm_eps"],
        "hidden_dropout_prob": config["dropout"],
        "attention_probs_dropout_prob": config["dropout"],
    }


def weight_table(config: Mapping[str, Any]) -> WeightTable:
    """Return the tensor names."""
    both = ("weight", "bias")
    body = "" if config["head"] == "none" else "vit."
    entries = [
        renamed("class_token", f"{body}embeddings.cls_token"),
        WeightEntry(
            ("positions.table",), (f"{body}embeddings.position_embeddings",), remove_batch, add_batch
        ),
        *renamed_modules("", body, {"patch_embedding": "embeddings.patch_embeddings.projection"}, both),
        *renamed_modules("", body, {"norm": "layernorm"}, both),
    ]
    for ours, theirs in layer_prefixes(config["num_layers"], "blocks.", f"{body}encoder.layer."):
        entries += renamed_modules(ours, theirs, _LAYER, both)
        entries += renamed_modules(
            ours, theirs, _QKV, both if resolve_bias(config, "qkv_bias") else ("weight",)
        )
    if config["pooler"]:
        entries += renamed_modules("", body, {"pooler.dense": "pooler.dense"}, both)
    if config["head"] == "classification":
        entries += renamed_modules("", "", {"head.classifier": "classifier"}, both)
    return WeightTable(entries, base_prefix="vit.", ignored_pattern=r"(.*\.)?embeddings\.mask_token")


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


def remove_batch(positions: Tensor) -> tuple[Tensor]:
    """Remove the batch dimension of ``(1, 1 + patch, d_model)``."""
    return (positions.squeeze(0),)


def add_batch(positions: Tensor) -> tuple[Tensor]:
    """Add a batch dimension to ``(1 + patch, d_model)``."""
    return (positions.unsqueeze(0),)


VIT = CheckpointFormat(ViTModel, read_config, write_config, weight_table, ignored_keys=("encoder_stride",))
