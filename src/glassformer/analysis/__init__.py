"""Analysis of attention heads and of predictions."""

from typing import TYPE_CHECKING

from glassformer.analysis.ablation import ReferenceOutputs, ablate, reference_outputs
from glassformer.analysis.attribution_targets import AttributionTarget, default_target
from glassformer.analysis.behaviors import BehaviorTable, BehaviorTask, behavior_table, build_behavior_tasks
from glassformer.analysis.decomposition import ScoreParts, each_score_parts, score_parts
from glassformer.analysis.faithfulness import (
    DeletionResult,
    NoDeletableTokenError,
    deletion_test,
    faithfulness,
)
from glassformer.analysis.head_patterns import (
    HeadAnalysis,
    HeadAnalysisSettings,
    HeadReport,
    analyze_heads,
)
from glassformer.analysis.image_inputs import PreprocessedImage, preprocess_image
from glassformer.analysis.importance import ablation_importance, gradient_importance, rank_correlation
from glassformer.analysis.inputs import EncodedPair, EncodedText, encode_pair, encode_text, model_inputs
from glassformer.analysis.logit_lens import LogitLens, logit_lens
from glassformer.analysis.pruning import least_important, prune_heads
from glassformer.analysis.rollout import attention_flow, attention_rollout, gradient_rollout
from glassformer.deprecation import renamed_attributes

__all__ = [
    "AttributionTarget",
    "BehaviorTable",
    "BehaviorTask",
    "DeletionResult",
    "EncodedPair",
    "EncodedText",
    "HeadAnalysis",
    "HeadAnalysisSettings",
    "HeadReport",
    "LogitLens",
    "NoDeletableTokenError",
    "PreprocessedImage",
    "ReferenceOutputs",
    "ScoreParts",
    "ablate",
    "ablation_importance",
    "analyze_heads",
    "attention_flow",
    "attention_rollout",
    "behavior_table",
    "build_behavior_tasks",
    "default_target",
    "deletion_test",
    "each_score_parts",
    "encode_pair",
    "encode_text",
    "faithfulness",
    "gradient_importance",
    "gradient_rollout",
    "least_important",
    "logit_lens",
    "model_inputs",
    "preprocess_image",
    "prune_heads",
    "rank_correlation",
    "reference_outputs",
    "score_parts",
]

if not TYPE_CHECKING:
    __getattr__ = renamed_attributes(
        __name__,
        {
            "CapabilityTable": "BehaviorTable",
            "Deletion": "DeletionResult",
            "HeadStudy": "HeadAnalysis",
            "ImageReading": "PreprocessedImage",
            "Outcome": "AttributionTarget",
            "Pair": "EncodedPair",
            "Reading": "EncodedText",
            "Settings": "HeadAnalysisSettings",
            "Suite": "BehaviorTask",
            "build_suites": "build_behavior_tasks",
            "capability_table": "behavior_table",
            "outcome_of": "default_target",
            "read": "encode_text",
            "read_image": "preprocess_image",
            "read_pair": "encode_pair",
        },
    )
