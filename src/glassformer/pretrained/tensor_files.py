"""Tensor files: memory-mapped safetensors, ``pytorch_model.bin`` of tensors only, and shards."""

from __future__ import annotations

import json
import mmap
import os
import pickle
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from glassformer.pretrained.weight_table import TensorReader

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class SafetensorsFile:
    """Tensors of one safetensors file.

    Raises:
        ValueError: the file is truncated or damaged, or its header is inconsistent.
    """

    def __init__(self, path: Path) -> None:
        self.source, self._path = str(path), path
        try:
            with safe_open(path, framework="pt"), path.open("rb") as file:  # the library validates all sizes
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length))
        except (SafetensorError, OSError, ValueError) as error:
            raise ValueError(f"{path} is damaged, or not a safetensors file: {error}") from error
        header.pop("__metadata__", None)
        self.shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
        self.dtypes = {name: _dtype(path, name, entry["dtype"]) for name, entry in header.items()}
        self._offsets = {name: (8 + length + a, b - a) for name, (a, b) in _data_offsets(header).items()}

    def read(self, name: str, *, share_mapping: bool = False) -> Tensor:
        """Return a tensor, memory-mapped; see ``TensorReader``."""
        (start, size), dtype = self._offsets[name], self.dtypes[name]
        if not size:
            return torch.empty(self.shapes[name], dtype=dtype)
        page = 0 if share_mapping else start - start % mmap.ALLOCATIONGRANULARITY
        mapped = self._whole if share_mapping else map_file(self._path, page, start - page + size)
        flat = torch.frombuffer(mapped, dtype=dtype, count=size // dtype.itemsize, offset=start - page)
        return flat.view(self.shapes[name])

    @cached_property
    def _whole(self) -> mmap.mmap:
        """One mapping of the whole file, because each mapping keeps a file open."""
        return map_file(self._path)

    def release(self, name: str) -> None:
        """Do nothing: a mapping is freed with its tensor."""


class BinFile:
    """Tensors of one ``pytorch_model.bin``, a pickle that may hold nothing but tensors.

    The tensors are in memory until they are released.

    Raises:
        ValueError: the file is damaged, or holds anything but tensors; no code in it is executed.
    """

    def __init__(self, path: Path) -> None:
        self.source = str(path)
        try:
            _check_archive(path)
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"{path} must hold tensors only, or is damaged; no code in it was executed "
                f"({str(error).splitlines()[0]})"
            ) from None
        except Exception as error:  # a damaged pickle fails in many ways
            raise ValueError(f"{path} is damaged, or not a file of tensors: {error}") from error
        if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
            raise ValueError(f"{path} must hold a dict of tensors, got {type(content).__name__}")
        for name, tensor in content.items():
            if not isinstance(tensor, Tensor):
                raise ValueError(
                    f"{path} must hold a dict of tensors, got {type(tensor).__name__} for {name}"
                )
            if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_meta:
                raise ValueError(
                    f"{path}: {name} must be dense and have values, got a sparse, nested or meta tensor"
                )
            stored = tensor.untyped_storage().nbytes() // tensor.element_size()
            if tensor.numel() > stored:  # strides that repeat values
                raise ValueError(f"{path}: {name} has {tensor.numel()} values, but only {stored} are stored")
        self._tensors: dict[str, Tensor] = content
        self.shapes = {name: tuple(tensor.shape) for name, tensor in content.items()}
        self.dtypes = {name: tensor.dtype for name, tensor in content.items()}

    def read(self, name: str, *, share_mapping: bool = False) -> Tensor:
        """Return a tensor, contiguous."""
        return self._tensors[name].contiguous()

    def release(self, name: str) -> None:
        """Free the memory of a tensor."""
        del self._tensors[name]


def _check_archive(path: Path) -> None:
    """Check that no record of a zip archive is compressed, which could fill the memory.

    Raises:
        ValueError: the records are larger than the file.
        Exception: an archive that is damaged.
    """
    if zipfile.is_zipfile(path):  # other files are pickles of older versions
        with zipfile.ZipFile(path) as archive:
            size = sum(record.file_size for record in archive.infolist())
        if size > path.stat().st_size:
            raise ValueError(f"its {size} bytes are more than the file has; they must not be compressed")


class Shards:
    """Tensors of several files.

    Raises:
        ValueError: a name that is in two files.
    """

    def __init__(self, source: Path, files: Sequence[TensorReader]) -> None:
        self.source = str(source)
        self._file_of: dict[str, TensorReader] = {}
        for file in files:
            for name in file.shapes:
                if name in self._file_of:
                    raise ValueError(f"{name} is in two files: {self._file_of[name].source}, {file.source}")
                self._file_of[name] = file
        self.shapes = {name: file.shapes[name] for name, file in self._file_of.items()}
        self.dtypes = {name: file.dtypes[name] for name, file in self._file_of.items()}

    def read(self, name: str, *, share_mapping: bool = False) -> Tensor:
        """Return a tensor from the file that holds it."""
        return self._file_of[name].read(name, share_mapping=share_mapping)

    def release(self, name: str) -> None:
        """Free the memory of a tensor."""
        self._file_of[name].release(name)


def map_file(path: Path, start: int = 0, length: int = 0) -> mmap.mmap:
    """Map a part of a file into memory, copy-on-write.

    Args:
        path: the file.
        start: a multiple of ``mmap.ALLOCATIONGRANULARITY``.
        length: in bytes; 0 is the rest of the file.
    """
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), length, access=mmap.ACCESS_COPY, offset=start)


def open_tensors(folder: Path) -> TensorReader:
    """Open ``model.safetensors`` or its shards in a folder, else ``pytorch_model.bin`` or its shards.

    Raises:
        FileNotFoundError: no weights, or a shard is missing.
        ValueError: a damaged file, or an index that names a file outside the folder.
    """
    for name, reader in (("model.safetensors", SafetensorsFile), ("pytorch_model.bin", BinFile)):
        if (folder / name).is_file():
            return reader(folder / name)
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _open_shards(index, reader)
    raise FileNotFoundError(f"no weights in {folder}: neither model.safetensors nor pytorch_model.bin")


def _open_shards(index: Path, reader: Callable[[Path], TensorReader]) -> Shards:
    """Open the files that an index names."""
    try:
        file_of = json.loads(index.read_bytes())["weight_map"]
        names = sorted({PurePosixPath(name).as_posix() for name in file_of.values()})
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{index} is not a valid index of shards: {error!r}") from None
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            raise ValueError(f"{index} names a file outside its folder: {name!r}")
        if not os.path.isfile(index.parent / name):  # also of a name that is too long
            raise FileNotFoundError(f"{index} names {name:.300}, which is missing")
    shards = Shards(index.parent, [reader(index.parent / name) for name in names])
    for name, file in file_of.items():
        if name not in shards.shapes:
            raise ValueError(f"{index} names {name} in {file}, but no file holds it")
    return shards


def _dtype(path: Path, name: str, code: str) -> torch.dtype:
    if code not in _DTYPES:
        raise ValueError(f"{path}: {name} has the type {code}, which is not implemented")
    return _DTYPES[code]


def _data_offsets(header: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    return {name: (entry["data_offsets"][0], entry["data_offsets"][1]) for name, entry in header.items()}
