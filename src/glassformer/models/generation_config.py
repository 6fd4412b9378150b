"""Ids of special tokens and defaults of generation that come with a published model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from glassformer.files import atomic_write, read_json_object

GENERATION_CONFIG_FILE = "generation_config.json"
"""File of the defaults of generation."""


def read_generation_config(folder: Path) -> dict[str, Any]:
    """Return the content of ``generation_config.json``, empty without that file.

    Raises:
        ValueError: the file is damaged, or an id in it is not one.

    """
    path = folder / GENERATION_CONFIG_FILE
    if not path.exists():
        return {}
    config = read_json_object(path)
    select_token_ids(config, path)  # checks them
    return config


def write_generation_config(config: Mapping[str, Any], folder: Path) -> None:
    """Write ``generation_config.json``, or remove that of another model if there is nothing to write."""
    path = folder / GENERATION_CONFIG_FILE
    if config:
        atomic_write(path, json.dumps(config, indent=2) + "\n")
    else:
        path.unlink(missing_ok=True)


def select_token_ids(config: Mapping[str, Any], source: object) -> dict[str, Any]:
    """Return ``bos_token_id``, ``eos_token_id`` and the like: each an id, a list of ids, or None.

    Args:
        config: content of a config file.
        source: of the config, for error messages.

    Raises:
        ValueError: a value of another type.

    """
    token_ids = {name: value for name, value in config.items() if name.endswith("_token_id")}
    for name, value in token_ids.items():
        if not all(type(token) is int for token in _ids_of(value)):
            raise ValueError(
                f"{source}: {name:.100} must be a token id, a list of them, or null, got {value!r:.200}"
            )
    return token_ids


def known_token_ids(name: str, vocab_size: int, *configs: Mapping[str, Any]) -> list[int]:
    """Return the ids under a name in the first config that has some, without those outside the vocabulary."""
    for config in configs:
        if ids := [token for token in _ids_of(config.get(name)) if 0 <= token < vocab_size]:
            return list(dict.fromkeys(ids))
    return []


def _ids_of(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        yield from value
    elif value is not None:
        yield value
