"""BERT's layout, with its heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glassformer.models import BERTModel
from glassformer.pretrained.configs import ACTIVATIONS, ConfigReader
from glassformer.pretrained.conversion import Table, Tensors, layers, named, same
from glassformer.pretrained.layouts import Layout, require, width_inside, written_activation

HEADS = {
    "BertModel": "none",
    "BertForMaskedLM": "masked_lm",
    "BertForPreTraining": "masked_lm",
    "BertForSequenceClassification": "classification",
    "BertForTokenClassification": "token_classification",
}
"""Their classes to our word for the head."""


def read_config(config: ConfigReader, tensors: Tensors) -> dict[str, Any]:
    """Keywords of ``BERTModel``."""
    config.expect("position_embedding_type", "absolute")
    head = HEADS[config.architecture(HEADS, "BertModel")]
    tied = config.flag("tie_word_embeddings", True)
    if head == "masked_lm" and not tied:
        config.expect("tie_word_embeddings", True)
    return {
        "vocab_size": config.size("vocab_size"),
        "d_model": config.size("hidden_size"),
        "num_layers": config.size("num_hidden_layers"),
        "num_heads": config.size("num_attention_heads"),
        "d_ff": config.size("intermediate_size"),
        "max_seq_len": config.size("max_position_embeddings", 512),
        "num_token_types": config.size("type_vocab_size", 2),
        "activation": config.activation("hidden_act", "gelu"),
        "norm_eps": config.number("layer_norm_eps", default=1e-12),
        "dropout": config.dropout(
            "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", default=0.1
        ),
        "pooler": head == "classification" or has_pooler(tensors),
        "head": head,
        "labels": config.labels() or 2,
    }


def has_pooler(tensors: Tensors) -> bool:
    """Whether a file has a pooler, which no config tells."""
    return any(name.endswith("pooler.dense.weight") for name in tensors.shapes)


def write_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config that says the same; the keywords that BERT leaves open are checked."""
    require(config, positions=("learned", {"kind": "learned"}), norm="layer", residual="post", bias=True)
    if config["head"] == "classification":
        require(config, pooler=True)
    classes = {head: name for name, head in reversed(HEADS.items())}
    dropout = config["dropout"]
    return {
        "architectures": [classes[config["head"]]],
        "vocab_size": config["vocab_size"],
        "hidden_size": config["d_model"],
        "num_hidden_layers": config["num_layers"],
        "num_attention_heads": config["num_heads"],
        "intermediate_size": width_inside(config),
        "max_position_embeddings": config["max_seq_len"],
        "type_vocab_size": config["num_token_types"],
        "hidden_act": written_activation(config["activation"], ACTIVATIONS),
        "layer_norm_eps": config["norm_eps"],
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
        "classifier_dropout": dropout,
        "position_embedding_type": "absolute",
    }


def table(config: Mapping[str, Any]) -> Table:
    """All names."""
    both = ("weight", "bias")
    body = "" if config["head"] == "none" else "bert."
    embeddings = {
        "token_embedding": "embeddings.word_embeddings",
        "positions.embedding": "embeddings.position_embeddings",
        "token_type_embedding": "embeddings.token_type_embeddings",
    }
    entries = named("", body, embeddings)
    entries += named("", body, {"embedding_norm": "embeddings.LayerNorm"}, both)
    for ours, theirs in layers(config["num_layers"], "blocks.", f"{body}encoder.layer."):
        entries += named(ours, theirs, _LAYER, both)
    if config["pooler"]:
        entries += named("", body, {"pooler.dense": "pooler.dense"}, both)
    head, doubles = _HEAD_NAMES[config["head"]]
    entries += [same(own, other) for own, other in head.items()]
    return Table(
        entries,
        doubles=doubles,
        prefix="bert.",
        aliases=[(r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias")],
        ignored=r"(.*\.)?position_ids|cls\.seq_relationship\.(weight|bias)",
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
"""Names of each head, and names that repeat others."""

BERT = Layout(
    BERTModel,
    read_config,
    write_config,
    table,
    harmless=(  # words of the first published code that no model reads
        "directionality",
        "pooler_fc_size",
        "pooler_num_attention_heads",
        "pooler_num_fc_layers",
        "pooler_size_per_head",
        "pooler_type",
    ),
)
