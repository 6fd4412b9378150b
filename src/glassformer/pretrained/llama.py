"""The layouts of Llama, Mistral and Qwen2: the same names, with small differences in the config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glassformer.models import GPTModel
from glassformer.pretrained.configs import ACTIVATIONS, GATED, ConfigReader
from glassformer.pretrained.conversion import Table, Tensors, layers, named, same
from glassformer.pretrained.layouts import (
    Layout,
    chosen,
    require,
    width_inside,
    width_of_head,
    written_activation,
)
from glassformer.pretrained.rope import read_rope, write_rope


def read_llama(config: ConfigReader, tensors: Tensors) -> dict[str, Any]:
    """Keywords of ``GPTModel`` from a config of Llama."""
    config.expect("sliding_window", None)
    heads = config.size("num_attention_heads")
    bias = config.flag("attention_bias", False)
    return {
        **_read(config, config.size("num_key_value_heads", heads)),
        "qkv_bias": bias,
        "out_bias": bias,
        "ff_bias": config.flag("mlp_bias", False),
    }


def read_mistral(config: ConfigReader, tensors: Tensors) -> dict[str, Any]:
    """Keywords of ``GPTModel`` from a config of Mistral: a window for all layers, or none."""
    kv_heads = config.size("num_key_value_heads", 8, null=config.size("num_attention_heads"))
    window = config.size("sliding_window", 4096, null=None)
    return {**_read(config, kv_heads), "window": _window(config, window, first=0)}


def read_qwen2(config: ConfigReader, tensors: Tensors) -> dict[str, Any]:
    """Keywords of ``GPTModel`` from a config of Qwen2: biases on query, key and value alone."""
    kv_heads = config.size("num_key_value_heads", 32, null=config.size("num_attention_heads"))
    window = config.size("sliding_window", 4096, null=None)
    window = window if config.flag("use_sliding_window", False) else None
    window = _window(config, window, first=config.size("max_window_layers", 28, least=0))
    return {**_read(config, kv_heads), "qkv_bias": True, "window": window}


def _read(config: ConfigReader, num_kv_heads: int) -> dict[str, Any]:
    """What all three have."""
    d_model, heads = config.size("hidden_size"), config.size("num_attention_heads")
    d_head = config.size("head_dim", None)
    return {
        "vocab_size": config.size("vocab_size"),
        "d_model": d_model,
        "num_layers": config.size("num_hidden_layers"),
        "num_heads": heads,
        "num_kv_heads": num_kv_heads,
        "d_head": d_head,
        "d_ff": config.size("intermediate_size"),
        "max_seq_len": config.size("max_position_embeddings", 2048),
        "positions": read_rope(config, d_head or d_model // heads),
        "norm": "rms",
        "norm_eps": config.number("rms_norm_eps", default=1e-6),
        "activation": config.activation("hidden_act", "silu", gated=True),
        "bias": False,
        "tie_embeddings": config.flag("tie_word_embeddings", False),
        "dropout": config.dropout("hidden_dropout", "attention_dropout"),
    }


def _window(config: ConfigReader, window: int | None, first: int) -> int | None:
    """The window that all layers have, if all have the same.

    Args:
        config: may say of each layer whether it has one.
        window: tokens that a layer with a window sees.
        first: the first layer with a window, where the config does not say so of each.

    Raises:
        ValueError: some layers have a window and some have none, or there are more or fewer than it says.

    """
    count = config.size("num_hidden_layers")
    kinds = config.words("layer_types")
    if kinds is None:
        kinds = ["sliding_attention" if window and i >= first else "full_attention" for i in range(count)]
    if len(kinds) != count:
        raise ValueError(f"{config.source}: layer_types names {len(kinds)} layers, not all {count}")
    if set(kinds) == {"full_attention"}:
        return None
    if set(kinds) == {"sliding_attention"} and window is not None:
        return window
    raise ValueError(
        f"{config.source}: layer_types = {kinds} with sliding_window = {window} is not implemented, only "
        "layers that are all alike"
    )


def write_llama(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of Llama that says the same."""
    require(config, window=None)
    bias = chosen(config, "qkv_bias")
    if chosen(config, "out_bias") != bias:
        raise ValueError(f"out_bias must be qkv_bias, {bias!r}")
    return {
        **_write(config, "Llama"),
        "attention_bias": bias,
        "mlp_bias": chosen(config, "ff_bias"),
    }


