"""The checkpoint formats of GPT-J, a parallel decoder, and of GPT-Neo, with a window in every other layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glassformer.models import GPTModel
from glassformer.pretrained.checkpoint_format import CheckpointFormat, require, resolve_d_ff, resolve_d_head
from glassformer.pretrained.config_reader import ConfigReader
from glassformer.pretrained.formats.decoder_layout import (
    decoder_table,
    require_biases,
    write_activation,
)
from glassformer.pretrained.formats.layer_types import (
    window_of,
    windows_by_layer,
)
from glassformer.pretrained.weight_table import TensorReader, WeightTable, renamed

GPTJ_DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")
GPT_NEO_DROPOUTS = ("resid_dropout", "embed_dropout", "attention_dropout")
SUMMARY = tuple(
    f"summary_{name}" for name in ("activation", "first_dropout", "proj_to_labels", "type", "use_proj")
)
"""Keys of a head that the models do not have."""


def read_gptj(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel``."""
    d_model, heads = config.get_int("n_embd"), config.get_int("n_head")
    d_rotary = config.get_int("rotary_dim", 64)
    return {
        "vocab_size": config.get_int("vocab_size"),
        "d_model": d_model,
        "num_layers": config.get_num_layers("n_layer"),
        "num_heads": heads,
        "d_ff": config.get_int("n_inner", None),
        "max_seq_len": config.get_int("n_positions", 2048),
        "positions": {"kind": "rotary", "pairing": "interleaved", "d_rotary": d_rotary},
        "residual": "parallel_shared",
        "norm_eps": config.get_float("layer_norm_epsilon", default=1e-5),
        "activation": config.get_activation("activation_function", "gelu_new"),
        "qkv_bias": False,
        "out_bias": False,
        "tie_embeddings": config.get_bool("tie_word_embeddings", False),
        "head_bias": True,
        "dropout": config.get_dropout(*GPTJ_DROPOUTS),
    }


