"""Benchmarks at tiny sizes, and their reports."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def run_benchmark(tmp_path_factory):
    def run(script: str, *options: str) -> tuple[dict, str]:
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
            *options,
        ]
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return json.loads(file.read_text("utf-8")), shown

    return run


@pytest.mark.slow
def test_training_step(run_benchmark):
    figures, shown = run_benchmark("training_step", "--emulated-bfloat16")
    assert figures["flops"] == 6 * (4 * 32 * 32 + 2 * 32 * 64 + 64 * 32 + 32 * 16) * 32
    assert list(figures["precisions"]) == ["float32", "bfloat16"]
    for of_precision in figures["precisions"].values():
        assert len(of_precision["contenders"]) == 6
        for name, row in of_precision["contenders"].items():
            assert name.split()[0] in shown
            assert row["tokens_per_second"] > 0
            assert row["utilization"][1] > 0
            assert row["bytes"]["tensors"] > 4 * 64 * 32  # at least the gradient of the embedding
        theirs = of_precision["contenders"]["Hugging Face GPT-2"]
        assert theirs["speed_relative_to_hugging_face"] == [1, 1, 1]
    assert shown.count("peak of tensors, x Hugging Face") == 2


@pytest.mark.slow
def test_training_step_of_chosen_peers(run_benchmark):
    figures, shown = run_benchmark("training_step", "--peers", "nanoGPT")
    contenders = figures["precisions"]["float32"]["contenders"]
    assert list(contenders) == ["glassformer", "Hugging Face GPT-2", "nanoGPT"]
    assert ("bfloat16" in figures["precisions"]) != ("bfloat16: skipped" in shown)


@pytest.mark.slow
def test_products(run_benchmark):
    figures, shown = run_benchmark("products")
    float32 = [row for row in figures["products"] if row["format"] == "float32"]
    assert [(row["rows"], row["kind"]) for row in float32] == [
        (rows, kind) for rows in (1, 64) for kind in ("forward", "grad_input", "grad_weight")
    ]
    for row in float32:
        assert "torch" in row["contenders"]
        assert ("packed" in row["contenders"]) == (row["kind"] == "forward")
        for rates in row["contenders"].values():
            seconds = rates["microseconds"][1] / 1e6
            assert rates["gflops_per_second"] * seconds == pytest.approx(2 * row["rows"] * 32 * 64 / 1e9)
            values = row["rows"] * (32 + 64) + 32 * 64
            assert rates["gigabytes_per_second"] * seconds == pytest.approx(4 * values / 1e9)
    assert all(rate > 0 for rate in figures["limits"]["gflops_per_second"].values())
    assert ("bfloat16" in figures["limits"]["gflops_per_second"]) != ("bfloat16: skipped" in shown)
    assert re.search(r"of the limit: [\d.]+, goal at least 0.75: (NOT )?reached", shown)


@pytest.mark.slow
def test_decoding(run_benchmark):
    figures, shown = run_benchmark("decoding", "--engines")
    assert [batch["batch_size"] for batch in figures["batches"]] == [1, 8]
    for batch in figures["batches"]:
        for name, row in batch["rows"].items():
            assert name in shown
            low, middle, high = row["decoding_speed_relative_to_hugging_face"]
            assert 0 < low <= middle <= high
            if row["weights"] == "float32":
                assert row["same_tokens"] == 1, name
        assert batch["limit_milliseconds"]["float32"] == 4 * batch["limit_milliseconds"]["int8"] > 0
        assert {"Hugging Face", "glassformer"} < set(batch["rows"])
    assert figures["growth"]["last_over_first"][1] > 0
    assert len(figures["overhead"]["milliseconds"]) == shown.count("overhead per token") == 3
    assert "decoding, ms/token" in shown


def installed(engine):
    return all(importlib.util.find_spec(package) for package in engine.packages)


@pytest.mark.slow
@pytest.mark.parametrize("present", [True, False], ids=["installed engines", "no engine"])
def test_decoding_measures_installed_engines_and_skips_others(monkeypatch, capsys, tmp_path, present):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    decoding, engines = importlib.import_module("decoding"), importlib.import_module("engines")
    if not present:
        for name, engine in engines.ENGINES.items():
            monkeypatch.setitem(engines.ENGINES, name, engine._replace(packages=("no_such_package",)))
    file = tmp_path / "figures.json"
    options = [
        "--smoke",
        "--rounds",
        "1",
        "--threads",
        "1",
        "--batch-sizes",
        "1",
        "--no-growth",
        "--json",
        str(file),
    ]
    monkeypatch.setattr(sys, "argv", ["decoding.py", *options])
    threads = torch.get_num_threads()
    decoding.main()
    torch.set_num_threads(threads)
    figures, shown = json.loads(file.read_text("utf-8")), capsys.readouterr().out
    rows = figures["batches"][0]["rows"]
    for name, engine in engines.ENGINES.items():
        measured = {weights for weights in ("float32", "int8") if f"{name}, {weights}" in rows}
        assert measured == ({"float32", "int8"} if installed(engine) else set())
        assert (
            (name in figures["skipped"])
            == (f"{name} skipped: not installed" in shown)
            == (not installed(engine))
        )
    if present and installed(engines.ENGINES["ONNX Runtime"]):
        assert len(re.findall(r"goal at most [\d.]+: (NOT )?reached", shown)) == 4 + 3  # and the overhead
    if not present:
        assert shown.count(": not measured without ") == 4


def test_a_goal_of_decoding_compares_with_the_fastest_peer_and_knows_its_floor(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    goals = importlib.import_module("decoding_goals")
    decoding, timing = importlib.import_module("decoding"), importlib.import_module("timing")

    def lines(seconds, batch_size):
        contenders = {
            "Hugging Face": decoding.Contender("Hugging Face", "float32"),
            "glassformer, optimized, float32": decoding.Contender("glassformer", "float32"),
            "CTranslate2, float32": decoding.Contender("CTranslate2", "float32"),
            "llama.cpp, float32": decoding.Contender("llama.cpp", "float32"),
        }
        runs = {
            name: [decoding.TimedTokens(torch.zeros(1, 2), [1.0, each])]
            for name, each in zip(contenders, seconds, strict=True)
        }
        return goals.goal_lines(timing.Rounds(runs, 0), contenders, batch_size)

    verdicts = {
        1.05: "reached",
        1.1: "NOT reached, floor 1.15: reached",
        1.2: "NOT reached, floor 1.15: NOT reached",
    }
    for ratio, verdict in verdicts.items():
        line, prefill = lines([3.0, 2 * ratio, 2.0, 5.0], 1)
        assert f"{ratio:.2f} (" in line
        assert line.endswith(f"times the time of CTranslate2, float32, goal at most 1.05: {verdict}")
        assert "not measured without ONNX Runtime" in prefill
    assert lines([2.6, 2.0, 9.0, 9.0], 8)[0].endswith("goal at least 1.3: reached")
    assert lines([2.5, 2.0, 9.0, 9.0], 8)[0].endswith("goal at least 1.3: NOT reached")


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
    assert len(re.findall(r"goal at most [\d.]+: (NOT )?reached", shown)) == 5


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


def test_goals_of_a_training_step_depend_on_the_processor(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    training_step = importlib.import_module("training_step")
    ours = {
        "speed_relative_to_hugging_face": [1, 1.3, 2],
        "utilization": [0, 0.75, 1],
        "bytes": {"tensors": 51},
    }
    contenders = {training_step.OURS: ours, training_step.THEIRS: {"bytes": {"tensors": 100}}}
    shown = {
        vendor: [line.split(": ")[1:] for line in training_step.check_goals("float32", contenders, vendor)]
        for vendor in ("AMD", "Intel", "other")
    }
    assert shown["AMD"][0] == ["1.300, goal at least 1.6", "NOT reached"]
    assert shown["Intel"][0] == ["1.300, goal at least 1.13", "reached"]
    assert shown["other"][0] == ["1.300, no goal on this processor"]
    assert shown["other"][1:] == [
        ["0.510, goal at most 0.5", "NOT reached"],
        ["0.750, goal at least 0.75", "reached"],
    ]


def test_products_of_a_step_are_those_of_its_linear_layers(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    training_step = importlib.import_module("training_step")
    sizes = training_step.SMOKE
    products = training_step.products(sizes, "float32").values()
    attention = 6 * sizes.num_layers * sizes.d_model * sizes.seq_len * sizes.tokens
    assert sum(product.count * product.flops for product in products) == sizes.flops - attention


def test_names_are_not_truncated_in_wide_tables(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    training_step = importlib.import_module("training_step")
    row = {
        "milliseconds": [123456.0, 234567.0, 345678.0],
        "tokens_per_second": 1234567.0,
        "speed_relative_to_hugging_face": training_step.quartiles([10.25, 11.25, 12.25]),
        "utilization": training_step.quartiles([0.5, 0.5, 0.5]),
        "bytes": {"idle": 2**44, "tensors": 2**44, "process": 2**44},
    }
    names = [training_step.OURS, training_step.THEIRS, "nn.TransformerEncoder", "Hugging Face, fused GELU"]
    float32 = {
        "products_milliseconds": [1.0, 1.0, 1.0],
        "products_gflops_per_second": 1.0,
        "contenders": dict.fromkeys(names, row),
    }
    figures = {"precisions": {"float32": float32}, "flops": 1, "backends": {}}
    training_step.show({**figures, "rounds": 1, "disturbed_rounds": 0}, {"x": "it is not installed"}, "AMD")
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)
    assert "x: skipped: it is not installed" in shown


@pytest.mark.slow
def test_attention(run_benchmark, tmp_path):
    figures, shown = run_benchmark("attention", "--figure", tmp_path / "cost.svg")
    assert (tmp_path / "cost.svg").read_text("utf-8").startswith("<?xml")
    for name in ("textbook", "fused", "flash", "window", "Longformer", "BigBird", "linear, elu + 1"):
        assert name in shown
        for measured in figures["passes"].values():
            assert [len(row[name]["seconds"]) for row in measured.values()] == [1, 1, 1]
            assert all(row[name]["bytes"] > 0 for row in measured.values())
    for fits in figures["exponents"].values():
        assert fits["fused"]["memory"]["exponent"] > 0.5
    assert figures["crossover"]["score_entries"] == {"1024": 2**20, "4096": 2**24}
    assert figures["crossover"]["factor"] == 16
    assert "1,048,576 at 1,024, 16,777,216 at 4,096, 16 times as many" in shown


@pytest.mark.slow
def test_training_memory(run_benchmark):
    techniques = ["plain", "flash, chunked loss", "window 256, block-sparse"]
    figures, shown = run_benchmark("training_memory", "--techniques", *techniques)
    assert list(figures["rows"]) == techniques
    for name, row in figures["rows"].items():
        assert name.split(",")[0] in shown
        assert row["tensors"] > 0
        assert row["time_relative"][1] > 0


@pytest.mark.slow
def test_long_range(run_benchmark, tmp_path):
    options = ["--folder", str(tmp_path / "runs"), "--contenders", "full", "Longformer", "linear"]
    figures, shown = run_benchmark("long_range", *options)
    for name in ("full", "Longformer", "linear"):
        row = figures["contenders"][name]
        assert len(row["seeds"]) == 2
        assert all(0 <= seed["accuracy"] <= 1 for seed in row["seeds"])
        assert row["cost"]["seconds"][1] > 0
        assert row["cost"]["peak_bytes"] > 0
        assert name in shown
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").iterdir()}
    assert len(before) == 6
    run_benchmark("long_range", *options, "--accuracy-only")  # finished runs are not repeated
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").iterdir()} == before
