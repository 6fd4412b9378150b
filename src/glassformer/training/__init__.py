"""Training: configuration, tasks, objectives, optimizer, checkpoints, and the training loop.

The configuration is imported at once; everything that needs torch is imported when it is first used, so that
the command line starts quickly.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from glassformer.training.config import (
    CheckpointConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    TaskConfig,
    TrainingConfig,
)
from glassformer.training.config_files import load_config, save_config
from glassformer.training.optimizer import Schedule

if TYPE_CHECKING:
    from glassformer.training.checkpoints import Checkpoints
    from glassformer.training.cross_entropy import chunked_cross_entropy
    from glassformer.training.evaluation import Bigram, Evaluation, Unigram, evaluate_ngram, ngram_baselines
    from glassformer.training.language_modeling import (
        LanguageModeling,
        evaluate,
        evaluate_split,
        prepare_data,
    )
    from glassformer.training.optimizer import adamw
    from glassformer.training.pipeline import build_model, train
    from glassformer.training.run_folder import RunFolder
    from glassformer.training.task import Objective
    from glassformer.training.trainer import NonFiniteError, Trainer, TrainingResult

__all__ = [
    "Bigram",
    "CheckpointConfig",
    "Checkpoints",
    "DataConfig",
    "Evaluation",
    "EvaluationConfig",
    "LanguageModeling",
    "ModelConfig",
    "NonFiniteError",
    "Objective",
    "OptimizerConfig",
    "RunFolder",
    "Schedule",
    "TaskConfig",
    "Trainer",
    "TrainingConfig",
    "TrainingResult",
    "Unigram",
    "adamw",
    "build_model",
    "chunked_cross_entropy",
    "evaluate",
    "evaluate_ngram",
    "evaluate_split",
    "load_config",
    "ngram_baselines",
    "prepare_data",
    "save_config",
    "train",
]

_LAZY = {
    "checkpoints": ("Checkpoints",),
    "cross_entropy": ("chunked_cross_entropy",),
    "evaluation": ("Bigram", "Evaluation", "Unigram", "evaluate_ngram", "ngram_baselines"),
    "language_modeling": ("LanguageModeling", "evaluate", "evaluate_split", "prepare_data"),
    "optimizer": ("adamw",),
    "pipeline": ("build_model", "train"),
    "run_folder": ("RunFolder",),
    "task": ("Objective",),
    "trainer": ("NonFiniteError", "Trainer", "TrainingResult"),
}
_MODULES = {name: module for module, names in _LAZY.items() for name in names}
_RENAMED = {"LanguageModelling": "LanguageModeling"}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _RENAMED:
            message = f"{__name__}.{name} is now called {_RENAMED[name]}"
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            name = _RENAMED[name]
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
