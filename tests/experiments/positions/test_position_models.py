"""Models of the study of positions, and learned tables for longer texts."""

from __future__ import annotations

import math

import pytest
import torch

from glassformer.experiments.positions.models import (
    POLICIES,
    SCHEMES,
    ScaledSinusoidalPositions,
    build_model,
    extend_table,
    extended_positions,
    parameters_without_embeddings,
)
from glassformer.positions import SinusoidalPositions

SIZES = {"d_model": 16, "num_layers": 2, "num_heads": 2}


def test_models_are_equal_but_for_their_positions():
    names = {}
    for scheme in SCHEMES:
        model = build_model(scheme, SIZES, 50, 8)
        own = [name for name, _ in model.named_parameters() if not name.startswith("positions.")]
        names[scheme] = (own, sum(p.numel() for n, p in model.named_parameters() if n in own))
    assert len(set(map(str, names.values()))) == 1
    norms = 16 * (2 * 2 + 1)
    assert names["none"][1] == parameters_without_embeddings(2, 16) + 50 * 16 + norms


def test_only_a_learned_table_ends():
    ids = torch.randint(50, (2, 16))
    for scheme in SCHEMES:
        model = build_model(scheme, SIZES, 50, 8)
        if scheme == "learned":
            with pytest.raises(ValueError, match="outside the learned table of 8 positions"):
                model(ids)
        else:
            assert model(ids).shape == (2, 16, 50)


def test_sinusoidal_models_scale_their_embeddings():
    x, positions = torch.randn(1, 5, 16), torch.arange(5)
    scaled = ScaledSinusoidalPositions(16).embed(x, positions)
    torch.testing.assert_close(scaled, SinusoidalPositions(16).embed(4 * x, positions))
    model = build_model("sinusoidal", SIZES, 50, 8)
    ids = torch.randint(50, (1, 5))
    before = model(ids)
    torch.manual_seed(0)
    with torch.no_grad():
        model.positions = SinusoidalPositions(16)
        model.lm_head.weight = torch.nn.Parameter(model.token_embedding.weight.clone())
        model.token_embedding.weight *= math.sqrt(16)
    torch.testing.assert_close(model(ids), before)


def test_products_keep_the_variance_of_their_input():
    sizes = {"d_model": 64, "num_layers": 2, "num_heads": 2}
    for scheme in SCHEMES:
        weights = build_model(scheme, sizes, 500, 200).state_dict()
        assert float(weights["token_embedding.weight"].std()) == pytest.approx(1 / 8, rel=0.05)
        assert float(weights["blocks.0.attention.q_proj.weight"].std()) == pytest.approx(1 / 8, rel=0.05)
        assert float(weights["blocks.1.feed_forward.down_proj.weight"].std()) == pytest.approx(
            1 / 32, rel=0.05
        )
        if scheme == "learned":
            assert float(weights["positions.embedding.weight"].std()) == pytest.approx(1 / 16, rel=0.05)


def test_unknown_schemes_are_refused():
    with pytest.raises(ValueError, match="unknown position scheme 'rotari', did you mean 'rotary'"):
        build_model("rotari", SIZES, 50, 8)


def test_policies_extend_a_table():
    table = torch.randn(4, 64)
    untrained = extend_table(table, 400, "untrained", seed=3)
    assert untrained.shape == (400, 64)
    assert torch.equal(untrained[:4], table)
    assert float(untrained[4:].std()) == pytest.approx(1 / 16, rel=0.05)
    assert torch.equal(untrained, extend_table(table, 400, "untrained", seed=3))
    assert not torch.equal(untrained[4:], extend_table(table, 400, "untrained", seed=4)[4:])
    clamped = extend_table(table, 7, "clamp")
    assert torch.equal(clamped, table[[0, 1, 2, 3, 3, 3, 3]])
    interpolated = extend_table(table, 7, "interpolate")
    torch.testing.assert_close(interpolated[::2], table)
    torch.testing.assert_close(interpolated[1], (table[0] + table[1]) / 2)
    for policy in POLICIES:
        assert torch.equal(extend_table(table, 4, policy), table)


def test_bad_tables_are_refused():
    with pytest.raises(ValueError, match="rows must be at least the 4 of the table, got 3"):
        extend_table(torch.zeros(4, 2), 3, "clamp")
    with pytest.raises(ValueError, match="unknown policy for learned positions 'clam', did you mean 'clamp'"):
        extend_table(torch.zeros(4, 2), 5, "clam")


@pytest.mark.parametrize("policy", POLICIES)
def test_a_model_takes_longer_texts_only_inside_the_block(policy):
    model = build_model("learned", SIZES, 50, 8)
    trained, ids = model.positions, torch.randint(50, (2, 16))
    short = model(ids[:, :8])
    with extended_positions(model, 16, policy):
        long = model(ids)
    assert long.shape == (2, 16, 50)
    same = bool(torch.allclose(long[:, :8], short, atol=1e-6))
    assert same == (policy != "interpolate")
    assert model.positions is trained
    with pytest.raises(KeyError), extended_positions(model, 16, policy):
        raise KeyError
    assert model.positions is trained
    with extended_positions(model, 8, policy):
        assert model.positions is trained


def test_other_schemes_are_left_alone():
    model = build_model("rotary", SIZES, 50, 8)
    before = model.positions
    with extended_positions(model, 16, "clamp"):
        assert model.positions is before
