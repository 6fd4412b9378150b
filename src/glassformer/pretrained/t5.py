"""T5's layout, 1.0 and 1.1 (which Flan-T5 has too)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from glassformer.models import T5Model
from glassformer.pretrained.configs import ACTIVATIONS, GATED, ConfigReader
from glassformer.pretrained.conversion import Entry, Table, Tensors, layers, named, same
from glassformer.pretrained.layouts import (
    Layout,
    require,
    width_inside,
    width_of_head,
    written_activation,
)

_FEED_FORWARDS = {
    **ACTIVATIONS,
    "gated-gelu": "geglu_tanh",  # by that word T5 1.1 means the tanh approximation
    **{f"gated-{word}": GATED[own] for word, own in ACTIVATIONS.items() if word != "gelu"},
}
"""Their ``feed_forward_proj`` to our activation."""


def read_config(config: ConfigReader, tensors: Tensors) -> dict[str, Any]:
    """Keywords of ``T5Model``."""
    config.architecture(["T5ForConditionalGeneration", "T5WithLMHeadModel"], "T5ForConditionalGeneration")
    num_layers = config.size("num_layers")
    tied = config.flag("tie_word_embeddings", True)
    pad_token = config.token("pad_token_id", 0)
    word = config.choice("feed_forward_proj", _FEED_FORWARDS, default="relu")
    gated = word.startswith("gated-")
    config.expect("is_gated_act", gated)
    config.expect("dense_act_fn", "gelu_new" if word == "gated-gelu" else word.removeprefix("gated-"))
    return {
        "vocab_size": config.size("vocab_size"),
        "d_model": config.size("d_model"),
        "num_layers": num_layers,
        "num_heads": config.size("num_heads"),
        "num_decoder_layers": config.size("num_decoder_layers", num_layers),
        "d_ff": config.size("d_ff"),
        "d_head": config.size("d_kv"),
        "max_seq_len": config.size("n_positions", 512),
        "dropout": config.dropout("dropout_rate", default=0.1),
        "positions": {
            "kind": "relative_bias",
            "num_buckets": config.size("relative_attention_num_buckets", 32),
            "max_distance": config.size("relative_attention_max_distance", 128),
        },
        "activation": _FEED_FORWARDS[word],
        "norm_eps": config.number("layer_norm_epsilon", default=1e-6),
        "tie_embeddings": tied and not _has_own_head(tensors),
        "scale_logits": config.flag("scale_decoder_outputs", tied),
        "start_token": config.token("decoder_start_token_id", pad_token),
        "end_token": config.token("eos_token_id", 1),
        "pad_token": pad_token,
    }


def _has_own_head(tensors: Tensors) -> bool:
    """Whether the file has an output projection that is not the embedding, whatever the config says."""
    names = ("lm_head.weight", "shared.weight")
    if not set(names) <= set(tensors.shapes):
        return False
    head, embedding = (tensors.read(name) for name in names)
    return not torch.equal(head, embedding)


def write_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config that says the same; the keywords that T5 leaves open are checked."""
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
        "d_ff": width_inside(config),
        "d_kv": width_of_head(config),
        "n_positions": config["max_seq_len"],
        "dropout_rate": config["dropout"],
        "relative_attention_num_buckets": positions.get("num_buckets", 32),
        "relative_attention_max_distance": positions.get("max_distance", 128),
        "feed_forward_proj": written_activation(config["activation"], _FEED_FORWARDS),
        "layer_norm_epsilon": config["norm_eps"],
        "tie_word_embeddings": config["tie_embeddings"],
        "scale_decoder_outputs": config["scale_logits"],
        "is_encoder_decoder": True,
        "decoder_start_token_id": config["start_token"],
        "eos_token_id": config["end_token"],
        "pad_token_id": config["pad_token"],
    }


def table(config: Mapping[str, Any]) -> Table:
    """All names."""
    entries = [same("token_embedding.weight", "shared.weight")]
    count = {"encoder": config["num_layers"], "decoder": config["num_decoder_layers"] or config["num_layers"]}
    gated = config["activation"] in GATED.values()
    for stack, num_layers in count.items():
        bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        entries.append(same(f"{stack}.positions.embedding.weight", bias))
        entries.append(same(f"{stack}.norm.weight", f"{stack}.final_layer_norm.weight"))
        for ours, theirs in layers(num_layers, f"{stack}.blocks.", f"{stack}.block."):
            entries += _layer(ours, f"{theirs}layer.", crosses=stack == "decoder", gated=gated)
    doubles = {f"{stack}.embed_tokens.weight": "shared.weight" for stack in count}
    tied = config["tie_embeddings"]
    return Table(
        entries if tied else [*entries, same("lm_head.weight", "lm_head.weight")],
        doubles=doubles | ({"lm_head.weight": "shared.weight"} if tied else {}),
        ignored=r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",
    )


def _layer(ours: str, theirs: str, *, crosses: bool, gated: bool) -> list[Entry]:
    """The names of one layer, whose sublayers they number."""
    last = 2 if crosses else 1
    names = {"norm1": "0.layer_norm"}
    names |= {f"attention.{own}_proj": f"0.SelfAttention.{other}" for own, other in _ATTENTION.items()}
    if crosses:
        names |= {"norm2": "1.layer_norm"}
        names |= {
            f"cross_attention.{own}_proj": f"1.EncDecAttention.{other}" for own, other in _ATTENTION.items()
        }
    names |= {f"norm{last + 1}": f"{last}.layer_norm"}
    feed_forward = {"gate": "wi_0", "up": "wi_1", "down": "wo"} if gated else {"up": "wi", "down": "wo"}
    names |= {
        f"feed_forward.{own}_proj": f"{last}.DenseReluDense.{other}" for own, other in feed_forward.items()
    }
    return named(ours, theirs, names)


_ATTENTION = {"q": "q", "k": "k", "v": "v", "out": "o"}

T5 = Layout(
    T5Model,
    read_config,
    write_config,
    table,
    harmless=("classifier_dropout", "output_past"),
)
