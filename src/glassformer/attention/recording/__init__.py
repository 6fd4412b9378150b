"""Recording of attention weights and activations during a forward pass."""

from glassformer.attention.recording.activations import Activations, record_activations
from glassformer.attention.recording.attention import AttentionMap, Recording, record_attention
from glassformer.attention.recording.hooks import hooks
from glassformer.attention.recording.selection import (
    all_heads,
    attentions_of,
    check_heads_exist,
    choose_kind,
    choose_layers,
)

__all__ = [
    "Activations",
    "AttentionMap",
    "Recording",
    "all_heads",
    "attentions_of",
    "check_heads_exist",
    "choose_kind",
    "choose_layers",
    "hooks",
    "record_activations",
    "record_attention",
]
