"""What a training step reads where that is more than one tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor


class Sliceable(Protocol):
    """A list or an array."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice, /) -> Any: ...


Items = TypeVar("Items", bound=Sliceable)


@dataclass(frozen=True)
class Batch:
    """Tensors by name; all have the same number of rows."""

    tensors: Mapping[str, Tensor]

    def __getitem__(self, rows: slice) -> Batch:
        return Batch({name: tensor[rows] for name, tensor in self.tensors.items()})

    def to(self, device: torch.device, non_blocking: bool = False) -> Batch:
        """The same batch on another device."""
        return Batch({name: t.to(device, non_blocking=non_blocking) for name, t in self.tensors.items()})


def in_groups(items: Items, size: int) -> list[Items]:
    """The items in their order, ``size`` at a time; the last group may be smaller."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Rows of different lengths as one tensor ``(row, longest)``, filled up on the right."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])


def real_tokens(rows: Sequence[Sequence[int]]) -> Tensor:
    """The attention mask of ``padded`` rows: True for what was not filled up, ``(row, longest)``."""
    lengths = torch.tensor([len(row) for row in rows])
    return torch.arange(int(lengths.max()))[None] < lengths[:, None]
