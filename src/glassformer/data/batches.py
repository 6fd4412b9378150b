"""Batches of tensors: token windows of a split, and padding of sequences to one length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glassformer.data.token_files import TokenFile

TokenSource: TypeAlias = TokenFile | npt.NDArray[Any] | Tensor | Sequence[int]


class Sliceable(Protocol):
    """A list or an array."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice, /) -> Any: ...


Items = TypeVar("Items", bound=Sliceable)


@dataclass(frozen=True)
class Batch:
    """Tensors by name, all with the same number of rows."""

    tensors: Mapping[str, Tensor]

    def __getitem__(self, rows: slice) -> Batch:
        return Batch({name: tensor[rows] for name, tensor in self.tensors.items()})

    def to(self, device: torch.device, non_blocking: bool = False) -> Batch:
        """Return the batch on another device."""
        return Batch({name: t.to(device, non_blocking=non_blocking) for name, t in self.tensors.items()})


def batched(items: Items, size: int) -> list[Items]:
    """Split items, in order, into slices of ``size``; the last slice may be smaller."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def batch_by_length(
    lengths: Sequence[int], max_tokens: int, max_pairs: int | None = None, *, longest_first: bool = False
) -> list[list[int]]:
    """Group indices of sequences of similar length into batches; a batch has at least one.

    Args:
        lengths: of the sequences.
        max_tokens: tokens of a batch, including padding.
        max_pairs: query-key pairs of a batch, including padding. Default: no limit.
        longest_first: whether the first batch has the longest sequences instead of the shortest.
    """
    batches: list[list[int]] = []
    longest = 0
    for number in sorted(range(len(lengths)), key=lambda number: lengths[number], reverse=longest_first):
        padded = max(longest, lengths[number])
        count = len(batches[-1]) + 1 if batches else 1
        fits = count * padded <= max_tokens and (max_pairs is None or count * padded**2 <= max_pairs)
        if batches and fits:
            batches[-1].append(number)
            longest = padded
        else:
            batches.append([number])
            longest = lengths[number]
    return batches


class Batches:
    """Random windows of ``seq_len + 1`` tokens of a split, drawn uniformly with replacement.

    Batch ``step`` depends only on ``(seed, step)``, so a training that resumes at step n gets the batches
    that it would have got without the interruption. The random numbers come from Philox (Salmon et al. 2011),
    a counter-based generator whose key is ``(seed, step)``.

    Args:
        tokens: one split, at least ``seq_len + 1`` tokens.
        batch_size: windows per batch.
        seq_len: context length of the model; a window has one more token, so each input has a target.
        seed: not negative.

    Raises:
        ValueError: the split is shorter than a window, or a size is not positive.
    """

    def __init__(self, tokens: TokenSource, batch_size: int, seq_len: int, seed: int) -> None:
        _check_positive(batch_size=batch_size, seq_len=seq_len)
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed must be in range(2**64), got {seed}")
        self.tokens = _token_array(tokens)
        if len(self.tokens) < seq_len + 1:
            raise ValueError(
                f"the split has {len(self.tokens):,} tokens, but a context of {seq_len:,} needs at least "
                f"{seq_len + 1:,}: use more text or a smaller seq_len"
            )
        self.batch_size, self.seq_len, self.seed = batch_size, seq_len, seed

    def batch(self, step: int) -> Tensor:
        """Return the token ids of a step, ``(batch_size, seq_len + 1)``, int64.

        Inputs are ``batch[:, :-1]``, targets ``batch[:, 1:]``.
        """
        if step < 0:
            raise ValueError(f"step must not be negative, got {step}")
        # Raw output: NumPy does not guarantee that its distributions never change.
        random = np.random.Philox(key=np.array([self.seed, step], dtype=np.uint64)).random_raw(
            self.batch_size
        )
        starts = random % np.uint64(len(self.tokens) - self.seq_len)
        rows = [self.tokens[start : start + self.seq_len + 1] for start in starts.astype(np.int64)]
        return torch.from_numpy(np.stack(rows).astype(np.int64))


def windows(tokens: TokenSource, seq_len: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Iterate over a split in consecutive windows: every token but the first is a target exactly once.

    Args:
        tokens: one split, at least 2 tokens.
        seq_len: tokens per window; the last window may be shorter and forms a batch of its own.
        batch_size: windows per batch; the last batch of full windows may be smaller.

    Yields:
        Inputs and targets, both ``(batch, seq)`` int64; targets are the inputs shifted by one token.

    Raises:
        ValueError: fewer than two tokens, or a size that is not positive.
    """
    _check_positive(batch_size=batch_size, seq_len=seq_len)
    array = _token_array(tokens)
    num_targets = len(array) - 1
    if num_targets < 1:
        raise ValueError(f"the split has {len(array)} tokens, but at least 2 are needed to predict one")
    return _windows(array, seq_len, batch_size, num_targets)


def _windows(
    array: npt.NDArray[Any], seq_len: int, batch_size: int, num_targets: int
) -> Iterator[tuple[Tensor, Tensor]]:
    full = num_targets - num_targets % seq_len
    for start in range(0, full, batch_size * seq_len):
        yield _inputs_and_targets(array, start, min(start + batch_size * seq_len, full), seq_len)
    if full < num_targets:
        yield _inputs_and_targets(array, full, num_targets, num_targets - full)


def _inputs_and_targets(array: npt.NDArray[Any], start: int, end: int, seq_len: int) -> tuple[Tensor, Tensor]:
    run = torch.from_numpy(array[start : end + 1].astype(np.int64))
    return run[:-1].view(-1, seq_len), run[1:].view(-1, seq_len)


def _token_array(tokens: TokenSource) -> npt.NDArray[Any]:
    """Convert tokens to a one-dimensional array, without a copy if they are an array already."""
    array: npt.NDArray[Any] = tokens.tokens if isinstance(tokens, TokenFile) else np.asarray(tokens)
    if array.ndim != 1:
        raise ValueError(f"tokens must be one-dimensional, got the shape {array.shape}")
    return array


def _check_positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
