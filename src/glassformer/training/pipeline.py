"""From a config to a trained model: data, model, trainer, and the figures of the test split."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from rich.console import Console

from glassformer.choices import choose
from glassformer.models import TransformerModel
from glassformer.models.base import shapes_only
from glassformer.training.building import build_model, continue_model, parts_anew, start_from
from glassformer.training.checkpoints import best_of_run
from glassformer.training.config import TrainingConfig
from glassformer.training.devices import choose_device
from glassformer.training.run_folder import RunFolder
from glassformer.training.task import Prepared, Task
from glassformer.training.tasks import TASKS
from glassformer.training.tensorboard_log import require_tensorboard
from glassformer.training.trainer import Sample, Trainer, TrainingResult, seed_everything


def train(
    config: TrainingConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    sample: Sample | None = None,
    console: Console | None = None,
) -> TrainingResult:
    """Train a model as the config says, in ``config.run_folder``.

    Args:
        config: the run.
        resume: go on with the run that is in the folder.
        overwrite: remove the run that is in the folder and start anew.
        sample: a text of the model, taken with each evaluation.
        console: for progress.

    Raises:
        ValueError: a wrong choice, data that cannot be used, or a run folder that exists and is neither to be
            resumed nor overwritten. A run folder is made, or removed, only when all else is in order.
        NonFiniteError: see ``Trainer.run``.
        OSError: something cannot be read or written.
    """
    RunFolder.check(config, resume=resume, overwrite=overwrite)
    task = choose(TASKS, config.task.kind, "task")
    start = None if config.model.start_from is None else start_from(config.model.start_from)
    check_family(task, config, start)
    prepared = task.prepare(config, None if start is None else start.tokenizer, console)
    seed_everything(config.seed)
    if start is None:
        model = build_model(config, prepared.keywords)
    else:
        model = continue_model(start, config, prepared.keywords)
        if console is not None and (anew := parts_anew(model, start)):
            console.print(f"from {config.model.start_from}; with new weights: {', '.join(anew)}")
    model.tokenizer = prepared.tokenizer
    rehearse(model, prepared, config, sample)
    run = RunFolder.open(config, resume=resume, overwrite=overwrite)
    run.bind_data(prepared.key)
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
    return replace(result, results=final_figures(run, prepared, trainer.device))


def final_figures(run: RunFolder, prepared: Prepared, device: torch.device) -> dict[str, Any]:
    """The figures of the run's best checkpoint on the test split, also kept in ``results.json``."""
    assert prepared.test is not None
    best = best_of_run(run.path)
    known = run.read_results()
    if known.get("checkpoint") == best.name:
        return known
    model = TransformerModel.from_pretrained(best).to(device)
    results = {"checkpoint": best.name, **{f"test_{n}": value for n, value in prepared.test(model).items()}}
    run.write_results(results)
    return results


def check_family(task: Task, config: TrainingConfig, start: Any) -> None:
    """Find out, before data are read, whether a model of the task can be built.

    Raises:
        ValueError: a family that cannot do the task, or sizes that do not fit.
    """
    named = choose(TransformerModel.families, config.model.family, "model family").family
    family = named if start is None else start.family
    if family != task.family:
        raise ValueError(
            f"task {config.task.kind} trains a model of the family {task.family}, not {family}: "
            f"--model.family {task.family}"
        )
    if start is None:
        with shapes_only():
            build_model(config, task.placeholders(config))


def rehearse(model: Any, prepared: Prepared, config: TrainingConfig, sample: Sample | None) -> None:
    """Find out what would stop a run before its folder is made or an old one removed.

    Raises:
        ValueError: the device is not there, the text is too long for the model, or sampling fails.
        ImportError: TensorBoard is asked for and not installed.
    """
    choose_device(config.device)
    longest = model.config.get("max_seq_len", config.data.seq_len)
    if config.data.seq_len > longest:
        raise ValueError(
            f"data.seq_len={config.data.seq_len} is more than the model reads at once: max_seq_len={longest}"
        )
    if config.tensorboard:
        require_tensorboard()
    with torch.no_grad():
        prepared.objective(model, prepared.batches.batch(0)[:1])
        if sample is not None:
            sample(model)
