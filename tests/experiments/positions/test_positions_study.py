"""The study of positions: planted changes, training that is stopped and resumed, and the smoke scale."""

from __future__ import annotations

import json
import signal
from dataclasses import replace

import numpy as np
import pytest

from glassformer.experiments import study_runner
from glassformer.experiments.positions import training as training_module
from glassformer.experiments.positions.study import PositionsStudy
from glassformer.experiments.positions.tables import by_name
from glassformer.experiments.positions.training import train_scheme
from glassformer.experiments.study import find_study
from glassformer.experiments.study_report import to_markdown
from glassformer.experiments.study_runner import run_study
from glassformer.experiments.verdicts import judge_all
from glassformer.training import trainer as trainer_module

CLAIMED = {"sinusoidal": 0.146, "untrained": 0.578, "rotary": 0.099, "alibi": -0.03, "t5": 0.0}
POLICIES = ("untrained", "clamp", "interpolate")


def planted_results(study, scale, changes, *, gain=0.2, trained=0.9, lost=0.4, draw=None, noise=0.01):
    """Results of runs whose losses change as given, with normal errors of each seed."""
    draw = draw or np.random.default_rng(0)
    n = scale.settings["seq_len"]
    lengths = [n * factor for factor in scale.settings["factors"]]
    results = {}
    for run in study.runs(scale):
        scheme, measured = run.settings["scheme"], {}
        base = 4.0 - gain * (scheme != "none") + noise * draw.standard_normal()
        for name in POLICIES if scheme == "learned" else (scheme,):
            slope = changes.get(name, 0.0) + noise * draw.standard_normal()
            losses = {str(length): base + slope * np.log2(length / n) for length in lengths}
            accuracy = {"trained": trained, "near": trained, "far": trained - lost}
            measured[name] = {
                "fixed": losses,
                "windows": losses,
                "sliding": {key: losses[key] for key in list(losses)[:2]},
                "recall": {
                    key: {"accuracy": value + noise * draw.standard_normal(), "loss": 1.0}
                    for key, value in accuracy.items()
                },
            }
        results[run.name] = {"num_parameters": 1, "tokens": 1, "measured": measured}
    return results


def verdicts(study, scale, results):
    findings = study.analyze(results, scale)
    judged = judge_all(study.protocol.claims, findings.estimates, findings.untestable)
    return {name: judgement.verdict.value for name, judgement in judged.items()}, judged


@pytest.fixture(scope="module")
def study():
    return PositionsStudy()


@pytest.fixture(scope="module")
def laptop(study):
    return study.protocol.scale("laptop")


def test_planted_changes_are_found(study, laptop):
    draw = np.random.default_rng(1)
    for _ in range(20):
        found, _ = verdicts(study, laptop, planted_results(study, laptop, CLAIMED, draw=draw))
        assert set(found.values()) == {"reproduced"}


def test_planted_nulls_are_not_found(study, laptop):
    draw = np.random.default_rng(2)
    for _ in range(20):
        found, _ = verdicts(study, laptop, planted_results(study, laptop, {}, lost=0.0, draw=draw))
        for name in ("sinusoidal", "learned", "rotary"):
            assert found[name] in ("not testable at this scale", "contradicted")
        assert found["alibi-recall"] == found["t5-recall"] == "contradicted"


def test_the_opposite_is_contradicted(study, laptop):
    changes = {"sinusoidal": -0.1, "untrained": 1.5, "rotary": 0.3, "alibi": 0.1, "t5": 0.06}
    found, _ = verdicts(study, laptop, planted_results(study, laptop, changes, lost=-0.05))
    assert found == {
        "sinusoidal": "contradicted",
        "learned": "direction only",
        "rotary": "direction only",
        "alibi": "contradicted",
        "t5": "contradicted",
        "alibi-recall": "contradicted",
        "t5-recall": "contradicted",
    }


def test_what_was_not_learned_is_not_judged(study, laptop):
    results = planted_results(study, laptop, CLAIMED, gain=0.025, trained=0.3, lost=0.2, noise=1e-4)
    found, judged = verdicts(study, laptop, results)
    assert found["learned"] == found["alibi-recall"] == found["t5-recall"] == "not testable at this scale"
    assert "are 0.025 nats better than none, less than 0.05" in judged["learned"].reason
    assert "answers 30.0 % of the questions, less than 50 %" in judged["alibi-recall"].reason
    assert found["rotary"] == "reproduced"
    found, _ = verdicts(study, laptop, planted_results(study, laptop, {**CLAIMED, "untrained": 0}, gain=0.02))
    assert found["learned"] == "not testable at this scale"  # whatever its change is


def test_policies_are_separate_and_seeds_in_order(study, laptop):
    changes = {"untrained": 0.5, "clamp": 0.2, "interpolate": 0.1}
    results = planted_results(study, laptop, changes, noise=0.0)
    shuffled = dict(sorted(results.items(), reverse=True))
    measured = by_name(shuffled)
    assert [f"learned, {name}" for name in POLICIES] == [name for name in measured if "learned" in name]
    tables = {table.title: table for table in study.analyze(results, laptop).tables}
    rows = {(row[0], row[1]): row for row in tables["Change of the loss with longer contexts"].rows}
    assert [rows[f"learned, {name}", "2x"][2] for name in POLICIES] == pytest.approx([0.5, 0.2, 0.1])
    assert rows["rotary", "2x"][-1] == pytest.approx(0.063)
    assert rows["learned, clamp", "8x"][2] == pytest.approx(0.6)
    results["rotary-seed-3"]["measured"]["rotary"]["fixed"]["256"] += 1
    changed = by_name(results)["rotary"]
    assert [seed for seed, row in enumerate(changed) if row["fixed"]["256"] > 4.5] == [3]


