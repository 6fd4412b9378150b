"""Behavior tasks, and the effect of ablations on them."""

from glassformer.analysis.behaviors.evaluate import (
    BehaviorTable,
    TaskScores,
    behavior_table,
    compare_group,
    evaluate_ablations,
)
from glassformer.analysis.behaviors.scoring import item_loss
from glassformer.analysis.behaviors.tasks import BehaviorTask, TaskItem, build_behavior_tasks

__all__ = [
    "BehaviorTable",
    "BehaviorTask",
    "TaskItem",
    "TaskScores",
    "behavior_table",
    "build_behavior_tasks",
    "compare_group",
    "evaluate_ablations",
    "item_loss",
]
