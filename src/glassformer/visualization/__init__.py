"""Figures, reports and interactive pages of models."""

from typing import TYPE_CHECKING

from glassformer.deprecation import renamed_attributes
from glassformer.visualization.attention_visualizer import AttentionVisualizer
from glassformer.visualization.figures.ablation import draw_ablation_maps, draw_ablation_table
from glassformer.visualization.figures.head_map import draw_head_map
from glassformer.visualization.figures.heat_maps import draw_head, draw_heads
from glassformer.visualization.figures.loss_curve import draw_loss_curve
from glassformer.visualization.figures.style import check_writable, save_figure

__all__ = [
    "AttentionVisualizer",
    "check_writable",
    "draw_ablation_maps",
    "draw_ablation_table",
    "draw_head",
    "draw_head_map",
    "draw_heads",
    "draw_loss_curve",
    "save_figure",
]

if not TYPE_CHECKING:
    __getattr__ = renamed_attributes(
        __name__,
        {
            "draw_capabilities": "draw_ablation_table",
            "draw_every_head": "draw_ablation_maps",
            "save_picture": "save_figure",
        },
    )
