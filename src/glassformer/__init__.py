"""Transformers you can see through.

Public names are imported when they are first used: ``import glassformer`` does not import PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glassformer.attention import FusedAttention, KVCache, MultiHeadAttention, ScaledDotProductAttention
    from glassformer.attention import record_attention as record_attention
    from glassformer.models import BERTModel, GPTModel, T5Model, TransformerModel, ViTModel
    from glassformer.models import optimize_for_inference as optimize_for_inference
    from glassformer.pretrained import from_pretrained as from_pretrained
    from glassformer.pretrained import save_pretrained as save_pretrained
    from glassformer.visualization import AttentionVisualizer

_PACKAGES = {
    "AttentionVisualizer": "glassformer.visualization",
    "BERTModel": "glassformer.models",
    "FusedAttention": "glassformer.attention",
    "GPTModel": "glassformer.models",
    "KVCache": "glassformer.attention",
    "MultiHeadAttention": "glassformer.attention",
    "ScaledDotProductAttention": "glassformer.attention",
    "T5Model": "glassformer.models",
    "TransformerModel": "glassformer.models",
    "ViTModel": "glassformer.models",
    "from_pretrained": "glassformer.pretrained",
    "optimize_for_inference": "glassformer.models",
    "record_attention": "glassformer.attention",
    "save_pretrained": "glassformer.pretrained",
}

__all__ = [
    "AttentionVisualizer",
    "BERTModel",
    "FusedAttention",
    "GPTModel",
    "KVCache",
    "MultiHeadAttention",
    "ScaledDotProductAttention",
    "T5Model",
    "TransformerModel",
    "ViTModel",
    "__version__",
    "from_pretrained",
    "optimize_for_inference",
    "record_attention",
    "save_pretrained",
]

try:
    __version__ = version("glassformer")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "unknown"


def __getattr__(name: str) -> Any:
    """Import a public name from its package, and keep it (PEP 562)."""
    if name not in _PACKAGES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_PACKAGES[name]), name)
    return value


def __dir__() -> list[str]:
    return __all__
