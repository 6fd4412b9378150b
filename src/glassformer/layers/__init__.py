"""What a transformer is stacked from: feed-forward networks, norms, residual schemes, the block."""

from glassformer.layers.block import TransformerBlock
from glassformer.layers.feed_forward import FEED_FORWARDS, FeedForward, GatedFeedForward
from glassformer.layers.layer_scale import LayerScale
from glassformer.layers.normalization import NORMS, LayerNorm, RMSNorm
from glassformer.layers.residual import RESIDUALS, Parallel, PostNorm, PreNorm

__all__ = [
    "FEED_FORWARDS",
    "NORMS",
    "RESIDUALS",
    "FeedForward",
    "GatedFeedForward",
    "LayerNorm",
    "LayerScale",
    "Parallel",
    "PostNorm",
    "PreNorm",
    "RMSNorm",
    "TransformerBlock",
]
