"""The checkpoint formats of Llama, Mistral and Qwen2, which differ only in their configs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glassformer.models import GPTModel
from glassformer.pretrained.checkpoint_format import (
    CheckpointFormat,
    activation_name,
    require,
    resolve_bias,
    resolve_d_ff,
    resolve_d_head,
)
from glassformer.pretrained.config_reader import ACTIVATIONS, GATED_ACTIVATIONS, ConfigReader
from glassformer.pretrained.rope_config import read_rope, write_rope
from glassformer.pretrained.weight_table import (
    TensorReader,
    WeightTable,
    layer_prefixes,
    renamed,
    renamed_modules,
)


def read_llama(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel`` for a config of Llama."""
    config.expect("sliding_window", None)
    heads = config.get_int("num_attention_heads")
    bias = config.get_bool("attention_bias", False)
    return {
        **_read_shared(config, config.get_int("num_key_value_heads", heads)),
        "qkv_bias": bias,
        "out_bias": bias,
        "ff_bias": config.get_bool("mlp_bias", False),
    }


def read_mistral(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel`` for a config of Mistral."""
    kv_heads = config.get_int("num_key_value_heads", 8, null=config.get_int("num_attention_heads"))
    window = config.get_int("sliding_window", 4096, null=None)
    return {**_read_shared(config, kv_heads), "window": _read_window(config, window, first=0)}


def read_qwen2(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel`` for a config of Qwen2, which has biases only on q, k and v."""
    kv_heads = config.get_int("num_key_value_heads", 32, null=config.get_int("num_attention_heads"))
    window = config.get_int("sliding_window", 4096, null=None)
    window = window if config.get_bool("use_sliding_window", False) else None
    window = _read_window(config, window, first=config.get_int("max_window_layers", 28, minimum=0))
    return {**_read_shared(config, kv_heads), "qkv_bias": True, "window": window}


def _read_shared(config: ConfigReader, num_kv_heads: int) -> dict[str, Any]:
    """Return the keywords that all three formats share."""
    d_model, heads = config.get_int("hidden_size"), config.get_int("num_attention_heads")
    d_head = config.get_int("head_dim", None)
    return {
        "vocab_size": config.get_int("vocab_size"),
        "d_model": d_model,
        "num_layers": config.get_int("num_hidden_layers"),
        "num_heads": heads,
        "num_kv_heads": num_kv_heads,
        "d_head": d_head,
        "d_ff": config.get_int("intermediate_size"),
        "max_seq_len": config.get_int("max_position_embeddings", 2048),
        "positions": read_rope(config, d_head or d_model // heads),
        "norm": "rms",
        "norm_eps": config.get_float("rms_norm_eps", default=1e-6),
        "activation": config.get_activation("hidden_act", "silu", gated=True),
        "bias": False,
        "tie_embeddings": config.get_bool("tie_word_embeddings", False),
        "dropout": config.get_dropout("hidden_dropout", "attention_dropout"),
    }


def _read_window(config: ConfigReader, window: int | None, first: int) -> int | None:
    """Return the attention window, which must be the same in all layers.

    Args:
        config: may list the kind of attention of each layer.
        window: size of the window.
        first: the first layer with a window, if the config does not list the layers.

    Raises:
        ValueError: layers with different windows, or a list of another length.
    """
    count = config.get_int("num_hidden_layers")
    listed = config.get_strings("layer_types")
    if listed is not None and len(listed) != count:
        raise ValueError(
            f"{config.source}: layer_types must have one entry for each layer, {count}, got {len(listed)}"
        )
    num_full = min(first, count) if window else count  # if the layers are not listed
    by_number = {"full_attention": num_full, "sliding_attention": count - num_full}
    kinds = {kind for kind, number in by_number.items() if number} if listed is None else set(listed)
    if kinds == {"full_attention"}:
        return None
    if kinds == {"sliding_attention"} and window is not None:
        return window
    raise ValueError(
        f"{config.source}: layer_types = {sorted(kinds)} with sliding_window = {window} is not implemented, "
        "only the same kind of attention in all layers"
    )


def write_llama(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of Llama; raise ValueError if it cannot express the keywords."""
    require(config, window=None)
    bias = resolve_bias(config, "qkv_bias")
    if resolve_bias(config, "out_bias") != bias:
        raise ValueError(f"out_bias must equal qkv_bias, {bias!r}")
    return {
        **_write_shared(config, "Llama"),
        "attention_bias": bias,
        "mlp_bias": resolve_bias(config, "ff_bias"),
    }


def write_mistral(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of Mistral; raise ValueError if it cannot express the keywords."""
    _require_biases(config, qkv_bias=False)
    return {**_write_shared(config, "Mistral"), "sliding_window": config["window"]}


def write_qwen2(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of Qwen2; raise ValueError if it cannot express the keywords."""
    _require_biases(config, qkv_bias=True)
    window = config["window"]
    return {
        **_write_shared(config, "Qwen2"),
        "use_sliding_window": window is not None,
        "sliding_window": window,
        "max_window_layers": config["num_layers"] if window is None else 0,
    }


def _require_biases(config: Mapping[str, Any], qkv_bias: bool) -> None:
    required = {"qkv_bias": qkv_bias, "out_bias": False, "ff_bias": False}
    require({name: resolve_bias(config, name) for name in required}, **required)


def _write_shared(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    require(config, norm="rms", residual="pre")
    d_head = resolve_d_head(config)
    rope = write_rope(config["positions"], d_head, config["max_seq_len"])
    if "partial_rotary_factor" in rope:
        raise ValueError(f"d_rotary must be all {d_head} dimensions of a head")
    ungated = {gated: name for name, gated in GATED_ACTIVATIONS.items()}
    if config["activation"] not in ungated:
        raise ValueError(f"activation must be one of {', '.join(ungated)}, got {config['activation']!r}")
    return {
        "architectures": [f"{name}ForCausalLM"],
        "vocab_size": config["vocab_size"],
        "hidden_size": config["d_model"],
        "num_hidden_layers": config["num_layers"],
        "num_attention_heads": config["num_heads"],
        "num_key_value_heads": config["num_kv_heads"] or config["num_heads"],
        "head_dim": d_head,
        "intermediate_size": resolve_d_ff(config),
        "max_position_embeddings": config["max_seq_len"],
        "rope_parameters": rope,
        "rms_norm_eps": config["norm_eps"],
        "hidden_act": activation_name(ungated[config["activation"]], ACTIVATIONS),
        "tie_word_embeddings": config["tie_embeddings"],
        "attention_dropout": config["dropout"],
    }


def weight_table(config: Mapping[str, Any]) -> WeightTable:
    """Return the tensor names."""
    entries = [
        renamed("token_embedding.weight", "model.embed_tokens.weight"),
        renamed("norm.weight", "model.norm.weight"),
    ]
    for ours, theirs in layer_prefixes(config["num_layers"], "blocks.", "model.layers."):
        entries += renamed_modules(
            ours, theirs, {"norm1": "input_layernorm", "norm2": "post_attention_layernorm"}
        )
        for names, flag in ((_QKV, "qkv_bias"), (_OUT, "out_bias"), (_FEED_FORWARD, "ff_bias")):
            kinds = ("weight", "bias") if resolve_bias(config, flag) else ("weight",)
            entries += renamed_modules(ours, theirs, names, kinds)
    head = renamed("lm_head.weight", "lm_head.weight")
    tied = config["tie_embeddings"]
    return WeightTable(
        entries if tied else [*entries, head],
        tied_aliases={"lm_head.weight": "model.embed_tokens.weight"} if tied else {},
        base_prefix="model.",
        ignored_pattern=r".*\.rotary_emb\.inv_freq",
    )


_QKV = {f"attention.{part}_proj": f"self_attn.{part}_proj" for part in "qkv"}
_OUT = {"attention.out_proj": "self_attn.o_proj"}
_FEED_FORWARD = {f"feed_forward.{part}_proj": f"mlp.{part}_proj" for part in ("gate", "up", "down")}

LLAMA = CheckpointFormat(GPTModel, read_llama, write_llama, weight_table)
MISTRAL = CheckpointFormat(GPTModel, read_mistral, write_mistral, weight_table)
QWEN2 = CheckpointFormat(GPTModel, read_qwen2, write_qwen2, weight_table)
