"""Conformance of position schemes. Add a scheme to ``SCHEMES``."""

from __future__ import annotations

import pytest
import torch

from glassformer.contracts import Positions  # noqa: F401  (the protocol that is tested here)
from glassformer.positions import PositionScheme, build_positions
from glassformer.positions.build import SCHEMES

SIZES = {"d_model": 24, "d_head": 8, "num_heads": 3, "max_seq_len": 16}
schemes = pytest.mark.parametrize("kind", SCHEMES)


@pytest.fixture
def scheme(kind):
    scheme = build_positions(kind, **SIZES)
    for parameter in scheme.parameters():
        torch.nn.init.normal_(parameter)
    return scheme


@schemes
def test_shapes_and_types(kind, scheme):
    positions = torch.arange(5)
    x, q = torch.randn(2, 5, 24), torch.randn(2, 3, 5, 8)
    assert isinstance(scheme, PositionScheme)
    assert scheme.embed(x, positions).shape == x.shape
    assert scheme.rotate(q, positions).shape == q.shape
    assert scheme.rotate(q.bfloat16(), positions).dtype == torch.bfloat16
    bias = scheme.bias(positions[2:], positions)
    assert bias is None or bias.shape == (1, 3, 3, 5)


@schemes
def test_positions_of_a_row_do_not_affect_others(kind, scheme):
    positions = torch.stack([torch.arange(5), torch.tensor([0, 0, 0, 1, 2])])
    x, q = torch.randn(2, 5, 24), torch.randn(2, 3, 5, 8)
    embedded, rotated, bias = (
        scheme.embed(x, positions),
        scheme.rotate(q, positions),
        scheme.bias(positions, positions),
    )
    for row in range(2):
        one = positions[row]
        torch.testing.assert_close(embedded[row], scheme.embed(x[row : row + 1], one)[0])
        torch.testing.assert_close(rotated[row], scheme.rotate(q[row : row + 1], one)[0])
        if bias is not None:
            torch.testing.assert_close(bias[row], scheme.bias(one, one)[0])


@schemes
def test_continues_where_a_cache_ends(kind, scheme):
    positions = torch.arange(9)
    x, q = torch.randn(1, 9, 24), torch.randn(1, 3, 9, 8)
    torch.testing.assert_close(scheme.embed(x, positions)[:, 6:], scheme.embed(x[:, 6:], positions[6:]))
    torch.testing.assert_close(
        scheme.rotate(q, positions)[:, :, 6:], scheme.rotate(q[:, :, 6:], positions[6:])
    )
    whole = scheme.bias(positions, positions)
    if whole is not None:
        torch.testing.assert_close(whole[:, :, 6:], scheme.bias(positions[6:], positions))


@schemes
def test_scores_that_are_changed_depend_on_the_distance_only(kind, scheme):
    q, k = torch.randn(1, 3, 1, 8).double(), torch.randn(1, 3, 1, 8).double()

    def score(i, j):
        i, j = torch.tensor([i]), torch.tensor([j])
        bias = scheme.bias(i, j)
        scores = scheme.rotate(q, i) @ scheme.rotate(k, j).mT
        return scores if bias is None else scores + bias

    for shift in (1, 7, 1000):
        torch.testing.assert_close(score(5 + shift, 2 + shift), score(5, 2), atol=1e-10, rtol=1e-10)


@schemes
def test_loads_from_the_meta_device(kind, scheme):
    with torch.device("meta"):
        empty = build_positions(kind, **SIZES)
    assert not list(empty.buffers())
    empty.load_state_dict(scheme.state_dict(), assign=True)
    positions, x = torch.arange(4), torch.randn(1, 4, 24)
    assert torch.equal(empty.embed(x, positions), scheme.embed(x, positions))


@schemes
def test_max_positions_and_extrapolates(kind, scheme):
    positions = torch.tensor([100_000])
    if scheme.max_positions is None:
        assert scheme.embed(torch.zeros(1, 1, 24), positions).isfinite().all()
        assert scheme.rotate(torch.ones(1, 3, 1, 8), positions).isfinite().all()
    else:
        assert not scheme.extrapolates
        with pytest.raises(ValueError, match="position 100000 is outside"):
            scheme.embed(torch.zeros(1, 1, 24), positions)


def test_a_name_or_a_mapping_builds_a_scheme():
    rotary = build_positions({"kind": "rotary", "theta": 5e5, "d_rotary": 4}, **SIZES)
    assert (rotary.theta, rotary.d_rotary) == (5e5, 4)
    with pytest.raises(ValueError, match="'rotery', did you mean 'rotary'"):
        build_positions("rotery", **SIZES)
    with pytest.raises(ValueError, match="'thta' of rotary positions, did you mean 'theta'"):
        build_positions({"kind": "rotary", "thta": 1}, **SIZES)
    with pytest.raises(ValueError, match="'d_model' of alibi positions; it has no options"):
        build_positions({"kind": "alibi", "d_model": 1}, **SIZES)
    with pytest.raises(ValueError, match='needs a "kind"'):
        build_positions({"theta": 1}, **SIZES)


@schemes
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.uint64])
def test_positions_may_be_integers_of_any_type(kind, scheme, dtype):
    positions = torch.arange(5)
    x, q = torch.randn(2, 5, 24), torch.randn(2, 3, 5, 8)
    torch.testing.assert_close(scheme.embed(x, positions.to(dtype)), scheme.embed(x, positions))
    torch.testing.assert_close(scheme.rotate(q, positions.to(dtype)), scheme.rotate(q, positions))
    bias = scheme.bias(
        positions.to(dtype), positions.to(dtype)
    )  # differences of unsigned ones are not wrapped
    assert bias is None or torch.equal(bias, scheme.bias(positions, positions))


@schemes
def test_positions_that_are_not_integers_raise(kind, scheme):
    x, q = torch.randn(2, 5, 24), torch.randn(2, 3, 5, 8)
    uses = {
        "sinusoidal": lambda positions: scheme.embed(x, positions),
        "learned": lambda positions: scheme.embed(x, positions),
        "rotary": lambda positions: scheme.rotate(q, positions),
        "alibi": lambda positions: scheme.bias(positions, positions),
        "relative_bias": lambda positions: scheme.bias(positions, positions),
    }
    for dtype in (torch.bool, torch.float32, torch.complex64):
        if kind in uses:
            with pytest.raises(TypeError, match=f"positions must be integers, not {dtype}"):
                uses[kind](torch.ones(5, dtype=dtype))