def write_mistral(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of Mistral that says the same."""
    _require_biases(config, qkv_bias=False)
    return {**_write(config, "Mistral"), "sliding_window": config["window"]}


def write_qwen2(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of Qwen2 that says the same."""
    _require_biases(config, qkv_bias=True)
    window = config["window"]
    return {
        **_write(config, "Qwen2"),
        "use_sliding_window": window is not None,
        "sliding_window": window,
        "max_window_layers": config["num_layers"] if window is None else 0,
    }


def _require_biases(config: Mapping[str, Any], qkv_bias: bool) -> None:
    wanted = {"qkv_bias": qkv_bias, "out_bias": False, "ff_bias": False}
    require({name: chosen(config, name) for name in wanted}, **wanted)


def _write(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    require(config, norm="rms", residual="pre")
    d_head = width_of_head(config)
    rope = write_rope(config["positions"], d_head, config["max_seq_len"])
    if "partial_rotary_factor" in rope:
        raise ValueError(f"all {d_head} dimensions of a head must turn")
    plain = {own: word for word, own in GATED.items()}
    if config["activation"] not in plain:
        raise ValueError(f"activation must be one of {', '.join(plain)}, not {config['activation']!r}")
    return {
        "architectures": [f"{name}ForCausalLM"],
        "vocab_size": config["vocab_size"],
        "hidden_size": config["d_model"],
        "num_hidden_layers": config["num_layers"],
        "num_attention_heads": config["num_heads"],
        "num_key_value_heads": config["num_kv_heads"] or config["num_heads"],
        "head_dim": d_head,
        "intermediate_size": width_inside(config),
        "max_position_embeddings": config["max_seq_len"],
        "rope_parameters": rope,
        "rms_norm_eps": config["norm_eps"],
        "hidden_act": written_activation(plain[config["activation"]], ACTIVATIONS),
        "tie_word_embeddings": config["tie_embeddings"],
        "attention_dropout": config["dropout"],
    }


def table(config: Mapping[str, Any]) -> Table:
    """All names."""
    entries = [
        same("token_embedding.weight", "model.embed_tokens.weight"),
        same("norm.weight", "model.norm.weight"),
    ]
    for ours, theirs in layers(config["num_layers"], "blocks.", "model.layers."):
        entries += named(ours, theirs, {"norm1": "input_layernorm", "norm2": "post_attention_layernorm"})
        for names, flag in ((_QKV, "qkv_bias"), (_OUT, "out_bias"), (_FEED_FORWARD, "ff_bias")):
            kinds = ("weight", "bias") if chosen(config, flag) else ("weight",)
            entries += named(ours, theirs, names, kinds)
    head = same("lm_head.weight", "lm_head.weight")
    tied = config["tie_embeddings"]
    return Table(
        entries if tied else [*entries, head],
        doubles={"lm_head.weight": "model.embed_tokens.weight"} if tied else {},
        prefix="model.",
        ignored=r".*\.rotary_emb\.inv_freq",
    )


_QKV = {f"attention.{part}_proj": f"self_attn.{part}_proj" for part in "qkv"}
_OUT = {"attention.out_proj": "self_attn.o_proj"}
_FEED_FORWARD = {f"feed_forward.{part}_proj": f"mlp.{part}_proj" for part in ("gate", "up", "down")}

LLAMA = Layout(GPTModel, read_llama, write_llama, table)
MISTRAL = Layout(GPTModel, read_mistral, write_mistral, table)
QWEN2 = Layout(GPTModel, read_qwen2, write_qwen2, table)
