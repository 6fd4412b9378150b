"""A run: pretraining one setup on one seed, what it knows about bytes, and fine-tuning."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from glassformer.backends import use_backends
from glassformer.data import Batches
from glassformer.data.batches import Batch
from glassformer.experiments.architectures.classification import (
    Passages,
    accuracy,
    majority,
    passage_batch,
    passages,
    with_classifier,
)
from glassformer.experiments.architectures.decoders import CausalSetup, PrefixSetup
from glassformer.experiments.architectures.denoisers import MaskedSetup, SpanSetup
from glassformer.experiments.architectures.evaluation import evaluate_bytes
from glassformer.experiments.architectures.pronunciation import Pronunciation, phoneme_error_rate, words
from glassformer.experiments.architectures.setup import Setup
from glassformer.experiments.architectures.study import OWN
from glassformer.experiments.training import run_config, train
from glassformer.training import DataConfig, Schedule, TrainingConfig, prepare_data

SETUPS: dict[str, type[Setup]] = {
    setup.name: setup for setup in (CausalSetup, PrefixSetup, MaskedSetup, SpanSetup)
}
"""Setups by name."""


class ShuffledRows:
    """Batches of rows in a random order in each epoch.

    Args:
        rows: examples.
        collate: makes a batch of some of them.
        batch_size: examples of a batch.
        seed: of the order.
    """

    def __init__(
        self, rows: Sequence[Any], collate: Callable[[Sequence[Any]], Batch], batch_size: int, seed: int
    ) -> None:
        self.rows, self.collate, self.batch_size, self.seed = rows, collate, batch_size, seed
        self.per_epoch = len(rows) // batch_size

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        epoch, number = divmod(step, self.per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))
        chosen = order[number * self.batch_size : (number + 1) * self.batch_size]
        return self.collate([self.rows[index] for index in chosen])


def train_and_evaluate(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Pretrain a setup on one seed, evaluate it, and fine-tune it for two tasks.

    Args:
        settings: see ``ArchitecturesStudy.runs``.
        folder: for the run folders ``pretraining``, ``classification`` and ``pronunciation``; token files are
            shared with the other runs.

    Returns:
        ``num_parameters``, ``updates``, ``bytes`` and ``flops`` of pretraining, the losses of
        ``evaluate_bytes``, the ``accuracy`` of classification and that of the ``majority``, and the
        ``phoneme_error_rate``.
    """
    s = settings
    setup, model, found = _pretrain(s, folder)
    with use_backends("torch"):  # as in training
        found |= _classify(setup, model, folder / "classification")
        found["phoneme_error_rate"] = _pronounce(setup, model, folder / "pronunciation")
    return found


def pretrain_and_evaluate(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """``train_and_evaluate`` without fine-tuning, for the pilot of the learning rates.

    Of the losses there is only the one that is nearest to the objective of the setup.
    """
    return _pretrain(settings, folder, [OWN[settings["setup"]]])[2]


def _pretrain(
    s: Mapping[str, Any], folder: Path, measures: Collection[str] = ("next", "hidden")
) -> tuple[Setup, Any, dict[str, Any]]:
    setup = SETUPS[s["setup"]](s)
    updates = num_updates(setup)
    config = _config(
        s, folder / "pretraining", updates, s["batch_size"], s["learning_rate"], s["warmup_steps"]
    )
    _, files = prepare_data(config.data)
    windows = Batches(files.train, s["batch_size"], s["seq_len"], s["seed"])
    model: Any = train(setup.build, config, setup.batches(windows), setup.objective(), data_key=files.key)
    with use_backends("torch"):
        losses = evaluate_bytes(setup, model, files.train, files.validation, measures)
    found = {
        **losses,
        "setup": setup.name,
        "num_parameters": model.num_parameters(),
        "updates": updates,
        "bytes": updates * s["batch_size"] * s["seq_len"],
        "flops": updates * setup.flops_per_update(model),
    }
    return setup, model, found


def num_updates(setup: Setup) -> int:
    """Updates that cost at least as many FLOPs as the causal language model takes for ``num_bytes``."""
    s = setup.settings
    reference = CausalSetup(s)
    budget: float = (
        s["num_bytes"] / (s["batch_size"] * s["seq_len"]) * reference.flops_per_update(reference.build())
    )
    return math.ceil(budget / setup.flops_per_update(setup.build()))


def _classify(setup: Setup, model: Any, folder: Path) -> dict[str, float]:
    """``accuracy`` on test passages, and that of the most frequent label, ``majority``."""
    s = setup.settings
    training, test, num_classes = passages(s)
    batches = ShuffledRows(training, passage_batch, s["tuning_batch"], s["seed"])
    config = _config(
        s, folder, s["classification_steps"], s["tuning_batch"], s["tuning_rate"], s["tuning_warmup"]
    )

    def build() -> Any:
        return with_classifier(deepcopy(model), s["d_model"], num_classes)

    objective = Passages(setup)
    tuned = train(build, config, batches, objective, data_key=f"{s['labels']} {len(training)}")
    return {
        "accuracy": accuracy(objective, tuned, test, s["evaluation_batch"]),
        "majority": majority(training, test),
    }


def _pronounce(setup: Setup, model: Any, folder: Path) -> float:
    """Phoneme error rate on words that were not trained on."""
    s = setup.settings
    training, test = words(s)
    objective = Pronunciation(setup)
    batches = ShuffledRows(training, objective.arrange.collate, s["tuning_batch"], s["seed"])
    config = _config(
        s, folder, s["pronunciation_steps"], s["tuning_batch"], s["tuning_rate"], s["tuning_warmup"]
    )
    build = partial(deepcopy, model)
    tuned = train(build, config, batches, objective, data_key=f"{s['pairs']} {len(training)}")
    return phoneme_error_rate(objective, tuned, test)


def _config(
    settings: Mapping[str, Any],
    folder: Path,
    steps: int,
    batch_size: int,
    learning_rate: float,
    warmup: int,
) -> TrainingConfig:
    data = DataConfig(
        source=settings["source"],
        tokenizer="byte",
        seq_len=settings["seq_len"],
        folder=str(folder.parent.parent.parent / "tokens"),
    )
    return run_config(
        folder,
        steps=steps,
        batch_size=batch_size,
        seed=settings["seed"],
        learning_rate=learning_rate,
        schedule=Schedule("cosine", warmup),
        precision=settings["precision"],
        data=data,
    )
