"""What a model can be asked to do: decided by what it has, not by what it is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glassformer.contracts import Tokenizer


def can_generate(model: Any) -> bool:
    """It gives a distribution over what comes after a text."""
    return hasattr(model, "next_token_logits")


def can_translate(model: Any) -> bool:
    """It writes a target for a source."""
    return hasattr(model, "conditioned_on")


def can_fill_mask(model: Any) -> bool:
    """Its head guesses tokens, each from both sides."""
    from glassformer.models.heads import MaskedLMHead

    return isinstance(getattr(model, "head", None), MaskedLMHead)


def can_classify(model: Any) -> bool:
    """Its head chooses among classes."""
    from glassformer.models.heads import ClassificationHead

    return isinstance(getattr(model, "head", None), ClassificationHead)


ABILITIES: dict[str, Callable[[Any], bool]] = {
    "generate": can_generate,
    "translate": can_translate,
    "fill-mask": can_fill_mask,
    "classify": can_classify,
}
"""For each command that asks something of a model, whether a model can do it."""


def require(model: Any, command: str, target: str) -> None:
    """Make sure that a model can do what a command asks of it.

    Args:
        model: from ``targets.load_model``.
        command: its name.
        target: as the user gave it.

    Raises:
        ValueError: it cannot; says what it can do.
    """
    if ABILITIES[command](model):
        return
    able = [name for name, can in ABILITIES.items() if can(model)]
    others = f"use {' or '.join(able)}" if able else f"its head gives only {model.head.gives}"
    raise ValueError(f"{target} holds a {type(model).__name__} that cannot {command}: {others}")


def tokenizer_of(model: Any, target: str) -> Tokenizer:
    """The model's tokenizer.

    Raises:
        ValueError: it has none; says where to put one.
    """
    from glassformer.cli.targets import model_path
    from glassformer.tokenization import TOKENIZER_FILE

    if model.tokenizer is None:
        path = model_path(target)
        remedy = "in Python, set model.tokenizer, save the model with save_pretrained, and name that folder"
        if path is not None and path.is_dir():
            remedy = f"put its {TOKENIZER_FILE} into {path}"
        raise ValueError(f"{target} has no tokenizer, so that its ids stand for no text: {remedy}")
    tokenizer: Tokenizer = model.tokenizer
    return tokenizer
