"""Fixtures: a tiny model, learnable batches, run configs, and trainers."""

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
    DataConfig,
    EvaluationConfig,
    LanguageModeling,
    ModelConfig,
    OptimizerConfig,
    RunFolder,
    Schedule,
    TaskConfig,
    Trainer,
    TrainingConfig,
    adamw,
    evaluate,
)

VOCAB = 11


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Use one thread, as the computations here are too small for more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class CountingRows:
    """Rows that count up modulo VOCAB, from a start that is a function of the batch's number."""

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
def trained(tiny_model):
    """A model and its optimizer after some updates."""

    def build(updates=2, seed=0, **keywords):
        model = tiny_model(seed, **keywords)
        optimizer = adamw(model, OptimizerConfig())
        for _ in range(updates):
            LanguageModeling()(model, torch.randint(11, (2, 9))).backward()
            optimizer.step()
            optimizer.zero_grad()
        return model, optimizer

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
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{n} and {n + 1} are {2 * n + 1}.\n" for n in range(300)))
    return path


@pytest.fixture
def text_config(config, text, tmp_path):
    """A run of a tiny GPT on ``text``."""
    data = DataConfig(
        str(text), "byte", seq_len=16, fractions=(0.8, 0.2, 0.0), folder=str(tmp_path / "tokens")
    )
    model = ModelConfig("gpt", "none", d_model=16, num_layers=1, num_heads=2)
    return replace(config, data=data, model=model, batch_size=4)


@pytest.fixture
def classifier_config(config):
    """Build the config of a classification run that is evaluated at the start and end only."""

    def build(task, data, model, **changes):
        return replace(
            config,
            task=TaskConfig(task),
            data=data,
            model=model,
            batch_size=16,
            optimizer=OptimizerConfig(learning_rate=3e-3),
            evaluation=EvaluationConfig(every=0),
            **changes,
        )

    return build


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


@pytest.fixture
def held_out():
    rows = CountingRows().batch(10**6)
    return lambda model: evaluate(model, [(rows[:, :-1], rows[:, 1:])]).metrics()


@pytest.fixture
def trainer(tiny_model, config, console, held_out):
    """Build a trainer; ``changes`` are fields of the config."""

    def build(
        *,
        model=None,
        batches=None,
        resume=False,
        overwrite=False,
        allow_changes=False,
        sample=None,
        objective=None,
        **changes,
    ):
        changed = replace(config, **changes)
        run = RunFolder.open(changed, resume=resume, overwrite=overwrite, allow_changes=allow_changes)
        return Trainer(
            model or tiny_model(dropout=0.2),
            objective or LanguageModeling(),
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
    """Run code in a new interpreter and return its output."""

    def run(code):
        source = Path(config_module.__file__).parents[2]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(source), os.environ.get("PYTHONPATH", "")])
        }
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
