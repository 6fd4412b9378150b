"""Batches of examples, epoch by epoch: each depends on the seed and its number, and on nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from glassformer.data.examples import in_groups

POOL = 64
"""Batches that are sorted by length together."""


class Epochs:
    """Which examples are in batch n: every example once an epoch, in a new order each time.

    The order of an epoch is a function of ``(seed, epoch)`` alone, so a training that starts again at step n
    sees exactly the batches that it would have seen. Where lengths are given, a batch holds examples of
    similar length: the shuffled epoch is cut into pools of ``POOL`` batches, each pool is sorted and cut into
    batches, and the batches are shuffled.

    Args:
        num_examples: how many there are.
        batch_size: examples of a batch; the last of an epoch may be smaller.
        seed: not negative.
        lengths: one number an example.

    Raises:
        ValueError: no examples, or a size that is not positive.

    """

    def __init__(
        self, num_examples: int, batch_size: int, seed: int, lengths: Sequence[int] | None = None
    ) -> None:
        if num_examples < 1:
            raise ValueError("there are no examples to train on")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        self.num_examples, self.batch_size, self.seed = num_examples, batch_size, seed
        self.lengths = None if lengths is None else np.asarray(lengths)
        self.per_epoch = -(-num_examples // batch_size)
        self._epoch = -1
        self._batches: list[npt.NDArray[Any]] = []

    def batch(self, number: int) -> npt.NDArray[Any]:
        """The indices of the examples in a batch, ``(batch,)``."""
        if number < 0:
            raise ValueError(f"step is {number}; steps are counted from 0")
        epoch, place = divmod(number, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._deal(epoch)
        return self._batches[place]

    def _deal(self, epoch: int) -> list[npt.NDArray[Any]]:
        order = shuffled(self.num_examples, self.seed, epoch, 0)
        if self.lengths is None:
            return in_groups(order, self.batch_size)
        pools = in_groups(order, self.batch_size * POOL)
        by_length = [pool[np.argsort(self.lengths[pool], kind="stable")] for pool in pools]
        batches = [batch for pool in by_length for batch in in_groups(pool, self.batch_size)]
        return [batches[place] for place in shuffled(len(batches), self.seed, epoch, 1)]


def random_numbers(count: int, *key: int) -> npt.NDArray[np.float64]:
    """So many numbers in [0, 1), a function of up to three keys alone (Philox; Salmon et al. 2011)."""
    first, second, third = (*key, 0, 0)[:3]
    generator = np.random.Philox(key=np.array([first, second], dtype=np.uint64), counter=[0, 0, 0, third])
    # Raw output, not numpy's distributions: numpy promises that only the former never changes.
    numbers: npt.NDArray[np.float64] = (generator.random_raw(count) >> np.uint64(11)) / 2.0**53
    return numbers


def shuffled(count: int, *key: int) -> npt.NDArray[Any]:
    """The numbers below ``count`` in an order that is a function of up to three keys alone."""
    return np.argsort(random_numbers(count, *key), kind="stable")
