"""Loading GGUF files of the llama architecture through the package ``gguf``."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glassformer.models import GPTModel, TransformerModel
from glassformer.pretrained.checkpoint_format import build_model
from glassformer.pretrained.config_reader import ConfigReader
from glassformer.pretrained.gguf_file import open_gguf
from glassformer.pretrained.gguf_tokenizers import read_token_ids, read_tokenizer
from glassformer.pretrained.weight_table import (
    TensorReader,
    WeightEntry,
    WeightTable,
    layer_prefixes,
    renamed,
    renamed_modules,
)


def read_gguf(path: Path, dtype: torch.dtype | None = None, ignore: Sequence[str] = ()) -> TransformerModel:
    """Load the model of a GGUF file, with its tokenizer.

    Args:
        path: the file, or the first part of a split one.
        dtype: of the parameters; None is float32.
        ignore: unknown keys of its metadata that are accepted.

    Raises:
        ImportError: the package ``gguf`` is not installed.
        FileNotFoundError: a part of a split file is missing.
        ValueError: a damaged file, or an architecture, feature or tensor type that is not implemented.
    """
    metadata, tensors = open_gguf(path)
    config = ConfigReader(metadata, str(path), ignore)
    keywords = read_config(config, tensors)
    table = partial(weight_table, qkv_bias=has_qkv_bias(tensors))
    model = build_model(GPTModel, keywords, str(path), table, tensors, dtype or torch.float32)
    model.token_ids = read_token_ids(metadata)
    name = metadata.get("general.name")
    model.name = name if isinstance(name, str) and name.strip() else None
    try:
        model.tokenizer = read_tokenizer(metadata)
    except ValueError as error:
        warnings.warn(f"{path}: loaded without its tokenizer: {error}", stacklevel=3)
    return model


def has_qkv_bias(tensors: TensorReader) -> bool:
    """Return whether q, k and v have biases, which the metadata do not say."""
    return "blk.0.attn_q.bias" in tensors.shapes


def read_config(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel`` for the metadata.

    Raises:
        ValueError: an architecture or a feature that is not implemented.
    """
    config.get("general.architecture")  # required
    config.expect("general.architecture", "llama")
    config.expect("llama.expert_count", 0)
    d_model, heads = config.get_int("llama.embedding_length"), config.get_int("llama.attention.head_count")
    d_head = config.get_int("llama.attention.key_length", d_model // heads)
    config.expect("llama.attention.value_length", d_head)
    config.expect("llama.rope.dimension_count", d_head)
    vocab_size = tensors.shapes.get("token_embd.weight", (0,))[0]
    config.expect("llama.vocab_size", vocab_size)
    keywords = {
        "vocab_size": vocab_size,
        "d_model": d_model,
        "num_layers": config.get_int("llama.block_count"),
        "num_heads": heads,
        "num_kv_heads": config.get_int("llama.attention.head_count_kv", heads),
        "d_head": d_head,
        "d_ff": config.get_int("llama.feed_forward_length"),
        "max_seq_len": config.get_int("llama.context_length"),
        "positions": read_positions(config, tensors, d_head),
        "norm": "rms",
        "norm_eps": config.get_float("llama.attention.layer_norm_rms_epsilon"),
        "activation": "swiglu",
        "bias": False,
        "qkv_bias": has_qkv_bias(tensors),
        "tie_embeddings": "output.weight" not in tensors.shapes,
    }
    config.check_unused_keys([key for key in config.values if not key.startswith("llama.")])
    return keywords


def read_positions(config: ConfigReader, tensors: TensorReader, d_head: int) -> dict[str, Any]:
    """Return ``positions``: rotary, with one factor for all frequencies, and one for each of Llama 3.1.

    Raises:
        ValueError: a kind of scaling that is not implemented, or factors of another shape.
    """
    positions = {"kind": "rotary", "theta": config.get_float("llama.rope.freq_base", default=1e4)}
    kind = config.expect("llama.rope.scaling.type", "linear", "none")
    linear = config.get_float("llama.rope.scaling.factor", "llama.rope.scale_linear", default=1.0)
    factor = 1.0 if kind == "none" or not linear else linear  # zero is no scaling, as in llama.cpp
    if _FACTORS in tensors.shapes:
        if tensors.shapes[_FACTORS] != (d_head // 2,):
            shape = tensors.shapes[_FACTORS]
            raise ValueError(f"{tensors.source}: {_FACTORS} has shape {shape}, expected ({d_head // 2},)")
        factors = (tensors.read(_FACTORS) * factor).tolist()
        return {**positions, "scaling": {"kind": "per_pair", "factors": factors}}
    return positions if factor == 1.0 else {**positions, "scaling": {"kind": "linear", "factor": factor}}


_FACTORS = "rope_freqs.weight"
"""Tensor of factors by which the rotary frequencies are divided."""


def weight_table(config: Mapping[str, Any], *, qkv_bias: bool) -> WeightTable:
    """Return the tensor names, for loading only."""
    entries = [
        renamed("token_embedding.weight", "token_embd.weight"),
        renamed("norm.weight", "output_norm.weight"),
    ]
    if not config["tie_embeddings"]:
        entries.append(renamed("lm_head.weight", "output.weight"))
    num_heads = {"q": config["num_heads"], "k": config["num_kv_heads"]}
    for ours, theirs in layer_prefixes(config["num_layers"], "blocks.", "blk."):
        entries += renamed_modules(ours, theirs, _LAYER)
        for kind in ("weight", "bias") if qkv_bias else ("weight",):
            entries.append(renamed(f"{ours}attention.v_proj.{kind}", f"{theirs}attn_v.{kind}"))
            for part, heads in num_heads.items():
                own, other = f"{ours}attention.{part}_proj.{kind}", f"{theirs}attn_{part}.{kind}"
                entries.append(WeightEntry((own,), (other,), partial(deinterleave_rotary, num_heads=heads)))
    return WeightTable(entries, ignored_pattern=re.escape(_FACTORS))


_LAYER = {
    "norm1": "attn_norm",
    "attention.out_proj": "attn_output",
    "norm2": "ffn_norm",
    "feed_forward.gate_proj": "ffn_gate",
    "feed_forward.up_proj": "ffn_up",
    "feed_forward.down_proj": "ffn_down",
}


def deinterleave_rotary(rows: Tensor, num_heads: int) -> tuple[Tensor]:
    """Reorder the rows of each head from rotary pairs (2i, 2i + 1), as in GGUF, to pairs (i, i + d / 2)."""
    pairs = rows.view(num_heads, -1, 2, *rows.shape[1:])  # (head, pair, 2, ...)
    return (pairs.transpose(1, 2).contiguous().view(rows.shape),)
