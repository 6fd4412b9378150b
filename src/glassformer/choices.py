"""Words that stand for parts: look one up, or say which words there are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


def choose(options: Mapping[str, T], word: str, what: str) -> T:
    """The option that a word stands for.

    Raises:
        ValueError: an unknown word; names the nearest one and all there are.

    """
    if word not in options:
        raise ValueError(
            f"unknown {what} {word!r}{suggestion(word, options)} (there are: {', '.join(options)})"
        )
    return options[word]


def suggestion(word: object, known: Iterable[str]) -> str:
    """``", did you mean 'x'?"`` with the nearest known word, or nothing where none is near."""
    near = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.5)
    return f", did you mean {near[0]!r}?" if near else ""
