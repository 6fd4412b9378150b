"""Training one size on one seed: a trunk at a constant learning rate, and a decay for each budget."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glassformer.backends import use_backends
from glassformer.data import TokenFile, windows
from glassformer.files import PARTIAL
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
    Trainer,
    TrainingConfig,
    evaluate,
    prepare_data,
)
from glassformer.training.devices import seed_everything
from glassformer.training.resume import NUMERICS

INTERRUPTED = 143
"""Exit status of a run that was asked to stop; its checkpoints are saved."""


class EpochWindows:
    """Batches of windows that do not overlap, in random order, each at most once.

    Args:
        tokens: a split.
        batch_size: windows of a batch.
        seq_len: tokens of a window that are predicted; it has one more.
        seed: of the order.
    """

    def __init__(self, tokens: TokenFile, batch_size: int, seq_len: int, seed: int) -> None:
        self.tokens, self.batch_size, self.seq_len = tokens, batch_size, seq_len
        self.order = np.random.default_rng(seed).permutation((len(tokens) - 1) // seq_len)

    def batch(self, step: int) -> Tensor:
        """The windows of an update, ``(batch_size, seq_len + 1)``.

        Raises:
            ValueError: the split has too few windows for so many updates.
        """
        chosen = self.order[step * self.batch_size : (step + 1) * self.batch_size]
        if len(chosen) < self.batch_size:
            needed = (step + 1) * self.batch_size * self.seq_len
            raise ValueError(
                f"{needed:,} tokens are needed and the split has {len(self.tokens):,}: use a longer text"
            )
        rows = [self.tokens[i * self.seq_len : (i + 1) * self.seq_len + 1] for i in chosen]
        return torch.from_numpy(np.stack(rows).astype(np.int64))


def train_size(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Train one size on one seed for every budget; continues where an earlier call was stopped.

    Args:
        settings: see ``ScalingStudy.runs``.
        folder: for the run folders ``trunk`` and ``budget-N``; token files are shared with the other runs.

    Returns:
        ``num_parameters`` with and without embeddings, and ``budgets``: rows with ``tokens``, ``updates`` and
        the validation ``loss`` in nats per byte.
    """
    config = _config(settings, folder)
    tokenizer, files = prepare_data(config.data)
    batches = EpochWindows(files.train, config.batch_size, config.data.seq_len, config.seed)
    batches.batch(max(settings["budgets"]) // (config.batch_size * config.data.seq_len) - 1)  # if it can
    validation = np.asarray(files.validation[: settings["max_validation_tokens"]])
    rows = []
    for budget in settings["budgets"]:
        steps = budget // (config.batch_size * config.data.seq_len)
        schedule = Schedule("wsd", config.schedule.warmup_steps, 0.1, settings["decay_fraction"])
        done = folder / f"budget-{budget}"
        constant = first_decay_step(schedule, steps)
        if not done.exists():
            trunk = replace(config, steps=constant, run_folder=str(folder / "trunk"))
            _train(settings, trunk, batches, tokenizer.vocab_size, files.key)
            _copy(folder / "trunk", done)
        branch = replace(config, steps=steps, run_folder=str(done), schedule=schedule)
        model = _train(settings, branch, batches, tokenizer.vocab_size, files.key)
        with use_backends("torch"):  # as in training
            found = evaluate(model, windows(validation, config.data.seq_len, 64))
        rows.append(
            {
                "tokens": steps * config.batch_size * config.data.seq_len,
                "updates": steps,
                "loss": found.nats_per_token,
            }
        )
        print(f"{budget:,} tokens: {found.nats_per_token:.4f} nats", flush=True)
    embeddings = model.token_embedding.weight.numel()
    return {
        "num_parameters": model.num_parameters(),
        "num_parameters_without_embeddings": model.num_parameters() - embeddings,
        "budgets": rows,
    }


def first_decay_step(schedule: Schedule, steps: int) -> int:
    """The number of updates at the constant rate, before the first that is lower.

    Raises:
        ValueError: no update has a lower rate.
    """
    decay = (step for step in range(schedule.warmup_steps, steps) if schedule.multiplier(step, steps) < 1)
    first = next(decay, None)
    if first is None:
        raise ValueError(f"{steps} updates must be more than the {schedule.warmup_steps} of the warmup")
    return first


def build_model(settings: Mapping[str, Any], vocab_size: int) -> GPTModel:
    """The GPT of a size: rotary positions, RMSNorm, tied embeddings, no biases."""
    return GPTModel(
        vocab_size=vocab_size,
        d_model=settings["d_model"],
        num_layers=settings["num_layers"],
        num_heads=settings["num_heads"],
        max_seq_len=settings["seq_len"],
        positions="rotary",
        norm="rms",
        bias=False,
        tie_embeddings=True,
        dropout=0.0,
    )


def _config(settings: Mapping[str, Any], folder: Path) -> TrainingConfig:
    return TrainingConfig(
        batch_size=settings["batch_size"],
        seed=settings["seed"],
        precision=settings["precision"],
        backend="torch",  # the same on every machine
        log_every=100,
        data=DataConfig(
            source=settings["source"],
            tokenizer="byte",
            seq_len=settings["seq_len"],
            folder=str(folder.parent.parent / "tokens"),
        ),
        model=ModelConfig(preset="none"),
        optimizer=OptimizerConfig(learning_rate=settings["learning_rate"]),
        schedule=Schedule("constant", settings["warmup_steps"]),
        evaluation=EvaluationConfig(every=0),
        checkpoints=CheckpointConfig(every=500, keep=1),
    )


def _train(
    settings: Mapping[str, Any], config: TrainingConfig, batches: EpochWindows, vocab_size: int, data_key: str
) -> GPTModel:
    """Train until ``config.steps``, from the last checkpoint if there is one.

    Raises:
        ValueError: the run was started with another version of torch or another number that rounding
            depends on.
        SystemExit: the process was asked to stop.
    """
    seed_everything(config.seed)
    model = build_model(settings, vocab_size)
    exists = (Path(config.run_folder) / "config.toml").exists()
    run = RunFolder.open(config, resume=exists, allow_changes=exists)  # the updates and the schedule change
    if others := [note for note in run.notes if note.split(" ")[0].rstrip(":") in NUMERICS]:
        raise ValueError(
            f"{config.run_folder} cannot be continued with the same result: {'; '.join(others)}. "
            "Remove the folder to train again"
        )
    run.check_data(data_key)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        from rich.console import Console

        result = Trainer(model, LanguageModeling(), batches, config, run, console=Console(file=nowhere)).run()
    if result.status == "interrupted" or result.signal is not None:
        sys.exit(INTERRUPTED)
    return model


def _copy(folder: Path, target: Path) -> None:
    """Copy a run folder so that the target is complete or absent."""
    partial = target.with_name(f".{target.name}{PARTIAL}")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folder, partial, symlinks=True, ignore=shutil.ignore_patterns(".lock"))
    partial.rename(target)
