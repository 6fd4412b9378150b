"""Training of small GPTs on bytes, for the demonstrations that compare variants of a model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from glassformer.backends import use_backends
from glassformer.data import windows
from glassformer.experiments.training import EpochWindows, run_config, train
from glassformer.models import GPTModel
from glassformer.training import DataConfig, Schedule, TrainingConfig, evaluate, prepare_data

BYTES = 256
"""Vocabulary of the byte tokenizer, without its token for the end of a text."""
BFLOAT16_WIDTH = 128
"""d_model from which bfloat16 is faster on a processor that has it."""


def training_config(
    settings: Mapping[str, Any], seed: int, folder: Path, learning_rate: float, schedule: Schedule
) -> TrainingConfig:
    """The configuration of a run: AdamW, float32 for small models, PyTorch's products.

    Args:
        settings: ``steps``, ``batch_size`` and ``d_model``.
        seed: of weights and data order.
        folder: the run folder.
        learning_rate: its peak.
        schedule: of the learning rate.
    """
    return run_config(
        folder,
        steps=settings["steps"],
        batch_size=settings["batch_size"],
        seed=seed,
        learning_rate=learning_rate,
        schedule=schedule,
        precision="auto" if settings["d_model"] >= BFLOAT16_WIDTH else "float32",
        log_every=max(1, settings["steps"] // 50),
    )


def train_bytes(
    settings: Mapping[str, Any],
    seed: int,
    folder: Path,
    learning_rate: float,
    schedule: Schedule,
    build: Any = None,
    **model_keywords: Any,
) -> tuple[GPTModel, float]:
    """Train a GPT on the bytes of a text, each at most once, and evaluate it.

    Args:
        settings: those of ``training_config``, ``num_layers``, ``num_heads``, ``seq_len``, ``source``, the
            text, ``tokens``, the folder of token files, and ``max_validation_tokens``.
        seed: see ``training_config``.
        folder: see ``training_config``.
        learning_rate: see ``training_config``.
        schedule: see ``training_config``.
        build: function of the model's keywords. Default: ``GPTModel``.
        model_keywords: of the model, in addition to its sizes.

    Returns:
        The model, and its loss on the validation split in nats per byte.
    """
    config = training_config(settings, seed, folder, learning_rate, schedule)
    data = byte_data(settings)
    tokenizer, files = prepare_data(data)
    batches = EpochWindows(files.train, config.batch_size, data.seq_len, seed)
    batches.batch(config.steps - 1)  # raises if the text is too short
    keywords = {name: settings[name] for name in ("d_model", "num_layers", "num_heads")} | model_keywords
    sizes = {"vocab_size": tokenizer.vocab_size, "max_seq_len": data.seq_len, "positions": "rotary"}
    model = train(partial(build or GPTModel, **sizes, **keywords), config, batches, data_key=files.key)
    validation = np.asarray(files.validation[: settings["max_validation_tokens"]])
    with use_backends("torch"):  # as in training
        found = evaluate(model, windows(validation, data.seq_len, 64))
    return model.eval(), found.nats_per_token


def byte_data(settings: Mapping[str, Any]) -> DataConfig:
    """The text as bytes."""
    return DataConfig(
        source=settings["source"],
        tokenizer="byte",
        seq_len=settings["seq_len"],
        folder=settings["tokens"],
    )


def validation_tokens(settings: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[Any]]:
    """The first ``max_validation_tokens`` of the validation split."""
    _, files = prepare_data(byte_data(settings))
    return np.asarray(files.validation[: settings["max_validation_tokens"]])


def training_flops(
    settings: Mapping[str, Any], vocab_size: int = BYTES, num_layers: int | None = None
) -> float:
    """6 N D with the attention to half of the context on average, for one run of the settings."""
    num_layers = settings["num_layers"] if num_layers is None else num_layers
    d_model, seq_len = settings["d_model"], settings["seq_len"]
    parameters = num_layers * 12 * d_model**2 + vocab_size * d_model
    tokens = settings["steps"] * settings["batch_size"] * seq_len
    return float(tokens * (6 * parameters + 6 * num_layers * seq_len * d_model))
