"""Sampling batches of examples, epoch by epoch, as a function of the seed and the step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from glassformer.data.batches import batched

POOL_BATCHES = 64
"""Number of batches that are sorted by length together."""


class BatchSampler:
    """Indices of the examples in each batch: every example once per epoch, in a new order each epoch.

    The order of an epoch depends only on ``(seed, epoch)``, so a training that resumes at step n gets the
    batches that it would have got without the interruption. With ``lengths``, a batch holds examples of
    similar length: the shuffled epoch is split into pools of ``POOL_BATCHES`` batches, each pool is sorted by
    length and split into batches, and the batches are shuffled.

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
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.num_examples, self.batch_size, self.seed = num_examples, batch_size, seed
        self.lengths = None if lengths is None else np.asarray(lengths)
        self.batches_per_epoch = -(-num_examples // batch_size)
        self._epoch = -1
        self._batches: list[npt.NDArray[Any]] = []

    def batch(self, step: int) -> npt.NDArray[Any]:
        """Return the indices of the examples in the batch of a step, ``(batch,)``."""
        if step < 0:
            raise ValueError(f"step must not be negative, got {step}")
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
    """Return uniform numbers in [0, 1), determined by up to three keys (Philox; Salmon et al. 2011)."""
    first, second, third = (*key, 0, 0)[:3]
    generator = np.random.Philox(key=np.array([first, second], dtype=np.uint64), counter=[0, 0, 0, third])
    # Raw output: NumPy does not guarantee that its distributions never change.
    numbers: npt.NDArray[np.float64] = (generator.random_raw(count) >> np.uint64(11)) / 2.0**53
    return numbers


def random_permutation(count: int, *key: int) -> npt.NDArray[Any]:
    """Return a random permutation of ``range(count)``, determined by up to three keys."""
    return np.argsort(random_numbers(count, *key), kind="stable")
