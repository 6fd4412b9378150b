"""What heads do, measured."""

from glassformer.analysis.head_patterns import HeadPatterns, head_patterns, pattern_values
from glassformer.analysis.reading import Reading, read

__all__ = ["HeadPatterns", "Reading", "head_patterns", "pattern_values", "read"]
