"""Layers of a transformer: feed-forward networks, norms, and blocks."""

from typing import TYPE_CHECKING

from glassformer.deprecation import renamed_attributes
from glassformer.layers.block import (
    BLOCKS,
    ParallelBlock,
    PostNormBlock,
    PreNormBlock,
    SharedNormParallelBlock,
    TransformerBlock,
)
from glassformer.layers.feed_forward import FEED_FORWARDS, FeedForward, Float32Linear, GatedFeedForward
from glassformer.layers.normalization import (
    NORMS,
    ConstantScale,
    LayerNorm,
    LayerScale,
    NonparametricLayerNorm,
    NormPerHead,
    RMSNorm,
    UnitOffsetRMSNorm,
)

__all__ = [
    "BLOCKS",
    "FEED_FORWARDS",
    "NORMS",
    "ConstantScale",
    "FeedForward",
    "Float32Linear",
    "GatedFeedForward",
    "LayerNorm",
    "LayerScale",
    "NonparametricLayerNorm",
    "NormPerHead",
    "ParallelBlock",
    "PostNormBlock",
    "PreNormBlock",
    "RMSNorm",
    "SharedNormParallelBlock",
    "TransformerBlock",
    "UnitOffsetRMSNorm",
]

if not TYPE_CHECKING:
    __getattr__ = renamed_attributes(
        __name__,
        {
            "RESIDUALS": "BLOCKS",
            "Parallel": "ParallelBlock",
            "PostNorm": "PostNormBlock",
            "PreNorm": "PreNormBlock",
        },
    )
