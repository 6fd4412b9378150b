"""The study of scaling laws: planted laws, training that is stopped and resumed, and its data."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from glassformer.experiments.runs import Run, execute, read_result
from glassformer.experiments.scaling import study as study_module
from glassformer.experiments.scaling.study import ScalingStudy
from glassformer.experiments.scaling.training import first_decay_step, train_size
from glassformer.experiments.study import ResultTable
from glassformer.experiments.sweep import wait_until
from glassformer.experiments.training import EpochWindows
from glassformer.experiments.verdicts import judge_all
from glassformer.training import Schedule, TrainingConfig
from glassformer.training import run_folder as run_folder_module
from glassformer.training import trainer as trainer_module

LAWS = {"claimed": (0.35, 9.0), "steep": (0.8, 600.0), "flat": (0.35, 0.0), "rising": (-0.1, 0.1)}


def planted_results(study, scale, alpha, a, noise=0.002):
    """Results of runs that follow a law exactly, except for normal errors."""
    random = np.random.default_rng(0)
    results = {}
    for run in study.runs(scale):
        s = run.settings
        without = s["num_layers"] * 12 * s["d_model"] ** 2
        count = without + 256 * s["d_model"]
        rows = [
            {
                "tokens": tokens,
                "updates": 1,
                "loss": 1.0 + a * count**-alpha + 60 * tokens**-0.4 + noise * random.standard_normal(),
            }
            for tokens in s["budgets"]
        ]
        results[run.name] = {
            "num_parameters": count,
            "num_parameters_without_embeddings": without,
            "budgets": rows,
        }
    return results


@pytest.mark.parametrize(
    ("law", "alpha", "held_out"),
    [
        ("claimed", "reproduced", "reproduced"),
        ("steep", "contradicted", "reproduced"),
        ("flat", "not testable at this scale", "reproduced"),
        ("rising", "not testable at this scale", "contradicted"),
    ],
)
@pytest.mark.slow
def test_planted_laws_get_their_verdicts(law, alpha, held_out, monkeypatch):
    if law != "claimed":  # the verdicts do not depend on the tables, which take most of the time
        for name in ("intervals_table", "design_table", "fits_table"):
            monkeypatch.setattr(study_module, name, lambda *_: ResultTable("", [], []))
    study = ScalingStudy()
    scale = study.protocol.scale("laptop")
    findings = study.analyze(planted_results(study, scale, *LAWS[law]), scale)
    verdicts = judge_all(study.protocol.claims, findings.estimates, findings.untestable)
    assert verdicts["alpha"].verdict == alpha
    assert verdicts["held-out"].verdict == held_out
    assert verdicts["time"].verdict == verdicts["perplexity"].verdict == "not testable at this scale"
    if law == "claimed":
        assert findings.estimates["alpha"].mean == pytest.approx(0.35, abs=0.02)
        [(figure, _)] = study.figures(findings.data)
        assert "4 M tokens" in [text.get_text() for text in figure.axes[0].get_legend().texts]
        assert {table.title for table in findings.tables} >= {"What the claims imply"}


def test_windows_of_an_epoch_do_not_overlap():
    batches = EpochWindows(np.arange(101), batch_size=5, seq_len=4, seed=3)
    rows = np.concatenate([batches.batch(step).numpy() for step in range(5)])
    assert rows.shape == (25, 5)
    assert sorted(rows[:, :-1].ravel()) == list(range(100))
    assert (np.diff(rows) == 1).all()
    assert not np.array_equal(rows[:, 0], np.sort(rows[:, 0]))
    with pytest.raises(ValueError, match="120 tokens are needed and the split has 101: use a longer text"):
        batches.batch(5)


@pytest.mark.parametrize(("steps", "warmup"), [(20, 2), (101, 10), (5, 0)])
def test_the_trunk_ends_where_the_decay_begins(steps, warmup):
    schedule = Schedule("wsd", warmup, 0.1, 0.2)
    first = first_decay_step(schedule, steps)
    assert all(schedule.multiplier(step, steps) == 1 for step in range(warmup, first))
    assert schedule.multiplier(first, steps) < 1
    constant = Schedule("constant", warmup)
    assert all(
        schedule.multiplier(s, steps) == constant.multiplier(s, TrainingConfig().steps) for s in range(first)
    )


def test_a_run_that_ends_within_its_warmup_is_refused():
    with pytest.raises(ValueError, match="5 updates must be more than the 10 of the warmup"):
        first_decay_step(Schedule("wsd", 10, 0.1, 0.2), 5)


@pytest.fixture
def tiny_run(tmp_path):
    """A run that takes a few seconds, and its folder."""
    text = tmp_path / "text.txt"
    random = np.random.default_rng(0)
    words = [bytes(random.integers(97, 123, 5).tolist()).decode() for _ in range(50)]
    paragraphs = [" ".join(random.choice(words, 60)) for _ in range(400)]
    text.write_text("\n\n".join(paragraphs))
    scale = ScalingStudy().protocol.scale("smoke")
    run = next(run for run in ScalingStudy().runs(scale) if run.settings["d_model"] == 8)
    settings = {**run.settings, "source": str(text), "budgets": [8192, 98304]}
    return Run(run.name, run.function, settings), tmp_path / "study" / "runs" / run.name


@pytest.mark.slow
def test_a_killed_training_gives_the_same_result(tiny_run, tmp_path, monkeypatch):
    run, folder = tiny_run
    run.prepare(folder)
    execute(folder)
    whole = read_result(folder)["value"]
    losses = [row["loss"] for row in whole["budgets"]]
    assert 1 < losses[1] < losses[0] < 6
    assert whole["num_parameters"] - whole["num_parameters_without_embeddings"] == 8 * 257
    other = tmp_path / "other" / "runs" / run.name
    run.prepare(other)
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-m", "glassformer.experiments.runs", str(other)]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE) as process:
        assert wait_until(lambda: (other / "budget-8192").exists(), 60)
        process.send_signal(signal.SIGKILL)
    assert not (other / "result.json").exists()
    execute(other)
    assert read_result(other)["value"] == whole


@pytest.mark.slow
def test_a_training_that_is_asked_to_stop_continues(tiny_run, tmp_path, monkeypatch):
    run, folder = tiny_run
    train_step = trainer_module.Trainer._train_step

    def stop_after_three(self):
        row = train_step(self)
        if self.step == 3:
            signal.raise_signal(signal.SIGTERM)
        return row

    monkeypatch.setattr(trainer_module.Trainer, "_train_step", stop_after_three)
    with pytest.raises(SystemExit, match="143"):
        train_size(run.settings, folder)
    assert (folder / "trunk" / "checkpoints" / "latest").exists()
    monkeypatch.undo()
    continued = train_size(run.settings, folder)
    assert continued == train_size(run.settings, tmp_path / "whole")


@pytest.mark.slow
def test_a_training_of_another_version_is_not_continued(tiny_run, monkeypatch):
    run, folder = tiny_run
    train_size(run.settings, folder)
    numerics = run_folder_module.numerics
    monkeypatch.setattr(run_folder_module, "numerics", lambda *args: numerics(*args) | {"torch": "9.0"})
    with pytest.raises(ValueError, match=r"torch was .*, now '9\.0'\. Remove the folder"):
        train_size(run.settings, folder)


@pytest.mark.slow
def test_the_result_does_not_depend_on_the_fastest_backend(tiny_run, tmp_path, monkeypatch):
    run, folder = tiny_run
    expected = train_size(run.settings, folder)
    monkeypatch.setenv("GLASSFORMER_BACKEND", "onednn")
    assert train_size(run.settings, tmp_path / "other") == expected


def test_a_text_that_is_too_short_is_refused_before_training(tiny_run):
    run, folder = tiny_run
    with pytest.raises(ValueError, match="1,000,448 tokens are needed"):
        train_size({**run.settings, "budgets": [8192, 1_000_448]}, folder)
    assert not (folder / "trunk").exists()