def test_figures_and_sizes(study, laptop):
    findings = study.analyze(planted_results(study, laptop, CLAIMED), laptop)
    data = json.loads(json.dumps(findings.data))
    assert len(json.dumps(data)) < 50_000
    (changes, caption), (recall, _) = study.figures(data)
    assert len(changes.axes[0].get_lines()) == 8 + 1
    assert "means over the seeds" in caption
    assert recall.axes[0].get_xticklabels()[0].get_text() == "sinusoidal"
    full = study.flops(study.protocol.scale("full"))
    # 35.7 M parameters, 700 M tokens, 48 runs, and attention
    assert full == pytest.approx(48 * 7e8 * 6 * (6 * 12 * 512**2 + 32768 * 512 + 6 * 512 * 512), rel=1e-9)


def test_runs_of_a_seed_differ_in_the_scheme_alone(study, laptop):
    runs = study.runs(laptop)
    assert len(runs) == 48
    assert len({run.name for run in runs}) == 48
    of_seed = [run.settings for run in runs if run.settings["seed"] == 3]
    varied = {key for row in of_seed for key in row if row[key] != of_seed[0][key]}
    assert varied <= {"scheme", "learning_rate"}
    assert laptop.settings["fixed_windows"] * laptop.settings["fixed_targets"] >= 5000
    assert laptop.settings["sliding_windows"] >= 1000


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    draw = np.random.default_rng(0)
    words = [bytes(draw.integers(97, 123, 4).tolist()).decode() for _ in range(30)]
    path.write_text("\n\n".join(" ".join(draw.choice(words, 60)) for _ in range(200)))
    return str(path)


@pytest.fixture
def settings(study, text):
    run = next(
        run for run in study.runs(study.protocol.scale("smoke")) if run.settings["scheme"] == "learned"
    )
    return {**run.settings, "source": text, "tokens": 4096}


@pytest.mark.slow
def test_a_training_that_is_stopped_gives_the_same_result(settings, tmp_path, monkeypatch):
    whole = train_scheme(settings, tmp_path / "a" / "runs" / "whole")
    assert list(whole["measured"]) == list(POLICIES)
    trained = {row["windows"]["32"] for row in whole["measured"].values()}
    assert len(trained) == 1
    assert 1 < trained.pop() < 6
    assert len({row["fixed"]["64"] for row in whole["measured"].values()}) == 3
    train_step = trainer_module.Trainer._train_step

    def stop_after_three(self):
        row = train_step(self)
        if self.step == 3:
            signal.raise_signal(signal.SIGTERM)
        return row

    folder = tmp_path / "b" / "runs" / "stopped"
    monkeypatch.setattr(trainer_module.Trainer, "_train_step", stop_after_three)
    with pytest.raises(SystemExit, match="143"):
        train_scheme(settings, folder)
    monkeypatch.undo()
    assert train_scheme(settings, folder) == whole
    assert train_scheme(settings, folder) == whole  # from the last checkpoint


@pytest.mark.slow
def test_schemes_of_a_seed_learn_from_the_same_batches(settings, tmp_path, monkeypatch):
    batches = {}

    for scheme, seed in (("rotary", 0), ("none", 0), ("none", 1)):

        def capture(build, config, source, scheme=scheme, seed=seed, **_):
            batches[scheme, seed] = [source.batch(step) for step in range(3)]
            raise InterruptedError

        monkeypatch.setattr(training_module, "train", capture)
        with pytest.raises(InterruptedError):
            train_scheme({**settings, "scheme": scheme, "seed": seed}, tmp_path / "runs" / scheme)
    same = [a.equal(b) for a, b in zip(batches["rotary", 0], batches["none", 0], strict=True)]
    other = [a.equal(b) for a, b in zip(batches["none", 0], batches["none", 1], strict=True)]
    assert all(same)
    assert not any(other)


def test_a_text_that_is_too_short_is_refused_before_training(settings, tmp_path):
    folder = tmp_path / "runs" / "short"
    with pytest.raises(ValueError, match="4,000,256 tokens are needed"):
        train_scheme({**settings, "tokens": 4_000_256}, folder)
    assert not (folder / "training").exists()


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
def test_the_smoke_scale_runs_from_protocol_to_report(tmp_path, monkeypatch, text):
    monkeypatch.setattr(study_runner, "build_executor", lambda *_: InThisProcess())
    study = find_study("positions")
    scale = study.protocol.scale("smoke")
    scale = replace(scale, settings={**scale.settings, "source": text})
    results = run_study(study, scale, tmp_path)
    assert len(results["runs"]) == 12
    assert [claim["verdict"] for claim in results["claims"]] == ["not testable at this scale"] * 7
    page = (tmp_path / "report.html").read_text()
    assert "Recall of planted facts" in page
    assert "With ALiBi the perplexity does not rise" in to_markdown(results)
    written = (tmp_path / "results.json").read_bytes()
    assert len(written) < 60_000
    assert run_study(find_study("positions"), scale, tmp_path) == results
    assert (tmp_path / "results.json").read_bytes() == written
