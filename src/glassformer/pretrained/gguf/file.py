"""The GGUF file format: metadata, and tensors that are dequantized when they are read."""

from __future__ import annotations

import math
import mmap
import struct
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from glassformer.pretrained.tensor_files import Shards, map_file
from glassformer.pretrained.weight_table import TensorReader
from glassformer.terminal import count_of

_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Formats of ``struct`` by type code: integers, floating-point numbers and booleans."""
_STRING, _ARRAY = 8, 9
_MIN_TENSOR_BYTES = 8 + 4 + 4 + 8
"""Size of a tensor's entry with an empty name and no dimensions: length, dimensions, type, offset."""
_MIN_METADATA_BYTES = 8 + 4 + 1
_MAX_DIMENSIONS = 4


def open_gguf(path: Path) -> tuple[dict[str, Any], TensorReader]:
    """Open a GGUF file, or all parts of a split one.

    Args:
        path: the file, or the first part.

    Returns:
        The metadata and the tensors.

    Raises:
        ImportError: the package ``gguf`` is not installed.
        FileNotFoundError: a part is missing.
        ValueError: a damaged file, or another part than the first.
    """
    first = GGUFFile(path)
    number, count = _split(first)
    if count < 2:
        return first.metadata, first
    ending = f"-00001-of-{count:05}.gguf"
    if number != 0 or not path.name.endswith(ending):
        raise ValueError(
            f"{path} is part {number + 1} of {count} of a split file: give the first part, whose name must "
            f"end in {ending}"
        )
    files = [first]
    for number in range(1, count):
        part = path.with_name(f"{path.name.removesuffix(ending)}-{number + 1:05}-of-{count:05}.gguf")
        if not part.is_file():
            raise FileNotFoundError(f"{path} is the first part of {count}, but {part} is missing")
        files.append(GGUFFile(part))
        if _split(files[-1]) != (number, count):
            raise ValueError(f"{part} is not part {number + 1} of the {count} parts of {path}")
    shards = Shards(path, files)
    expected = first.metadata.get("split.tensors.count", len(shards.shapes))
    if len(shards.shapes) != expected:
        raise ValueError(f"{path}: the parts hold {len(shards.shapes)} tensors, expected {expected}")
    return first.metadata, shards


def _split(file: GGUFFile) -> tuple[int, int]:
    """Return the number of a part, from 0, and the number of parts; 0 of a file that is not split."""
    number, count = (file.metadata.get(f"split.{key}", 0) for key in ("no", "count"))
    if type(number) is not int or type(count) is not int:
        raise ValueError(f"{file.source}: split.no and split.count must be ints, got {number!r}, {count!r}")
    return number, count


class GGUFFile:
    """Metadata and tensors of a GGUF file, a ``TensorReader``.

    Raises:
        ImportError: the package ``gguf`` is not installed.
        ValueError: the file is truncated or damaged.
    """

    def __init__(self, path: Path) -> None:
        self._gguf = import_gguf()
        self.source, self._path = str(path), path
        header = _HeaderReader(path)
        try:
            self.metadata, self._tensors = header.read(self._gguf.GGML_QUANT_SIZES)
        except RecursionError:
            raise ValueError(f"{path} is damaged: arrays are nested too deeply in its header") from None
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is damaged: a string in its header is not UTF-8: {error}") from None
        self.shapes = {name: tensor.shape for name, tensor in self._tensors.items()}
        self.dtypes = dict.fromkeys(self.shapes, torch.float32)

    def read(self, name: str, *, share_mapping: bool = False) -> Tensor:
        """Return a tensor in float32, memory-mapped if it is float32 in the file.

        Dequantized values are copied into memory allocated by PyTorch, because NumPy aligns to 16 bytes only,
        which makes matrix products slower.
        """
        shape, type_, start, size = self._tensors[name]
        if not size:
            return torch.empty(shape)
        share_mapping = share_mapping and type_ == self._gguf.GGMLQuantizationType.F32
        page = 0 if share_mapping else start - start % mmap.ALLOCATIONGRANULARITY
        mapped = self._whole if share_mapping else map_file(self._path, page, start - page + size)
        data = np.frombuffer(mapped, np.uint8, size, start - page)
        try:
            values = self._gguf.quants.dequantize(data.reshape(*shape[:-1], -1), type_)
        except NotImplementedError:
            raise ValueError(
                f"{self.source}: {name} has the type {type_.name}, which cannot be dequantized"
            ) from None
        read = torch.from_numpy(values).view(shape)
        return read if share_mapping else read.clone()

    @cached_property
    def _whole(self) -> mmap.mmap:
        return map_file(self._path)

    def release(self, name: str) -> None:
        """Do nothing: a tensor is read when it is requested."""


def import_gguf() -> ModuleType:
    """Return the package ``gguf``; raise ImportError, with how to install it, if it is missing."""
    try:
        import gguf
        import gguf.quants
    except ImportError as error:
        raise ImportError("GGUF files need the package gguf: pip install 'glassformer[gguf]'") from error
    return gguf


