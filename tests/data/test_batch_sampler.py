"""Batch sampling: every example once per epoch, in an order determined by seed and epoch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassformer.data.batch_sampler import POOL_BATCHES, BatchSampler, random_numbers, random_permutation

sizes = {"num_examples": st.integers(1, 200), "batch_size": st.integers(1, 17), "seed": st.integers(0, 5)}


@given(**sizes, by_length=st.booleans(), epoch=st.integers(0, 3))
def test_an_epoch_contains_every_example_once(num_examples, batch_size, seed, by_length, epoch):
    lengths = [number * 7 % 11 for number in range(num_examples)] if by_length else None
    sampler = BatchSampler(num_examples, batch_size, seed, lengths)
    batches = [sampler.batch(epoch * sampler.batches_per_epoch + i) for i in range(sampler.batches_per_epoch)]
    assert sorted(np.concatenate(batches)) == list(range(num_examples))
    assert max(map(len, batches)) <= batch_size
    assert sum(len(batch) < batch_size for batch in batches) <= 1


@given(**sizes, step=st.integers(0, 60))
def test_a_batch_depends_only_on_its_step(num_examples, batch_size, seed, step):
    sampler, fresh = (BatchSampler(num_examples, batch_size, seed, range(num_examples)) for _ in range(2))
    for before in range(3):
        sampler.batch(before)
    assert np.array_equal(sampler.batch(step), fresh.batch(step))


def test_epochs_and_seeds_differ():
    orders = [
        tuple(np.concatenate([BatchSampler(50, 10, seed).batch(5 * epoch + i) for i in range(5)]))
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert len(set(orders)) == 4


def test_examples_of_a_batch_have_similar_lengths():
    lengths = np.random.default_rng(0).integers(1, 50, 8 * POOL_BATCHES)
    spreads = [
        np.ptp(lengths[BatchSampler(len(lengths), 8, 0, lengths).batch(step)]) for step in range(POOL_BATCHES)
    ]
    assert max(spreads) <= 4
    means = [
        lengths[BatchSampler(len(lengths), 8, 0, lengths).batch(step)].mean() for step in range(POOL_BATCHES)
    ]
    assert np.corrcoef(means, range(POOL_BATCHES))[0, 1] < 0.5  # short batches do not come first


def test_random_numbers_are_uniform_and_determined_by_their_key():
    numbers = random_numbers(20_000, 1, 2, 3)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert np.histogram(numbers, 10, (0, 1))[0] == pytest.approx(2000, abs=200)
    assert np.array_equal(numbers[:100], random_numbers(100, 1, 2, 3))
    for key in ((0, 2, 3), (1, 0, 3), (1, 2, 0), (1, 2), (1,)):
        assert not np.array_equal(numbers[:100], random_numbers(100, *key))
    assert sorted(random_permutation(30, 4)) == list(range(30))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BatchSampler(0, 4, 0), "no examples"),
        (lambda: BatchSampler(4, 0, 0), "batch_size must be at least 1, got 0"),
        (lambda: BatchSampler(4, 4, 0).batch(-1), "step must not be negative, got -1"),
    ],
)
def test_invalid_arguments_are_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
