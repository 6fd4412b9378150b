"""Benchmarks at tiny sizes, and their reports."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def run_benchmark(tmp_path_factory):
    def run(script: str) -> tuple[dict, str]:
        file = tmp_path_factory.mktemp("benchmarks") / f"{script}.json"
        command = [
            sys.executable,
            BENCHMARKS / f"{script}.py",
            "--smoke",
            "--threads",
            "1",
            "--rounds",
            "2",
            "--json",
            file,
        ]
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return json.loads(file.read_text("utf-8")), shown

    return run


@pytest.mark.slow
def test_training_step(run_benchmark):
    figures, shown = run_benchmark("training_step")
    assert figures["flops"] == 6 * (4 * 32 * 32 + 2 * 32 * 64 + 64 * 32 + 32 * 16) * 32
    assert len(figures["contenders"]) == 5
    for name, row in figures["contenders"].items():
        assert name.split()[0] in shown
        assert row["tokens_per_second"] > 0
        assert row["bytes"]["tensors"] > 4 * 64 * 32  # at least the gradient of the embedding
    assert figures["contenders"]["Hugging Face GPT-2"]["speed_relative_to_hugging_face"] == [1, 1, 1]


@pytest.mark.slow
def test_decoding(run_benchmark):
    figures, shown = run_benchmark("decoding")
    assert [row["batch_size"] for row in figures["batches"]] == [1, 2]
    for row in figures["batches"]:
        low, middle, high = row["decoding_speed_relative_to_hugging_face"]
        assert 0 < low <= middle <= high
    assert figures["growth"]["last_over_first"][1] > 0
    assert "decoding, ms/token" in shown


@pytest.mark.slow
def test_recording(run_benchmark):
    figures, shown = run_benchmark("recording")
    for kind in ("GPT-2", "BERT"):
        assert figures[kind]["map_bytes"] == 2 * 2 * 16 * 16 * 4
        rows = figures[kind]["rows"]
        assert rows["glassformer, not recorded"]["added_over_maps"] == 0
        assert rows["glassformer, all heads"]["added_over_maps"] >= 0.9  # the weights themselves
        assert all(name in shown for name in rows)
    assert len(re.findall(r"goal at most 1\.\d+: (NOT )?reached", shown)) == 6


@pytest.mark.slow
def test_explorer(run_benchmark):
    pytest.importorskip("playwright")
    if not (shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("needs chromium")
    figures, shown = run_benchmark("explorer")
    ours = figures["tiny"]["rows"]["glassformer"]
    assert 0 < ours["megabytes"] < 1
    assert 0 < ours["drawn_seconds"] < 60
    for what in ("next_head_ms", "next_layer_ms"):
        middle, worst = ours[what]
        assert 0 < middle <= worst
    assert len(re.findall(r"goal at most [\d.]+: (NOT )?reached", shown)) == 4


def test_a_goal_is_reached_at_its_value_but_not_above(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    recording = importlib.import_module("recording")
    one, every = {"times_plain": {"median": 1.051}}, {"times_plain": {"median": 1.25}, "added_over_maps": 1.2}
    lines = recording.check_goals({"rows": {recording.ONE_LAYER: one, recording.ALL_HEADS: every}})
    assert [line.split(": ", 1)[1] for line in lines] == [
        "1.051, goal at most 1.05: NOT reached",
        "1.250, goal at most 1.25: reached",
        "1.200, goal at most 1.2: reached",
    ]


def test_names_are_not_truncated_in_wide_tables(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    training_step = importlib.import_module("training_step")
    row = {
        "milliseconds": [123456.0, 234567.0, 345678.0],
        "tokens_per_second": 1234567.0,
        "speed_relative_to_hugging_face": training_step.quartiles([10.25, 11.25, 12.25]),
        "utilization_of_peak": 0.5,
        "utilization_of_products": 0.5,
        "bytes": {"idle": 2**44, "tensors": 2**44, "process": 2**44},
    }
    rates = {"peak": 1e9, "products": 1e9}
    names = ["nn.TransformerEncoder", "Hugging Face, fused GELU"]
    figures = {"contenders": dict.fromkeys(names, row), "gflops_per_second": rates, "flops": 1}
    training_step.show({**figures, "rounds": 1, "disturbed_rounds": 0})
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)
