"""The study of lengths: planted accuracies, training that is stopped and resumed, and the smoke scale."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from glassformer.experiments import study_runner
from glassformer.experiments.lengths.study import LengthsStudy
from glassformer.experiments.lengths.tasks import Symbols
from glassformer.experiments.lengths.training import measure_length, train_task
from glassformer.experiments.study import find_study
from glassformer.experiments.study_runner import run_study
from glassformer.experiments.sweep import wait_until
from glassformer.experiments.verdicts import judge_all
from glassformer.training import trainer as trainer_module

PAPER = {"none": 0.55, "t5": 0.5, "alibi": 0.48, "rotary": 0.42, "sinusoidal": 0.36}
"""With errors of .1, mean reciprocal ranks of .68, .52, .44, .36 and .28: the paper has .69 to .22."""


def planted_results(study, scale, means, *, draw, noise=0.1, trained=None):
    """Results of runs with these mean accuracies beyond the trained lengths, and normal errors."""
    results = {}
    for run in study.runs(scale):
        s = run.settings
        learned = (trained or {}).get((s["task"], s["scheme"], s["seed"]), 0.99)
        lengths = {}
        for n in range(1, s["test_to"] + 1):
            beyond = means[s["scheme"]] + noise * draw.standard_normal()
            exact = learned if n <= s["train_to"] else float(np.clip(beyond, 0, 1))
            lengths[str(n)] = {"exact": exact, "token": (1 + exact) / 2, "loss": 1 - exact / 2}
        results[run.name] = {"num_parameters": 1, "train_to": s["train_to"], "lengths": lengths}
    return results


def verdicts(study, scale, results):
    findings = study.analyze(results, scale)
    judged = judge_all(study.protocol.claims, findings.estimates, findings.untestable)
    return {name: judgement.verdict.value for name, judgement in judged.items()}, judged


@pytest.fixture(scope="module")
def study():
    return LengthsStudy()


@pytest.fixture(scope="module")
def laptop(study):
    return study.protocol.scale("laptop")


def test_planted_ranks_are_found(study, laptop):
    draw, all_found = np.random.default_rng(1), []
    for _ in range(20):
        found, _ = verdicts(study, laptop, planted_results(study, laptop, PAPER, draw=draw))
        all_found.append(found)
        assert "contradicted" not in found.values()
    for name in ("absolute", "rotary"):
        assert [found[name] for found in all_found].count("reproduced") >= 18


def test_planted_nulls_are_not_found(study, laptop):
    draw = np.random.default_rng(2)
    for _ in range(20):
        equal = planted_results(study, laptop, dict.fromkeys(PAPER, 0.5), draw=draw)
        found, _ = verdicts(study, laptop, equal)
        assert set(found.values()) == {"not testable at this scale"}


def test_the_opposite_is_contradicted(study, laptop):
    opposite = dict(zip(PAPER, reversed(PAPER.values()), strict=True))
    found, _ = verdicts(
        study, laptop, planted_results(study, laptop, opposite, draw=np.random.default_rng(3))
    )
    assert found["rotary"] == found["absolute"] == "contradicted"


def test_schemes_that_have_not_learned_are_not_judged(study, laptop):
    failed = {("copy", "rotary", seed): 0.9 for seed in range(5)}
    failed |= {("reverse", "rotary", seed): 0.9 for seed in range(2)}
    failed |= {("copy", "sinusoidal", seed): 0.9 for seed in range(5)}
    results = planted_results(study, laptop, PAPER, draw=np.random.default_rng(4), trained=failed)
    found, judged = verdicts(study, laptop, results)
    assert found["rotary"] == "not testable at this scale"
    assert judged["rotary"].reason.startswith(
        "In 3 of 5 seeds both none and rotary have learned a task to 95 %"
    )
    assert found["absolute"] == "reproduced"  # on the other task
    findings = study.analyze(results, laptop)
    assert "rotary on copy (5 of the seeds), rotary on reverse (2 of the seeds)" in findings.notes[0].replace(
        "sinusoidal on copy (5 of the seeds), ", ""
    )
    nothing = {
        (task, scheme, seed): 0.1 for task in ("copy", "reverse") for scheme in PAPER for seed in range(5)
    }
    results = planted_results(study, laptop, PAPER, draw=np.random.default_rng(4), trained=nothing)
    findings = study.analyze(results, laptop)
    assert set(findings.untestable) == {claim.id for claim in study.protocol.claims}
    assert [row[2] for row in findings.tables[0].rows] == ["not ranked"] * 5


def test_tables_and_figures(study, laptop):
    findings = study.analyze(planted_results(study, laptop, PAPER, draw=np.random.default_rng(5)), laptop)
    rows = {row[0]: row for row in findings.tables[0].rows}
    assert sum(row[1] for row in rows.values()) == pytest.approx(2.2833, abs=0.01)
    assert rows["none"][-1] == 0.69
    assert rows["none"][1] > rows["rotary"][1] > rows["sinusoidal"][1]
    assert findings.notes == ["All schemes have learned all tasks in every seed, so all are ranked."]
    data = json.loads(json.dumps(findings.data))
    assert len(json.dumps(data)) < 50_000
    [(figure, _)] = study.figures(data)
    assert [axis.get_title() for axis in figure.axes[:2]] == ["copy", "reverse"]
    assert len(figure.axes[0].get_lines()) == 6


def test_flops_are_those_of_the_mean_length(study, laptop):
    sizes = np.arange(4, 43, 2)  # 2 n + 2 tokens
    parameters = 4 * 12 * 64**2 + 104 * 64
    of_products, of_attention = 6 * parameters * sizes, 6 * 4 * 64 * sizes**2
    expected = (of_products + of_attention).mean() * 64 * 1650 * 50
    assert study.flops(laptop) == pytest.approx(expected, rel=1e-9)
    full = study.flops(study.protocol.scale("full"))
    assert 1e17 < full < 1e19


class Copier(nn.Module):
    """Copies a sequence, but ends after at most ``longest`` symbols."""

    device = torch.device("cpu")

    def __init__(self, longest):
        super().__init__()
        self.longest = longest

    def hidden_states(self, inputs):
        n = int((inputs[0] == 10).nonzero()) - 1
        logits = torch.zeros(*inputs.shape, 14)
        for k in range(n + 1):
            token = inputs[:, 1 + k] if k < min(n, self.longest) else torch.full((len(inputs),), 11)
            logits[torch.arange(len(inputs)), n + 1 + k, token] = 9.0
        return logits

    def unembed(self, hidden):
        return hidden


def test_a_length_is_exact_only_with_its_end():
    found = measure_length(Copier(5), "copy", Symbols(10), 5, 30, seed=0)
    assert found["exact"] == found["token"] == 1.0
    assert found["loss"] < 0.01
    longer = measure_length(Copier(5), "copy", Symbols(10), 7, 30, seed=0)
    assert longer["exact"] == 0.0
    assert longer["token"] == pytest.approx(6 / 8)  # five symbols and the end


@pytest.fixture
def settings(study):
    run = study.runs(study.protocol.scale("smoke"))[0]
    return {**run.settings, "steps": 12}


@pytest.mark.slow
def test_a_training_that_is_stopped_gives_the_same_result(settings, tmp_path, monkeypatch):
    whole = train_task(settings, tmp_path / "whole")
    assert list(whole["lengths"]) == ["1", "2", "3", "4"]
    train_step = trainer_module.Trainer._train_step

    def stop_after_three(self):
        row = train_step(self)
        if self.step == 3:
            signal.raise_signal(signal.SIGTERM)
        return row

    monkeypatch.setattr(trainer_module.Trainer, "_train_step", stop_after_three)
    with pytest.raises(SystemExit, match="143"):
        train_task(settings, tmp_path / "stopped")
    monkeypatch.undo()
    assert train_task(settings, tmp_path / "stopped") == whole


@pytest.mark.slow
def test_a_model_learns_to_copy_what_it_is_trained_on(settings, tmp_path):
    more = {**settings, "scheme": "rotary", "steps": 400, "batch_size": 32, "d_model": 32, "warmup_steps": 20}
    found = train_task(more, tmp_path)["lengths"]
    assert found["1"]["exact"] > 0.9
    assert found["2"]["exact"] > 0.6
    assert found["4"]["exact"] < 0.2


def test_test_lengths_that_are_not_longer_are_refused(settings, tmp_path):
    with pytest.raises(ValueError, match="test_to must be above train_to, got 2 and 2"):
        train_task({**settings, "test_to": 2}, tmp_path)


class InThisProcess:
    """Executes the runs where it is."""

    num_workers = 1

    def execute(self, folders):
        from glassformer.experiments.runs import execute
        from glassformer.experiments.sweep import Outcome

        for folder in folders:
            execute(folder)
            yield Outcome(folder, "done")


@pytest.mark.slow
def test_the_smoke_scale_runs_from_protocol_to_report(tmp_path, monkeypatch):
    monkeypatch.setattr(study_runner, "build_executor", lambda *_: InThisProcess())
    study = find_study("lengths")
    scale = study.protocol.scale("smoke")
    results = run_study(study, scale, tmp_path)
    assert len(results["runs"]) == 10
    assert [claim["verdict"] for claim in results["claims"]] == ["not testable at this scale"] * 4
    assert "Kazemnejad et al. 2023" in (tmp_path / "report.html").read_text()
    written = (tmp_path / "results.json").read_bytes()
    assert len(written) < 60_000
    assert run_study(find_study("lengths"), scale, tmp_path) == results
    assert (tmp_path / "results.json").read_bytes() == written


@pytest.mark.slow
def test_a_killed_command_continues_to_the_same_results(tmp_path, monkeypatch):
    command = [sys.executable, "-m", "glassformer", "study", "lengths", "--scale", "smoke", "--workers", "2"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    with subprocess.Popen([*command, "--out", str(killed)], stdout=subprocess.DEVNULL) as driver:
        assert wait_until(lambda: len(list(killed.glob("runs/*/result.json"))) >= 2, 120)
        driver.kill()
    finished = {path: path.read_bytes() for path in killed.glob("runs/*/result.json")}
    assert len(finished) < 10
    subprocess.run([*command, "--out", str(killed)], check=True, stdout=subprocess.DEVNULL)
    assert {path: path.read_bytes() for path in finished} == finished
    monkeypatch.setattr(study_runner, "build_executor", lambda *_: InThisProcess())
    study = find_study("lengths")
    expected = run_study(study, study.protocol.scale("smoke"), whole)
    found = json.loads((killed / "results.json").read_text())
    for results in (expected, found):
        del results["computing_minutes"]
        for run in results["runs"]:
            del run["seconds"]
    assert found == expected
