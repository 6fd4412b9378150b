"""Training a model with one position scheme on one seed, and measuring it on longer texts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from glassformer.backends import use_backends
from glassformer.experiments.positions.evaluation import measure
from glassformer.experiments.positions.models import POLICIES, build_model
from glassformer.experiments.positions.planted_facts import PlantedWindows, vocabulary_of
from glassformer.experiments.training import EpochWindows, run_config, train
from glassformer.training import DataConfig, Schedule, TrainingConfig, prepare_data


def train_scheme(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Train one scheme on one seed and measure it; continues where an earlier call was stopped.

    The seed gives the initial weights, the order of the windows and their facts, so schemes with one seed
    learn from the same batches.

    Args:
        settings: see ``PositionsStudy.runs``.
        folder: for the run folder ``training``; token files are shared with the other runs.

    Returns:
        ``num_parameters``, ``tokens``, and ``measured``: what ``measure`` returns, of learned positions for
        each policy by its name, of all other schemes under the name of the scheme.

    Raises:
        ValueError: the text is too short.
    """
    seed, seq_len = settings["seed"], settings["seq_len"]
    steps = settings["tokens"] // (settings["batch_size"] * seq_len)
    config = _config(settings, folder, steps)
    tokenizer, files = prepare_data(config.data)
    vocabulary = vocabulary_of(settings, tokenizer.vocab_size)
    text = EpochWindows(files.train, settings["batch_size"], seq_len, seed)
    text.batch(steps - 1)  # raises if the text is too short
    batches = PlantedWindows(
        text,
        vocabulary,
        settings["fact_windows"],
        settings["num_facts"],
        settings["questions_per_fact"],
        seed,
    )
    build = partial(build_model, settings["scheme"], settings, vocabulary.vocab_size, seq_len)
    model = train(build, config, batches, data_key=files.key)
    policies = list(POLICIES) if settings["scheme"] == "learned" else [None]
    with use_backends("torch"):  # as in training
        measured = {
            policy or settings["scheme"]: measure(model, files.validation, vocabulary, settings, policy)
            for policy in policies
        }
    return {
        "num_parameters": model.num_parameters(),
        "tokens": steps * settings["batch_size"] * seq_len,
        "measured": measured,
    }


def _config(settings: Mapping[str, Any], folder: Path, steps: int) -> TrainingConfig:
    data = DataConfig(
        source=settings["source"],
        tokenizer=settings["tokenizer"],
        vocab_size=settings["vocab_size"],
        seq_len=settings["seq_len"],
        folder=str(folder.parent.parent / "tokens"),
    )
    return run_config(
        folder / "training",
        steps=steps,
        batch_size=settings["batch_size"],
        seed=settings["seed"],
        learning_rate=settings["learning_rate"],
        schedule=Schedule("cosine", settings["warmup_steps"]),
        precision=settings["precision"],
        data=data,
    )
