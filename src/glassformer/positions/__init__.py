"""Position schemes, one file each. A model takes one by name: ``positions="rotary"``."""

from glassformer.positions.alibi import ALiBi
from glassformer.positions.build import build_positions, migrate_positions
from glassformer.positions.by_layer import PositionsByLayer
from glassformer.positions.learned import LearnedPositions
from glassformer.positions.relative_bias import RelativeBias
from glassformer.positions.rotary import RotaryPositions
from glassformer.positions.scheme import NoPositions, PositionScheme
from glassformer.positions.sinusoidal import SinusoidalPositions

__all__ = [
    "ALiBi",
    "LearnedPositions",
    "NoPositions",
    "PositionScheme",
    "PositionsByLayer",
    "RelativeBias",
    "RotaryPositions",
    "SinusoidalPositions",
    "build_positions",
    "migrate_positions",
]
