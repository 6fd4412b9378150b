"""Attention, masks, the key and value cache, and recording. Start with ``self_attention.py``."""

from typing import TYPE_CHECKING

from glassformer.attention.cache import CrossAttentionCache, KVCache
from glassformer.attention.kernels import KERNELS, FusedAttention
from glassformer.attention.masks import Mask, causal, global_tokens, padding, prefix, sliding_window
from glassformer.attention.pruned_attention import PrunedMultiHeadAttention
from glassformer.attention.recording import (
    Activations,
    AttentionMap,
    Recording,
    all_heads,
    attentions_of,
    check_heads_exist,
    choose_kind,
    choose_layers,
    hooks,
    record_activations,
    record_attention,
)
from glassformer.attention.self_attention import MultiHeadAttention, ScaledDotProductAttention
from glassformer.deprecation import renamed_attributes

__all__ = [
    "KERNELS",
    "Activations",
    "AttentionMap",
    "CrossAttentionCache",
    "FusedAttention",
    "KVCache",
    "Mask",
    "MultiHeadAttention",
    "PrunedMultiHeadAttention",
    "Recording",
    "ScaledDotProductAttention",
    "all_heads",
    "attentions_of",
    "causal",
    "check_heads_exist",
    "choose_kind",
    "choose_layers",
    "global_tokens",
    "hooks",
    "padding",
    "prefix",
    "record_activations",
    "record_attention",
    "sliding_window",
]

if not TYPE_CHECKING:
    __getattr__ = renamed_attributes(__name__, {"MemoryCache": "CrossAttentionCache"})
