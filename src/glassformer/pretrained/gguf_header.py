"""The header of a GGUF file, walked through: no count or length in it may claim more than the file holds."""

from __future__ import annotations

import struct
from pathlib import Path

from glassformer.pretrained.tensor_files import map_file

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value, by the number of its type: whole numbers, floating-point numbers and booleans."""
_STRING, _ARRAY = 8, 9
_SMALLEST_TENSOR = 8 + 4 + 4 + 8
"""Bytes of a tensor's entry: length of its name, number of dimensions, type, offset."""


def check_header(path: Path) -> None:
    """Refuse a file whose header promises what is not there, before a reader makes room for it.

    Raises:
        ValueError: no GGUF file, or one that ends before its header does.

    """
    if path.stat().st_size < 24:
        raise ValueError(f"{path} is truncated: {path.stat().st_size} bytes hold no GGUF header")
    try:
        _Walk(path).through()
    except RecursionError:
        raise ValueError(f"{path} is damaged: arrays inside arrays without end in its header") from None


class _Walk:
    def __init__(self, path: Path) -> None:
        self.path, self.place = path, 0
        self.file = map_file(path)

    def through(self) -> None:
        if self.file[:4] != b"GGUF":
            raise ValueError(f"{self.path} is no GGUF file: it begins with {self.file[:4]!r}")
        self.place = 4
        version = self.number("I")
        if not 2 <= version < 2**16:  # a file of the other byte order has its version in the upper half
            raise ValueError(f"{self.path} is GGUF of version {version}; read are little-endian 2 and 3")
        tensors, entries = self.number("Q"), self.number("Q")
        self.need(tensors * _SMALLEST_TENSOR + entries * 13, "header")
        for _ in range(entries):
            self.string("a key")
            self.value(self.number("I"))
        for _ in range(tensors):
            self.string("a tensor's name")
            self.skip(8 * self.number("I"), "a shape")
            self.skip(12, "a tensor's place")

    def number(self, form: str) -> int:
        size = struct.calcsize(f"<{form}")
        self.need(size, "a number")
        value: int = struct.unpack_from(f"<{form}", self.file, self.place)[0]
        self.place += size
        return value

    def value(self, kind: int) -> None:
        if kind in _SIZES:
            self.skip(_SIZES[kind], "a value")
        elif kind == _STRING:
            self.string("a text")
        elif kind == _ARRAY:
            inside, count = self.number("I"), self.number("Q")
            if inside in _SIZES:
                self.skip(count * _SIZES[inside], f"an array of {count} values")
            else:
                self.need(8 * count, f"an array of {count} texts")  # each has at least its length
                for _ in range(count):
                    self.value(inside)
        else:
            raise ValueError(f"{self.path} is damaged: a value of the unknown type {kind} in its header")

    def string(self, what: str) -> None:
        self.skip(self.number("Q"), what)

    def skip(self, size: int, what: str) -> None:
        self.need(size, what)
        self.place += size

    def need(self, size: int, what: str) -> None:
        left = len(self.file) - self.place
        if size > left:
            raise ValueError(
                f"{self.path} is truncated or damaged: {what} of {size} bytes is promised "
                f"where {left} are left"
            )
