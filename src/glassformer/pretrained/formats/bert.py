"""The checkpoint format of BERT and its task heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glassformer.models import BERTModel
from glassformer.pretrained.checkpoint_format import CheckpointFormat, activation_name, require, resolve_d_ff
from glassformer.pretrained.config_reader import ACTIVATIONS, ConfigReader
from glassformer.pretrained.weight_table import (
    TensorReader,
    WeightTable,
    layer_prefixes,
    renamed,
    renamed_modules,
)

TASKS = {
    "BertModel": "none",
    "BertForMaskedLM": "masked_lm",
    "BertForPreTraining": "masked_lm",
    "BertForSequenceClassification": "classification",
    "BertForTokenClassification": "token_classification",
}
"""Model classes of Hugging Face to the keyword ``head``."""


def read_config(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``BERTModel``."""
    config.expect("position_embedding_type", "absolute")
    head = TASKS[config.get_architecture(TASKS, "BertModel")]
    tied = config.get_bool("tie_word_embeddings", True)
    if head == "masked_lm" and not tied:
        config.expect("tie_word_embeddings", True)
    return {
        "vocab_size": config.get_int("vocab_size"),
        "d_model": config.get_int("hidden_size"),
        "num_layers": config.get_int("num_hidden_layers"),
        "num_heads": config.get_int("num_attention_heads"),
        "d_ff": config.get_int("intermediate_size"),
        "max_seq_len": config.get_int("max_position_embeddings", 512),
        "num_token_types": config.get_int("type_vocab_size", 2),
        "activation": config.get_activation("hidden_act", "gelu"),
        "norm_eps": config.get_float("layer_norm_eps", default=1e-12),
        "dropout": config.get_dropout(
            "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", default=0.1
        ),
        "pooler": head == "classification" or has_pooler(tensors),
        "head": head,
        "labels": config.get_labels() or 2,
    }


def has_pooler(tensors: TensorReader) -> bool:
    """Return whether a checkpoint has a pooler, which its config does not say."""
    return any(name.endswith("pooler.dense.weight") for name in tensors.shapes)


def write_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config; raise ValueError if BERT cannot express the keywords."""
    require(config, positions=("learned", {"kind": "learned"}), norm="layer", residual="post", bias=True)
    if config["head"] == "classification":
        require(config, pooler=True)
    classes = {head: name for name, head in reversed(TASKS.items())}
    dropout = config["dropout"]
    return {
        "architectures": [classes[config["head"]]],
        "vocab_size": config["vocab_size"],
        "hidden_size": config["d_model"],
        "num_hidden_layers": config["num_layers"],
        "num_attention_heads": config["num_heads"],
        "intermediate_size": resolve_d_ff(config),
        "max_position_embeddings": config["max_seq_len"],
        "type_vocab_size": config["num_token_types"],
        "hidden_act": activation_name(config["activation"], ACTIVATIONS),
        "layer_norm_eps": config["norm_eps"],
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
        "classifier_dropout": dropout,
        "position_embedding_type": "absolute",
    }


def weight_table(config: Mapping[str, Any]) -> WeightTable:
    """Return the tensor names."""
    both = ("weight", "bias")
    body = "" if config["head"] == "none" else "bert."
    embeddings = {
        "token_embedding": "embeddings.word_embeddings",
        "positions.embedding": "embeddings.position_embeddings",
        "token_type_embedding": "embeddings.token_type_embeddings",
    }
    entries = renamed_modules("", body, embeddings)
    entries += renamed_modules("", body, {"embedding_norm": "embeddings.LayerNorm"}, both)
    for ours, theirs in layer_prefixes(config["num_layers"], "blocks.", f"{body}encoder.layer."):
        entries += renamed_modules(ours, theirs, _LAYER, both)
    if config["pooler"]:
        entries += renamed_modules("", body, {"pooler.dense": "pooler.dense"}, both)
    head, tied_aliases = _HEAD_NAMES[config["head"]]
    entries += [renamed(own, other) for own, other in head.items()]
    return WeightTable(
        entries,
        tied_aliases=tied_aliases,
        base_prefix="bert.",
        legacy_names=[(r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias")],
        ignored_pattern=r"(.*\.)?position_ids|cls\.seq_relationship\.(weight|bias)",
    )


_LAYER = {
    "attention.q_proj": "attention.self.query",
    "attention.k_proj": "attention.self.key",
    "attention.v_proj": "attention.self.value",
    "attention.out_proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "feed_forward.up_proj": "intermediate.dense",
    "feed_forward.down_proj": "output.dense",
    "norm2": "output.LayerNorm",
}
_CLASSIFIER = {f"head.classifier.{kind}": f"classifier.{kind}" for kind in ("weight", "bias")}
_MASKED_LM = {
    "head.dense.weight": "cls.predictions.transform.dense.weight",
    "head.dense.bias": "cls.predictions.transform.dense.bias",
    "head.norm.weight": "cls.predictions.transform.LayerNorm.weight",
    "head.norm.bias": "cls.predictions.transform.LayerNorm.bias",
    "head.decoder.bias": "cls.predictions.bias",
}
_HEAD_NAMES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "none": ({}, {}),
    "masked_lm": (
        _MASKED_LM,
        {
            "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
            "cls.predictions.decoder.bias": "cls.predictions.bias",
        },
    ),
    "classification": (_CLASSIFIER, {}),
    "token_classification": (_CLASSIFIER, {}),
}
"""Tensor names of each task head, and its tied aliases."""

BERT = CheckpointFormat(
    BERTModel,
    read_config,
    write_config,
    weight_table,
    ignored_keys=(  # written by the original code, not used by the model
        "directionality",
        "pooler_fc_size",
        "pooler_num_attention_heads",
        "pooler_num_fc_layers",
        "pooler_size_per_head",
        "pooler_type",
    ),
)
