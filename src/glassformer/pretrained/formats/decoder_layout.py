"""Config keys and tensor names that the formats of decoders share.

A format lists the modules of a layer, and ``decoder_table`` finds their parameters by the keywords.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from glassformer.choices import split_options
from glassformer.layers import BLOCKS
from glassformer.models.block_config import QK_NORMS
from glassformer.pretrained.checkpoint_format import (
    activation_name,
    require,
    resolve_bias,
    resolve_d_ff,
    resolve_d_head,
)
from glassformer.pretrained.config_reader import ACTIVATIONS, GATED_ACTIVATIONS, ConfigReader
from glassformer.pretrained.rope_config import write_rope
from glassformer.pretrained.weight_table import WeightEntry, WeightTable, layer_prefixes, renamed

ATTENTION = {
    "attention.q_proj": "self_attn.q_proj",
    "attention.k_proj": "self_attn.k_proj",
    "attention.v_proj": "self_attn.v_proj",
    "attention.out_proj": "self_attn.o_proj",
}
"""Modules of attention to those of Llama's layout."""
NORMS = {"norm1": "input_layernorm", "norm2": "post_attention_layernorm"}
GATED = {f"feed_forward.{part}_proj": f"mlp.{part}_proj" for part in ("gate", "up", "down")}
QK_NORM = {"attention.q_norm": "self_attn.q_norm", "attention.k_norm": "self_attn.k_norm"}


# ---- configs


def read_sizes(config: ConfigReader, num_kv_heads: int | None = None) -> dict[str, Any]:
    """Return the sizes under Llama's keys, and what all decoders have.

    Args:
        config: the config.
        num_kv_heads: if the key is missing or null; None for as many as query heads.
    """
    heads = config.get_int("num_attention_heads")
    kv_heads = heads if num_kv_heads is None else num_kv_heads
    return {
        "vocab_size": config.get_int("vocab_size"),
        "d_model": config.get_int("hidden_size"),
        "num_layers": config.get_num_layers("num_hidden_layers"),
        "num_heads": heads,
        "num_kv_heads": config.get_int("num_key_value_heads", kv_heads, null=heads),
        "d_ff": config.get_int("intermediate_size"),
        "max_seq_len": config.get_int("max_position_embeddings", 2048),
        "bias": False,
    }


def read_rms_norm(config: ConfigReader, eps: float = 1e-6) -> dict[str, Any]:
    """Return the keywords of RMSNorm."""
    return {"norm": "rms", "norm_eps": config.get_float("rms_norm_eps", default=eps)}