def write_gptj(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config; raise ValueError if GPT-J cannot express the keywords."""
    require(config, norm="layer", residual="parallel_shared", head_bias=True)
    require(config, num_kv_heads=(None, config["num_heads"]))
    require_biases(config, qkv_bias=False, out_bias=False, ff_bias=True, norm_bias=True)
    d_head = resolve_d_head(config)
    require({"d_head": d_head}, d_head=config["d_model"] // config["num_heads"])
    positions = config["positions"]
    spec = dict(positions) if isinstance(positions, Mapping) else {"kind": positions}
    d_rotary = spec.pop("d_rotary", None) or d_head
    if spec.pop("theta", 10_000.0) != 10_000.0 or spec != {"kind": "rotary", "pairing": "interleaved"}:
        raise ValueError(
            f"positions must be rotary with interleaved pairs and theta 10,000, got {positions!r}"
        )
    return {
        "architectures": ["GPTJForCausalLM"],
        "vocab_size": config["vocab_size"],
        "n_embd": config["d_model"],
        "n_layer": config["num_layers"],
        "n_head": config["num_heads"],
        "n_inner": resolve_d_ff(config),
        "n_positions": config["max_seq_len"],
        "rotary_dim": d_rotary,
        "layer_norm_epsilon": config["norm_eps"],
        "activation_function": write_activation(config, gated=False),
        "tie_word_embeddings": config["tie_embeddings"],
        **dict.fromkeys(GPTJ_DROPOUTS, config["dropout"]),
    }


_GPTJ = {
    "norm1": "ln_1",
    **{f"attention.{part}_proj": f"attn.{part}_proj" for part in ("q", "k", "v", "out")},
    "feed_forward.up_proj": "mlp.fc_in",
    "feed_forward.down_proj": "mlp.fc_out",
}


def table_of_gptj(config: Mapping[str, Any]) -> WeightTable:
    """Return the tensor names."""
    return decoder_table(
        config,
        _GPTJ,
        body="transformer.",
        layers="h.",
        embedding="wte",
        norm="ln_f",
        ignored_pattern=r".*\.attn\.(bias|masked_bias|embed_positions)",
    )


def read_gpt_neo(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel``; scores have no factor."""
    count = config.get_num_layers("num_layers")
    window = config.get_int("window_size", 256)
    kinds = _expand(config, count)
    windows = [window if kind == "local" else None for kind in kinds]
    return {
        "vocab_size": config.get_int("vocab_size"),
        "d_model": config.get_int("hidden_size"),
        "num_layers": count,
        "num_heads": config.get_int("num_heads"),
        "d_ff": config.get_int("intermediate_size", None),
        "max_seq_len": config.get_int("max_position_embeddings", 2048),
        "norm_eps": config.get_float("layer_norm_epsilon", default=1e-5),
        "activation": config.get_activation("activation_function", "gelu_new"),
        "qkv_bias": False,
        "attention_scale": 1.0,
        "window": windows[0] if len(set(windows)) == 1 else windows,
        "tie_embeddings": config.get_bool("tie_word_embeddings", True),
        "dropout": config.get_dropout(*GPT_NEO_DROPOUTS),
    }


def _expand(config: ConfigReader, count: int) -> list[str]:
    """Return ``"global"`` or ``"local"`` for each layer, from pairs of kinds and repetitions."""
    types = config.get("attention_types", default=[[["global", "local"], 12]])
    try:
        fits = all(isinstance(names, list) and 1 <= times <= count for names, times in types)
        fits = fits and sum(len(names) * times for names, times in types) == count
        kinds = [str(kind) for names, times in types for kind in names * times] if fits else []
    except (TypeError, ValueError):
        kinds = []
    listed = config.get_strings("attention_layers")
    if len(kinds) != count or not set(kinds) <= {"global", "local"} or listed not in (None, kinds):
        raise ValueError(
            f"{config.source}: attention_types must give 'global' or 'local' for each of {count} layers, "
            f"got {types!r:.200}"
        )
    return kinds


def write_gpt_neo(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config; raise ValueError if GPT-Neo cannot express the keywords."""
    require(
        config, norm="layer", residual="pre", positions=("learned", {"kind": "learned"}), attention_scale=1.0
    )
    require(config, num_kv_heads=(None, config["num_heads"]))
    require_biases(config, qkv_bias=False, out_bias=True, ff_bias=True, norm_bias=True)
    require({"d_head": resolve_d_head(config)}, d_head=config["d_model"] // config["num_heads"])
    kinds = ["global" if window is None else "local" for window in windows_by_layer(config)]
    return {
        "architectures": ["GPTNeoForCausalLM"],
        "vocab_size": config["vocab_size"],
        "hidden_size": config["d_model"],
        "num_layers": config["num_layers"],
        "num_heads": config["num_heads"],
        "intermediate_size": resolve_d_ff(config),
        "max_position_embeddings": config["max_seq_len"],
        "layer_norm_epsilon": config["norm_eps"],
        "activation_function": write_activation(config, gated=False),
        "attention_types": [[kinds, 1]],
        "window_size": window_of(config) or 256,
        "tie_word_embeddings": config["tie_embeddings"],
        **dict.fromkeys(GPT_NEO_DROPOUTS, config["dropout"]),
    }


_GPT_NEO = {
    "norm1": "ln_1",
    "norm2": "ln_2",
    **{f"attention.{part}_proj": f"attn.attention.{part}_proj" for part in ("q", "k", "v", "out")},
    "feed_forward.up_proj": "mlp.c_fc",
    "feed_forward.down_proj": "mlp.c_proj",
}


def table_of_gpt_neo(config: Mapping[str, Any]) -> WeightTable:
    """Return the tensor names."""
    return decoder_table(
        config,
        _GPT_NEO,
        body="transformer.",
        layers="h.",
        embedding="wte",
        norm="ln_f",
        others=[renamed("positions.embedding.weight", "transformer.wpe.weight")],
        ignored_pattern=r".*\.attn\.attention\.(bias|masked_bias)",
    )


GPTJ = CheckpointFormat(
    GPTModel, read_gptj, write_gptj, table_of_gptj, ignored_keys=(*SUMMARY, "rotary", "scale_attn_weights")
)
GPT_NEO = CheckpointFormat(
    GPTModel, read_gpt_neo, write_gpt_neo, table_of_gpt_neo, ignored_keys=(*SUMMARY, "classifier_dropout")
)
