"""Who looks at whom. Start with ``self_attention.py``: the paper's two formulas."""

from glassformer.attention.cache import KVCache, MemoryCache
from glassformer.attention.kernels import KERNELS, FusedAttention
from glassformer.attention.masks import Mask, causal, global_tokens, padding, prefix, sliding_window
from glassformer.attention.recording import Recording, attentions_of, record_attention
from glassformer.attention.self_attention import MultiHeadAttention, ScaledDotProductAttention

__all__ = [
    "KERNELS",
    "FusedAttention",
    "KVCache",
    "Mask",
    "MemoryCache",
    "MultiHeadAttention",
    "Recording",
    "ScaledDotProductAttention",
    "attentions_of",
    "causal",
    "global_tokens",
    "padding",
    "prefix",
    "record_attention",
    "sliding_window",
]
