"""Images as model inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from glassformer.files import open_image
from glassformer.models import TransformerModel, ViTModel

ImageSource = str | Path | Image.Image | npt.NDArray[np.generic] | Tensor
"""A file, a Pillow image, an array ``(height, width)`` or ``(height, width, 3)``, or a tensor."""

RANGE_TOLERANCE = 0.25
"""How far image values may lie outside 0 to 1, because of rounding or sharpening."""


@dataclass(frozen=True)
class PreprocessedImage:
    """An image as the pixel values that a model is given."""

    pixel_values: Tensor
    """``(1, channel, height, width)``."""
    grid: tuple[int, int]
    """Rows and columns of patches."""
    notes: tuple[str, ...] = ()
    """Remarks to show with a result, such as that the image was resized."""
    black_and_white: tuple[Tensor, Tensor] | None = None
    """The pixel values of black and of white, ``(channel, 1, 1)`` each."""

    def to_rgb(self) -> npt.NDArray[np.float32]:
        """The image for display, ``(height, width, 3)`` between 0 and 1.

        The normalization of the pixel values is undone. Pixel values that cannot come from an image are
        scaled so that the least is 0 and the greatest is 1.
        """
        pixels = self.pixel_values[0].float().cpu()
        low, high = pixels.min(), pixels.max()
        image = (pixels - low) / (high - low).clamp(min=1e-12)
        if self.black_and_white is not None:
            black, white = (values.float().cpu() for values in self.black_and_white)
            original = (pixels - black) / (white - black)
            if original.min() >= -RANGE_TOLERANCE and original.max() <= 1 + RANGE_TOLERANCE:
                image = original
        pixels = image.clamp(0, 1)
        channels = pixels if len(pixels) == 3 else pixels.mean(0, keepdim=True).expand(3, -1, -1)
        rgb: npt.NDArray[np.float32] = channels.permute(1, 2, 0).numpy()
        return rgb


def preprocess_image(model: TransformerModel, image: ImageSource) -> PreprocessedImage:
    """Convert, resize and normalize an image for a model.

    A tensor is taken as pixel values and not changed. Any other image is rotated as its EXIF orientation
    says, put on white where it is transparent, converted to grey or RGB for a model of one or of three
    channels, resized to the model's ``image_size``, and normalized. The notes list what was done.

    Args:
        model: a model of images.
        image: a file, a Pillow image, an array ``(height, width)`` or ``(height, width, 3)`` of integers
            from 0 to 255 or of floats from 0 to 1, or a tensor ``(channel, height, width)``, with or without
            a batch dimension of 1.

    Raises:
        ValueError: an array or tensor of another shape, a damaged file, or more pixels than
            ``files.MAX_PIXELS``.
        TypeError: a model that takes no images, or something that is not an image.
        OSError: the file is missing or is not an image.
    """
    if model.main_input_name != "pixel_values":
        raise TypeError(f"a {type(model).__name__} takes no images: give it a text")
    vit = cast(ViTModel, model)
    notes: tuple[str, ...] = ()
    if isinstance(image, Tensor):
        pixels = image if image.dim() == 4 else image[None]
        if len(pixels) != 1:
            raise ValueError(f"give one image at a time, not {len(pixels)}")
    else:
        array, mode, notes = _open(image)
        wanted = "L" if vit.num_channels == 1 else "RGB"
        if mode != wanted:
            notes += (f"converted from {mode} to {wanted}",)
        pixels = vit.normalize(_pixels(array, vit.num_channels))
        (height, width), side = pixels.shape[2:], int(model.config["image_size"])
        if (height, width) != (side, side):
            pixels = F.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
            how = "resized" if height == width else "stretched"
            notes += (f"{how} from {height} x {width} to {side} x {side} pixels",)
    if pixels.is_floating_point():  # the model raises an error for integers
        pixels = pixels.to(next(model.parameters()))
    black, white = (vit.normalize(torch.full((1, vit.num_channels, 1, 1), end))[0] for end in (0.0, 1.0))
    return PreprocessedImage(pixels, vit.grid(pixels), notes, (black, white))


def _open(image: object) -> tuple[npt.NDArray[np.generic], str, tuple[str, ...]]:
    """An image as an array ``(height, width)`` or ``(height, width, 3)``, its mode, and notes."""
    if isinstance(image, str | Path):
        with open_image(image) as file:
            return _pillow_values(file)
    if isinstance(image, Image.Image):
        return _pillow_values(image)
    if not isinstance(image, np.ndarray):
        raise TypeError(f"an image must be a file, an array or a tensor, not {type(image).__name__}")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        raise ValueError(f"an image array must be (height, width) or (height, width, 3), not {image.shape}")
    return image, "RGB" if image.shape[2:] == (3,) else "L", ()


def _pillow_values(file: Image.Image) -> tuple[npt.NDArray[np.generic], str, tuple[str, ...]]:
    """The values of a Pillow image (8 bits, or 16 bits as floats from 0 to 1), its mode, and notes."""
    notes: tuple[str, ...] = ()
    mode, frames = file.mode, int(getattr(file, "n_frames", 1))
    if frames > 1:
        place = "first frame" if file.tell() == 0 else f"frame {file.tell() + 1}"
        notes += (f"{place} of {frames}",)
    if file.getexif().get(ExifTags.Base.Orientation) in range(2, 9):
        file = ImageOps.exif_transpose(file)
        notes += ("rotated by its EXIF orientation",)
    if mode.startswith("I"):
        return np.asarray(file, dtype=np.float32) / 65535, mode, notes
    if mode == "F":
        raise ValueError(
            "the range of an image of floating-point values is not known: give an array of values from 0 to 1"
        )
    if file.has_transparency_data and np.asarray(file.convert("RGBA").getchannel("A")).min(initial=255) < 255:
        on_white = Image.new("RGBA", file.size, "white")
        on_white.alpha_composite(file.convert("RGBA"))
        file = on_white
        notes += ("transparent areas were filled with white",)
    return np.asarray(file.convert("L" if mode in ("1", "L", "LA") else "RGB")), mode, notes


def _pixels(array: npt.NDArray[np.generic], channels: int) -> Tensor:
    """Pixel values ``(1, channel, height, width)`` from 0 to 1."""
    pixels = torch.tensor(array[..., None] if array.ndim == 2 else array).permute(2, 0, 1)[None]
    pixels = pixels.float() if pixels.is_floating_point() else pixels / 255
    if pixels.numel() == 0 or pixels.min() < 0 or pixels.max() > 1:
        raise ValueError("an image array must hold integers from 0 to 255, or floats from 0 to 1")
    if channels == 3 or pixels.size(1) == channels:
        return pixels.expand(-1, channels, -1, -1)
    if channels != 1:
        raise ValueError(f"an image file or array has 1 or 3 channels: for {channels} channels give a tensor")
    luminance = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)  # ITU-R BT.601
    return (pixels * luminance).sum(1, keepdim=True)
