"""Loading of the model of a command, and checks of its task and tokenizer."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassformer.choices import suggestion
from glassformer.cli.errors import reading
from glassformer.terminal import printable

if TYPE_CHECKING:
    from glassformer.analysis.head_patterns import HeadReport
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


def check_model(target: str) -> None:
    """Check without importing PyTorch that a model can be at a path, if it is not a name on the hub.

    Raises:
        FileNotFoundError: a path that does not exist.
        ValueError: a file that is no .gguf file, or a folder with neither a model nor a run.
    """
    path = Path(target)
    if path.is_file() and path.suffix != ".gguf":
        raise ValueError(
            f"{path} is a file: give a model folder with config.json, a run folder or a .gguf file"
        )
    if not path.exists() and (not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", target) or path.suffix == ".gguf"):
        raise FileNotFoundError(f"no model: {target} does not exist")
    if path.is_dir() and not (path / "config.json").exists() and not (path / "checkpoints").is_dir():
        raise ValueError(f"{path} has neither a model (config.json) nor a run (checkpoints)")


def model_path(target: str) -> Path | None:
    """Path of a model: the target itself (a file or a folder), or the best checkpoint of a run.

    None if there is no such path: the target may be a name on the hub.

    Raises:
        ValueError: a folder with neither a model nor a run, or a damaged checkpoint.
    """
    path = Path(target)
    if not path.exists():
        return None
    check_model(target)
    from glassformer.training.checkpoints import best_checkpoint, verify_model

    if path.is_file() or (path / "config.json").exists():
        verify_model(path)
        return path
    return best_checkpoint(path)


def model_name(target: str, model: TransformerModel | None = None) -> str:
    """Name of a model in titles and reports.

    Args:
        target: the model as given by the user.
        model: the loaded model.

    Returns:
        The name in a .gguf file (``general.name``), the name of the model's own folder or file (that of a
        checkpoint follows that of its run), or the name on the hub.
    """
    if model is not None and model.name:
        return model.name
    if not Path(target).exists():
        return target
    path = Path(target).resolve()
    if path.parent.name == "checkpoints":
        return f"{path.parents[1].name}-{path.name}"
    return (path.stem if path.is_file() else path.name) or target


def name_in_reports_of_0_1(target: str) -> str:
    """Name that version 0.1 gave a model: the last two parts of its absolute path, or its name on the hub."""
    path = Path(target).resolve() if Path(target).exists() else Path(target)
    return "/".join((path.with_suffix("") if path.is_file() else path).parts[-2:]).strip("/")


def load_model(target: str, weights: str | None = None, in_memory: bool = False) -> TransformerModel:
    """Load the model of a folder, a file or a name on the hub.

    Args:
        target: the model as given by the user.
        weights: the value of ``--weights``: a format of packed weights, on the CPU. None: the weights as they
            are, on the best available device.
        in_memory: copy weights that are mapped files, before they are packed.
    """
    from glassformer.models import optimize_for_inference
    from glassformer.pretrained import from_pretrained
    from glassformer.training.devices import choose_device

    with reading(target):
        model = from_pretrained(model_path(target) or target)
        if weights is None:
            model = model.to(choose_device("auto"))
        if in_memory and model.device.type == "cpu":
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.data = tensor.data.clone()
        return model if weights is None else optimize_for_inference(model, weights)


def load_model_into_memory(target: str, weights: str | None = None) -> TransformerModel:
    """``load_model`` for commands that run for long, with a copy of weights that are mapped files.

    If another program overwrites a mapped file, the weights change, and if it truncates the file, the process
    ends without a message (SIGBUS).
    """
    return load_model(target, weights, in_memory=True)


def set_special_tokens(model: Any, special_tokens: bool | None, text: str | None = None) -> None:
    """Set whether special tokens that a text spells out are special, and print the notes on a text.

    Args:
        model: from ``load_model``.
        special_tokens: the value of ``--special-tokens``; see ``tokenization.encode_typed_text``.
        text: a text whose notes no page or figure shows.

    Raises:
        ValueError: True for a model without a tokenizer.
    """
    from glassformer.tokenization import encode_typed_text

    if model.tokenizer is None:
        if special_tokens:
            raise ValueError("--special-tokens needs a tokenizer, and the model has none")
        return
    model.tokenizer.parse_special_tokens = special_tokens
    if text is not None:
        masked_lm = model.task == TASKS["fill-mask"]
        print_notes(encode_typed_text(model.tokenizer, text, predicts_masks=masked_lm)[1])


def print_notes(notes: Iterable[str]) -> None:
    """Print remarks on an input on stderr."""
    for note in notes:
        print(f"({printable(note)})", file=sys.stderr)


def load_report(path: Path) -> HeadReport:
    """Load the heads.json of ``glassformer analyze``."""
    from glassformer.analysis.head_patterns import HeadReport

    with reading(path):
        report = HeadReport.load(path)
        report.best()  # raises for rows without the columns of a report
        return report


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
        with reading(path):
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
