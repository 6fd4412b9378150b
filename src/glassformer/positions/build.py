"""From one word to a scheme: ``"rotary"``, or ``{"kind": "rotary", "theta": 5e5}``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from glassformer.choices import choose, suggestion
from glassformer.positions.alibi import ALiBi
from glassformer.positions.learned import LearnedPositions
from glassformer.positions.none import NoPositions
from glassformer.positions.relative_bias import RelativeBias
from glassformer.positions.rotary import RotaryPositions
from glassformer.positions.scheme import PositionScheme
from glassformer.positions.sinusoidal import SinusoidalPositions

SCHEMES: dict[str, tuple[Callable[..., PositionScheme], tuple[str, ...]]] = {
    "sinusoidal": (SinusoidalPositions, ("d_model",)),
    "learned": (LearnedPositions, ("max_positions", "d_model")),
    "rotary": (RotaryPositions, ("d_head",)),
    "alibi": (ALiBi, ("num_heads",)),
    "relative_bias": (RelativeBias, ("num_heads", "bidirectional")),
    "none": (NoPositions, ()),
}
"""Schemes by the word that a model takes for ``positions``, and the model's sizes that each is built from."""


def build_positions(
    spec: str | Mapping[str, Any],
    *,
    d_model: int,
    d_head: int,
    num_heads: int,
    max_seq_len: int,
    bidirectional: bool = False,
) -> PositionScheme:
    """The scheme that a model's ``positions`` keyword asks for.

    Args:
        spec: the kind, or a mapping with ``"kind"`` and options of the scheme's constructor.
        d_model: width of the model.
        d_head: width of a head.
        num_heads: attention heads.
        max_seq_len: rows of a learned table.
        bidirectional: whether tokens see those after them (an encoder), which relative biases tell apart.

    Raises:
        ValueError: an unknown kind or option; names the nearest and all there are.

    """
    options = {"kind": spec} if isinstance(spec, str) else dict(spec)
    if "kind" not in options:
        raise ValueError(f'positions needs a "kind" ({", ".join(SCHEMES)}), not {options!r}')
    kind = options.pop("kind")
    scheme, needs = choose(SCHEMES, kind, "kind of positions")
    sizes: dict[str, Any] = {
        "d_model": d_model,
        "d_head": d_head,
        "num_heads": num_heads,
        "max_positions": max_seq_len,
        "bidirectional": bidirectional,
    }
    free = [name for name in inspect.signature(scheme).parameters if name not in needs]
    for name in options:
        if name not in free:
            known = f"options are: {', '.join(free)}" if free else "it has no options"
            raise ValueError(f"unknown option {name!r} of {kind} positions{suggestion(name, free)}; {known}")
    return scheme(**{name: sizes[name] for name in needs}, **options)
