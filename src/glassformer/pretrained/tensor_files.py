"""Files of tensors: safetensors, mapped; ``pytorch_model.bin`` where it holds nothing but tensors; shards."""

from __future__ import annotations

import json
import mmap
import pickle
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from glassformer.pretrained.conversion import Tensors

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
    """The tensors of one safetensors file.

    Raises:
        ValueError: the file is truncated, damaged, or its header lies.

    """

    def __init__(self, path: Path) -> None:
        self.source, self._path = str(path), path
        try:
            with safe_open(path, framework="pt"), path.open("rb") as file:  # the library checks all sizes
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length))
        except (SafetensorError, OSError, ValueError) as error:
            raise ValueError(f"{path} is damaged, or no safetensors file: {error}") from error
        header.pop("__metadata__", None)
        self.shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
        self.dtypes = {name: _dtype(path, name, entry["dtype"]) for name, entry in header.items()}
        self._places = {name: (8 + length + a, b - a) for name, (a, b) in _offsets(header).items()}

    def read(self, name: str, *, lasting: bool = False) -> Tensor:
        """One tensor, mapped: with all others of the file if it is to last, else by itself."""
        (start, size), dtype = self._places[name], self.dtypes[name]
        if not size:
            return torch.empty(self.shapes[name], dtype=dtype)
        page = 0 if lasting else start - start % mmap.ALLOCATIONGRANULARITY
        mapped = self._whole if lasting else map_file(self._path, page, start - page + size)
        flat = torch.frombuffer(mapped, dtype=dtype, count=size // dtype.itemsize, offset=start - page)
        return flat.view(self.shapes[name])

    @cached_property
    def _whole(self) -> mmap.mmap:
        """The whole file: a mapping keeps its file open, so that each tensor cannot have one."""
        return map_file(self._path)

    def release(self, name: str) -> None:
        """Nothing: a mapping goes with its tensor."""


class BinFile:
    """The tensors of one ``pytorch_model.bin``, a pickle that is read only where it holds tensors alone.

    The tensors are held in memory until they are released.

    Raises:
        ValueError: the file is damaged, or holds anything but tensors; nothing of it was executed.

    """

    def __init__(self, path: Path) -> None:
        self.source = str(path)
        try:
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"{path} holds more than tensors, or is damaged: refused, nothing in it was executed "
                f"({str(error).splitlines()[0]})"
            ) from None
        except Exception as error:  # a damaged pickle fails in many ways
            raise ValueError(f"{path} is damaged, or no file of tensors: {error}") from error
        if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
            raise ValueError(f"{path} holds something else than tensors by name")
        for name, tensor in content.items():
            if not isinstance(tensor, Tensor):
                raise ValueError(f"{path} holds something else than tensors by name: {name}")
            if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_meta:
                raise ValueError(f"{path}: {name} is sparse, nested or without values, and cannot be read")
        self._tensors: dict[str, Tensor] = content
        self.shapes = {name: tuple(tensor.shape) for name, tensor in content.items()}
        self.dtypes = {name: tensor.dtype for name, tensor in content.items()}

    def read(self, name: str, *, lasting: bool = False) -> Tensor:
        """One tensor, contiguous."""
        return self._tensors[name].contiguous()

    def release(self, name: str) -> None:
        """Let its memory go."""
        del self._tensors[name]


class Shards:
    """The tensors of several files as one.

    Raises:
        ValueError: a name that two files have.

    """

    def __init__(self, source: Path, files: Sequence[Tensors]) -> None:
        self.source = str(source)
        self._home: dict[str, Tensors] = {}
        for file in files:
            for name in file.shapes:
                if name in self._home:
                    raise ValueError(f"{name} is in two files: {self._home[name].source}, {file.source}")
                self._home[name] = file
        self.shapes = {name: file.shapes[name] for name, file in self._home.items()}
        self.dtypes = {name: file.dtypes[name] for name, file in self._home.items()}

    def read(self, name: str, *, lasting: bool = False) -> Tensor:
        """One tensor, from the file that has it."""
        return self._home[name].read(name, lasting=lasting)

    def release(self, name: str) -> None:
        """It will not be asked for again."""
        self._home[name].release(name)


def map_file(path: Path, start: int = 0, length: int = 0) -> mmap.mmap:
    """A part of a file as memory, by default all of it; what is written there does not reach the file.

    Args:
        path: the file.
        start: a multiple of ``mmap.ALLOCATIONGRANULARITY``.
        length: in bytes; 0 is all that follows.

    """
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), length, access=mmap.ACCESS_COPY, offset=start)


def open_tensors(folder: Path) -> Tensors:
    """The weights of a folder: ``model.safetensors``, else its shards, else ``pytorch_model.bin`` or its.

    Raises:
        FileNotFoundError: none of them is there, or a shard is missing.
        ValueError: a damaged file, or an index that names a file outside the folder.

    """
    for name, kind in (("model.safetensors", SafetensorsFile), ("pytorch_model.bin", BinFile)):
        if (folder / name).is_file():
            return kind(folder / name)
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _shards(index, kind)
    raise FileNotFoundError(f"no weights in {folder}: neither model.safetensors nor pytorch_model.bin")


def _shards(index: Path, kind: Callable[[Path], Tensors]) -> Shards:
    """The files that an index names, each opened once."""
    try:
        homes = json.loads(index.read_bytes())["weight_map"]
        names = sorted({PurePosixPath(home).as_posix() for home in homes.values()})
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{index} is no index of shards: {error!r}") from None
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            raise ValueError(f"{index} names a file outside its folder: {name!r}")
        if not (index.parent / name).is_file():
            raise FileNotFoundError(f"{index} names {name}, which is missing")
    shards = Shards(index.parent, [kind(index.parent / name) for name in names])
    for name, home in homes.items():
        if name not in shards.shapes:
            raise ValueError(f"{index} names {name} in {home}, which no file holds")
    return shards


def _dtype(path: Path, name: str, word: str) -> torch.dtype:
    if word not in _DTYPES:
        raise ValueError(f"{path}: {name} holds {word}, which cannot be read")
    return _DTYPES[word]


def _offsets(header: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    return {name: (entry["data_offsets"][0], entry["data_offsets"][1]) for name, entry in header.items()}
