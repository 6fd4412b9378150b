"""Differences between a stored run and the process that is to resume it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from glassformer.files import read_json_object
from glassformer.models import TransformerModel
from glassformer.terminal import count_of
from glassformer.training.checkpoints import Checkpoints
from glassformer.training.config import CHANGEABLE_ON_RESUME, TrainingConfig
from glassformer.training.config_files import differences, load_config, parse_config

NUMERICS = frozenset(
    {"torch", "device", "threads", "cpu_capability", "dtype", "backends", "float32_matmul_precision"}
)
"""Keys of the environment on which the rounding of a run depends."""
DATA = {"tokens": "training data", "held_out": "validation or test data", "tokenizer": "tokenizer"}
"""What the hashes in ``data.json`` are of."""

Rows = list[dict[str, Any]]
"""Content of a ``JsonLines`` file."""


def changes_since(
    path: Path, config: TrainingConfig, environment: Mapping[str, Any], rows: Mapping[str, Rows]
) -> tuple[list[str], list[str]]:
    """What has changed since the last checkpoint of a run, in words.

    Args:
        path: the run folder.
        config: of the process that resumes the run.
        environment: of the same process.
        rows: rows of the metrics and the samples by the name of their file.

    Returns:
        Changes that change the result of the run, and those that do not.

    Raises:
        ValueError: the run has made more updates than ``config.steps``, or a file is damaged.
    """
    state = Checkpoints(path / "checkpoints").newest_state()
    if state is None:  # nothing has been computed yet that could be lost
        return _config_changes(load_config(path / "config.toml", TrainingConfig()), config), []
    progress, settings = state["progress"], state["settings"]
    if progress["step"] > config.steps:
        raise ValueError(
            f"the run in {path} has already made {count_of(progress['step'], 'update')}:"
            f" steps must be at least that, got {config.steps}"
        )
    if "config" in settings:
        stored = parse_config(settings["config"], TrainingConfig(), "the config of the last checkpoint")
    else:  # a checkpoint of version 0.1
        stored = load_config(path / "config.toml", TrainingConfig())
    changed = _config_changes(stored, config)
    notes: list[str] = []
    before = recorded_environment(path) or {}
    for key, value in environment.items():
        if key in before and before[key] != value:
            change = _difference(key, before[key], value)
            (changed if key in NUMERICS else notes).append(change)
    for name, count in settings.get("rows", {}).items():
        now = sum(row["step"] <= progress["step"] for row in rows.get(name, ()))
        if now != count:
            changed.append(f"{name} had {count_of(count, 'row')} up to step {progress['step']}, now {now}")
    return changed, notes


def recorded_environment(path: Path) -> dict[str, Any] | None:
    """The environment of a run at its last checkpoint, or when it was started.

    It is empty for a run whose checkpoint has none, and None if nothing has been computed yet.

    Raises:
        ValueError: it is no JSON object.
    """
    state = Checkpoints(path / "checkpoints").newest_state()
    recorded = None if state is None else state["settings"].get("environment", {})
    if not recorded and (path / "environment.json").exists():
        recorded = read_json_object(path / "environment.json")
    if recorded is not None and not isinstance(recorded, dict):
        raise ValueError(f"the environment of the last checkpoint must be an object, got {recorded!r:.100}")
    return recorded


def _difference(key: str, before: Any, now: Any) -> str:
    """What has changed, in words; of two objects only the entries that differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        names = [name for name in now if before.get(name) != now[name]]
        return f"{key}: {', '.join(f'{n} was {before.get(n)!r}, now {now[n]!r}' for n in names)}"
    return f"{key} was {before!r}, now {now!r}"


def model_changes(checkpoint: Path, model: TransformerModel) -> list[str]:
    """Hyperparameters of a model that differ from those in a checkpoint, such as those of ``start_from``."""
    with suppress(ValueError, OSError):  # a damaged checkpoint is reported when it is restored
        before = TransformerModel.from_pretrained(checkpoint)
        if type(before) is type(model):
            old, new = (json.loads(json.dumps(dict(m.config))) for m in (before, model))
            return [f"{name} was {old[name]!r}, now {new[name]!r}" for name in new if old[name] != new[name]]
    return []


def data_changes(before: Mapping[str, Any], now: Mapping[str, str]) -> list[str]:
    """Hashes of data that differ. Those that version 0.1 did not store are not compared."""
    return [
        f"the {DATA.get(name, name)} changed (hash {before[name]}, now {key})"
        for name, key in now.items()
        if name in before and before[name] != key
    ]


def _config_changes(stored: TrainingConfig, config: TrainingConfig) -> list[str]:
    return [
        f"{key} was {before!r}, now {now!r}"
        for key, (before, now) in differences(stored, config).items()
        if key not in CHANGEABLE_ON_RESUME
    ]
