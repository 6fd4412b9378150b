"""Image classification, with random shifts and rotations of the training images."""

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
from glassformer.data.batch_sampler import BatchSampler, random_numbers
from glassformer.data.batches import Batch, batched
from glassformer.data.images import Images, read_images
from glassformer.training.config import TrainingConfig
from glassformer.training.task import Evaluate, PreparedTask
from glassformer.training.text_classification import Classification, evaluate_classifier


@dataclass(frozen=True)
class ImageClassification(Classification):
    """Classification of images with pixel values from 0 to 1, normalized as the model expects."""

    def logits(self, model: Any, batch: Batch) -> Tensor:
        """Logits ``(batch, labels)`` of ``images``."""
        logits: Tensor = model(model.normalize(batch.tensors["images"]))
        return logits


class ImageBatches:
    """Batches of randomly shifted and rotated images.

    Args:
        images: the training split.
        batch_size: images per batch.
        seed: seed of the order, the shifts and the rotations.
        max_shift: largest shift in each direction, in pixels.
        max_rotation: largest rotation in either direction, in degrees.
    """

    def __init__(
        self, images: Images, batch_size: int, seed: int, max_shift: float = 0.0, max_rotation: float = 0.0
    ) -> None:
        self.images, self.seed = images, seed
        self.max_shift, self.max_rotation = max_shift, max_rotation
        self.epochs = BatchSampler(len(images), batch_size, seed)

    def batch(self, step: int) -> Batch:
        """``images`` ``(batch, channel, height, width)`` from 0 to 1, and ``labels`` ``(batch,)``."""
        batch = image_batch(self.images.select(self.epochs.batch(step)))
        if not self.max_shift and not self.max_rotation:
            return batch
        pixels = batch.tensors["images"]
        draws = torch.from_numpy(random_numbers(3 * len(pixels), self.seed, step, 4)).view(-1, 3) * 2 - 1
        moved = shift_and_rotate(pixels, draws[:, :2] * self.max_shift, draws[:, 2] * self.max_rotation)
        return Batch({**batch.tensors, "images": moved})


def shift_and_rotate(pixels: Tensor, shift: Tensor, degrees: Tensor) -> Tensor:
    """Rotate images about their center, then shift them, with bilinear interpolation and zero padding.

    Args:
        pixels: ``(batch, channel, height, width)``.
        shift: pixels to the right and down, ``(batch, 2)``.
        degrees: counterclockwise rotation, ``(batch,)``.
    """
    height, width = pixels.shape[-2:]
    angle = degrees * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    x, y = shift[:, 0], shift[:, 1]
    # affine_grid maps output to input coordinates, both from -1 to 1 over the image.
    rows = (
        torch.stack((cos, -sin * height / width, (-x * cos + y * sin) * 2 / width), dim=-1),
        torch.stack((sin * width / height, cos, (-x * sin - y * cos) * 2 / height), dim=-1),
    )
    theta = torch.stack(rows, dim=1).to(pixels.dtype)  # (batch, 2, 3)
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, align_corners=False)


def image_batch(images: Images) -> Batch:
    """A batch of images."""
    return Batch({"images": torch.from_numpy(images.pixels), "labels": torch.from_numpy(images.labels)})


class ImageClassificationTask:
    """Predict the class of an image."""

    family = "vit"

    def placeholder_keywords(self, config: TrainingConfig) -> dict[str, Any]:
        """Images of a single patch."""
        patch_size = config.model.options.get("patch_size", 16)
        return {"image_size": patch_size, "num_channels": 1, "labels": 2, "head": "classification"}

    def prepare(
        self, config: TrainingConfig, tokenizer: Tokenizer | None, console: Console | None
    ) -> PreparedTask:
        """Read the images of all splits."""
        data, task = config.data, config.task
        images = read_images(data.source, data.folder, data.fractions, data.split_seed)
        training = images["train"]
        num_classes = 1 + max(int(split.labels.max()) for split in images.values() if len(split))
        height, width = training.pixels.shape[2:]
        if height != width:
            raise ValueError(f"{data.source}: images must be square, got {height} x {width}")

        def evaluation(split: Images) -> Evaluate | None:
            if not len(split):
                return None
            groups = batched(np.arange(len(split)), config.evaluation.batch_size)
            batches = [image_batch(split.select(group)) for group in groups]
            return lambda model: evaluate_classifier(model, batches, ImageClassification())

        return PreparedTask(
            ImageClassification(task.label_smoothing),
            ImageBatches(training, config.batch_size, config.seed, task.max_shift, task.max_rotation),
            hashlib.blake2b(
                training.pixels.tobytes() + training.labels.tobytes(), digest_size=16
            ).hexdigest(),
            {
                "image_size": height,
                "num_channels": training.pixels.shape[1],
                "labels": [str(number) for number in range(num_classes)],
                "head": "classification",
                "pixel_mean": 0.0,
                "pixel_std": 1.0,
            },
            evaluate=evaluation(images["validation"]),
            test=evaluation(images["test"]),
        )
