"""The checkpoint format of T5 1.0 and 1.1, also used by Flan-T5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from glassformer.models import T5Model
from glassformer.pretrained.checkpoint_format import (
    CheckpointFormat,
    activation_name,
    require,
    resolve_d_ff,
    resolve_d_head,
)
from glassformer.pretrained.config_reader import ACTIVATIONS, GATED_ACTIVATIONS, ConfigReader
from glassformer.pretrained.weight_table import (
    TensorReader,
    WeightEntry,
    WeightTable,
    layer_prefixes,
    renamed,
    renamed_modules,
)

_FEED_FORWARDS = {
    **ACTIVATIONS,
    "gated-gelu": "geglu_tanh",  # T5 1.1 uses the tanh approximation under this name
    **{
        f"gated-{name}": GATED_ACTIVATIONS[activation]
        for name, activation in ACTIVATIONS.items()
        if name != "gelu"
    },
}
"""Values of ``feed_forward_proj`` to activations of this library."""


def read_config(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``T5Model``."""
    config.get_architecture(["T5ForConditionalGeneration", "T5WithLMHeadModel"], "T5ForConditionalGeneration")
    num_layers = config.get_int("num_layers")
    tied = config.get_bool("tie_word_embeddings", True)
    pad_token = config.get_token_id("pad_token_id", 0)
    projection = config.get_choice("feed_forward_proj", _FEED_FORWARDS, default="relu")
    gated = projection.startswith("gated-")
    config.expect("is_gated_act", gated)
    config.expect(
        "dense_act_fn", "gelu_new" if projection == "gated-gelu" else projection.removeprefix("gated-")
    )
    return {
        "vocab_size": config.get_int("vocab_size"),
        "d_model": config.get_int("d_model"),
        "num_layers": num_layers,
        "num_heads": config.get_int("num_heads"),
        "num_decoder_layers": config.get_int("num_decoder_layers", num_layers),
        "d_ff": config.get_int("d_ff"),
        "d_head": config.get_int("d_kv"),
        "max_seq_len": config.get_int("n_positions", 512),
        "dropout": config.get_dropout("dropout_rate", default=0.1),
        "positions": {
            "kind": "relative_bias",
            "num_buckets": config.get_int("relative_attention_num_buckets", 32),
            "max_distance": config.get_int("relative_attention_max_distance", 128),
        },
        "activation": _FEED_FORWARDS[projection],
        "norm_eps": config.get_float("layer_norm_epsilon", default=1e-6),
        "tie_embeddings": tied and not _has_own_head(tensors),
        "scale_logits": config.get_bool("scale_decoder_outputs", tied),
        "start_token": config.get_token_id("decoder_start_token_id", pad_token),
        "end_token": config.get_token_id("eos_token_id", 1),
        "pad_token": pad_token,
    }


def _has_own_head(tensors: TensorReader) -> bool:
    """Return whether the checkpoint has an output projection that differs from the embedding."""
    embedding = next((name for name in _EMBEDDINGS if name in tensors.shapes), None)
    if embedding is None or "lm_head.weight" not in tensors.shapes:
        return False
    return not torch.equal(tensors.read("lm_head.weight"), tensors.read(embedding))


_EMBEDDINGS = ("shared.weight", "decoder.embed_tokens.weight", "encoder.embed_tokens.weight")
"""Names of the embedding, of which a checkpoint has at least one."""


def write_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config; raise ValueError if T5 cannot express the keywords."""
    require(config, norm="rms", residual="pre", bias=False, attention_scale=1.0, scale_embeddings=False)
    positions = config["positions"]
    positions = {"kind": positions} if isinstance(positions, str) else dict(positions)
    require(positions, kind="relative_bias")
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "vocab_size": config["vocab_size"],
        "d_model": config["d_model"],
        "num_layers": config["num_layers"],
        "num_heads": config["num_heads"],
        "num_decoder_layers": config["num_decoder_layers"] or config["num_layers"],
        "d_ff": resolve_d_ff(config),
        "d_kv": resolve_d_head(config),
        "n_positions": config["max_seq_len"],
        "dropout_rate": config["dropout"],
        "relative_attention_num_buckets": positions.get("num_buckets", 32),
        "relative_attention_max_distance": positions.get("max_distance", 128),
        "feed_forward_proj": activation_name(config["activation"], _FEED_FORWARDS),
        "layer_norm_epsilon": config["norm_eps"],
        "tie_word_embeddings": config["tie_embeddings"],
        "scale_decoder_outputs": config["scale_logits"],
        "is_encoder_decoder": True,
        "decoder_start_token_id": config["start_token"],
        "eos_token_id": config["end_token"],
        "pad_token_id": config["pad_token"],
    }


def weight_table(config: Mapping[str, Any]) -> WeightTable:
    """Return the tensor names."""
    entries = [renamed("token_embedding.weight", "shared.weight")]
    depths = {
        "encoder": config["num_layers"],
        "decoder": config["num_decoder_layers"] or config["num_layers"],
    }
    gated = config["activation"] in GATED_ACTIVATIONS.values()
    for stack, num_layers in depths.items():
        bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        entries.append(renamed(f"{stack}.positions.embedding.weight", bias))
        entries.append(renamed(f"{stack}.norm.weight", f"{stack}.final_layer_norm.weight"))
        for ours, theirs in layer_prefixes(num_layers, f"{stack}.blocks.", f"{stack}.block."):
            entries += _layer(ours, f"{theirs}layer.", has_cross_attention=stack == "decoder", gated=gated)
    tied_aliases = dict.fromkeys(_EMBEDDINGS[1:], "shared.weight")
    tied = config["tie_embeddings"]
    return WeightTable(
        entries if tied else [*entries, renamed("lm_head.weight", "lm_head.weight")],
        tied_aliases=tied_aliases | ({"lm_head.weight": "shared.weight"} if tied else {}),
        ignored_pattern=r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",
    )


def _layer(ours: str, theirs: str, *, has_cross_attention: bool, gated: bool) -> list[WeightEntry]:
    """Return the entries of one layer; the checkpoint numbers its sublayers."""
    last = 2 if has_cross_attention else 1
    names = {"norm1": "0.layer_norm"}
    names |= {f"attention.{own}_proj": f"0.SelfAttention.{other}" for own, other in _ATTENTION.items()}
    if has_cross_attention:
        names |= {"norm2": "1.layer_norm"}
        names |= {
            f"cross_attention.{own}_proj": f"1.EncDecAttention.{other}" for own, other in _ATTENTION.items()
        }
    names |= {f"norm{last + 1}": f"{last}.layer_norm"}
    feed_forward = {"gate": "wi_0", "up": "wi_1", "down": "wo"} if gated else {"up": "wi", "down": "wo"}
    names |= {
        f"feed_forward.{own}_proj": f"{last}.DenseReluDense.{other}" for own, other in feed_forward.items()
    }
    return renamed_modules(ours, theirs, names)


_ATTENTION = {"q": "q", "k": "k", "v": "v", "out": "o"}

T5 = CheckpointFormat(
    T5Model,
    read_config,
    write_config,
    weight_table,
    ignored_keys=("classifier_dropout", "output_past"),
)
