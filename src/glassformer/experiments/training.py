"""Training within a run of a study: windows of one epoch, and a call that continues where it was stopped."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from glassformer.data import TokenFile
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
)
from glassformer.training.devices import seed_everything
from glassformer.training.resume import NUMERICS

if TYPE_CHECKING:
    from glassformer.training.task import BatchSource, Objective

INTERRUPTED = 143
"""Exit status of a run that was asked to stop; its checkpoints are saved."""
Model = TypeVar("Model", bound=nn.Module)


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


def run_config(
    folder: Path,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    learning_rate: float,
    schedule: Schedule,
    precision: Literal["auto", "float32", "bfloat16"] = "float32",
    weight_decay: float | None = None,
    data: DataConfig | None = None,
    log_every: int = 100,
) -> TrainingConfig:
    """The configuration of a training within a run of a study: AdamW, without evaluations on the way.

    Products are PyTorch's, so that they are the same on every machine.

    Args:
        folder: the run folder of the training.
        steps: updates.
        batch_size: examples of an update.
        seed: of the initial weights.
        learning_rate: its peak.
        schedule: of the learning rate.
        precision: as in ``TrainingConfig``.
        weight_decay: of AdamW. Default: that of ``OptimizerConfig``.
        data: the text, if there is one.
        log_every: updates between rows of metrics.
    """
    decay = {} if weight_decay is None else {"weight_decay": weight_decay}
    return TrainingConfig(
        run_folder=str(folder),
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        precision=precision,
        backend="torch",
        log_every=log_every,
        data=data or DataConfig(),
        model=ModelConfig(preset="none"),
        optimizer=OptimizerConfig(learning_rate=learning_rate, **decay),
        schedule=schedule,
        evaluation=EvaluationConfig(every=0),
        checkpoints=CheckpointConfig(every=500, keep=1),
    )


def train(
    build: Callable[[], Model],
    config: TrainingConfig,
    batches: BatchSource,
    objective: Objective | None = None,
    *,
    data_key: str,
) -> Model:
    """Build and train a model until ``config.steps``, from the last checkpoint if there is one.

    Args:
        build: returns the model with random weights; called after ``config.seed`` is set.
        config: of the run in ``config.run_folder``; updates and schedule may differ from those of an earlier
            call.
        batches: of each update.
        objective: the loss. Default: that of the next token.
        data_key: of the token files, compared when training continues.

    Raises:
        ValueError: the run was started with another version of torch or another number that rounding
            depends on.
        SystemExit: the process was asked to stop.
    """
    seed_everything(config.seed)
    model = build()
    exists = (Path(config.run_folder) / "config.toml").exists()
    run = RunFolder.open(config, resume=exists, allow_changes=exists)
    if others := [note for note in run.notes if note.split(" ")[0].rstrip(":") in NUMERICS]:
        raise ValueError(
            f"{config.run_folder} cannot be continued with the same result: {'; '.join(others)}. "
            "Remove the folder to train again"
        )
    run.check_data(data_key)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        from rich.console import Console

        console = Console(file=nowhere)
        trainer = Trainer(model, objective or LanguageModeling(), batches, config, run, console=console)
        result = trainer.run()
    if result.status == "interrupted" or result.signal is not None:
        sys.exit(INTERRUPTED)
    return model
