"""Resuming a run: equal to the bit for every task, and refused where something else has changed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glassformer.training import (
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    NonFiniteError,
    TaskConfig,
    train,
)
from glassformer.training.config import CheckpointConfig
from glassformer.training.pipeline import TASKS

MODELS = {
    "language-modeling": ModelConfig("gpt", "none", d_model=8, num_layers=1, num_heads=2, dropout=0.1),
    "masked-lm": ModelConfig("bert", "none", d_model=8, num_layers=1, num_heads=2, dropout=0.1),
    "span-corruption": ModelConfig("t5", "none", d_model=8, num_layers=1, num_heads=2, dropout=0.1),
    "image-classification": ModelConfig(
        "vit", "none", d_model=8, num_layers=1, num_heads=2, options={"patch_size": 4}
    ),
}
MODELS["sequence-to-sequence"] = MODELS["span-corruption"]
MODELS["text-classification"] = MODELS["masked-lm"]


@pytest.fixture
def task_config(config, tmp_path):
    """Build the config of a tiny run of a task: two updates, each of two batches, to each checkpoint."""

    def build(kind):
        path = tmp_path / "data.txt"
        tokenizer = {"masked-lm": "wordpiece", "text-classification": "wordpiece"}.get(kind, "byte")
        lines = [f"number {n} and so on\t{'odd' if n % 2 else 'even'} {n}" for n in range(120)]
        if kind == "text-classification":
            lines = [line.rpartition(" ")[0] for line in lines]
        path.write_text("\n".join(lines), encoding="utf-8")
        if kind == "image-classification":
            path = tmp_path / "data.npz"
            random = np.random.default_rng(0)
            np.savez(path, images=random.random((60, 8, 8)), labels=np.arange(60) % 3)
        if kind in ("sequence-to-sequence", "text-classification"):
            path = path.rename(path.with_suffix(".tsv"))
        return replace(
            config,
            steps=4,
            batch_size=4,
            accumulation=2,
            task=TaskConfig(kind),
            data=DataConfig(str(path), tokenizer, 60, 24, (0.8, 0.1, 0.1), folder=str(tmp_path / "tokens")),
            model=MODELS[kind],
            evaluation=EvaluationConfig(every=2, num_generated=2),
            checkpoints=CheckpointConfig(every=2, keep=9),
        )

    return build


def files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def history(folder):
    rows = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    timed = ("seconds", "tokens_per_second", "examples_per_second")
    return [{name: value for name, value in row.items() if name not in timed} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("kind", TASKS)
def test_a_resumed_run_of_every_task_is_equal_to_the_bit(task_config, console, kind):
    config = task_config(kind)
    whole = train(config, console=console)
    expected, rows, results = files(whole.checkpoint), history(config.run_folder), whole.results
    assert expected.keys() == {"model.safetensors", "optimizer.safetensors", "random.safetensors"}
    (whole.run_folder / "results.json").unlink(missing_ok=True)
    shutil.rmtree(whole.checkpoint)  # as if the run had been killed after the checkpoint of step 2
    resumed = train(config, resume=True, console=console)
    assert resumed.checkpoint == whole.checkpoint
    assert files(resumed.checkpoint) == expected
    assert history(config.run_folder) == rows
    assert resumed.results == results


def flip_bit(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 16
    path.write_bytes(content)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_skipped_if_asked_with_the_same_result(task_config, console):
    config = task_config("language-modeling")
    whole = train(config, console=console)
    expected, rows = files(whole.checkpoint), history(config.run_folder)
    flip_bit(whole.checkpoint / "optimizer.safetensors")
    with pytest.raises(ValueError, match=r"step-000004 is damaged: optimizer.safetensors .*--skip-damaged"):
        train(config, resume=True, console=console)
    resumed = train(config, resume=True, skip_damaged=True, console=console)
    assert "deleted: checkpoint" in console.file.getvalue()
    assert files(resumed.checkpoint) == expected
    assert history(config.run_folder) == rows


def test_an_optimizer_state_that_is_not_finite_is_never_saved(trainer):
    built = trainer()
    step = built.optimizer.step

    def overflowing_step():
        step()
        if built.step == 7:
            built.optimizer.state[built.model.norm.weight]["exp_avg_sq"][0] = float("inf")

    built.optimizer.step = overflowing_step
    with pytest.raises(NonFiniteError, match=r"after step 8, exp_avg_sq/norm.weight are not finite"):
        built.run()
    assert built.run_folder.checkpoints.steps() == [4]
