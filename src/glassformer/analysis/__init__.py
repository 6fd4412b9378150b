"""What heads do, measured."""

from glassformer.analysis.ablation import ReferenceOutputs, ablate, reference_outputs
from glassformer.analysis.capability import CapabilityTable, capability_table
from glassformer.analysis.decomposition import ScoreParts, each_score_parts, score_parts
from glassformer.analysis.deletion import Deletion, deletion_test, faithfulness
from glassformer.analysis.flow import attention_flow
from glassformer.analysis.head_patterns import HeadPatterns, head_patterns, pattern_values
from glassformer.analysis.head_report import HeadReport
from glassformer.analysis.head_settings import Settings
from glassformer.analysis.head_study import HeadStudy, analyze_heads
from glassformer.analysis.images import ImageReading, read_image
from glassformer.analysis.importance import ablation_importance, gradient_importance, rank_correlation
from glassformer.analysis.logit_lens import LogitLens, logit_lens
from glassformer.analysis.outcomes import Outcome, outcome_of
from glassformer.analysis.pruning import least_important, prune_heads
from glassformer.analysis.reading import EncoderDecoder, Pair, Reading, read, read_pair
from glassformer.analysis.rollout import attention_rollout, gradient_rollout
from glassformer.analysis.suites import Suite, build_suites

__all__ = [
    "CapabilityTable",
    "Deletion",
    "EncoderDecoder",
    "HeadPatterns",
    "HeadReport",
    "HeadStudy",
    "ImageReading",
    "LogitLens",
    "Outcome",
    "Pair",
    "Reading",
    "ReferenceOutputs",
    "ScoreParts",
    "Settings",
    "Suite",
    "ablate",
    "ablation_importance",
    "analyze_heads",
    "attention_flow",
    "attention_rollout",
    "build_suites",
    "capability_table",
    "deletion_test",
    "each_score_parts",
    "faithfulness",
    "gradient_importance",
    "gradient_rollout",
    "head_patterns",
    "least_important",
    "logit_lens",
    "outcome_of",
    "pattern_values",
    "prune_heads",
    "rank_correlation",
    "read",
    "read_image",
    "read_pair",
    "reference_outputs",
    "score_parts",
]
