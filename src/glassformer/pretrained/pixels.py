"""``preprocessor_config.json``: how a published model wants the pixels of its images."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glassformer.files import atomic_write
from glassformer.pretrained.configs import read_config

PREPROCESSOR_FILE = "preprocessor_config.json"
"""The file beside ``config.json``."""


def read_pixels(folder: Path) -> dict[str, Any]:
    """The keywords ``pixel_mean`` and ``pixel_std``, or none where the folder does not say.

    Raises:
        ValueError: pixels that are not brought to 0 to 1 first, or a mean or deviation that is none.

    """
    path = folder / PREPROCESSOR_FILE
    if not path.is_file():
        return {}
    values = read_config(path)
    for key, allowed in {"do_resize": True, "do_center_crop": False, "resample": 2}.items():
        if values.get(key, allowed) not in (allowed, None):
            raise ValueError(f"{path}: {key} = {values[key]!r} is not implemented, only {allowed!r}")
    factor = values.get("rescale_factor", 1 / 255) if values.get("do_rescale", True) else 1.0
    if not _is_number(factor) or abs(factor * 255 - 1) > 1e-6:
        raise ValueError(f"{path}: pixels rescaled by {factor} are not implemented, only by 1 / 255")
    if not values.get("do_normalize", True):
        return {"pixel_mean": 0.0, "pixel_std": 1.0}
    keywords = {}
    for ours, theirs in (("pixel_mean", "image_mean"), ("pixel_std", "image_std")):
        given = values.get(theirs, 0.5)
        numbers = given if isinstance(given, list) else [given]
        if not all(map(_is_number, numbers)):
            raise ValueError(f"{path}: {theirs} must be numbers, not {given!r}")
        keywords[ours] = given
    return keywords


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def write_pixels(folder: Path, config: Mapping[str, Any]) -> None:
    """What ``read_pixels`` and `transformers` read."""
    side = config["image_size"]
    values = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": config["pixel_mean"],
        "image_std": config["pixel_std"],
    }
    atomic_write(folder / PREPROCESSOR_FILE, json.dumps(values, indent=2) + "\n")
