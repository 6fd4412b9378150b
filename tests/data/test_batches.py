"""Batches are functions of (seed, step); windows cover a split exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassformer.data import Batches, SilentProgress, build_token_files, windows
from glassformer.tokenization import ByteTokenizer

TOKENS = np.arange(1000, dtype=np.uint16)


def test_a_batch_is_runs_of_the_split() -> None:
    batch = Batches(TOKENS, batch_size=8, seq_len=16, seed=0).batch(0)
    assert batch.shape == (8, 17)
    assert batch.dtype == torch.int64
    assert torch.equal(batch, batch[:, :1] + torch.arange(17))


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    first, second = (Batches(TOKENS, 4, 16, seed=7) for _ in range(2))
    for step in range(5):
        second.batch(step)
    assert torch.equal(first.batch(3), second.batch(3))
    assert not torch.equal(first.batch(3), first.batch(4))
    assert not torch.equal(first.batch(3), Batches(TOKENS, 4, 16, seed=8).batch(3))


def test_batches_are_the_same_for_ever() -> None:
    # If this fails, a run that is resumed with this version sees other text than it would have seen.
    assert Batches(TOKENS, 4, 16, seed=1).batch(2)[:, 0].tolist() == [505, 346, 915, 794]


def test_all_windows_are_drawn_equally_often() -> None:
    batches = Batches(np.arange(11), batch_size=1000, seq_len=4, seed=0)
    starts = torch.cat([batches.batch(step)[:, 0] for step in range(7)])
    counts = torch.bincount(starts)
    assert len(counts) == 7  # 11 tokens have 7 windows of 5
    assert (counts - 1000).abs().max() < 150  # five standard deviations


def test_the_shortest_split_has_one_window() -> None:
    assert Batches(range(5), 2, 4, seed=0).batch(0).tolist() == [[0, 1, 2, 3, 4]] * 2


def test_a_split_shorter_than_the_context_is_an_error_with_both_numbers() -> None:
    with pytest.raises(
        ValueError, match=r"the split has 1,024 tokens, but a context of 1,024 needs at least 1,025"
    ):
        Batches(np.zeros(1024, dtype=np.uint16), 1, 1024, seed=0)


@pytest.mark.parametrize(("batch_size", "seq_len"), [(0, 4), (2, 0)])
def test_sizes_are_positive(batch_size: int, seq_len: int) -> None:
    with pytest.raises(ValueError, match="is 0; it must be at least 1"):
        Batches(TOKENS, batch_size, seq_len, seed=0)
    with pytest.raises(ValueError, match="is 0; it must be at least 1"):
        windows(TOKENS, seq_len, batch_size)


def test_seed_and_step_are_not_negative() -> None:
    with pytest.raises(ValueError, match="seed is -1"):
        Batches(TOKENS, 1, 4, seed=-1)
    with pytest.raises(ValueError, match="step is -1"):
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
    with pytest.raises(ValueError, match="the split has 1 tokens"):
        windows([3], 4, 1)


def test_tokens_are_one_row() -> None:
    with pytest.raises(ValueError, match=r"tokens have the shape \(2, 3\)"):
        Batches(torch.zeros(2, 3, dtype=torch.int64), 1, 1, seed=0)


def test_every_kind_of_tokens_gives_the_same(tmp_path: Path) -> None:
    text = "to be or not to be " * 20
    files = build_token_files(
        [text], ByteTokenizer(), tmp_path, fractions=(1, 0, 0), progress=SilentProgress()
    )
    ids = [*text.encode(), 256]
    expected = Batches(ids, 3, 8, seed=0).batch(5)
    for tokens in (files.train, files.train.tokens, torch.tensor(ids), np.array(ids)):
        assert torch.equal(Batches(tokens, 3, 8, seed=0).batch(5), expected)
    assert sum(targets.numel() for _, targets in windows(files.train, 16, 4)) == len(ids) - 1
