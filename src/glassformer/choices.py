"""Lookup of options by name, with suggestions for misspelled names."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

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


def split_options(
    spec: str | Mapping[str, Any], known: Mapping[str, object], name: str
) -> tuple[str, dict[str, Any]]:
    """Return the kind and the options of ``"kind"`` or ``{"kind": ..., option: value}``.

    Args:
        spec: the name of a kind, or a mapping.
        known: the kinds.
        name: what is chosen, for error messages.

    Raises:
        TypeError: ``spec`` is neither a name nor a mapping.
        ValueError: the mapping has no kind, or the kind is unknown.
    """
    if not isinstance(spec, str | Mapping):
        raise TypeError(f'{name} must be a name or a mapping with a "kind", not {spec!r}')
    options: dict[str, Any] = {"kind": spec} if isinstance(spec, str) else dict(spec)
    if "kind" not in options:
        raise ValueError(f'{name} needs a "kind" ({", ".join(known)}), not {options!r}')
    kind = options.pop("kind")
    choose(known, str(kind), name)
    return kind, options


def check_options(
    options: Mapping[str, Any], function: Callable[..., object], given: Collection[str], name: str
) -> None:
    """Raise ValueError if an option is no parameter of the function, or one that is given otherwise.

    Args:
        options: the options.
        function: a function or class.
        given: parameters that are not options.
        name: what has the options, for the error message.
    """
    known = [parameter for parameter in inspect.signature(function).parameters if parameter not in given]
    for option in options:
        if option not in known:
            there_are = f"options are: {', '.join(known)}" if known else "it has no options"
            raise ValueError(f"unknown option {option!r} of {name}{suggestion(option, known)}; {there_are}")
