"""What differs between the layers of a decoder: kinds of attention, windows and positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from glassformer.pretrained.config_reader import ConfigReader

FULL, SLIDING = "full_attention", "sliding_attention"
"""Kinds of attention in ``layer_types``."""


def read_layer_types(config: ConfigReader, default: Sequence[str]) -> list[str]:
    """Return the kind of attention of each layer, ``FULL`` or ``SLIDING``.

    Args:
        config: may list the kinds as ``layer_types``.
        default: the kinds if it does not.

    Raises:
        ValueError: a list of another length, or another kind.
    """
    kinds = config.get_strings("layer_types")
    kinds = list(default) if kinds is None else kinds
    if len(kinds) != len(default):
        raise ValueError(
            f"{config.source}: layer_types must have one entry for each layer, {len(default)}, "
            f"got {len(kinds)}"
        )
    for kind in kinds:
        if kind not in (FULL, SLIDING):
            raise ValueError(
                f"{config.source}: layer_types has {kind!r:.200}, which is not implemented, only "
                f"{FULL!r} and {SLIDING!r}"
            )
    return kinds


def windows_of(
    config: ConfigReader, kinds: Sequence[str], window: int | None
) -> int | list[int | None] | None:
    """Return the keyword ``window``: one value if all layers have the same, else a list.

    Raises:
        ValueError: sliding attention without a window.
    """
    if SLIDING in kinds and window is None:
        raise ValueError(f"{config.source}: layer_types has {SLIDING!r}, but sliding_window is null")
    windows = [window if kind == SLIDING else None for kind in kinds]
    return windows[0] if len(set(windows)) == 1 else windows


def layer_types_of(config: Mapping[str, Any]) -> list[str]:
    """Return ``layer_types`` of a model."""
    return [FULL if window is None else SLIDING for window in windows_by_layer(config)]


def windows_by_layer(config: Mapping[str, Any]) -> list[int | None]:
    """Return the window of each layer of a model."""
    window = config["window"]
    return list(window) if isinstance(window, Sequence) else [window] * config["num_layers"]


def window_of(config: Mapping[str, Any]) -> int | None:
    """Return the window of the layers that have one; None if none has.

    Raises:
        ValueError: layers with different windows.
    """
    sizes = {window for window in windows_by_layer(config) if window is not None}
    if len(sizes) > 1:
        raise ValueError(f"window must be the same in all layers that have one, got {sorted(sizes)}")
    return next(iter(sizes), None)


def window_of_all(config: Mapping[str, Any]) -> int | None:
    """Return the window that all layers have, or None.

    Raises:
        ValueError: layers with different windows.
    """
    windows = set(windows_by_layer(config))
    if len(windows) > 1:
        raise ValueError(f"window must be the same in all layers, got {config['window']!r:.200}")
    return windows.pop()


def positions_by_layer(config: Mapping[str, Any]) -> list[Any]:
    """Return the positions of each layer of a model."""
    positions = config["positions"]
    is_one = isinstance(positions, str | Mapping)
    return [positions] * config["num_layers"] if is_one else list(positions)
