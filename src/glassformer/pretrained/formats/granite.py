"""The checkpoint format of Granite: Llama with factors of embeddings, scores, sublayers and logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glassformer.models import GPTModel
from glassformer.pretrained.checkpoint_format import CheckpointFormat, require, resolve_d_head
from glassformer.pretrained.config_reader import ConfigReader
from glassformer.pretrained.formats.llama import (
    read_biases,
    read_shared,
    weight_table,
    write_biases,
    write_shared,
)
from glassformer.pretrained.weight_table import TensorReader


def read_config(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel``."""
    return {
        **read_shared(config),
        **read_biases(config),
        "scale_embeddings": config.get_float("embedding_multiplier", default=1.0),
        "attention_scale": config.get_float("attention_multiplier", default=1.0),
        "residual_scale": config.get_float("residual_multiplier", default=1.0),
        "logit_scale": 1 / config.get_positive_float("logits_scaling", 1.0),
    }


def write_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config; raise ValueError if Granite cannot express the keywords."""
    d_head, width = resolve_d_head(config), config["d_model"] // config["num_heads"]
    require({"d_head": d_head}, d_head=width)
    shared = write_shared(config, "GraniteForCausalLM")
    scale = config["scale_embeddings"]
    return {
        **{key: value for key, value in shared.items() if key != "head_dim"},
        **write_biases(config),
        "embedding_multiplier": (config["d_model"] ** 0.5 if scale else 1.0)
        if isinstance(scale, bool)
        else scale,
        "attention_multiplier": config["attention_scale"] or d_head**-0.5,
        "residual_multiplier": config["residual_scale"],
        "logits_scaling": 1 / config["logit_scale"],
    }


GRANITE = CheckpointFormat(GPTModel, read_config, write_config, weight_table)
