"""Tables of names: which of our tensors stands for which of theirs, in both directions.

An ``Entry`` pairs names and holds two pure functions of tensors, one the inverse of the other. A layout is a
list of entries, so that what is read can be written back bit by bit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

Function = Callable[..., tuple[Tensor, ...]]


class Tensors(Protocol):
    """Tensors by name that are read one at a time."""

    @property
    def source(self) -> str:
        """Where they come from, for messages."""
        ...

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each, known without reading it."""
        ...

    @property
    def dtypes(self) -> Mapping[str, torch.dtype]:
        """The type that each is read as."""
        ...

    def read(self, name: str, *, lasting: bool = False) -> Tensor:
        """One of them, mapped where it can be.

        With ``lasting`` it is a part of the one mapping of its file; else its mapping goes with it, and
        leaves no page of the file in memory.
        """
        ...

    def release(self, name: str) -> None:
        """It will not be asked for again."""
        ...


def unchanged(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors as they are."""
    return tensors


@dataclass(frozen=True)
class Entry:
    """Names of ours, names of theirs, and how to get from the one to the other."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    read: Function = unchanged
    """Theirs to ours, in the order of the names; what it returns shares no memory."""
    write: Function = unchanged
    """Ours to theirs."""


@dataclass(frozen=True)
class Table:
    """All names of one model in one layout."""

    entries: Sequence[Entry]
    doubles: Mapping[str, str] = field(default_factory=dict)
    """Names of theirs that a file may hold as well, each the same tensor as another: ``{double: name}``."""
    prefix: str = ""
    """What names of the body begin with, in files that hold a head too; other files leave it out."""
    aliases: Sequence[tuple[str, str]] = ()
    """Older spellings: pairs of a pattern and what it is written as now."""
    ignored: str = ""
    """A pattern of names that hold nothing a model needs."""


def same(ours: str, theirs: str) -> Entry:
    """The same tensor under another name."""
    return Entry((ours,), (theirs,))


def named(
    ours: str, theirs: str, names: Mapping[str, str], kinds: Sequence[str] = ("weight",)
) -> list[Entry]:
    """``same`` for several modules, and each kind of their parameters.

    Args:
        ours: what our names begin with.
        theirs: what their names begin with.
        names: our module to theirs.
        kinds: ``("weight", "bias")`` where all have both.

    """
    return [
        same(f"{ours}{own}.{kind}", f"{theirs}{other}.{kind}")
        for own, other in names.items()
        for kind in kinds
    ]


def transposed(ours: str, theirs: str) -> Entry:
    """A matrix that they keep as ``(in, out)``."""
    return Entry((ours,), (theirs,), _transpose, _transpose)


def _transpose(matrix: Tensor) -> tuple[Tensor]:
    return (matrix.T.contiguous(),)


def convert(
    table: Table, tensors: Tensors, expected: Mapping[str, Tensor], dtype: torch.dtype
) -> dict[str, Tensor]:
    """Our tensors from theirs, one entry at a time.

    Args:
        table: has every one of our tensors once.
        tensors: theirs.
        expected: ours by name, of which only the shapes are looked at: names, shapes and types are compared
            before any tensor is read.
        dtype: of ours.

    Raises:
        ValueError: a tensor that is missing, extra, of another shape, no floating-point numbers, or not the
            double that it should be.

    """
    found = _found(table, tensors, expected)
    for double, name in table.doubles.items():
        if double in found:
            _check_double(tensors, found[double], found[name])
            tensors.release(found[double])
    converted: dict[str, Tensor] = {}
    for entry in table.entries:
        names = [found[name] for name in entry.theirs]
        lasting = entry.read is unchanged and all(tensors.dtypes[name] == dtype for name in names)
        taken = [tensors.read(name, lasting=lasting) for name in names]
        results = entry.read(*taken)
        converted |= {name: t.to(dtype) for name, t in zip(entry.ours, results, strict=True)}
        del taken, results  # before the next are read
        for name in names:
            tensors.release(name)
    return converted


def convert_back(table: Table, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their tensors from ours, contiguous."""
    back: dict[str, Tensor] = {}
    with torch.no_grad():
        for entry in table.entries:
            results = entry.write(*(state[name].detach() for name in entry.ours))
            back |= {name: t.contiguous() for name, t in zip(entry.theirs, results, strict=True)}
    return back


def _found(table: Table, tensors: Tensors, expected: Mapping[str, Tensor]) -> dict[str, str]:
    """How the file spells each name of the table, and each double that it holds; all shapes are right."""
    shapes = _shapes(table, expected)
    known = {**shapes, **{double: shapes[name] for double, name in table.doubles.items()}}
    found: dict[str, str] = {}
    problems = []
    for name, shape in tensors.shapes.items():
        own = next((spelling for spelling in _spellings(name, table) if spelling in known), None)
        if own is None:
            if not re.fullmatch(table.ignored, name):
                problems.append(f"{name} is not part of the model")
        elif own in found:
            problems.append(f"{name} and {found[own]} are the same tensor")
        else:
            found[own] = name
            if shape != known[own]:
                problems.append(f"{name} has shape {shape}, the model needs {known[own]}")
            if not tensors.dtypes[name].is_floating_point:
                problems.append(f"{name} holds {tensors.dtypes[name]}, not floating-point numbers")
    problems = [f"{name} is missing" for name in shapes if name not in found] + problems
    if problems:
        more = f", and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError(f"{tensors.source} does not fit its config: {'; '.join(problems[:5])}{more}")
    return found


def _shapes(table: Table, expected: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shapes of theirs that belong to the shapes of ours: what the functions make of empty tensors."""
    empty = {name: torch.empty(tensor.shape, device="meta") for name, tensor in expected.items()}
    return {name: tuple(tensor.shape) for name, tensor in convert_back(table, empty).items()}


def _spellings(name: str, table: Table) -> list[str]:
    """The name as a table may have it: as it is, newly spelled, with and without the prefix."""
    newer = name
    for pattern, replacement in table.aliases:
        newer = re.sub(pattern, replacement, newer)
    return [
        spelling for n in (name, newer) for spelling in (n, table.prefix + n, n.removeprefix(table.prefix))
    ]


def _check_double(tensors: Tensors, double: str, name: str) -> None:
    if not torch.equal(tensors.read(double), tensors.read(name)):
        raise ValueError(f"{tensors.source}: {double} should be the same tensor as {name}, but differs")


def layers(count: int, ours: str, theirs: str) -> Iterable[tuple[str, str]]:
    """What the names of each layer begin with: ``("blocks.0.", "model.layers.0.")`` and so on."""
    return ((f"{ours}{layer}.", f"{theirs}{layer}.") for layer in range(count))
