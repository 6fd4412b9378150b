"""What pictures and pages are asked for, looked at before any work."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index

import torch
from torch import Tensor

Text = str | Sequence[int]


def whole_number(value: object, what: str) -> int:
    """A number of a layer, a head or a position.

    Raises:
        TypeError: anything else, True and False among it.
    """
    if not isinstance(value, bool):
        try:
            return index(value)  # type: ignore[arg-type]
        except TypeError:
            pass
    raise TypeError(f"{what} is a whole number such as 2, not {value!r}")


def as_given(text: Text, target: Text | None = None) -> tuple[Text, Text | None]:
    """A text and what is written of it, in characters that every tokenizer can encode.

    Raises:
        ValueError: an empty target.
    """
    if target is not None and len(target) == 0:
        raise ValueError("the target is empty: give at least one token, or leave it out")
    return spelled(text), None if target is None else spelled(target)


def spelled(text: Text) -> Text:
    r"""Halves of a character (lone surrogates), which no file can hold, are written out: ``\ud800``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(text, str) else text


def check_finite(weights: Tensor, what: str) -> None:
    """Refuse numbers that would be drawn as if they meant something.

    Args:
        weights: any.
        what: whose they are: ``layer 3's attention``.

    Raises:
        ValueError: some of them are infinite or not a number.
    """
    if not bool(torch.isfinite(weights).all()):
        raise ValueError(f"{what} is not finite: the model's weights are broken or diverged")
