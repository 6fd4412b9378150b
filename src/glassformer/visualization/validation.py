"""Checks of the arguments of figures and pages, made before any work."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from operator import index
from pathlib import Path

import torch
from torch import Tensor

from glassformer.analysis.head_patterns import HeadReport
from glassformer.attention import choose_kind
from glassformer.models import TransformerModel

Text = str | Sequence[int]
"""A text, or token ids."""


def check_index(value: object, name: str) -> int:
    """Return the index of a layer, a head or a position as an int.

    Raises:
        TypeError: The value is no integer, or it is a bool.
    """
    if not isinstance(value, bool):
        try:
            return index(value)  # type: ignore[arg-type]
        except TypeError:
            pass
    raise TypeError(f"{name} must be an int, got {value!r}.")


def check_texts(text: Text, target: Text | None = None) -> tuple[Text, Text | None]:
    """Return a text and its target in characters that every tokenizer can encode.

    Raises:
        ValueError: The target is empty.
    """
    if target is not None and len(target) == 0:
        raise ValueError("The target is empty: give at least one token, or leave it out.")
    return escape_surrogates(text), None if target is None else escape_surrogates(target)


def escape_surrogates(text: Text) -> Text:
    r"""Write lone surrogates, which UTF-8 cannot encode, as escapes such as ``\ud800``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(text, str) else text


def check_finite(values: Tensor, name: str) -> None:
    """Raise a ValueError if a model computed infinities or NaN."""
    if not bool(torch.isfinite(values).all()):
        raise ValueError(f"{name} is not finite: the model's weights are broken or diverged.")


def check_folder(folder: Path) -> None:
    """Check that files can be written into a folder; create the folder if it is missing.

    Raises:
        OSError: The folder cannot be created or written to.
    """
    file = next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None)
    if file is not None:
        raise NotADirectoryError(f"{file} is a file: nothing can be written below it.")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None


def load_head_report(report: HeadReport | str | Path) -> HeadReport:
    """Return a report, or the one that a file holds.

    Raises:
        OSError: The file does not exist.
        ValueError: The file holds no report.
        TypeError: Neither a report nor a path.
    """
    if isinstance(report, HeadReport):
        return report
    if not isinstance(report, str | Path):
        raise TypeError(f"report must be a HeadReport or the path of its .json file, got {report!r}.")
    return HeadReport.load(report)


def check_head_report(model: TransformerModel, report: HeadReport, *, complete: bool = True) -> str:
    """Check that a report is about the heads of a model.

    Args:
        model: The model whose heads are to be labeled.
        report: Of an analysis.
        complete: Whether the report must contain every head of the model.

    Returns:
        The kind of attention that the report is about.

    Raises:
        ValueError: The report is about a model with other heads.
    """
    kind, attentions = choose_kind(model, report.settings.get("kind"))
    heads = {(layer, head) for layer, module in enumerate(attentions) for head in range(module.num_heads)}
    reported = {(row["layer"], row["head"]) for row in report.rows}
    different = reported ^ heads if complete else reported - heads
    if different:
        layer, head = min(different)
        lacking = "the model" if (layer, head) in reported else "the report"
        raise ValueError(
            f"The report on {report.model} is about another model: {lacking} has no head {layer}.{head}."
        )
    return kind
