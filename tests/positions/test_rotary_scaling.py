"""Scaled rotary frequencies against Hugging Face and their papers."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from glassformer.positions import RotaryPositions
from glassformer.positions.rotary_scaling import SCALINGS, build_scaling

D, THETA, ORIGINAL = 16, 10_000.0, 32
PLAIN = THETA ** (-torch.arange(0, D, 2, dtype=torch.float64) / D)
OPTIONS = {
    "none": {},
    "linear": {"factor": 4.0},
    "ntk": {"factor": 4.0},
    "dynamic": {"factor": 4.0, "original_max_seq_len": ORIGINAL},
    "yarn": {"factor": 4.0, "original_max_seq_len": ORIGINAL},
    "llama3": {"factor": 4.0, "original_max_seq_len": ORIGINAL},
    "longrope": {
        "short_factors": [1.0, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6],
        "long_factors": [1.0, 1.1, 1.5, 2.0, 2.5, 3.0, 4.0, 4.0],
        "original_max_seq_len": ORIGINAL,
        "factor": 4.0,
    },
    "per_pair": {"factors": [1.0, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 4.0]},
}


YARN = {"kind": "yarn", **OPTIONS["yarn"]}


def scaled(kind, length=ORIGINAL, **options):
    scaling = build_scaling({"kind": kind, **OPTIONS[kind], **options})
    return scaling(PLAIN, THETA, torch.tensor([length]))


def test_every_scaling_is_tested():
    assert set(OPTIONS) == set(SCALINGS)


@pytest.mark.parametrize("kind", OPTIONS)
def test_no_pair_turns_faster_than_before_and_no_slower_than_interpolated(kind):
    frequencies = scaled(kind, 4 * ORIGINAL)
    assert (frequencies <= PLAIN * (1 + 1e-12)).all()
    slack = 4 if kind == "dynamic" else 1  # at four times the length its factor is 4 * 4 - 3
    assert (frequencies >= PLAIN / 4 / slack * (1 - 1e-12)).all()


def test_linear_scaling_equals_shorter_positions():
    torch.testing.assert_close(scaled("linear"), PLAIN / 4)
    rotary = RotaryPositions(D, scaling={"kind": "linear", "factor": 4.0})
    x = torch.randn(1, 1, 5, D, dtype=torch.float64)
    near = RotaryPositions(D).rotate(x, torch.arange(5))
    torch.testing.assert_close(rotary.rotate(x, 4 * torch.arange(5)), near)


def test_per_pair_scaling_divides_each_frequency_by_its_factor():
    expected = [
        frequency / factor for frequency, factor in zip(PLAIN, OPTIONS["per_pair"]["factors"], strict=True)
    ]
    assert scaled("per_pair").tolist() == [float(frequency) for frequency in expected]
    with pytest.raises(ValueError, match="factors of rotary scaling must be 8 numbers, not 1"):
        RotaryPositions(D, scaling={"kind": "per_pair", "factors": [2.0]})
    for factors in ([1.0, -1.0], [1.0, math.nan], [math.inf], [True], ["1"], "12", 5, None, {"1": 2}):
        with pytest.raises(ValueError, match="factors of rotary scaling must be a list of positive numbers"):
            build_scaling({"kind": "per_pair", "factors": factors})


def test_ntk_keeps_the_fastest_pair_and_interpolates_the_slowest():
    frequencies = scaled("ntk")
    torch.testing.assert_close(frequencies[0], PLAIN[0])
    torch.testing.assert_close(frequencies[-1], PLAIN[-1] / 4)


def test_dynamic_scaling_begins_past_the_original_length():
    torch.testing.assert_close(scaled("dynamic", 3), PLAIN)
    torch.testing.assert_close(scaled("dynamic", ORIGINAL), PLAIN)
    factor = 4 * 2 - 3  # at twice the length
    torch.testing.assert_close(scaled("dynamic", 2 * ORIGINAL), scaled("ntk", factor=factor))


def test_under_dynamic_scaling_each_row_has_its_own_length():
    rotary = RotaryPositions(D, scaling={"kind": "dynamic", **OPTIONS["dynamic"]})
    x = torch.randn(2, 1, 50, D, dtype=torch.float64)
    positions = torch.stack([torch.arange(50), torch.arange(50).clamp(max=20)])
    together = rotary.rotate(x, positions)
    for row in range(2):
        torch.testing.assert_close(together[row], rotary.rotate(x[row : row + 1], positions[row])[0])


@pytest.mark.parametrize("kind", OPTIONS)
def test_only_scaled_rotary_positions_are_meant_for_longer_texts(kind):
    rotary = RotaryPositions(D, scaling={"kind": kind, **OPTIONS[kind]})
    assert rotary.extrapolates == (kind != "none")
    assert rotary.max_cached_len == (ORIGINAL if kind in ("dynamic", "longrope") else None)
    assert not RotaryPositions(D).extrapolates


def test_yarn_and_llama3_leave_fast_pairs_and_interpolate_slow_ones():
    for kind in ("yarn", "llama3"):
        # waves that the original length holds many of, and waves that it holds less than one of
        frequencies = scaled(kind, original_max_seq_len=4096)
        torch.testing.assert_close(frequencies[0], PLAIN[0])
        torch.testing.assert_close(scaled(kind, original_max_seq_len=8)[-1], PLAIN[-1] / 4)
        assert (frequencies.diff() < 0).all()


def test_yarn_sharpens_the_scores():
    rotary = RotaryPositions(D, scaling={"kind": "yarn", **OPTIONS["yarn"]})
    x = torch.randn(1, 1, 1, D, dtype=torch.float64)
    turned = rotary.rotate(x, torch.tensor([7]))
    torch.testing.assert_close(turned.norm(), x.norm() * (0.1 * math.log(4) + 1))
    assert build_scaling({"kind": "yarn", **OPTIONS["yarn"], "attention_factor": 0.5}).attention_factor == 0.5


@pytest.mark.parametrize("original", [8, 32, 512, 4096])
@pytest.mark.parametrize("kind", ["linear", "dynamic", "yarn", "llama3"])
def test_frequencies_are_those_of_hugging_face(kind, original):
    names = {"low_freq_factor": "low_freq_factor", "high_freq_factor": "high_freq_factor"}
    options = {
        **OPTIONS[kind],
        **({"original_max_seq_len": original} if "original_max_seq_len" in OPTIONS[kind] else {}),
    }
    extra = {"low_freq_factor": 1.0, "high_freq_factor": 4.0} if kind == "llama3" else {}
    theirs = {"rope_type": kind, "rope_theta": THETA, "factor": 4.0}
    theirs |= {"original_max_position_embeddings": original} if kind in ("yarn", "llama3") else {}
    theirs |= {names[name]: value for name, value in extra.items()}
    # Their dynamic scaling takes the original length from the model's.
    config = LlamaConfig(
        hidden_size=D,
        num_attention_heads=1,
        max_position_embeddings=original if kind == "dynamic" else 4 * original,
        rope_parameters=theirs,
    )
    length = 3 * original
    expected, attention_factor = ROPE_INIT_FUNCTIONS[kind](config, "cpu", seq_len=length)
    ours = build_scaling({"kind": kind, **options, **extra})
    torch.testing.assert_close(ours(PLAIN, THETA, torch.tensor([length])).float(), expected)
    assert math.isclose(ours.attention_factor, attention_factor)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "linar", "factor": 2.0}, "did you mean 'linear'"),
        ({"factor": 2.0}, 'needs a "kind"'),
        ({"kind": "linear"}, "needs factor"),
        ({"kind": "linear", "factor": 0.0}, "factor of rotary scaling must be positive, not 0.0"),
        ({"kind": "linear", "factor": "4"}, "factor of rotary scaling must be a number, not '4'"),
        (
            {"kind": "none", "attention_factor": [1]},
            r"attention_factor of rotary scaling must be a number, not \[1",
        ),
        ({"kind": "ntk", "factor": True}, "factor of rotary scaling must be a number, not True"),
        ({"kind": "dynamic", "factor": 4.0, "original_max_seq_len": None}, "must be a number, not None"),
        (
            {"kind": "yarn", "factor": "x", "original_max_seq_len": 8},
            "factor of rotary scaling must be a number",
        ),
        ({**YARN, "truncate": "no"}, "truncate of rotary scaling must be true or false, not 'no'"),
        ({"kind": "linear", "factr": 2.0}, "unknown option 'factr'"),
    ],
)
def test_errors_name_the_mistake(spec, message):
    with pytest.raises(ValueError, match=message):
        RotaryPositions(D, scaling=spec)


def test_longrope_changes_its_factors_beyond_the_original_length():
    options = OPTIONS["longrope"]
    for length, name in ((ORIGINAL, "short_factors"), (ORIGINAL + 1, "long_factors")):
        torch.testing.assert_close(scaled("longrope", length), PLAIN / torch.tensor(options[name]).double())
    scaling = build_scaling({"kind": "longrope", **options})
    rows = scaling(PLAIN, THETA, torch.tensor([[ORIGINAL], [ORIGINAL + 1]]))
    assert torch.equal(rows[0], scaled("longrope", ORIGINAL))
    assert torch.equal(rows[1], scaled("longrope", ORIGINAL + 1))
    assert scaling.max_constant_len == ORIGINAL
    assert scaling.attention_factor == pytest.approx(math.sqrt(1 + math.log(4) / math.log(ORIGINAL)))
    assert build_scaling({"kind": "longrope", **options, "attention_factor": 1.25}).attention_factor == 1.25


def test_longrope_needs_a_factor_for_each_pair():
    with pytest.raises(ValueError, match="long_factors of rotary scaling must be 8 numbers, not 7"):
        RotaryPositions(D, scaling={"kind": "longrope", **OPTIONS["longrope"], "long_factors": [1.0] * 7})
    with pytest.raises(ValueError, match="short_factors of rotary scaling must be a list of positive"):
        build_scaling({"kind": "longrope", **OPTIONS["longrope"], "short_factors": [0.0] * 8})
