"""What heads do, measured."""

from glassformer.analysis.head_patterns import HeadPatterns, head_patterns, pattern_values
from glassformer.analysis.images import ImageReading, read_image
from glassformer.analysis.reading import EncoderDecoder, Pair, Reading, read, read_pair

__all__ = [
    "EncoderDecoder",
    "HeadPatterns",
    "ImageReading",
    "Pair",
    "Reading",
    "head_patterns",
    "pattern_values",
    "read",
    "read_image",
    "read_pair",
]
