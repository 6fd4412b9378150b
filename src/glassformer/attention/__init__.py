"""Who looks at whom. Start with ``self_attention.py``: the paper's two formulas."""

from glassformer.attention.activations import Activations, record_activations
from glassformer.attention.cache import KVCache, MemoryCache
from glassformer.attention.heads import attentions_of, check_heads_exist, choose_kind, choose_layers
from glassformer.attention.hooks import hooks
from glassformer.attention.kernels import KERNELS, FusedAttention
from glassformer.attention.maps import AttentionMap
from glassformer.attention.masks import Mask, causal, global_tokens, padding, prefix, sliding_window
from glassformer.attention.recording import Recording, record_attention
from glassformer.attention.self_attention import MultiHeadAttention, ScaledDotProductAttention

__all__ = [
    "KERNELS",
    "Activations",
    "AttentionMap",
    "FusedAttention",
    "KVCache",
    "Mask",
    "MemoryCache",
    "MultiHeadAttention",
    "Recording",
    "ScaledDotProductAttention",
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
