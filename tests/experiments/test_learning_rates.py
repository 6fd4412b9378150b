"""Pilots of learning rates, with runs whose losses are known."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from glassformer.experiments import learning_rates
from glassformer.experiments.learning_rates import best_rates, choose_learning_rates, main, pilot_runs
from glassformer.experiments.runs import Run
from glassformer.experiments.study import find_study


class InThisProcess:
    """Executes the runs where it is."""

    num_workers = 1

    def execute(self, folders):
        from glassformer.experiments.runs import execute
        from glassformer.experiments.sweep import Outcome

        for folder in folders:
            execute(folder)
            yield Outcome(folder, "done")


LOSSES = {"small": 2.0, "large": 1.0}


class Piloted:
    """A study of two groups of runs, whose loss does not depend on the rate."""

    pilot_function = None

    def __init__(self, **settings):
        defaults = {"seeds": 2, "pilot_rates": [1e-3, 2e-3, 4e-3], "pilot_seed": 1000}
        scale = SimpleNamespace(name="laptop", settings=defaults | settings)
        self.scale = scale
        self.protocol = SimpleNamespace(scale=lambda name: scale)

    def runs(self, scale):
        return [
            Run(f"{group}-seed-{seed}", "planted:add", {"a": 1, "b": loss, "seed": seed, "learning_rate": 5})
            for seed in range(2)
            for group, loss in LOSSES.items()
        ]

    def pilot_loss(self, value):
        return value["sum"]


@pytest.fixture(autouse=True)
def executor(monkeypatch, planted):
    monkeypatch.setattr(learning_rates, "LocalExecutor", lambda *_: InThisProcess())


def test_each_group_is_run_with_each_rate_on_a_seed_of_its_own():
    study = Piloted()
    runs = pilot_runs(study, study.scale)
    assert [run.name for run in runs][:4] == [
        "small-rate-0.001",
        "small-rate-0.002",
        "small-rate-0.004",
        "large-rate-0.001",
    ]
    assert {run.settings["seed"] for run in runs} == {1000}
    assert [run.settings["learning_rate"] for run in runs] == 2 * [1e-3, 2e-3, 4e-3]
    assert runs[0].settings["a"] == 1
    assert runs[0].function == "planted:add"
    study.pilot_function = "planted:less"
    assert {run.function for run in pilot_runs(study, study.scale)} == {"planted:less"}


@pytest.mark.parametrize("name", ["positions", "lengths", "architectures"])
def test_studies_can_be_piloted_at_laptop_scale(name):
    study = find_study(name)
    scale = study.protocol.scale("laptop")
    runs = pilot_runs(study, scale)
    groups = len(study.runs(scale)) // scale.settings["seeds"]
    assert len(runs) == groups * len(scale.settings["pilot_rates"])
    with pytest.raises(ValueError, match="the scale 'smoke' has no pilot_rates"):
        pilot_runs(study, study.protocol.scale("smoke"))


def test_a_seed_of_the_study_is_refused():
    study = Piloted(pilot_seed=1)
    with pytest.raises(ValueError, match="pilot_seed must not be one of the 2 seeds, got 1"):
        pilot_runs(study, study.scale)


def test_the_best_rate_is_that_of_the_lowest_loss():
    found = best_rates({"a": {1e-3: 2.0, 2e-3: 1.5, 4e-3: 1.7}, "b": {1e-3: 3.0, 2e-3: 2.5}})
    assert (found["a"].rate, found["a"].loss, found["a"].at_an_end) == (2e-3, 1.5, False)
    assert (found["b"].rate, found["b"].at_an_end) == (2e-3, True)


def test_a_pilot_runs_and_continues(tmp_path, monkeypatch, capsys):
    study = Piloted()
    losses = choose_learning_rates(study, study.scale, tmp_path)
    assert losses == {group: dict.fromkeys([1e-3, 2e-3, 4e-3], 1 + loss) for group, loss in LOSSES.items()}
    monkeypatch.setattr(learning_rates, "find_study", lambda name: study)
    assert main(["piloted", "laptop", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "6 of 6 runs are done already" in printed
    assert "large = 0.001 (at an end of the rates that were tried)" in printed
    assert len((tmp_path / "runs" / "small-rate-0.001" / "calls.txt").read_text().splitlines()) == 1
