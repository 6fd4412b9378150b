"""Pixel normalization in ``preprocessor_config.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glassformer.files import atomic_write, read_json_object
from glassformer.pretrained.config_reader import ConfigReader

PREPROCESSOR_FILE = "preprocessor_config.json"
"""Name of the file, in the same folder as ``config.json``."""


def read_image_processor(folder: Path, image_size: int) -> dict[str, Any]:
    """Return the keywords ``pixel_mean`` and ``pixel_std``; empty if the folder has no such file.

    Args:
        folder: of the model.
        image_size: of the model.

    Raises:
        ValueError: preprocessing other than resizing to ``image_size``, rescaling to 0 to 1 and normalizing.
    """
    path = folder / PREPROCESSOR_FILE
    if not path.is_file():
        return {}
    config = ConfigReader(read_json_object(path), str(path))
    config.expect("do_resize", True)
    config.expect("do_center_crop", False)
    config.expect("resample", 2)
    config.expect("size", image_size, {"height": image_size, "width": image_size})
    factor = config.get_float("rescale_factor", default=1 / 255)
    factor = factor if config.get_bool("do_rescale", True) else 1.0
    if abs(factor * 255 - 1) > 1e-6:
        raise ValueError(f"{path}: rescale_factor = {factor} is not implemented, only 1 / 255")
    if not config.get_bool("do_normalize", True):
        return {"pixel_mean": 0.0, "pixel_std": 1.0}
    return {
        "pixel_mean": config.get_floats("image_mean", 0.5),
        "pixel_std": config.get_floats("image_std", 0.5),
    }


def write_image_processor(folder: Path, config: Mapping[str, Any]) -> None:
    """Write the file that ``read_image_processor`` and `transformers` read."""
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
