"""Pictures of what is inside a model."""

from glassformer.visualization.attention_visualizer import AttentionVisualizer
from glassformer.visualization.capabilities import draw_capabilities, draw_every_head
from glassformer.visualization.head_map import draw_head_map
from glassformer.visualization.heat_maps import draw_head, draw_heads
from glassformer.visualization.loss_curve import draw_loss_curve
from glassformer.visualization.pattern_maps import draw_patterns
from glassformer.visualization.pictures import check_writable, save_picture

__all__ = [
    "AttentionVisualizer",
    "check_writable",
    "draw_capabilities",
    "draw_every_head",
    "draw_head",
    "draw_head_map",
    "draw_heads",
    "draw_loss_curve",
    "draw_patterns",
    "save_picture",
]
