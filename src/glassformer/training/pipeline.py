"""A training run from its configuration: data, model, training, and evaluation on the test split."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from rich.console import Console

from glassformer.choices import choose
from glassformer.models import TransformerModel
from glassformer.models.base import on_meta
from glassformer.training.checkpoints import best_checkpoint
from glassformer.training.config import TrainingConfig
from glassformer.training.devices import choose_device
from glassformer.training.image_classification import ImageClassificationTask
from glassformer.training.language_modeling import LanguageModelingTask
from glassformer.training.masked_language_modeling import MaskedLanguageModelingTask
from glassformer.training.model_setup import (
    build_model,
    load_matching_weights,
    load_trained_model,
    reinitialized,
)
from glassformer.training.run_folder import RunFolder, require_tensorboard
from glassformer.training.sequence_to_sequence import SequenceToSequenceTask
from glassformer.training.span_corruption import SpanCorruptionTask
from glassformer.training.task import PreparedTask, Task
from glassformer.training.text_classification import TextClassificationTask
from glassformer.training.trainer import Sample, Trainer, TrainingResult, seed_everything

TASKS: dict[str, Task] = {
    "language-modeling": LanguageModelingTask(),
    "masked-lm": MaskedLanguageModelingTask(),
    "span-corruption": SpanCorruptionTask(),
    "sequence-to-sequence": SequenceToSequenceTask(),
    "text-classification": TextClassificationTask(),
    "image-classification": ImageClassificationTask(),
}
"""Tasks by ``task.kind``."""


def train(
    config: TrainingConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    sample: Sample | None = None,
    console: Console | None = None,
) -> TrainingResult:
    """Train a model in ``config.run_folder``.

    The configuration is checked before anything is written or removed.

    Args:
        config: configuration of the run.
        resume: resume the run in the folder.
        overwrite: remove the run in the folder and start a new one.
        sample: generates a text of the model at each evaluation.
        console: where progress is shown.

    Raises:
        ValueError: an invalid option, unusable data, or a run folder that exists although neither ``resume``
            nor ``overwrite`` is set.
        NonFiniteError: see ``Trainer.run``.
        OSError: a file cannot be read or written.
    """
    RunFolder.check(config, resume=resume, overwrite=overwrite)
    task = choose(TASKS, config.task.kind, "task")
    trained = None if config.model.start_from is None else load_trained_model(config.model.start_from)
    check_model(task, config, trained)
    prepared = task.prepare(config, None if trained is None else trained.tokenizer, console)

    seed_everything(config.seed)
    if trained is None:
        model = build_model(config, prepared.model_keywords)
    else:
        model = load_matching_weights(trained, config, prepared.model_keywords)
        if console is not None and (modules := reinitialized(model, trained)):
            console.print(f"weights from {config.model.start_from}; reinitialized: {', '.join(modules)}")
    model.tokenizer = prepared.tokenizer
    dry_run(model, prepared, config, sample)

    run = RunFolder.open(config, resume=resume, overwrite=overwrite)
    run.check_data(prepared.data_key)
    trainer = Trainer(
        model,
        prepared.objective,
        prepared.batches,
        config,
        run,
        evaluate=prepared.evaluate,
        sample=sample,
        console=console,
    )
    result = trainer.run()
    if result.status == "interrupted" or prepared.test is None:
        return result
    return replace(result, results=evaluate_test_split(run, prepared, trainer.device))


def check_model(task: Task, config: TrainingConfig, trained: TransformerModel | None) -> None:
    """Check, before any data is read, that the task can be trained on a model of this configuration.

    Raises:
        ValueError: the family does not fit the task, or the model cannot be built.
    """
    configured = choose(TransformerModel.families, config.model.family, "model family").family
    family = configured if trained is None else trained.family
    if family != task.family:
        raise ValueError(
            f"model.family must be {task.family} for the task {config.task.kind}, got {family}:"
            f" --model.family {task.family}"
        )
    if trained is None:
        with on_meta():
            build_model(config, task.placeholder_keywords(config))


def dry_run(
    model: TransformerModel, prepared: PreparedTask, config: TrainingConfig, sample: Sample | None
) -> None:
    """Compute one loss and one sample, so that a run that cannot work fails before its folder is written.

    Raises:
        ValueError: the device is not available, sequences are too long for the model, or sampling fails.
        ImportError: TensorBoard is requested and not installed.
    """
    choose_device(config.device)
    max_seq_len = model.config.get("max_seq_len", config.data.seq_len)
    if config.data.seq_len > max_seq_len:
        raise ValueError(
            f"data.seq_len must be at most the model's max_seq_len={max_seq_len}, got {config.data.seq_len}"
        )
    if config.tensorboard:
        require_tensorboard()
    with torch.no_grad():
        prepared.objective(model, prepared.batches.batch(0)[:1])
        if sample is not None:
            sample(model)


def evaluate_test_split(run: RunFolder, prepared: PreparedTask, device: torch.device) -> dict[str, Any]:
    """Metrics of the run's best checkpoint on the test split, stored in ``results.json``."""
    assert prepared.test is not None
    best = best_checkpoint(run.path)
    results = run.read_results()
    if results.get("checkpoint") == best.name:
        return results
    model = TransformerModel.from_pretrained(best).to(device)
    metrics = prepared.test(model)
    results = {"checkpoint": best.name, **{f"test_{name}": value for name, value in metrics.items()}}
    run.write_results(results)
    return results
