"""``preprocessor_config.json``: how a published model wants the pixels of its images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glassformer.files import atomic_write
from glassformer.pretrained.configs import ConfigReader, read_config

PREPROCESSOR_FILE = "preprocessor_config.json"
"""The file beside ``config.json``."""


def read_pixels(folder: Path, side: int) -> dict[str, Any]:
    """The keywords ``pixel_mean`` and ``pixel_std``, or none where the folder does not say.

    Args:
        folder: of the model.
        side: the model's ``image_size``.

    Raises:
        ValueError: images that are not resized to that size, pixels that are not brought to 0 to 1 first, or
            a mean or deviation that is none.

    """
    path = folder / PREPROCESSOR_FILE
    if not path.is_file():
        return {}
    config = ConfigReader(read_config(path), str(path))
    config.expect("do_resize", True)
    config.expect("do_center_crop", False)
    config.expect("resample", 2)
    config.expect("size", side, {"height": side, "width": side})
    factor = config.number("rescale_factor", default=1 / 255) if config.flag("do_rescale", True) else 1.0
    if abs(factor * 255 - 1) > 1e-6:
        raise ValueError(f"{path}: pixels rescaled by {factor} are not implemented, only by 1 / 255")
    if not config.flag("do_normalize", True):
        return {"pixel_mean": 0.0, "pixel_std": 1.0}
    return {
        "pixel_mean": config.numbers("image_mean", 0.5),
        "pixel_std": config.numbers("image_std", 0.5),
    }


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