def head_width(config: ConfigReader, sizes: Mapping[str, Any], default: int | None = None) -> int:
    """Return ``head_dim``, by default ``hidden_size / num_attention_heads``."""
    width: int = config.get_int("head_dim", default or sizes["d_model"] // sizes["num_heads"])
    return width


def write_sizes(config: Mapping[str, Any], architecture: str) -> dict[str, Any]:
    """Return the sizes under Llama's keys, and what all decoders have."""
    return {
        "architectures": [architecture],
        "vocab_size": config["vocab_size"],
        "hidden_size": config["d_model"],
        "num_hidden_layers": config["num_layers"],
        "num_attention_heads": config["num_heads"],
        "num_key_value_heads": config["num_kv_heads"] or config["num_heads"],
        "intermediate_size": resolve_d_ff(config),
        "max_position_embeddings": config["max_seq_len"],
        "tie_word_embeddings": config["tie_embeddings"],
    }


def write_rotary(
    config: Mapping[str, Any], positions: str | Mapping[str, Any] | None = None, *, partial: bool = False
) -> dict[str, Any]:
    """Return ``rope_parameters`` of a model with the same positions in all layers.

    Args:
        config: keywords of a model.
        positions: in place of those of the config.
        partial: whether the format can rotate a part of each head.

    Raises:
        ValueError: other positions.
    """
    d_head = resolve_d_head(config)
    rope = write_rope(config["positions"] if positions is None else positions, d_head, config["max_seq_len"])
    if "partial_rotary_factor" in rope and not partial:
        raise ValueError(f"d_rotary must be all {d_head} dimensions of a head")
    return {"partial_rotary_factor": 1.0} | rope if partial else rope


def write_activation(config: Mapping[str, Any], *, gated: bool = True) -> str:
    """Return the name of the activation, which must be gated or not.

    Raises:
        ValueError: another activation.
    """
    if not gated:
        return activation_name(config["activation"], ACTIVATIONS)
    ungated = {name: activation for activation, name in GATED_ACTIVATIONS.items()}
    if config["activation"] not in ungated:
        raise ValueError(f"activation must be one of {', '.join(ungated)}, got {config['activation']!r}")
    return activation_name(ungated[config["activation"]], ACTIVATIONS)


def require_biases(config: Mapping[str, Any], **required: bool) -> None:
    """Check biases that a format cannot express otherwise: ``qkv_bias=True`` and the like.

    Raises:
        ValueError: another value.
    """
    require({name: resolve_bias(config, name) for name in required}, **required)


def same_bias(config: Mapping[str, Any], *names: str) -> bool:
    """Return the value that several biases must share.

    Raises:
        ValueError: different values.
    """
    first = resolve_bias(config, names[0])
    for name in names[1:]:
        if resolve_bias(config, name) != first:
            raise ValueError(f"{name} must equal {names[0]}, {first!r}")
    return first


# ---- tensors


def parameters_of(config: Mapping[str, Any], module: str) -> tuple[str, ...]:
    """Return the names of the parameters of a module of a layer, such as ``("weight", "bias")``.

    Args:
        config: keywords of a model.
        module: such as ``"attention.q_proj"`` or ``"output_norms.0"``.
    """
    name = module.removeprefix("attention.")
    if name in ("q_norm", "k_norm"):
        return _norm_parameters(config, _qk_norm_bias(config))
    if "norm" in name:
        return _norm_parameters(config, resolve_bias(config, "norm_bias"))
    flag = "ff_bias" if name.startswith("feed_forward.") else "out_bias" if name == "out_proj" else "qkv_bias"
    return ("weight", "bias") if resolve_bias(config, flag) else ("weight",)


def _norm_parameters(config: Mapping[str, Any], bias: bool) -> tuple[str, ...]:
    if config["norm"] == "nonparametric":
        return ()
    return ("weight", "bias") if bias and config["norm"] == "layer" else ("weight",)


def qk_norm_kind(config: Mapping[str, Any]) -> str | None:
    """Return the kind of ``qk_norm``, or None."""
    return None if config["qk_norm"] is None else split_options(config["qk_norm"], QK_NORMS, "qk_norm")[0]


def _qk_norm_bias(config: Mapping[str, Any]) -> bool:
    _, options = split_options(config["qk_norm"], QK_NORMS, "qk_norm")
    return bool(options.get("bias", resolve_bias(config, "norm_bias")))


def renamed_parameters(
    config: Mapping[str, Any], ours: str, theirs: str, modules: Mapping[str, str]
) -> list[WeightEntry]:
    """Return the entries of modules that differ in their names only; see ``renamed_modules``."""
    return [
        renamed(f"{ours}{own}.{kind}", f"{theirs}{other}.{kind}")
        for own, other in modules.items()
        for kind in parameters_of(config, own)
    ]


def decoder_table(
    config: Mapping[str, Any],
    modules: Mapping[str, str],
    *,
    body: str = "model.",
    layers: str = "layers.",
    embedding: str = "embed_tokens",
    norm: str = "norm",
    head: str = "lm_head",
    more: Callable[[str, str], Iterable[WeightEntry]] = lambda ours, theirs: (),
    others: Sequence[WeightEntry] = (),
    legacy_names: Sequence[tuple[str, str]] = (),
    ignored_pattern: str = r".*\.rotary_emb\.inv_freq",
) -> WeightTable:
    """Return the tensor names of a decoder.

    Args:
        config: keywords of the model.
        modules: of a layer of this library to those of the checkpoint.
        body: prefix of all names but the head's.
        layers: prefix of the layers.
        embedding: name of the token embedding.
        norm: name of the final norm.
        head: name of the output projection.
        more: further entries of a layer, given the prefixes of its names.
        others: entries outside of the layers.
        legacy_names: see ``WeightTable``.
        ignored_pattern: see ``WeightTable``.
    """
    entries = [renamed("token_embedding.weight", f"{body}{embedding}.weight"), *others]
    if BLOCKS[config["residual"]].needs_final_norm:
        entries += renamed_parameters(config, "", body, {"norm": norm})
    for ours, theirs in layer_prefixes(config["num_layers"], "blocks.", f"{body}{layers}"):
        entries += renamed_parameters(config, ours, theirs, modules)
        entries += more(ours, theirs)
    tied = config["tie_embeddings"]
    if not tied:
        entries.append(renamed("lm_head.weight", f"{head}.weight"))
    if config["head_bias"]:
        entries.append(renamed("lm_head.bias", f"{head}.bias"))
    return WeightTable(
        entries,
        tied_aliases={f"{head}.weight": f"{body}{embedding}.weight"} if tied else {},
        base_prefix=body,
        legacy_names=legacy_names,
        ignored_pattern=ignored_pattern,
    )
