"""The defining property of each position scheme."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.t5.modeling_t5 import T5Attention

from glassformer.positions import ALiBi, LearnedPositions, RelativeBias, RotaryPositions, SinusoidalPositions


@given(position=st.integers(0, 5000), shift=st.integers(0, 5000))
def test_a_sinusoidal_shift_is_a_rotation_that_does_not_depend_on_the_position(position, shift):
    scheme = SinusoidalPositions(12)
    before, after = scheme.encoding(torch.tensor([position, position + shift]))
    for i in range(6):
        angle = shift / 10_000 ** (2 * i / 12)
        sin, cos = before[2 * i], before[2 * i + 1]
        turned = torch.stack(
            (sin * math.cos(angle) + cos * math.sin(angle), cos * math.cos(angle) - sin * math.sin(angle))
        )
        torch.testing.assert_close(after[2 * i : 2 * i + 2], turned, atol=1e-9, rtol=0)


def test_sinusoidal_values_are_those_of_the_paper():
    encoding = SinusoidalPositions(8).encoding(torch.arange(50))
    for position in (0, 1, 49):
        for i in range(4):
            angle = position / 10_000 ** (2 * i / 8)
            assert encoding[position, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-12)
            assert encoding[position, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-12)


@pytest.mark.parametrize("pairing", ["half", "interleaved"])
@pytest.mark.parametrize("d_rotary", [2, 6, 8])
def test_rotary_turns_each_pair_by_its_angle_and_leaves_the_rest(pairing, d_rotary):
    scheme = RotaryPositions(8, theta=100.0, d_rotary=d_rotary, pairing=pairing)
    x = torch.randn(1, 1, 1, 8, dtype=torch.float64)
    turned = scheme.rotate(x, torch.tensor([3]))[0, 0, 0]
    pairs = d_rotary // 2
    for i in range(pairs):
        a, b = (i, i + pairs) if pairing == "half" else (2 * i, 2 * i + 1)
        expected = torch.complex(x[0, 0, 0, a], x[0, 0, 0, b]) * torch.exp(
            torch.tensor(1j * 3 * 100.0 ** (-2 * i / d_rotary), dtype=torch.complex128)
        )
        torch.testing.assert_close(torch.complex(turned[a], turned[b]), expected)
    assert torch.equal(turned[d_rotary:], x[0, 0, 0, d_rotary:])


@given(m=st.integers(0, 4000), n=st.integers(0, 4000), shift=st.integers(0, 4000))
def test_rotary_scores_depend_on_the_distance_only(m, n, shift):
    scheme = RotaryPositions(8)
    q, k = torch.ones(1, 1, 1, 8).double(), torch.linspace(-1, 1, 8).double().view(1, 1, 1, 8)

    def score(i, j):
        return (scheme.rotate(q, torch.tensor([i])) * scheme.rotate(k, torch.tensor([j]))).sum()

    torch.testing.assert_close(score(m + shift, n + shift), score(m, n), atol=1e-9, rtol=0)


def test_the_two_pairings_are_one_permutation_apart():
    x, positions = torch.randn(2, 3, 5, 8), torch.arange(5)
    order = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])  # interleaved -> half
    half = RotaryPositions(8).rotate(x[..., order], positions)
    interleaved = RotaryPositions(8, pairing="interleaved").rotate(x, positions)
    torch.testing.assert_close(half, interleaved[..., order])


def test_rotary_caches_angles_for_the_same_positions_only():
    scheme, x = RotaryPositions(8), torch.randn(1, 1, 3, 8)
    first, second = torch.arange(3), torch.arange(3) + 9
    a, b = scheme.rotate(x, first), scheme.rotate(x, second)
    assert not torch.allclose(a, b)
    torch.testing.assert_close(scheme.rotate(x, first), a)
    first += 9  # the very same tensor, changed in place
    torch.testing.assert_close(scheme.rotate(x, first), b)


@pytest.mark.parametrize(
    ("num_heads", "slopes"),
    [
        (8, [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]),
        (1, [1 / 256]),
        (6, [1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 2, 1 / 8]),
    ],
)
def test_alibi_slopes_are_those_of_the_paper(num_heads, slopes):
    bias = ALiBi(num_heads).bias(torch.tensor([7]), torch.arange(8))
    expected = -torch.tensor(slopes)[:, None, None] * torch.arange(7, -1, -1)
    torch.testing.assert_close(bias, expected[None])


@pytest.mark.parametrize("num_heads", [3, 5, 12, 14, 20, 25])
def test_alibi_slopes_for_counts_that_are_no_power_of_two_are_those_of_hugging_face(num_heads):
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    theirs = build_alibi_tensor(torch.ones(1, 2), num_heads, torch.float32)[:, 0, 1]
    ours = -ALiBi(num_heads).bias(torch.tensor([1]), torch.tensor([0]))[0, :, 0, 0]
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 128), (64, 256), (8, 20), (32, 1000)])
def test_t5_buckets_are_those_of_hugging_face(bidirectional, num_buckets, max_distance):
    distance = torch.arange(-2000, 2001)
    ours = RelativeBias(2, num_buckets, max_distance, bidirectional).bucket(distance)
    theirs = T5Attention._relative_position_bucket(distance, bidirectional, num_buckets, max_distance)
    assert torch.equal(ours, theirs)


def test_relative_bias_is_its_table():
    scheme = RelativeBias(3, bidirectional=True)
    torch.nn.init.normal_(scheme.embedding.weight)
    bias = scheme.bias(torch.tensor([5]), torch.tensor([5, 4, 6]))
    table = scheme.embedding.weight
    torch.testing.assert_close(bias[0, :, 0], torch.stack([table[0], table[1], table[17]], dim=-1))


def test_a_position_outside_a_learned_table_raises():
    scheme = LearnedPositions(4, 6)
    scheme.embed(torch.zeros(1, 4, 6), torch.arange(4))
    with pytest.raises(ValueError, match=r"position 4 is outside the .* table of 4 positions \(0 to 3\)"):
        scheme.embed(torch.zeros(1, 5, 6), torch.arange(5))
    with pytest.raises(ValueError, match="positions must be at least 0, got -1"):
        scheme.embed(torch.zeros(1, 2, 6), torch.tensor([-1, 3]))


def test_a_learned_table_holds_positions_not_columns():
    scheme = LearnedPositions(4, 6)
    positions = torch.tensor([[0, 0, 0, 1, 2, 3]])  # two columns of padding
    expected = scheme.embedding.weight[positions]
    assert torch.equal(scheme.embed(torch.zeros(1, 6, 6), positions), expected)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SinusoidalPositions(7), "even for sinusoidal positions, not 7"),
        (lambda: SinusoidalPositions(8, theta=0), "theta must be positive, not 0"),
        (lambda: LearnedPositions(0, 8), "max_positions must be positive, not 0"),
        (lambda: RotaryPositions(7), "must be even.*not 7"),
        (lambda: RotaryPositions(8, d_rotary=10), "at most d_head=8, not 10"),
        (lambda: RotaryPositions(8, d_rotary=0), "not 0"),
        (lambda: RotaryPositions(8, theta=-1.0), "not -1.0"),
        (lambda: RotaryPositions(8, pairing="odd"), "not 'odd'"),
        (lambda: ALiBi(0), "num_heads must be positive, not 0"),
        (lambda: RelativeBias(2, num_buckets=6, bidirectional=True), "multiple of 4, not 6"),
        (lambda: RelativeBias(2, num_buckets=32, max_distance=16), "above the 16 exact distances, not 16"),
    ],
)
def test_invalid_sizes_raise(build, message):
    with pytest.raises(ValueError, match=message):
        build()
