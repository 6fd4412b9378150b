"""Batches that can be drawn again: each depends on the seed and the step, and on nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glassformer.data.token_file import TokenFile

TokenSource: TypeAlias = TokenFile | npt.NDArray[Any] | Tensor | Sequence[int]


class Batches:
    """Windows of ``seq_len + 1`` tokens, drawn uniformly, with replacement, from a split.

    Batch ``step`` is a function of ``(seed, step)`` alone: a training that starts again at step n sees
    exactly the batches that it would have seen. The random numbers are those of Philox (Salmon et al. 2011),
    a generator made for this: its key is (seed, step), and it has no state to be kept.
    """

    def __init__(self, tokens: TokenSource, batch_size: int, seq_len: int, seed: int) -> None:
        """Prepare to draw.

        Args:
            tokens: one split, at least ``seq_len + 1`` tokens.
            batch_size: windows of a batch.
            seq_len: the model's context; a window has one token more, so that each input has its target.
            seed: not negative.

        Raises:
            ValueError: the split is shorter than the context, or a size is not positive.
        """
        _check_sizes(batch_size=batch_size, seq_len=seq_len)
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed is {seed}; it must be in range(2**64)")
        self.tokens = _array(tokens)
        if len(self.tokens) < seq_len + 1:
            raise ValueError(
                f"the split has {len(self.tokens):,} tokens, but a context of {seq_len:,} needs at least "
                f"{seq_len + 1:,}: use more text or a smaller seq_len"
            )
        self.batch_size, self.seq_len, self.seed = batch_size, seq_len, seed

    def batch(self, step: int) -> Tensor:
        """The batch of a step: ids ``(batch_size, seq_len + 1)``, int64.

        Inputs are ``batch[:, :-1]``, targets ``batch[:, 1:]``.
        """
        if step < 0:
            raise ValueError(f"step is {step}; steps are counted from 0")
        # Raw output, not numpy's distributions: numpy promises that only the former never changes.
        random = np.random.Philox(key=np.array([self.seed, step], dtype=np.uint64)).random_raw(
            self.batch_size
        )
        starts = random % np.uint64(len(self.tokens) - self.seq_len)
        rows = [self.tokens[start : start + self.seq_len + 1] for start in starts.astype(np.int64)]
        return torch.from_numpy(np.stack(rows).astype(np.int64))


def windows(tokens: TokenSource, seq_len: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The whole split in consecutive windows: every token but the first is a target exactly once.

    Args:
        tokens: one split, at least 2 tokens.
        seq_len: tokens of a window; the last one may be shorter and comes as a batch of its own.
        batch_size: windows of a batch; the last batch of full windows may be smaller.

    Yields:
        Inputs and targets, both ``(batch, seq)`` int64; the targets are the inputs moved on by one token.

    Raises:
        ValueError: fewer than two tokens, or a size that is not positive.
    """
    _check_sizes(batch_size=batch_size, seq_len=seq_len)
    array = _array(tokens)
    num_targets = len(array) - 1
    if num_targets < 1:
        raise ValueError(f"the split has {len(array)} tokens; to predict one there must be at least 2")
    return _windows(array, seq_len, batch_size, num_targets)


def _windows(
    array: npt.NDArray[Any], seq_len: int, batch_size: int, num_targets: int
) -> Iterator[tuple[Tensor, Tensor]]:
    full = num_targets - num_targets % seq_len
    for start in range(0, full, batch_size * seq_len):
        yield _pair(array, start, min(start + batch_size * seq_len, full), seq_len)
    if full < num_targets:
        yield _pair(array, full, num_targets, num_targets - full)


def _pair(array: npt.NDArray[Any], start: int, end: int, seq_len: int) -> tuple[Tensor, Tensor]:
    run = torch.from_numpy(array[start : end + 1].astype(np.int64))
    return run[:-1].view(-1, seq_len), run[1:].view(-1, seq_len)


def _array(tokens: TokenSource) -> npt.NDArray[Any]:
    """One-dimensional integers, not copied where they are an array already."""
    array: npt.NDArray[Any] = tokens.tokens if isinstance(tokens, TokenFile) else np.asarray(tokens)
    if array.ndim != 1:
        raise ValueError(f"tokens have the shape {array.shape}; expected one row of ids")
    return array


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}; it must be at least 1")
