"""Training: objectives, optimizer, schedules, checkpoints, evaluation, and the loop that joins them.

The names below are looked up when first used: so the config dataclasses, which the command line shows in its
help, are had without importing torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glassformer.training.building import build_model as build_model
    from glassformer.training.checkpoints import Checkpoints as Checkpoints
    from glassformer.training.config import (
        CheckpointConfig as CheckpointConfig,
    )
    from glassformer.training.config import (
        DataConfig as DataConfig,
    )
    from glassformer.training.config import (
        EvaluationConfig as EvaluationConfig,
    )
    from glassformer.training.config import (
        ModelConfig as ModelConfig,
    )
    from glassformer.training.config import (
        OptimizerConfig as OptimizerConfig,
    )
    from glassformer.training.config import TaskConfig as TaskConfig
    from glassformer.training.config import (
        TrainingConfig as TrainingConfig,
    )
    from glassformer.training.config_files import load_config as load_config
    from glassformer.training.config_files import save_config as save_config
    from glassformer.training.cross_entropy import chunked_cross_entropy as chunked_cross_entropy
    from glassformer.training.evaluation import Evaluation as Evaluation
    from glassformer.training.evaluation import evaluate as evaluate
    from glassformer.training.language_modelling import evaluate_split as evaluate_split
    from glassformer.training.language_modelling import prepare_data as prepare_data
    from glassformer.training.ngrams import (
        Bigram as Bigram,
    )
    from glassformer.training.ngrams import (
        Unigram as Unigram,
    )
    from glassformer.training.ngrams import (
        evaluate_ngram as evaluate_ngram,
    )
    from glassformer.training.ngrams import (
        ngram_baselines as ngram_baselines,
    )
    from glassformer.training.objectives import LanguageModelling as LanguageModelling
    from glassformer.training.objectives import Objective as Objective
    from glassformer.training.optimizer import adamw as adamw
    from glassformer.training.pipeline import (
        train as train,
    )
    from glassformer.training.run_folder import RunFolder as RunFolder
    from glassformer.training.schedule import Schedule as Schedule
    from glassformer.training.trainer import (
        NonFiniteError as NonFiniteError,
    )
    from glassformer.training.trainer import (
        Trainer as Trainer,
    )
    from glassformer.training.trainer import (
        TrainingResult as TrainingResult,
    )

_NAMES = {
    "building": ("build_model",),
    "checkpoints": ("Checkpoints",),
    "config": (
        "CheckpointConfig",
        "DataConfig",
        "EvaluationConfig",
        "ModelConfig",
        "OptimizerConfig",
        "TaskConfig",
        "TrainingConfig",
    ),
    "config_files": (
        "load_config",
        "save_config",
    ),
    "cross_entropy": ("chunked_cross_entropy",),
    "evaluation": (
        "Evaluation",
        "evaluate",
    ),
    "language_modelling": ("evaluate_split", "prepare_data"),
    "ngrams": (
        "Bigram",
        "Unigram",
        "evaluate_ngram",
        "ngram_baselines",
    ),
    "objectives": (
        "LanguageModelling",
        "Objective",
    ),
    "optimizer": ("adamw",),
    "pipeline": ("train",),
    "run_folder": ("RunFolder",),
    "schedule": ("Schedule",),
    "trainer": (
        "NonFiniteError",
        "Trainer",
        "TrainingResult",
    ),
}
_HOME = {name: file for file, names in _NAMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Import a public name from the file that defines it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
