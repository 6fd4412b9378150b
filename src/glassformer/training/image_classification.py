"""Image classification: what is on an image."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from glassformer.contracts import Tokenizer
from glassformer.data.epochs import Epochs, random_numbers
from glassformer.data.examples import Batch, in_groups
from glassformer.data.images import Images, read_images
from glassformer.training.config import TrainingConfig
from glassformer.training.task import Figures, Prepared
from glassformer.training.text_classification import Classification, classification_figures


@dataclass(frozen=True)
class ImageClassification(Classification):
    """The same of images from 0 to 1, brought to the scale that the model reads pixels in."""

    def logits(self, model: Any, batch: Batch) -> Tensor:
        """What a model makes of ``images``, ``(batch, labels)``."""
        logits: Tensor = model(model.normalize(batch.tensors["images"]))
        return logits


class ImageBatches:
    """Batches of images, moved and turned a little at random; each a function of its number alone.

    Args:
        images: of the training split.
        batch_size: images of a batch.
        seed: of their order, and of how they are moved.
        max_shift: pixels, in both directions.
        max_rotation: degrees, both ways.

    """

    def __init__(
        self, images: Images, batch_size: int, seed: int, max_shift: float = 0.0, max_rotation: float = 0.0
    ) -> None:
        self.images, self.seed = images, seed
        self.max_shift, self.max_rotation = max_shift, max_rotation
        self.epochs = Epochs(len(images), batch_size, seed)

    def batch(self, step: int) -> Batch:
        """``images`` ``(batch, channel, height, width)`` from 0 to 1, and ``labels`` ``(batch,)``."""
        batch = image_batch(self.images.take(self.epochs.batch(step)))
        if not self.max_shift and not self.max_rotation:
            return batch
        pixels = batch.tensors["images"]
        numbers = torch.from_numpy(random_numbers(3 * len(pixels), self.seed, step, 4)).view(-1, 3) * 2 - 1
        moved = move(pixels, numbers[:, :2] * self.max_shift, numbers[:, 2] * self.max_rotation)
        return Batch({**batch.tensors, "images": moved})


def move(pixels: Tensor, shift: Tensor, degrees: Tensor) -> Tensor:
    """Images turned about their middle and then moved, with bilinear interpolation and zeros from outside.

    Args:
        pixels: ``(batch, channel, height, width)``.
        shift: pixels to the right and down, ``(batch, 2)``.
        degrees: anticlockwise, ``(batch,)``.

    """
    height, width = pixels.shape[-2:]
    angle = degrees * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    x, y = shift[:, 0], shift[:, 1]
    # Where each pixel of the result comes from, in units of half a width and half a height from the middle.
    rows = (
        torch.stack((cos, -sin * height / width, (-x * cos + y * sin) * 2 / width), dim=-1),
        torch.stack((sin * width / height, cos, (-x * sin - y * cos) * 2 / height), dim=-1),
    )
    theta = torch.stack(rows, dim=1).to(pixels.dtype)  # (batch, 2, 3)
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, align_corners=False)


def image_batch(images: Images) -> Batch:
    """Images as one batch."""
    return Batch({"images": torch.from_numpy(images.pixels), "labels": torch.from_numpy(images.labels)})


class ImageClassificationTask:
    """Tell what is on an image."""

    family = "vit"

    def placeholders(self, config: TrainingConfig) -> dict[str, Any]:
        """Images that every patch fills."""
        patch = config.model.options.get("patch_size", 16)
        return {"image_size": patch, "num_channels": 1, "labels": 2, "head": "classification"}

    def prepare(
        self, config: TrainingConfig, tokenizer: Tokenizer | None, console: Console | None
    ) -> Prepared:
        """Images of each split."""
        data, task = config.data, config.task
        images = read_images(data.source, data.folder, data.fractions, data.split_seed)
        training = images["train"]
        classes = 1 + max(int(part.labels.max()) for part in images.values() if len(part))
        height, width = training.pixels.shape[2:]
        if height != width:
            raise ValueError(f"{data.source}: images must be square, not {height} x {width}")
        size = config.evaluation.batch_size
        return Prepared(
            ImageClassification(task.label_smoothing),
            ImageBatches(training, config.batch_size, config.seed, task.max_shift, task.max_rotation),
            hashlib.blake2b(
                training.pixels.tobytes() + training.labels.tobytes(), digest_size=16
            ).hexdigest(),
            {
                "image_size": height,
                "num_channels": training.pixels.shape[1],
                "labels": [str(number) for number in range(classes)],
                "head": "classification",
                "pixel_mean": 0.0,
                "pixel_std": 1.0,
            },
            evaluate=_figures(images["validation"], size) if len(images["validation"]) else None,
            test=_figures(images["test"], size) if len(images["test"]) else None,
        )


def _figures(images: Images, batch_size: int) -> Figures:
    places = in_groups(np.arange(len(images)), batch_size)
    batches = [image_batch(images.take(group)) for group in places]
    return lambda model: classification_figures(model, batches, ImageClassification())
