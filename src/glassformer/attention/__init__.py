"""Attention, masks, the key and value cache, and recording. Start with ``self_attention.py``."""

from typing import TYPE_CHECKING

from glassformer.attention.cache import CrossAttentionCache, KVCache, SlidingWindowCache
from glassformer.attention.kernels import (
    KERNELS,
    BlockSparseAttention,
    FlashAttention,
    FusedAttention,
    LinearAttention,
    build_kernel,
)
from glassformer.attention.linear_state import LinearStateCache
from glassformer.attention.mask_algebra import Mask
from glassformer.attention.masks import (
    causal,
    dilated_window,
    global_tokens,
    padding,
    prefix,
    sliding_window,
)
from glassformer.attention.patterns import PATTERNS, AttentionPattern, big_bird, longformer, random_blocks
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
    "PATTERNS",
    "Activations",
    "AttentionMap",
    "AttentionPattern",
    "BlockSparseAttention",
    "CrossAttentionCache",
    "FlashAttention",
    "FusedAttention",
    "KVCache",
    "LinearAttention",
    "LinearStateCache",
    "Mask",
    "MultiHeadAttention",
    "PrunedMultiHeadAttention",
    "Recording",
    "ScaledDotProductAttention",
    "SlidingWindowCache",
    "all_heads",
    "attentions_of",
    "big_bird",
    "build_kernel",
    "causal",
    "check_heads_exist",
    "choose_kind",
    "choose_layers",
    "dilated_window",
    "global_tokens",
    "hooks",
    "longformer",
    "padding",
    "prefix",
    "random_blocks",
    "record_activations",
    "record_attention",
    "sliding_window",
]

if not TYPE_CHECKING:
    __getattr__ = renamed_attributes(__name__, {"MemoryCache": "CrossAttentionCache"})
