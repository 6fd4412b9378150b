"""Position schemes by name: ``"rotary"``, or ``{"kind": "rotary", "theta": 5e5}``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from glassformer.choices import check_options, split_options
from glassformer.positions.alibi import ALiBi
from glassformer.positions.by_layer import PositionsByLayer
from glassformer.positions.learned import LearnedPositions
from glassformer.positions.relative_bias import RelativeBias
from glassformer.positions.rotary import RotaryPositions
from glassformer.positions.rotary_scaling import migrate_scaling
from glassformer.positions.scheme import NoPositions, PositionScheme
from glassformer.positions.sinusoidal import SinusoidalPositions

SCHEMES: dict[str, tuple[Callable[..., PositionScheme], tuple[str, ...]]] = {
    "sinusoidal": (SinusoidalPositions, ("d_model",)),
    "learned": (LearnedPositions, ("max_positions", "d_model")),
    "rotary": (RotaryPositions, ("d_head",)),
    "alibi": (ALiBi, ("num_heads",)),
    "relative_bias": (RelativeBias, ("num_heads", "bidirectional")),
    "none": (NoPositions, ()),
}
"""Position schemes by the value of a model's ``positions``, with the sizes that each takes from the model."""


def build_positions(
    spec: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]],
    *,
    d_model: int,
    d_head: int,
    num_heads: int,
    max_seq_len: int,
    bidirectional: bool = False,
) -> PositionScheme:
    """Build the position scheme of a model.

    Args:
        spec: the kind, or a mapping with ``"kind"`` and keywords of the scheme's constructor; or a list with
            one for each layer.
        d_model: width of the model.
        d_head: width of a head.
        num_heads: attention heads.
        max_seq_len: rows of a learned table.
        bidirectional: whether tokens attend to later ones (in an encoder), for relative biases.

    Raises:
        ValueError: if the kind or an option is unknown.
        TypeError: if ``spec`` is neither a name nor a mapping nor a list of them.

    """
    sizes: dict[str, Any] = {
        "d_model": d_model,
        "d_head": d_head,
        "num_heads": num_heads,
        "max_seq_len": max_seq_len,
        "bidirectional": bidirectional,
    }
    if isinstance(spec, Sequence) and not isinstance(spec, str):
        return _build_by_layer(spec, sizes)
    kind, options = split_options(spec, SCHEMES, "kind of positions")
    scheme, needs = SCHEMES[kind]
    check_options(options, scheme, needs, f"{kind} positions")
    sizes["max_positions"] = max_seq_len
    return scheme(**{name: sizes[name] for name in needs}, **options)


def _build_by_layer(specs: Sequence[Any], sizes: Mapping[str, Any]) -> PositionsByLayer:
    """The schemes of all layers; layers with the same specification share one."""
    built: dict[str, PositionScheme] = {}
    schemes = []
    for spec in specs:
        if not isinstance(spec, str | Mapping):
            raise TypeError(f"the positions of a layer must be a name or a mapping, not {spec!r:.200}")
        key = json.dumps(spec if isinstance(spec, str) else dict(spec), sort_keys=True, default=repr)
        if key not in built:
            built[key] = build_positions(spec, **sizes)
        schemes.append(built[key])
    return PositionsByLayer(schemes)


def migrate_positions(spec: Any) -> Any:
    """A model's ``positions`` as version 0.1 saved them, with renamed options replaced."""
    if isinstance(spec, list):
        return [migrate_positions(of_layer) for of_layer in spec]
    if not isinstance(spec, Mapping) or not isinstance(spec.get("scaling"), Mapping):
        return spec
    return {**spec, "scaling": migrate_scaling(spec["scaling"])}
