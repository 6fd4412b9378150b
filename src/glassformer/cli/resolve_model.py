"""Loading of the model of a command, and checks of its task and tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassformer.choices import suggestion

if TYPE_CHECKING:
    from glassformer.contracts import Tokenizer
    from glassformer.models import TransformerModel

TASKS = {
    "generate": "causal_lm",
    "translate": "seq2seq_lm",
    "fill-mask": "masked_lm",
    "classify": "classification",
}
"""The task of a model that each command needs."""
OUTPUTS = {"none": "hidden states", "token_classification": "a class for each token"}
"""Outputs of the tasks that no command needs."""


def model_path(target: str) -> Path | None:
    """Path of a model: the target itself (a file or a folder), or the best checkpoint of a run.

    None if there is no such path: the target may be a name on the hub.

    Raises:
        ValueError: a folder with neither a model nor a run.
    """
    path = Path(target)
    if not path.exists():
        return None
    if path.is_file() or (path / "config.json").exists():
        return path
    if (path / "checkpoints").is_dir():
        from glassformer.training.checkpoints import best_checkpoint

        return best_checkpoint(path)
    raise ValueError(f"{path} has neither a model (config.json) nor a run (checkpoints)")


def model_name(target: str) -> str:
    """Name of a model in reports: the last two parts of its absolute path, or its name on the hub."""
    path = Path(target).resolve() if Path(target).exists() else Path(target)
    return "/".join((path.with_suffix("") if path.is_file() else path).parts[-2:]).strip("/")


def load_model(target: str) -> TransformerModel:
    """Load the model of a folder, a file or a name on the hub onto the best available device."""
    from glassformer.pretrained import from_pretrained
    from glassformer.training.devices import choose_device

    return from_pretrained(model_path(target) or target).to(choose_device("auto"))


def load_preset_or_model(target: str) -> TransformerModel:
    """Build a preset on the meta device, without weights, or load the model of a folder or file.

    Raises:
        ValueError: neither a preset nor a path; suggests the most similar preset.
    """
    from glassformer.models import TransformerModel
    from glassformer.models.weights import on_meta
    from glassformer.pretrained import from_pretrained

    presets = {name: family for family in TransformerModel.families.values() for name in family.presets}
    if target in presets:
        with on_meta():
            return presets[target].from_preset(target)
    path = model_path(target)
    if path is not None:
        return from_pretrained(path)
    near = suggestion(target, presets)
    raise ValueError(f"{target!r} is neither a folder nor a preset{near} (presets: {', '.join(presets)})")


def can_generate(model: Any) -> bool:
    """Whether the model predicts the next token of a text."""
    return bool(model.task == TASKS["generate"])


def require_capability(model: Any, command: str, target: str) -> None:
    """Check that a model supports a command.

    Args:
        model: from ``load_model``.
        command: name of the command.
        target: the model as given by the user, for the message.

    Raises:
        ValueError: it does not; names the command that it supports.
    """
    if model.task == TASKS[command]:
        return
    supported = [name for name, task in TASKS.items() if task == model.task]
    hint = f"use {supported[0]}" if supported else f"its output is {OUTPUTS[model.task]}"
    raise ValueError(f"{target} holds a {type(model).__name__} that cannot {command}: {hint}")


def require_tokenizer(model: Any, target: str) -> Tokenizer:
    """The model's tokenizer.

    Raises:
        ValueError: the model has none; says where to put one.
    """
    from glassformer.tokenization import TOKENIZER_FILE

    if model.tokenizer is None:
        path = model_path(target)
        hint = "set model.tokenizer in Python, save the model with save_pretrained, and give that folder"
        if path is not None and path.is_dir():
            hint = f"put its {TOKENIZER_FILE} into {path}"
        raise ValueError(f"{target} has no tokenizer: {hint}")
    tokenizer: Tokenizer = model.tokenizer
    return tokenizer
