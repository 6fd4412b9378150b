"""Lookup of options by name, with suggestions for misspelled names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")

MAX_CHARACTERS = 100
"""Of a name in an error message: it may come from a file."""


def choose(options: Mapping[str, T], name: str, kind: str) -> T:
    """Return the option with this name.

    Args:
        options: the options by name.
        name: the name to look up.
        kind: what the options are, for the error message.

    Raises:
        ValueError: an unknown name; suggests the nearest one and lists all.
    """
    if name not in options:
        raise ValueError(
            f"unknown {kind} {name[:MAX_CHARACTERS]!r}{suggestion(name, options)} "
            f"(there are: {', '.join(options)})"
        )
    return options[name]


def suggestion(name: object, known: Iterable[str]) -> str:
    """Return ``", did you mean 'x'?"`` with the nearest known name, or ``""`` if none is near."""
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f", did you mean {near[0]!r}?" if near else ""
