"""The study of costs: exponents of exact powers, what is measured, and the smoke scale."""

from __future__ import annotations

import pytest
import torch

from glassformer.experiments.complexity.measure import (
    KERNELS,
    forward_and_backward,
    layer_parts,
    measure_costs,
    peak_bytes,
    random_inputs,
    seconds_of,
)
from glassformer.experiments.complexity.study import (
    ComplexityStudy,
    exponent,
    exponent_in_n,
    layer_exponent,
    time_ratio,
)
from glassformer.experiments.study import find_study
from glassformer.experiments.study_runner import run_study


def planted_costs(noise=0.0, quadratic_memory=2.0):
    """Costs that follow the formulas."""
    rows = {
        str(n): {"seconds": 3e-9 * n**2 * (1 + noise), "bytes": 8.0 * n**quadratic_memory} for n in LENGTHS
    }
    linear = {str(n): {"seconds": 5e-6 * n, "bytes": 64.0 * n} for n in LENGTHS}
    kernels = dict.fromkeys(KERNELS, linear) | {"textbook": rows}
    layer = [
        {"part": part, "n": n, "d": d, "seconds": scale * n**a * d**b}
        for part, scale, a, b in (("projections", 4e-11, 1, 2), ("scores and mixing", 2e-11, 2, 1))
        for n, d in [(512, 256), (1024, 256), (2048, 256), (1024, 512), (1024, 1024)]
    ]
    return {"kernels": kernels, "layer": layer}


LENGTHS = (1024, 2048, 4096)


def test_exponents_of_powers_are_exact():
    assert exponent([1, 2, 4], [5, 20, 80]) == pytest.approx(2)
    costs = planted_costs()
    assert exponent_in_n(costs["kernels"]["textbook"], "seconds") == pytest.approx(2)
    assert exponent_in_n(costs["kernels"]["window"], "bytes") == pytest.approx(1)
    assert time_ratio(costs["kernels"]["textbook"], 1024, 4096) == pytest.approx(16)
    for part, of_n, of_d in (("projections", 1, 2), ("scores and mixing", 2, 1)):
        assert layer_exponent(costs["layer"], part, "n") == pytest.approx(of_n)
        assert layer_exponent(costs["layer"], part, "d") == pytest.approx(of_d)


def test_planted_costs_reproduce_every_claim_and_others_contradict():
    from glassformer.experiments.verdicts import judge_all

    study = ComplexityStudy()
    scale = study.protocol.scale("laptop")
    right = study.analyze({f"repeat-{i}": planted_costs(0.01 * i) for i in range(6)}, scale)
    verdicts = judge_all(study.protocol.claims, right.estimates)
    assert {judgement.verdict for judgement in verdicts.values()} == {"reproduced"}
    wrong = study.analyze({f"repeat-{i}": planted_costs(quadratic_memory=1.5) for i in range(6)}, scale)
    assert judge_all(study.protocol.claims, wrong.estimates)["textbook-memory"].verdict == "contradicted"
    [(figure, caption)] = study.figures({"kernels": right.data["kernels"]})
    assert len(figure.axes) == 2
    assert "medians" in caption


def test_memory_is_that_of_the_tensors():
    assert peak_bytes(lambda: torch.empty(1000, 1000)) == 4_000_000
    assert peak_bytes(lambda: None) == 0
    table = 4 * 8 * 64 * 64
    kernel, mask = KERNELS["textbook"]
    q, k, v = random_inputs(64)
    assert peak_bytes(lambda: forward_and_backward(kernel, mask(), q, k, v)) > 2 * table


def test_time_is_that_of_one_call():
    calls = []
    assert 0 < seconds_of(lambda: calls.append(torch.ones(10) + 1)) < 0.01
    assert len(calls) > 10


def test_the_parts_of_a_layer_have_its_shapes():
    parts = layer_parts(n=24, d=128)
    assert [x.shape for x in parts["projections"]()] == [(1, 24, 128)] * 4
    output, weights = parts["scores and mixing"]()
    assert output.shape == (1, 2, 24, 64)
    assert weights.shape == (1, 2, 24, 24)


def test_a_repeat_measures_every_kernel_at_every_length(tmp_path):
    settings = {"quadratic": [16, 32], "long": [16, 32, 48], "tokens": [16, 32], "widths": [64, 128]}
    found = measure_costs(settings, tmp_path)
    assert {name: list(rows) for name, rows in found["kernels"].items()} == {
        name: [16, 32] if name in ("textbook", "fused", "flash") else [16, 32, 48] for name in KERNELS
    }
    assert {(row["n"], row["d"]) for row in found["layer"]} == {(16, 128), (32, 128), (32, 64)}


@pytest.mark.slow
def test_the_smoke_scale_runs_from_protocol_to_report(tmp_path):
    study = find_study("complexity")
    results = run_study(study, study.protocol.scale("smoke"), tmp_path)
    assert len(results["runs"]) == 2
    assert len(results["claims"]) == len(study.protocol.claims)
    assert "FlashAttention needs memory that is linear in n" in (tmp_path / "report.html").read_text()
