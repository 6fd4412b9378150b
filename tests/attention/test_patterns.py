"""The patterns of sparse attention, against the papers' definitions written out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassformer.attention import (
    PATTERNS,
    AttentionPattern,
    big_bird,
    causal,
    longformer,
    padding,
    random_blocks,
    sliding_window,
)
from glassformer.attention.random_bits import hash_uniform


@given(
    half=st.integers(1, 4),
    slots=st.sets(st.integers(0, 11), max_size=3),
    length=st.just(12),
)
def test_longformer_is_a_window_of_half_its_size_on_each_side_and_global_tokens(half, slots, length):
    dense = longformer(2 * half, sorted(slots)).dense(length, length)
    for i in range(length):
        for j in range(length):
            attends = abs(i - j) <= half or i in slots or j in slots
            assert dense[i, j] == attends


@given(
    half=st.integers(1, 3),
    slots=st.sets(st.integers(0, 11), max_size=2),
    blocks=st.integers(1, 4),
    size=st.integers(1, 5),
    seed=st.integers(0, 2**31 - 1),
)
def test_big_bird_is_a_window_global_tokens_and_random_blocks(half, slots, blocks, size, seed):
    length, num_blocks = 12, -(-12 // size)
    dense = big_bird(2 * half, sorted(slots), blocks, size, seed=seed).dense(length, length)
    drawn = random_blocks(blocks, size, length, seed=seed).dense(length, length)
    for i in range(length):
        attended = {j // size for j in range(length) if drawn[i, j]}
        assert len(attended) == min(blocks, num_blocks)
        for j in range(length):
            near = abs(i - j) <= half or i in slots or j in slots
            assert dense[i, j] == (near or j // size in attended)
            assert drawn[i, j] == drawn[i // size * size, j // size * size]


def test_random_blocks_are_drawn_uniformly_and_by_the_seed():
    counts = torch.zeros(8, 8)
    for seed in range(400):
        counts += random_blocks(3, 1, 8, seed=seed).dense(8, 8)
    expected = 400 * 3 / 8
    assert (counts - expected).abs().max() < 5 * (expected * 5 / 8) ** 0.5
    assert torch.equal(random_blocks(3, 4, 64).dense(64, 64), random_blocks(3, 4, 64).dense(64, 64))
    assert not torch.equal(
        random_blocks(3, 4, 64).dense(64, 64), random_blocks(3, 4, 64, seed=1).dense(64, 64)
    )


def test_the_draws_of_two_seeds_are_independent():
    i, j = torch.arange(64)[:, None], torch.arange(64)
    rows = torch.cat([hash_uniform(seed, i, j) for seed in range(8)])  # also of neighboring seeds
    assert len(rows.unique(dim=0)) == 8 * 64
    tables = [random_blocks(3, 4, 256, seed=seed).dense(256, 256)[::4, ::4].float() for seed in (0, 1)]
    same = (tables[0][:, None] == tables[1][None]).all(-1)  # rows with the same three blocks
    assert same.sum() <= 3


def test_causal_random_blocks_are_earlier_ones_and_stay_as_the_text_grows():
    short, long = (random_blocks(2, 4, length, is_causal=True) for length in (24, 400))
    dense = long.dense(400, 400)
    assert torch.equal(short.dense(24, 24), dense[:24, :24])
    blocks = dense[::4, ::4]
    assert torch.equal(blocks, blocks.tril())
    assert blocks[0].sum() == 1
    assert (blocks[1:].sum(1) == 2).all()


@given(
    seed=st.integers(0, 2**31 - 1),
    start=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_a_part_of_a_table_of_random_numbers_is_that_of_the_whole(seed, start, size):
    i, j = torch.arange(10)[:, None], torch.arange(10)
    rows, columns = (slice(first, first + count) for first, count in zip(start, size, strict=True))
    whole = hash_uniform(seed, i, j)
    assert torch.equal(hash_uniform(seed, i[rows], j[columns]), whole[rows, columns])
    assert ((whole >= 0) & (whole < 1)).all()


def test_random_numbers_are_uniform_and_uncorrelated():
    i, j = torch.arange(600)[:, None], torch.arange(600)
    tables = [hash_uniform(seed, i, j) for seed in (0, 1)]
    for table in tables:
        counts = torch.histc(table, 20, 0, 1)
        assert (counts - 18_000).abs().max() < 5 * 18_000**0.5
        for other in (
            table.roll(1, 0),
            table.roll(1, 1),
            table.T,
            tables[0] if table is tables[1] else 1 - i * 0.0 + j * 0.0,
        ):
            if other.std() > 0.1:
                correlation = torch.corrcoef(torch.stack([table.flatten(), other.flatten()]))[0, 1]
                assert abs(correlation) < 5 / 600


@pytest.mark.parametrize("kind", PATTERNS)
@pytest.mark.parametrize("is_causal", [False, True])
def test_the_pattern_of_a_model_has_its_defaults(kind, is_causal):
    pattern = AttentionPattern(kind, 700, is_causal=is_causal)
    mask = pattern.mask(700)
    function, defaults = PATTERNS[kind]
    options = dict(defaults)
    if kind == "big_bird":
        options |= {"seq_len": 700, "is_causal": is_causal}
    expected = function(**options).dense(700, 700)
    assert torch.equal(mask.dense(700, 700), expected & causal().dense(700, 700) if is_causal else expected)
    assert pattern.mask(700) is mask  # with all that kernels have computed from it


def test_a_model_without_a_pattern_is_causal_or_not():
    assert AttentionPattern().mask(5) is None
    real = padding(torch.tensor([[1, 1, 0]]))
    assert AttentionPattern().mask(3, real) is real
    decoder = AttentionPattern(is_causal=True)
    assert torch.equal(decoder.mask(3).dense(3, 3), torch.ones(3, 3).bool().tril())
    assert torch.equal(
        decoder.mask(3, real).dense(3, 3)[0, 0], torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 0]]).bool()
    )


def test_padding_on_the_left_shifts_global_tokens_and_random_blocks():
    spec = {"kind": "big_bird", "window": 2, "global_tokens": [1], "random_blocks": 1, "block_size": 2}
    pattern = AttentionPattern(spec, 16)
    alone = pattern.mask(8).dense(8, 8)
    real = torch.tensor([[0] * 3 + [1] * 8, [1] * 8 + [0] * 3])
    dense = pattern.mask(11, padding(real)).dense(11, 11)
    assert torch.equal(dense[0, 0, 3:, 3:], alone)
    assert torch.equal(dense[1, 0, :8, :8], alone)
    assert not dense[0, 0, :, :3].any()


@pytest.mark.parametrize(
    ("spec", "window", "expected"),
    [
        (None, None, None),
        (None, 7, 7),
        ("longformer", 7, None),
        ({"kind": "big_bird", "window": 2}, 7, None),
        ({"kind": "sliding_window", "window": 5}, None, 5),
        ({"kind": "sliding_window", "window": 5}, 3, 3),
        ({"kind": "dilated_window", "window": 3, "dilation": 4}, None, 9),
        ("longformer", None, None),
    ],
)
def test_the_window_of_a_decoder_covers_all_that_it_attends_to(spec, window, expected):
    pattern = AttentionPattern(spec, 64, is_causal=True, window=window)
    assert pattern.window == expected
    if expected is not None:
        dense = pattern.mask(64).dense(64, 64)
        assert torch.equal(dense & sliding_window(expected).dense(64, 64), dense)
        assert dense[-1, 64 - expected]
    assert AttentionPattern(spec, 64).window is None


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("longformr", ValueError, "did you mean 'longformer'"),
        ({"window": 4}, ValueError, 'needs a "kind"'),
        (3, TypeError, "a name or a mapping.*3"),
        ({"kind": "longformer", "windw": 4}, ValueError, "unknown option 'windw'.*did you mean 'window'"),
        ({"kind": "big_bird", "seq_len": 4}, ValueError, "unknown option 'seq_len'"),
        ({"kind": "longformer", "window": 3}, ValueError, "even and positive.*3"),
        ({"kind": "longformer", "window": 0}, ValueError, "window must be at least 1, not 0"),
        (
            {"kind": "longformer", "global_tokens": [16]},
            ValueError,
            "global token 16 is outside the text: max_seq_len is 16",
        ),
        ({"kind": "longformer", "global_tokens": [-1]}, ValueError, "not -1"),
        ({"kind": "sliding_window", "window": -2}, ValueError, "window must be at least 1.*-2"),
        ({"kind": "big_bird", "random_blocks": 0}, ValueError, "random_blocks must be at least 1, not 0"),
        ({"kind": "longformer", "window": "4"}, TypeError, "window must be an int, not '4'"),
        ({"kind": "sliding_window", "window": 2.5}, TypeError, "window must be an int, not 2.5"),
        (
            {"kind": "longformer", "global_tokens": 5},
            TypeError,
            "must be a list of slots, not 5",
        ),
        ({"kind": "longformer", "global_tokens": ["a"]}, TypeError, "global_token must be an int, not 'a'"),
        ({"kind": "big_bird", "block_size": -1}, ValueError, "block_size must be at least 1, not -1"),
        ({"kind": "big_bird", "seed": -1}, ValueError, "seed must be at least 0.*-1"),
    ],
)
def test_invalid_patterns_raise(spec, error, message):
    with pytest.raises(error, match=message):
        AttentionPattern(spec, 16)


def test_random_blocks_need_the_length_of_the_text():
    with pytest.raises(ValueError, match="drawn for 8 slots, but there are 9"):
        random_blocks(1, 2, 8).dense(9, 9)
    with pytest.raises(ValueError, match="give seq_len"):
        random_blocks(1, 2).at(torch.tensor([0])).dense(1, 4)
    with pytest.raises(ValueError, match="seq_len must be at least 1, not 0"):
        random_blocks(1, 2, 0)
