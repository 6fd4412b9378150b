"""Tensor names of GGUF files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from glassformer.pretrained.checkpoint_format import resolve_d_ff, resolve_d_head
from glassformer.pretrained.formats.decoder_layout import parameters_of, qk_norm_kind
from glassformer.pretrained.gguf.architectures import ARCHITECTURES, FALCON_NORMS, QK_NORM, Architecture
from glassformer.pretrained.gguf.llama import LONG, SHORT
from glassformer.pretrained.gguf.metadata import FACTORS
from glassformer.pretrained.weight_table import (
    WeightEntry,
    WeightTable,
    by_head,
    concat_rows,
    layer_prefixes,
    one_row,
    renamed,
    split_rows,
)


def weight_table(config: Mapping[str, Any], *, architecture: str) -> WeightTable:
    """Return the tensor names."""
    kind = ARCHITECTURES[architecture]
    modules = dict(kind.modules)
    if architecture == "falcon":
        modules |= FALCON_NORMS[config["residual"]]
    offset = partial(_norm_entries, config, kind.unit_offset)
    entries = [
        renamed("token_embedding.weight", "token_embd.weight"),
        *(renamed(f"{own}.weight", f"{other}.weight") for own, other in (kind.others or {}).items()),
        *offset("", "", {"norm": "output_norm"}),
    ]
    if not config["tie_embeddings"]:
        entries.append(renamed("lm_head.weight", "output.weight"))
    for ours, theirs in layer_prefixes(config["num_layers"], "blocks.", "blk."):
        norms = {own: other for own, other in modules.items() if "norm" in own}
        others = {own: other for own, other in modules.items() if own not in norms}
        entries += offset(ours, theirs, norms)
        entries += [  # the largest first, which leaves the least memory to the conversion of the last one
            _entry(config, kind, ours, own, f"{theirs}{other}", parameter)
            for own, other in sorted(others.items(), reverse=True)
            for parameter in parameters_of(config, own)
        ]
        entries += _fused(config, kind, ours, theirs)
    factors = (LONG, SHORT) if architecture == "phi3" else (FACTORS,)
    return WeightTable(entries, ignored_pattern="|".join(map(re.escape, factors)))


def _norm_entries(
    config: Mapping[str, Any], has_offset: bool, ours: str, theirs: str, norms: Mapping[str, str]
) -> list[WeightEntry]:
    """Entries of norms; with an offset, the file has 1 + w. Norms of all heads are one row in the file."""
    entries = []
    for own, other in norms.items():
        for parameter in parameters_of(config, own):
            names = (f"{ours}{own}.{parameter}",), (f"{theirs}{other}.{parameter}",)
            if has_offset:
                entries.append(WeightEntry(*names, _minus_one, _plus_one))
            elif own in QK_NORM and qk_norm_kind(config) == "projection":
                heads = config["num_heads"] if own == "attention.q_norm" else kv_heads_of(config)
                entries.append(WeightEntry(*names, partial(by_head, num_heads=heads), one_row))
            else:
                entries.append(WeightEntry(*names))
    return entries


def _entry(
    config: Mapping[str, Any], kind: Architecture, ours: str, own: str, other: str, parameter: str
) -> WeightEntry:
    """The entry of a parameter; rows of queries and keys may be in another order."""
    names = (f"{ours}{own}.{parameter}",), (f"{other}.{parameter}",)
    heads = {"attention.q_proj": config["num_heads"], "attention.k_proj": kv_heads_of(config)}
    if not kind.interleaved or own not in heads:
        return WeightEntry(*names)
    of_heads = {"num_heads": heads[own]}
    return WeightEntry(
        *names, partial(deinterleave_rotary, **of_heads), partial(interleave_rotary, **of_heads)
    )


def _fused(config: Mapping[str, Any], kind: Architecture, ours: str, theirs: str) -> list[WeightEntry]:
    """The matrices that hold several of this library."""
    entries = []
    d_head = resolve_d_head(config)
    kv, d_ff = kv_heads_of(config) * d_head, resolve_d_ff(config)
    if kind.fused_qkv:
        split = partial(split_rows, sizes=(config["num_heads"] * d_head, kv, kv))
        for parameter in parameters_of(config, "attention.q_proj"):
            projections = tuple(f"{ours}attention.{part}_proj.{parameter}" for part in "qkv")
            entries.append(WeightEntry(projections, (f"{theirs}attn_qkv.{parameter}",), split, concat_rows))
    if kind.fused_gate:
        halves = tuple(f"{ours}feed_forward.{part}_proj.weight" for part in ("gate", "up"))
        split = partial(split_rows, sizes=(d_ff, d_ff))
        entries.append(WeightEntry(halves, (f"{theirs}ffn_up.weight",), split, concat_rows))
    return entries


def kv_heads_of(config: Mapping[str, Any]) -> int:
    """Return ``num_kv_heads`` or its default."""
    return int(config["num_kv_heads"] or config["num_heads"])


def _minus_one(weight: Tensor) -> tuple[Tensor]:
    return (weight - 1,)


def _plus_one(weight: Tensor) -> tuple[Tensor]:
    return (weight + 1,)


def deinterleave_rotary(rows: Tensor, num_heads: int) -> tuple[Tensor]:
    """Reorder the rows of each head from rotary pairs (2i, 2i + 1), as in GGUF, to pairs (i, i + d / 2)."""
    pairs = rows.view(num_heads, -1, 2, *rows.shape[1:])  # (head, pair, 2, ...)
    return (pairs.transpose(1, 2).contiguous().view(rows.shape),)


def interleave_rotary(rows: Tensor, num_heads: int) -> tuple[Tensor]:
    """The inverse of ``deinterleave_rotary``."""
    halves = rows.view(num_heads, 2, -1, *rows.shape[1:])  # (head, 2, pair, ...)
    return (halves.transpose(1, 2).contiguous().view(rows.shape),)
