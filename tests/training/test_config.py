"""A choice that no run could use is refused with its name and value."""

import pytest

from glassformer import training
from glassformer.training import (
    CheckpointConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
)
from glassformer.training.config import FREE_ON_RESUME
from glassformer.training.config_files import flatten


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TrainingConfig(steps=0), "steps must be at least 1, not 0"),
        (lambda: TrainingConfig(batch_size=0), "batch_size must be"),
        (lambda: TrainingConfig(accumulation=0), "accumulation must be"),
        (lambda: TrainingConfig(log_every=0), "log_every must be"),
        (lambda: TrainingConfig(clip_norm=float("nan")), "clip_norm must be at least 0, not nan"),
        (lambda: TrainingConfig(seed=-1), "seed must be"),
        (lambda: DataConfig(seq_len=0), "data.seq_len must be at least 1, not 0"),
        (lambda: DataConfig(vocab_size=0), "data.vocab_size must be"),
        (lambda: DataConfig(fractions=(0.9, 0.2, 0.1)), r"make 1, not \(0.9, 0.2, 0.1\)"),
        (lambda: DataConfig(fractions=(0.0, 0.5, 0.5)), "training"),
        (lambda: DataConfig(fractions=(1.2, -0.1, -0.1)), "make 1"),
        (lambda: OptimizerConfig(learning_rate=float("inf")), "learning_rate must be at least 0, not inf"),
        (lambda: OptimizerConfig(beta2=1.0), "beta2 must be at least 0 and below 1, not 1.0"),
        (lambda: OptimizerConfig(weight_decay=-1), "weight_decay must be"),
        (lambda: EvaluationConfig(every=-1), "evaluation.every must be"),
        (lambda: EvaluationConfig(batch_size=0), "evaluation.batch_size must be"),
        (lambda: CheckpointConfig(keep=0), "checkpoints.keep must be at least 1, not 0"),
        (lambda: CheckpointConfig(every=-5), "checkpoints.every must be"),
    ],
)
def test_refuses(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_model_keywords_are_what_was_chosen():
    chosen = ModelConfig(preset="gpt-mini", d_model=64, bias=False, options={"kernel": "textbook"})
    assert chosen.keywords() == {"d_model": 64, "bias": False, "kernel": "textbook"}
    assert ModelConfig().keywords() == {}


def test_keys_that_are_free_on_resume_exist():
    assert {key for key, _ in flatten(TrainingConfig())} >= FREE_ON_RESUME


def test_nothing_here_imports_torch(run_python):
    run_python(
        "import sys; from glassformer.training import TrainingConfig, load_config; TrainingConfig();"
        "assert 'torch' not in sys.modules"
    )


def test_every_public_name_is_there_and_no_other():
    for name in training.__all__:
        assert getattr(training, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        training.trian  # noqa: B018
