"""Where tokens are: one file a scheme. A model takes a scheme by one word: ``positions="rotary"``."""

from glassformer.positions.alibi import ALiBi
from glassformer.positions.build import build_positions
from glassformer.positions.learned import LearnedPositions
from glassformer.positions.none import NoPositions
from glassformer.positions.relative_bias import RelativeBias
from glassformer.positions.rotary import RotaryPositions
from glassformer.positions.scheme import PositionScheme
from glassformer.positions.sinusoidal import SinusoidalPositions

__all__ = [
    "ALiBi",
    "LearnedPositions",
    "NoPositions",
    "PositionScheme",
    "RelativeBias",
    "RotaryPositions",
    "SinusoidalPositions",
    "build_positions",
]
