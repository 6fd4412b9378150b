"""A model small enough to train in milliseconds, batches of a text that can be learned, and a run folder."""

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

import glassformer.training.config as config_module
from glassformer.models import GPTModel
from glassformer.training import (
    CheckpointConfig,
    EvaluationConfig,
    LanguageModelling,
    OptimizerConfig,
    RunFolder,
    Schedule,
    Trainer,
    TrainingConfig,
    evaluate,
)

VOCAB = 11


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """What is computed here is too small to share."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class CountingRows:
    """Rows that count up modulo VOCAB, from a start that depends on the batch's number alone."""

    def batch(self, step):
        start = torch.randint(0, VOCAB, (3, 1), generator=torch.Generator().manual_seed(step))
        return (start + torch.arange(9)) % VOCAB


@pytest.fixture
def tiny_model():
    def build(seed=0, **keywords):
        torch.manual_seed(seed)
        sizes = {"vocab_size": VOCAB, "d_model": 16, "num_layers": 2, "num_heads": 2, "max_seq_len": 16}
        return GPTModel(**(sizes | keywords))

    return build


@pytest.fixture
def config(tmp_path):
    return TrainingConfig(
        run_folder=str(tmp_path / "run"),
        steps=10,
        device="cpu",
        optimizer=OptimizerConfig(learning_rate=1e-2),
        schedule=Schedule(warmup_steps=2),
        evaluation=EvaluationConfig(every=4),
        checkpoints=CheckpointConfig(every=4),
    )


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


@pytest.fixture
def held_out():
    rows = CountingRows().batch(10**6)
    return lambda model: evaluate(model, [(rows[:, :-1], rows[:, 1:])]).metrics()


@pytest.fixture
def trainer(tiny_model, config, console, held_out):
    """Build a trainer; ``changes`` are fields of the config, ``resume`` goes on with what is there."""

    def build(
        *, model=None, batches=None, resume=False, overwrite=False, sample=None, objective=None, **changes
    ):
        changed = replace(config, **changes)
        run = RunFolder.open(changed, resume=resume, overwrite=overwrite)
        return Trainer(
            model or tiny_model(dropout=0.2),
            objective or LanguageModelling(),
            batches or CountingRows(),
            changed,
            run,
            evaluate=held_out,
            sample=sample,
            console=console,
        )

    return build


@pytest.fixture
def run_python():
    """Run code in a fresh interpreter; its output."""

    def run(code):
        source = Path(config_module.__file__).parents[2]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(source), os.environ.get("PYTHONPATH", "")])
        }
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
