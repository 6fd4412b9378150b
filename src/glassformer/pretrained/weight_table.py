"""Two-way tables of tensor names, and the conversion of checkpoints with them.

A ``WeightEntry`` pairs names of this library with names of a checkpoint and holds two pure tensor functions,
one the inverse of the other. A ``WeightTable`` is a list of entries, so a checkpoint that is loaded can be
written back bit by bit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from glassformer.models.weights import FLOATING_TYPES

TensorFunction = Callable[..., tuple[Tensor, ...]]


class TensorReader(Protocol):
    """Named tensors that are read one at a time."""

    @property
    def source(self) -> str:
        """Path for error messages."""
        ...

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes by name, known without reading the tensors."""
        ...

    @property
    def dtypes(self) -> Mapping[str, torch.dtype]:
        """The types in which the tensors are read, by name."""
        ...

    def read(self, name: str, *, share_mapping: bool = False) -> Tensor:
        """Return a tensor, memory-mapped if possible.

        Args:
            name: of the tensor.
            share_mapping: return a view of one mapping of the whole file, for a tensor that stays in use.
                Otherwise the tensor has its own mapping, which is freed with it.
        """
        ...

    def release(self, name: str) -> None:
        """Free the memory of a tensor that is not needed again."""
        ...


def identity(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors unchanged."""
    return tensors


@dataclass(frozen=True)
class WeightEntry:
    """Tensors of this library, the same weights in a checkpoint, and the functions between them."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    to_ours: TensorFunction = identity
    """Maps the tensors of the checkpoint, in the order of ``theirs``, to those of ``ours``."""
    to_theirs: TensorFunction = identity
    """The inverse of ``to_ours``."""


@dataclass(frozen=True)
class WeightTable:
    """All tensor names of one model in one checkpoint format."""

    entries: Sequence[WeightEntry]
    tied_aliases: Mapping[str, str] = field(default_factory=dict)
    """Names that a checkpoint may hold in addition or instead, of the same tensor: ``{alias: name}``."""
    base_prefix: str = ""
    """Prefix of the body's names in checkpoints with a head; checkpoints of the body alone leave it out."""
    legacy_names: Sequence[tuple[str, str]] = ()
    """Older names: pairs of a regular expression and its replacement."""
    ignored_pattern: str = ""
    """Regular expression of names of tensors that a model does not need."""


def renamed(ours: str, theirs: str) -> WeightEntry:
    """Entry of one tensor that differs only in its name."""
    return WeightEntry((ours,), (theirs,))


def renamed_modules(
    ours: str, theirs: str, names: Mapping[str, str], kinds: Sequence[str] = ("weight",)
) -> list[WeightEntry]:
    """Entries of the parameters of several modules that differ only in their names.

    Args:
        ours: prefix of the names of this library.
        theirs: prefix of the names in the checkpoint.
        names: modules of this library to modules of the checkpoint.
        kinds: the parameters of each module, such as ``("weight", "bias")``.
    """
    return [
        renamed(f"{ours}{own}.{kind}", f"{theirs}{other}.{kind}")
        for own, other in names.items()
        for kind in kinds
    ]


def transposed(ours: str, theirs: str) -> WeightEntry:
    """Entry of a matrix that the checkpoint stores as ``(in, out)``."""
    return WeightEntry((ours,), (theirs,), _transpose, _transpose)


def _transpose(matrix: Tensor) -> tuple[Tensor]:
    return (matrix.T.contiguous(),)


def split_rows(fused: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Split ``(sum of sizes, ...)`` into tensors of these numbers of rows."""
    return tuple(part.clone() for part in torch.split(fused, list(sizes)))


def concat_rows(*parts: Tensor) -> tuple[Tensor]:
    """Concatenate tensors along their rows."""
    return (torch.cat(parts),)


def split_groups(fused: Tensor, num_kv_heads: int, group: int) -> tuple[Tensor, ...]:
    """Split ``(kv_head * (group of q, k, v) * d_head, ...)`` into q, k, v: ``(head * d_head, ...)`` each."""
    parts = fused.view(num_kv_heads, group + 2, -1, *fused.shape[1:])  # (kv_head, group + 2, d_head, ...)
    split = torch.split(parts, [group, 1, 1], dim=1)
    return tuple(part.clone(memory_format=torch.contiguous_format).flatten(0, 2) for part in split)


def join_groups(*parts: Tensor, num_kv_heads: int) -> tuple[Tensor]:
    """The inverse of ``split_groups``."""
    q, k, v = parts
    d_head = len(k) // num_kv_heads
    by_group = [part.view(num_kv_heads, -1, d_head, *part.shape[1:]) for part in (q, k, v)]
    return (torch.cat(by_group, dim=1).flatten(0, 2),)


def by_head(row: Tensor, num_heads: int) -> tuple[Tensor]:
    """Reshape ``(head * d_head,)`` to ``(head, d_head)``."""
    return (row.view(num_heads, -1),)


def one_row(table: Tensor) -> tuple[Tensor]:
    """The inverse of ``by_head``."""
    return (table.flatten(),)


def layer_prefixes(count: int, ours: str, theirs: str) -> Iterable[tuple[str, str]]:
    """Prefixes of the names of each layer: ``("blocks.0.", "model.layers.0.")`` and so on."""
    return ((f"{ours}{layer}.", f"{theirs}{layer}.") for layer in range(count))


def convert_weights(
    table: WeightTable, tensors: TensorReader, expected: Mapping[str, Tensor], dtype: torch.dtype
) -> dict[str, Tensor]:
    """Convert the tensors of a checkpoint to those of this library, one entry at a time.

    Args:
        table: contains every expected tensor once.
        tensors: of the checkpoint.
        expected: tensors of the model by name, of which only the shapes are used: all names, shapes and types
            are compared before a tensor is read.
        dtype: of the converted tensors.

    Raises:
        ValueError: a tensor that is missing, unexpected, not floating-point, of another shape, or different
            from the tensor that it should be tied to.
    """
    listed = {name for entry in table.entries for name in entry.ours}
    if listed != set(expected):  # a mistake in a format, of which parts of the model would have no weights
        raise AssertionError(f"the table of tensor names must list {sorted(listed ^ set(expected))[:5]}")
    found = _match_names(table, tensors, expected)
    for alias, name in table.tied_aliases.items():
        if found.get(alias, found[name]) != found[name]:
            if not torch.equal(tensors.read(found[alias]), tensors.read(found[name])):
                raise ValueError(f"{tensors.source}: {found[alias]} must be the same tensor as {found[name]}")
            tensors.release(found[alias])
    converted: dict[str, Tensor] = {}
    for entry in table.entries:
        names = [found[name] for name in entry.theirs]
        stays_mapped = entry.to_ours is identity and all(tensors.dtypes[name] == dtype for name in names)
        read = [tensors.read(name, share_mapping=stays_mapped) for name in names]
        results = entry.to_ours(*read)
        converted |= {name: t.to(dtype) for name, t in zip(entry.ours, results, strict=True)}
        del read, results  # freed before the next tensors are read
        for name in names:
            tensors.release(name)
    return converted


def revert_weights(table: WeightTable, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert tensors of this library to those of a checkpoint, contiguous."""
    reverted: dict[str, Tensor] = {}
    with torch.no_grad():
        for entry in table.entries:
            results = entry.to_theirs(*(state[name].detach() for name in entry.ours))
            reverted |= {name: t.contiguous() for name, t in zip(entry.theirs, results, strict=True)}
    return reverted


def _match_names(table: WeightTable, tensors: TensorReader, expected: Mapping[str, Tensor]) -> dict[str, str]:
    """Map each name of the table, and each tied alias present, to its name in the file; check all tensors."""
    shapes = _checkpoint_shapes(table, expected)
    known = {**shapes, **{alias: shapes[name] for alias, name in table.tied_aliases.items()}}
    found: dict[str, str] = {}
    problems = []
    for name, shape in tensors.shapes.items():
        match = next((candidate for candidate in _candidates(name, table) if candidate in known), None)
        if match is None:
            if not re.fullmatch(table.ignored_pattern, name):
                problems.append(f"{name:.200} is not part of the model")
        elif match in found:
            problems.append(f"{name} and {found[match]} are the same tensor")
        else:
            found[match] = name
            if shape != known[match]:
                problems.append(f"{name} has shape {shape}, the model needs {known[match]}")
            if tensors.dtypes[name] not in FLOATING_TYPES.values():
                problems.append(f"{name} has type {tensors.dtypes[name]}, expected a floating-point type")
    for alias, name in table.tied_aliases.items():
        if alias in found:
            found.setdefault(name, found[alias])
    problems = [f"{name} is missing" for name in shapes if name not in found] + problems
    if problems:
        more = f", and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError(f"{tensors.source} does not match its config: {'; '.join(problems[:5])}{more}")
    return found


def _checkpoint_shapes(table: WeightTable, expected: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the checkpoint's tensors, computed on the meta device."""
    empty = {name: torch.empty(tensor.shape, device="meta") for name, tensor in expected.items()}
    return {name: tuple(tensor.shape) for name, tensor in revert_weights(table, empty).items()}


def _candidates(name: str, table: WeightTable) -> list[str]:
    """Return the names under which a table may list a tensor: older and newer, with and without prefix."""
    newer = name
    for pattern, replacement in table.legacy_names:
        newer = re.sub(pattern, replacement, newer)
    prefix = table.base_prefix
    return [spelling for n in (name, newer) for spelling in (n, prefix + n, n.removeprefix(prefix))]