class _Tensor(NamedTuple):
    """Where a tensor is in a file: its first byte and its number of bytes."""

    shape: tuple[int, ...]
    type: Any
    start: int
    size: int


class _HeaderReader:
    """Reads a header; no count or length in it may exceed the file, so that little memory is used."""

    def __init__(self, path: Path) -> None:
        size = path.stat().st_size
        if size < 24:
            raise ValueError(f"{path} is truncated: a GGUF header has 24 bytes, got {size}")
        self.path, self.position = path, 4
        self.file = map_file(path)

    def read(self, type_sizes: dict[Any, tuple[int, int]]) -> tuple[dict[str, Any], dict[str, _Tensor]]:
        """Return the metadata and the tensors, which must fill the rest of the file.

        Args:
            type_sizes: values and bytes of one block of each type.
        """
        if self.file[:4] != b"GGUF":
            raise ValueError(f"{self.path} is not a GGUF file: it begins with {self.file[:4]!r}")
        version = self.number("I")
        if version not in (2, 3):  # the other byte order has the version in the upper bytes
            raise ValueError(f"{self.path} must be little-endian GGUF version 2 or 3, got version {version}")
        num_tensors, num_metadata = self.number("Q"), self.number("Q")
        self.require(num_tensors * _MIN_TENSOR_BYTES + num_metadata * _MIN_METADATA_BYTES, "header")
        metadata: dict[str, Any] = {}
        for _ in range(num_metadata):
            key = self.string("key")
            if key in metadata:
                raise self.damaged(f"the key {key!r} occurs twice")
            metadata[key] = self.value(self.number("I"))
        alignment = metadata.get("general.alignment", 32)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise self.damaged(f"general.alignment must be a power of two, got {alignment!r}")
        entries = [self.tensor_entry(type_sizes) for _ in range(num_tensors)]
        end = start = self.position + -self.position % alignment if entries else self.position
        tensors: dict[str, _Tensor] = {}
        for name, shape, type_, offset, size in entries:
            expected = end + -end % alignment
            if name in tensors or start + offset != expected:
                problem = "occurs twice" if name in tensors else f"begins at byte {start + offset}"
                raise self.damaged(f"the tensor {name!r} {problem}, expected one at byte {expected}")
            tensors[name] = _Tensor(shape, type_, start + offset, size)
            end = start + offset + size
        self.position = start
        self.require(end - start, "tensor data")
        if len(self.file) > end + -end % alignment:
            raise self.damaged(f"{count_of(len(self.file) - end, 'byte')} after its last tensor")
        return metadata, tensors

    def tensor_entry(
        self, type_sizes: dict[Any, tuple[int, int]]
    ) -> tuple[str, tuple[int, ...], Any, int, int]:
        """Return name, shape, type, offset and number of bytes of a tensor."""
        name, dimensions = self.string("tensor name"), self.number("I")
        if dimensions > _MAX_DIMENSIONS:
            raise self.damaged(f"the tensor {name!r} has {dimensions} dimensions")
        shape = tuple(reversed(self.numbers("Q", dimensions, "shape")))
        code, offset = self.number("I"), self.number("Q")
        type_ = next((type_ for type_ in type_sizes if int(type_) == code), None)
        if type_ is None:
            raise ValueError(f"{self.path}: {name} has the type {code}, which is not implemented")
        block, block_size = type_sizes[type_]
        if (shape[-1] if shape else 1) % block:
            raise self.damaged(f"the rows of the tensor {name!r} are no multiple of {block} values: {shape}")
        return name, shape, type_, offset, math.prod(shape) // block * block_size

    def value(self, kind: int) -> Any:
        """Return a value of the metadata."""
        if kind in _FORMATS:
            return self.number(_FORMATS[kind])
        if kind == _STRING:
            return self.string("string")
        if kind != _ARRAY:
            raise self.damaged(f"unknown value type {kind} in its header")
        inner, count = self.number("I"), self.number("Q")
        if inner in _FORMATS:
            return self.numbers(_FORMATS[inner], count, f"array of {count} values")
        self.require(8 * count, f"array of {count} strings")  # a string has at least its length
        return [self.value(inner) for _ in range(count)]

    def number(self, form: str) -> Any:
        return self.numbers(form, 1, "number")[0]

    def numbers(self, form: str, count: int, what: str) -> list[Any]:
        size = count * struct.calcsize(f"<{form}")
        self.require(size, what)
        values = struct.unpack_from(f"<{count}{form}", self.file, self.position)
        self.position += size
        return list(values)

    def string(self, what: str) -> str:
        size = self.number("Q")
        self.require(size, what)
        self.position += size
        return self.file[self.position - size : self.position].decode("utf-8")

    def require(self, size: int, what: str) -> None:
        left = max(len(self.file) - self.position, 0)
        if size > left:
            raise ValueError(
                f"{self.path} is truncated or damaged: {what} has {size} bytes, but only {left} are left"
            )

    def damaged(self, problem: str) -> ValueError:
        return ValueError(f"{self.path} is damaged: {problem}")
