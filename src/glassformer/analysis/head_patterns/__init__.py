"""Attention patterns of heads: what they attend to, tested against baselines."""

from glassformer.analysis.head_patterns.analyze import (
    HeadAnalysis,
    HeadAnalysisSettings,
    analyze_heads,
    random_weights_builder,
)
from glassformer.analysis.head_patterns.inputs import sample_texts, sentences
from glassformer.analysis.head_patterns.patterns import (
    PATTERN_GROUPS,
    Item,
    Pattern,
    all_patterns,
    select_patterns,
)
from glassformer.analysis.head_patterns.report import HeadReport

__all__ = [
    "PATTERN_GROUPS",
    "HeadAnalysis",
    "HeadAnalysisSettings",
    "HeadReport",
    "Item",
    "Pattern",
    "all_patterns",
    "analyze_heads",
    "random_weights_builder",
    "sample_texts",
    "select_patterns",
    "sentences",
]
