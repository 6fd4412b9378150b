"""``glassformer study``: the list, a study at the smoke scale, and errors."""

from __future__ import annotations

import json

import pytest

from glassformer.cli import main
from glassformer.experiments import study_runner
from glassformer.experiments.executors import LocalExecutor
from glassformer.experiments.sweep import Outcome


def test_the_list_gives_questions_claims_and_times(capsys):
    assert main(["study", "--list"]) == 0
    out = capsys.readouterr().out
    assert "\ncomplexity: How do the time and the memory of attention grow" in out
    assert "9 claims; smoke 30 s, laptop 35 min" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which study? --list shows all"),
        (["scalling"], "unknown study 'scalling', did you mean 'scaling'?"),
        (["scaling", "--scale", "big"], "--scale"),
        (
            ["complexity", "--workers", "2"],
            "complexity measures time, so its runs are made one by one",
        ),
        (["scaling", "--workers", "0"], "workers must be at least 1, not 0"),
    ],
)
def test_errors_are_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["study", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("glassformer study: ")
    assert message in error
    assert error.count("\n") == 1


def test_a_failed_run_is_an_error_of_one_line(tmp_path, capsys, monkeypatch):
    class Failing(LocalExecutor):
        def execute(self, folders):
            for folder in folders:
                yield Outcome(folder, "failed", "ValueError: too small")

    monkeypatch.setattr(study_runner, "build_executor", lambda *_: Failing(1))
    assert main(["study", "scaling", "--scale", "smoke", "--out", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert "failed: ValueError: too small" in captured.err
    assert "(and 7 other runs)" in captured.err


def test_the_full_scale_says_what_it_costs_first(tmp_path, capsys, monkeypatch):
    def refuse(*_, **__):
        raise OSError("the scale full needs 200 GiB of disk, 1 are free")

    monkeypatch.setattr(study_runner, "check_resources", refuse)
    assert main(["study", "scaling", "--scale", "full", "--out", str(tmp_path / "full")]) == 2
    captured = capsys.readouterr()
    assert "FLOPs: about" in captured.out
    assert "needs 200 GiB" in captured.err


@pytest.mark.slow
def test_a_study_is_made_and_made_again(tmp_path, capsys):
    arguments = ["study", "scaling", "--scale", "smoke", "--out", str(tmp_path), "--workers", "1"]
    assert main(arguments) == 0
    first = capsys.readouterr().out
    assert "[8/8]" in first
    assert f"report: {tmp_path / 'report.html'}" in first
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results["claims"]) == 5
    assert main(arguments) == 0
    again = capsys.readouterr().out
    assert "8 of 8 runs are done already" in again
    assert json.loads((tmp_path / "results.json").read_text()) == results
