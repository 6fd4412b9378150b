"""Validation of configs, renamed fields, and lazy imports."""

import pytest

from glassformer import training
from glassformer.training import (
    CheckpointConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    TaskConfig,
    TrainingConfig,
)
from glassformer.training.config import CHANGEABLE_ON_RESUME
from glassformer.training.config_files import flatten


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TrainingConfig(steps=0), "steps must be at least 1, got 0"),
        (lambda: TrainingConfig(batch_size=0), "batch_size must be"),
        (lambda: TrainingConfig(accumulation=0), "accumulation must be"),
        (lambda: TrainingConfig(log_every=0), "log_every must be"),
        (lambda: TrainingConfig(clip_norm=float("nan")), "clip_norm must be at least 0, got nan"),
        (lambda: TrainingConfig(seed=-1), "seed must be"),
        (lambda: DataConfig(seq_len=0), "data.seq_len must be at least 1, got 0"),
        (lambda: DataConfig(vocab_size=0), "data.vocab_size must be"),
        (lambda: DataConfig(fractions=(0.9, 0.2, 0.1)), r"sum to 1, got \(0.9, 0.2, 0.1\)"),
        (lambda: DataConfig(fractions=(0.0, 0.5, 0.5)), "training"),
        (lambda: DataConfig(fractions=(1.2, -0.1, -0.1)), "sum to 1"),
        (lambda: OptimizerConfig(learning_rate=float("inf")), "learning_rate must be at least 0, got inf"),
        (lambda: OptimizerConfig(beta2=1.0), "beta2 must be at least 0 and below 1, got 1.0"),
        (lambda: OptimizerConfig(weight_decay=-1), "weight_decay must be"),
        (lambda: EvaluationConfig(every=-1), "evaluation.every must be"),
        (lambda: EvaluationConfig(batch_size=0), "evaluation.batch_size must be"),
        (lambda: CheckpointConfig(keep=0), "checkpoints.keep must be at least 1, got 0"),
        (lambda: CheckpointConfig(every=-5), "checkpoints.every must be"),
    ],
)
def test_refuses(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_model_keywords_are_the_fields_that_were_set():
    chosen = ModelConfig(preset="gpt-mini", d_model=64, bias=False, options={"kernel": "textbook"})
    assert chosen.keywords() == {"d_model": 64, "bias": False, "kernel": "textbook"}
    assert ModelConfig().keywords() == {}


def test_keys_changeable_on_resume_exist():
    assert {key for key, _ in flatten(TrainingConfig())} >= CHANGEABLE_ON_RESUME


@pytest.mark.slow
def test_the_configuration_does_not_import_torch(run_python):
    run_python(
        "import sys; from glassformer.training import TrainingConfig, load_config; TrainingConfig();"
        "assert 'torch' not in sys.modules"
    )


def test_every_public_name_can_be_imported():
    for name in training.__all__:
        assert getattr(training, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        training.trian  # noqa: B018


def test_old_names_still_work_and_warn():
    with pytest.warns(DeprecationWarning, match="'corrupt' of .* is now called 'corruption_rate'"):
        assert TaskConfig(corrupt=0.3) == TaskConfig(corruption_rate=0.3)
    with pytest.warns(
        DeprecationWarning, match="'language-modelling' is now called 'language-modeling'"
    ) as warned:
        assert TaskConfig("language-modelling") == TaskConfig()
    assert warned[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="'generated' of .* is now called 'num_generated'"):
        assert EvaluationConfig(generated=3) == EvaluationConfig(num_generated=3)
    with pytest.warns(DeprecationWarning, match="LanguageModelling is now called") as warned:
        assert training.LanguageModelling is training.LanguageModeling
    assert warned[0].filename == __file__
