"""Batches of token windows, sampled batches of examples, and padding of sequences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassformer.data import Batches, SilentProgress, build_token_files, windows
from glassformer.data.batches import (
    POOL_BATCHES,
    BatchSampler,
    batch_by_length,
    random_numbers,
    random_permutation,
)
from glassformer.tokenization import ByteTokenizer

TOKENS = np.arange(1000, dtype=np.uint16)


def test_a_batch_holds_windows_of_the_split() -> None:
    batch = Batches(TOKENS, batch_size=8, seq_len=16, seed=0).batch(0)
    assert batch.shape == (8, 17)
    assert batch.dtype == torch.int64
    assert torch.equal(batch, batch[:, :1] + torch.arange(17))


def test_a_batch_depends_only_on_seed_and_step() -> None:
    first, second = (Batches(TOKENS, 4, 16, seed=7) for _ in range(2))
    for step in range(5):
        second.batch(step)
    assert torch.equal(first.batch(3), second.batch(3))
    assert not torch.equal(first.batch(3), first.batch(4))
    assert not torch.equal(first.batch(3), Batches(TOKENS, 4, 16, seed=8).batch(3))


def test_batches_do_not_change_between_versions() -> None:
    # If this fails, a run resumed with this version gets other batches than before.
    assert Batches(TOKENS, 4, 16, seed=1).batch(2)[:, 0].tolist() == [505, 346, 915, 794]


def test_all_windows_are_drawn_equally_often() -> None:
    batches = Batches(np.arange(11), batch_size=1000, seq_len=4, seed=0)
    starts = torch.cat([batches.batch(step)[:, 0] for step in range(7)])
    counts = torch.bincount(starts)
    assert len(counts) == 7  # 11 tokens have 7 windows of 5
    assert (counts - 1000).abs().max() < 150  # five standard deviations


def test_the_shortest_possible_split_has_one_window() -> None:
    assert Batches(range(5), 2, 4, seed=0).batch(0).tolist() == [[0, 1, 2, 3, 4]] * 2


def test_a_split_shorter_than_a_window_is_an_error() -> None:
    with pytest.raises(
        ValueError, match=r"the split has 1,024 tokens, but a context of 1,024 needs at least 1,025"
    ):
        Batches(np.zeros(1024, dtype=np.uint16), 1, 1024, seed=0)


@pytest.mark.parametrize(("batch_size", "seq_len"), [(0, 4), (2, 0)])
def test_sizes_must_be_positive(batch_size: int, seq_len: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        Batches(TOKENS, batch_size, seq_len, seed=0)
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        windows(TOKENS, seq_len, batch_size)


def test_seed_and_step_must_not_be_negative() -> None:
    with pytest.raises(ValueError, match="seed must be in .*, got -1"):
        Batches(TOKENS, 1, 4, seed=-1)
    with pytest.raises(ValueError, match="step must not be negative, got -1"):
        Batches(TOKENS, 1, 4, seed=0).batch(-1)


@given(count=st.integers(2, 60), seq_len=st.integers(1, 12), batch_size=st.integers(1, 5))
def test_windows_cover_every_token_but_the_first_once(count: int, seq_len: int, batch_size: int) -> None:
    batches = list(windows(list(range(count)), seq_len, batch_size))
    for inputs, targets in batches:
        assert inputs.shape == targets.shape
        assert inputs.shape[0] <= batch_size
        assert inputs.shape[1] <= seq_len
        assert torch.equal(inputs + 1, targets)
    assert torch.cat([targets.flatten() for _, targets in batches]).tolist() == list(range(1, count))


def test_windows_need_two_tokens() -> None:
    with pytest.raises(ValueError, match="the split has 1 token,"):
        windows([3], 4, 1)


def test_tokens_must_be_one_dimensional() -> None:
    with pytest.raises(ValueError, match=r"tokens must be one-dimensional, got the shape \(2, 3\)"):
        Batches(torch.zeros(2, 3, dtype=torch.int64), 1, 1, seed=0)


def test_every_type_of_tokens_gives_the_same_batches(tmp_path: Path) -> None:
    text = "to be or not to be " * 20
    files = build_token_files(
        [text], ByteTokenizer(), tmp_path, fractions=(1, 0, 0), progress=SilentProgress()
    )
    ids = [*text.encode(), 256]
    expected = Batches(ids, 3, 8, seed=0).batch(5)
    for tokens in (files.train, files.train.tokens, torch.tensor(ids), np.array(ids)):
        assert torch.equal(Batches(tokens, 3, 8, seed=0).batch(5), expected)
    assert sum(targets.numel() for _, targets in windows(files.train, 16, 4)) == len(ids) - 1


def test_batches_by_length_have_sequences_of_similar_length() -> None:
    lengths = [5, 30, 6, 5, 29, 4]
    assert batch_by_length(lengths, 20) == [[5, 0, 3], [2], [4], [1]]
    assert batch_by_length(lengths, 60, longest_first=True) == [[1, 4], [2, 0, 3, 5]]


@given(st.lists(st.integers(1, 700), min_size=1, max_size=60), st.booleans())
def test_batches_by_length_contain_every_sequence_once_and_are_bounded(
    lengths: list[int], longest_first: bool
) -> None:
    found = batch_by_length(lengths, 4096, 2**18, longest_first=longest_first)
    assert sorted(number for batch in found for number in batch) == list(range(len(lengths)))
    for batch in found:
        longest = max(lengths[number] for number in batch)
        assert len(batch) == 1 or len(batch) * longest <= 4096
        assert len(batch) == 1 or len(batch) * longest**2 <= 2**18


SIZES = {"num_examples": st.integers(1, 200), "batch_size": st.integers(1, 17), "seed": st.integers(0, 5)}


@given(**SIZES, by_length=st.booleans(), epoch=st.integers(0, 3))
def test_an_epoch_contains_every_example_once(num_examples, batch_size, seed, by_length, epoch):
    lengths = [number * 7 % 11 for number in range(num_examples)] if by_length else None
    sampler = BatchSampler(num_examples, batch_size, seed, lengths)
    batches = [sampler.batch(epoch * sampler.batches_per_epoch + i) for i in range(sampler.batches_per_epoch)]
    assert sorted(np.concatenate(batches)) == list(range(num_examples))
    assert max(map(len, batches)) <= batch_size
    assert sum(len(batch) < batch_size for batch in batches) <= 1


@given(**SIZES, step=st.integers(0, 60))
def test_a_batch_of_the_sampler_depends_only_on_its_step(num_examples, batch_size, seed, step):
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
