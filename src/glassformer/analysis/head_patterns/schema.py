"""Keys and types of a stored head report."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from types import NoneType
from typing import Any

MAX_NUMBER = 10_000
"""Layers and heads of a stored report are numbered below this."""
_KEY_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("layer", "head"), (int,)),
    **dict.fromkeys(("pattern", "measure", "name"), (str,)),
    **dict.fromkeys(("score", "low", "high"), (int, float)),
    "control": (str, NoneType),
    "control_score": (int, float, NoneType),
    "main": (bool,),
}
"""Types of the values of a row that are used when a report is shown."""


def check_content(content: Mapping[str, Any]) -> None:
    """Check the keys and types of a stored report.

    Raises:
        ValueError: a key that is missing, or a value of another type.
    """
    settings, data = _value(content, "settings", dict), _value(content, "data", dict)
    _value(content, "model", str)
    if "margin" in settings:
        _value(settings, "margin", int, float)
    for name in {"num_items", "num_cut", "cut_to"} & data.keys():
        _value(data, name, int)
    if "notes" in data and not all(isinstance(note, str) for note in _value(data, "notes", list)):
        raise ValueError("notes must be a list of texts")
    if "kind" in settings:
        _value(settings, "kind", str, NoneType)
    rows = _value(content, "rows", list)
    if not rows:
        raise ValueError("it has no rows")
    for row in rows:
        if not isinstance(row, dict):
            raise ValueError(f"rows must be objects, got {row!r}")
        for name, types in _KEY_TYPES.items():
            _value(row, name, *types)
        if not (0 <= row["layer"] < MAX_NUMBER and 0 <= row["head"] < MAX_NUMBER):
            raise ValueError(f"there is no head {row['layer']}.{row['head']}")
        if row["name"] and not isfinite(row["score"]):
            raise ValueError(f"the score of a label must be a number, got {row['score']}")


def _value(content: Mapping[str, Any], name: str, *types: type) -> Any:
    """The value of a key; ValueError if it is missing or of another type."""
    if name not in content:
        raise ValueError(f"the key {name!r} is missing")
    value = content[name]
    if type(value) not in types:
        expected = " or ".join("null" if kind is NoneType else kind.__name__ for kind in types)
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    return value
