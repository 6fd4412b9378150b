"""What a model reads when it is shown an image: pixels, and what had to be done to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from glassformer.models import TransformerModel

Picture = str | Path | Image.Image | npt.NDArray[np.generic] | Tensor
"""A file, an image of Pillow's, an array ``(height, width)`` or ``(height, width, 3)``, or a tensor."""


BEYOND = 0.25
"""How far outside 0 to 1 the values of an image may lie, by rounding or sharpening."""


@runtime_checkable
class ReadsImages(Protocol):
    """A model that cuts images into patches."""

    num_channels: int
    patch_size: int

    def grid(self, pixel_values: Tensor) -> tuple[int, int]:
        """Rows and columns of patches."""
        ...

    def normalize(self, images: Tensor) -> Tensor:
        """Pixel values of images whose values go from 0 to 1."""
        ...


@dataclass(frozen=True)
class ImageReading:
    """An image as a model reads it."""

    pixel_values: Tensor
    """``(1, channel, height, width)``."""
    grid: tuple[int, int]
    """Rows and columns of patches."""
    notes: tuple[str, ...] = ()
    """What a reader of the result should know: that the image was resized, or put on white."""
    ends: tuple[Tensor, Tensor] | None = None
    """What the model reads where an image is black, and where it is white, ``(channel, 1, 1)``."""

    def shown(self) -> npt.NDArray[np.float32]:
        """The image for the eye, ``(height, width, 3)`` between 0 and 1: what the model was given.

        Pixel values are brought back to those of an image; where they cannot have been made of one, they are
        stretched from the least to the greatest.
        """
        pixels = self.pixel_values[0].float().cpu()
        if self.ends is not None:
            black, white = (end.float().cpu() for end in self.ends)
            image = (pixels - black) / (white - black)
        if self.ends is None or image.min() < -BEYOND or image.max() > 1 + BEYOND:
            low, high = pixels.min(), pixels.max()
            image = (pixels - low) / (high - low).clamp(min=1e-12)
        pixels = image.clamp(0, 1)
        three = pixels if len(pixels) == 3 else pixels.mean(0, keepdim=True).expand(3, -1, -1)
        shown: npt.NDArray[np.float32] = three.permute(1, 2, 0).numpy()
        return shown


def read_image(model: TransformerModel, image: Picture) -> ImageReading:
    """Turn an image into what the model reads.

    A tensor holds pixel values already, and is read as it is. Anything else becomes grey or coloured as the
    model has one channel or three, is turned upright as its EXIF says, what is transparent becomes white,
    and it is resized to the model's ``image_size``; its values, 0 to 255 (or 0 to 1, in an array of
    floating-point numbers), are normalized as the model wants them. The notes say what was done.

    Args:
        model: one that reads images.
        image: a file, an image of Pillow's, an array ``(height, width)`` or ``(height, width, 3)``, or a
            tensor ``(channel, height, width)``, with or without a batch of one before it.

    Raises:
        ValueError: an array or tensor of another shape.
        TypeError: a model that reads no images, or what is no image.
        OSError: a file that is missing, or holds no image.
    """
    if not isinstance(model, ReadsImages):
        raise TypeError(f"a {type(model).__name__} reads no images: give it a text")
    notes: tuple[str, ...] = ()
    if isinstance(image, Tensor):
        pixels = image if image.dim() == 4 else image[None]
        if len(pixels) != 1:
            raise ValueError(f"give one image at a time, not {len(pixels)}")
    else:
        array, mode, notes = _opened(image)
        wanted = "L" if model.num_channels == 1 else "RGB"
        if mode != wanted:
            notes += (f"converted from {mode} to {wanted}",)
        pixels = model.normalize(_pixels(array, model.num_channels))
        (height, width), side = pixels.shape[2:], int(model.config["image_size"])
        if (height, width) != (side, side):
            pixels = F.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
            how = "resized" if height == width else "stretched"
            notes += (f"{how} from {height} x {width} to {side} x {side} pixels",)
    if pixels.is_floating_point():  # else the model refuses them
        pixels = pixels.to(next(model.parameters()))
    black, white = (model.normalize(torch.full((1, model.num_channels, 1, 1), end))[0] for end in (0.0, 1.0))
    return ImageReading(pixels, model.grid(pixels), notes, (black, white))


def _opened(image: object) -> tuple[npt.NDArray[np.generic], str, tuple[str, ...]]:
    """An image as an array ``(height, width)`` or ``(height, width, 3)``, its mode, and notes."""
    if isinstance(image, str | Path):
        with Image.open(image) as file:
            return _values(file)
    if isinstance(image, Image.Image):
        return _values(image)
    if not isinstance(image, np.ndarray):
        raise TypeError(f"an image is a file, an array or a tensor, not {type(image).__name__}")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        raise ValueError(f"an array of an image is (height, width) or (height, width, 3), not {image.shape}")
    return image, "RGB" if image.shape[2:] == (3,) else "L", ()


def _values(file: Image.Image) -> tuple[npt.NDArray[np.generic], str, tuple[str, ...]]:
    """What is in an image file: 8 bits a value, or fractions where there are 16; its mode, and notes."""
    notes: tuple[str, ...] = ()
    mode, frames = file.mode, int(getattr(file, "n_frames", 1))
    if frames > 1:
        place = "first frame" if file.tell() == 0 else f"frame {file.tell() + 1}"
        notes += (f"{place} of {frames}",)
    if file.getexif().get(ExifTags.Base.Orientation) in range(2, 9):
        file = ImageOps.exif_transpose(file)
        notes += ("turned upright as its EXIF says",)
    if mode.startswith("I"):
        return np.asarray(file, dtype=np.float32) / 65535, mode, notes
    if mode == "F":
        raise ValueError(
            "an image of floating-point values says not where white is: give an array from 0 to 1"
        )
    if file.has_transparency_data and _least(file.convert("RGBA").getchannel("A")) < 255:
        on_white = Image.new("RGBA", file.size, "white")
        on_white.alpha_composite(file.convert("RGBA"))
        file = on_white
        notes += ("what is transparent was put on white",)
    return np.asarray(file.convert("L" if mode in ("1", "L", "LA") else "RGB")), mode, notes


def _least(channel: Image.Image) -> int:
    return int(np.asarray(channel).min(initial=255))


def _pixels(array: npt.NDArray[np.generic], channels: int) -> Tensor:
    """Values ``(1, channel, height, width)`` from 0 to 1."""
    pixels = torch.tensor(array[..., None] if array.ndim == 2 else array).permute(2, 0, 1)[None]
    pixels = pixels.float() if pixels.is_floating_point() else pixels / 255
    if pixels.numel() == 0 or pixels.min() < 0 or pixels.max() > 1:
        raise ValueError("an array of an image holds numbers from 0 to 255, or fractions from 0 to 1")
    if channels == 3 or pixels.size(1) == channels:
        return pixels.expand(-1, channels, -1, -1)
    if channels != 1:
        raise ValueError(f"an image becomes grey or coloured; for {channels} channels give a tensor")
    luminance = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)  # ITU-R BT.601
    return (pixels * luminance).sum(1, keepdim=True)
