"""Training one size on one seed: a trunk at a constant learning rate, and a decay for each budget."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from glassformer.backends import use_backends
from glassformer.data import windows
from glassformer.experiments.training import EpochWindows, run_config, train
from glassformer.files import PARTIAL
from glassformer.models import GPTModel
from glassformer.training import DataConfig, Schedule, TrainingConfig, evaluate, prepare_data


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
    build = partial(build_model, settings, tokenizer.vocab_size)
    validation = np.asarray(files.validation[: settings["max_validation_tokens"]])
    rows = []
    for budget in settings["budgets"]:
        steps = budget // (config.batch_size * config.data.seq_len)
        schedule = Schedule("wsd", config.schedule.warmup_steps, 0.1, settings["decay_fraction"])
        done = folder / f"budget-{budget}"
        constant = first_decay_step(schedule, steps)
        if not done.exists():
            trunk = replace(config, steps=constant, run_folder=str(folder / "trunk"))
            train(build, trunk, batches, data_key=files.key)
            _copy(folder / "trunk", done)
        branch = replace(config, steps=steps, run_folder=str(done), schedule=schedule)
        model = train(build, branch, batches, data_key=files.key)
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
    data = DataConfig(
        source=settings["source"],
        tokenizer="byte",
        seq_len=settings["seq_len"],
        folder=str(folder.parent.parent / "tokens"),
    )
    return run_config(
        folder / "trunk",
        steps=1,  # replaced for each training
        batch_size=settings["batch_size"],
        seed=settings["seed"],
        learning_rate=settings["learning_rate"],
        schedule=Schedule("constant", settings["warmup_steps"]),
        precision=settings["precision"],
        data=data,
    )


def _copy(folder: Path, target: Path) -> None:
    """Copy a run folder so that the target is complete or absent."""
    partial = target.with_name(f".{target.name}{PARTIAL}")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folder, partial, symlinks=True, ignore=shutil.ignore_patterns(".lock"))
    partial.rename(target)
