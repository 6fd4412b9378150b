"""Epochs: every example once, in an order that is a function of seed and epoch alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassformer.data.epochs import POOL, Epochs, random_numbers, shuffled

sizes = {"num_examples": st.integers(1, 200), "batch_size": st.integers(1, 17), "seed": st.integers(0, 5)}


@given(**sizes, by_length=st.booleans(), epoch=st.integers(0, 3))
def test_an_epoch_holds_every_example_once(num_examples, batch_size, seed, by_length, epoch):
    lengths = [number * 7 % 11 for number in range(num_examples)] if by_length else None
    epochs = Epochs(num_examples, batch_size, seed, lengths)
    batches = [epochs.batch(epoch * epochs.per_epoch + place) for place in range(epochs.per_epoch)]
    assert sorted(np.concatenate(batches)) == list(range(num_examples))
    assert max(map(len, batches)) <= batch_size
    assert sum(len(batch) < batch_size for batch in batches) <= 1


@given(**sizes, number=st.integers(0, 60))
def test_a_batch_depends_on_its_number_alone(num_examples, batch_size, seed, number):
    epochs, fresh = (Epochs(num_examples, batch_size, seed, range(num_examples)) for _ in range(2))
    for before in range(3):
        epochs.batch(before)
    assert np.array_equal(epochs.batch(number), fresh.batch(number))


def test_epochs_and_seeds_differ():
    orders = [
        tuple(np.concatenate([Epochs(50, 10, seed).batch(5 * epoch + place) for place in range(5)]))
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert len(set(orders)) == 4


def test_examples_of_a_batch_have_similar_lengths():
    lengths = np.random.default_rng(0).integers(1, 50, 8 * POOL)
    spreads = [np.ptp(lengths[Epochs(len(lengths), 8, 0, lengths).batch(step)]) for step in range(POOL)]
    assert max(spreads) <= 4
    means = [lengths[Epochs(len(lengths), 8, 0, lengths).batch(step)].mean() for step in range(POOL)]
    assert np.corrcoef(means, range(POOL))[0, 1] < 0.5  # short batches do not come first


def test_random_numbers_are_uniform_and_a_function_of_their_key():
    numbers = random_numbers(20_000, 1, 2, 3)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert np.histogram(numbers, 10, (0, 1))[0] == pytest.approx(2000, abs=200)
    assert np.array_equal(numbers[:100], random_numbers(100, 1, 2, 3))
    for key in ((0, 2, 3), (1, 0, 3), (1, 2, 0), (1, 2), (1,)):
        assert not np.array_equal(numbers[:100], random_numbers(100, *key))
    assert sorted(shuffled(30, 4)) == list(range(30))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Epochs(0, 4, 0), "no examples"),
        (lambda: Epochs(4, 0, 0), "batch_size is 0"),
        (lambda: Epochs(4, 4, 0).batch(-1), "steps are counted from 0"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
