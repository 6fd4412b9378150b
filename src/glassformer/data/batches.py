"""Batches: token windows of a split, and examples sampled epoch by epoch.

A batch depends only on the seed and the step, so a training that resumes at step n gets the batches that it
would have got without the interruption. Random numbers come from Philox (Salmon et al. 2011), a counter-based
generator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glassformer.data.token_files import TokenFile
from glassformer.terminal import count_of

POOL_BATCHES = 64
"""Number of batches that are sorted by length together."""

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
        self.tokens = _sliceable(tokens)
        if len(self.tokens) < seq_len + 1:
            raise ValueError(
                f"the split has {count_of(len(self.tokens), 'token')}, but a context of {seq_len:,} needs at "
                f"least {seq_len + 1:,}: use more text or a smaller seq_len"
            )
        self.batch_size, self.seq_len, self.seed = batch_size, seq_len, seed

    def batch(self, step: int) -> Tensor:
        """Return the token ids of a step, ``(batch_size, seq_len + 1)``, int64.

        Inputs are ``batch[:, :-1]``, targets ``batch[:, 1:]``.
        """
        _check_step(step)
        starts = _random_bits(self.batch_size, self.seed, step) % np.uint64(len(self.tokens) - self.seq_len)
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
    array = _sliceable(tokens)
    num_targets = len(array) - 1
    if num_targets < 1:
        raise ValueError(
            f"the split has {count_of(len(array), 'token')}, but at least 2 are needed to predict one"
        )
    full = num_targets - num_targets % seq_len
    starts = range(0, full, batch_size * seq_len)
    spans = [(start, min(start + batch_size * seq_len, full), seq_len) for start in starts]
    if full < num_targets:
        spans.append((full, num_targets, num_targets - full))
    return (_inputs_and_targets(array, *span) for span in spans)


def _inputs_and_targets(
    array: TokenFile | npt.NDArray[Any], start: int, end: int, seq_len: int
) -> tuple[Tensor, Tensor]:
    run = torch.from_numpy(array[start : end + 1].astype(np.int64))
    return run[:-1].view(-1, seq_len), run[1:].view(-1, seq_len)


def _sliceable(tokens: TokenSource) -> TokenFile | npt.NDArray[Any]:
    """Convert tokens to a one-dimensional array, without a copy, unless they are in a file."""
    if isinstance(tokens, TokenFile):
        return tokens
    array: npt.NDArray[Any] = np.asarray(tokens)
    if array.ndim != 1:
        raise ValueError(f"tokens must be one-dimensional, got the shape {array.shape}")
    return array


class BatchSampler:
    """Indices of the examples in each batch: every example once per epoch, in a new order each epoch.

    With ``lengths``, a batch holds examples of similar length: the shuffled epoch is split into pools of
    ``POOL_BATCHES`` batches, each pool is sorted by length and split into batches, and the batches are
    shuffled.

    Args:
        num_examples: number of examples.
        batch_size: examples per batch; the last batch of an epoch may be smaller.
        seed: not negative.
        lengths: the length of each example.

    Raises:
        ValueError: no examples, or a batch size that is not positive.
    """

    def __init__(
        self, num_examples: int, batch_size: int, seed: int, lengths: Sequence[int] | None = None
    ) -> None:
        if num_examples < 1:
            raise ValueError("there are no examples to train on")
        _check_positive(batch_size=batch_size)
        self.num_examples, self.batch_size, self.seed = num_examples, batch_size, seed
        self.lengths = None if lengths is None else np.asarray(lengths)
        self.batches_per_epoch = -(-num_examples // batch_size)
        self._epoch = -1
        self._batches: list[npt.NDArray[Any]] = []

    def batch(self, step: int) -> npt.NDArray[Any]:
        """Return the indices of the examples in the batch of a step, ``(batch,)``."""
        _check_step(step)
        epoch, index = divmod(step, self.batches_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._shuffle(epoch)
        return self._batches[index]

    def _shuffle(self, epoch: int) -> list[npt.NDArray[Any]]:
        order = random_permutation(self.num_examples, self.seed, epoch, 0)
        if self.lengths is None:
            return batched(order, self.batch_size)
        pools = batched(order, self.batch_size * POOL_BATCHES)
        sorted_pools = [pool[np.argsort(self.lengths[pool], kind="stable")] for pool in pools]
        batches = [batch for pool in sorted_pools for batch in batched(pool, self.batch_size)]
        return [batches[i] for i in random_permutation(len(batches), self.seed, epoch, 1)]


def random_numbers(count: int, *key: int) -> npt.NDArray[np.float64]:
    """Return uniform numbers in [0, 1), determined by up to three keys."""
    numbers: npt.NDArray[np.float64] = (_random_bits(count, *key) >> np.uint64(11)) / 2.0**53
    return numbers


def random_permutation(count: int, *key: int) -> npt.NDArray[Any]:
    """Return a random permutation of ``range(count)``, determined by up to three keys."""
    return np.argsort(random_numbers(count, *key), kind="stable")


def _random_bits(count: int, *key: int) -> npt.NDArray[np.uint64]:
    """Random 64-bit integers; raw output, as NumPy's distributions may change between versions."""
    first, second, third = (*key, 0, 0)[:3]
    generator = np.random.Philox(key=np.array([first, second], dtype=np.uint64), counter=[0, 0, 0, third])
    bits: npt.NDArray[np.uint64] = generator.random_raw(count)
    return bits


def _check_step(step: int) -> None:
    if step < 0:
        raise ValueError(f"step must not be negative, got {step}")


def _check_positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
