"""Studies from protocol to report, with planted effects instead of models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glassformer.experiments import study_runner
from glassformer.experiments.protocol import parse_protocol
from glassformer.experiments.runs import RESULT, Run
from glassformer.experiments.statistics import one_sample_t
from glassformer.experiments.study import Findings, ResultTable, Study
from glassformer.experiments.study_report import shown, to_markdown
from glassformer.experiments.study_runner import run_study

CLAIMS = [
    {
        "id": name,
        "text": f"The {name} | has an effect",
        "source": "a test",
        "test": "difference",
        "direction": 1,
        "claimed": 1.0,
        "tolerance": 0.5,
        "margin": 0.5,
    }
    for name in ("planted", "null")
]


class PlantedStudy(Study):
    """Two measures of each seed: one with an effect of 1, one without."""

    name = "planted"

    def __init__(self, seeds=8, claims=CLAIMS, disk_gib=0, memory_gib=0, exclusive=False):
        scale = {"minutes": 1, "memory_gib": memory_gib, "disk_gib": disk_gib, "exclusive": exclusive}
        scale["settings"] = {"seeds": seeds}
        content = {
            "title": "Planted",
            "question": "Is a planted effect found?",
            "primary_outcome": "the mean",
            "method": "random numbers",
            "hypotheses": ["The planted effect is found."],
            "limitations": ["It is a test."],
            "claims": claims,
            "scales": dict.fromkeys(("smoke", "laptop", "full"), scale),
        }
        self.protocol = parse_protocol(content)

    def runs(self, scale):
        seeds = range(scale.settings["seeds"])
        return [Run(f"seed-{seed}", "planted:measure", {"seed": seed}) for seed in seeds]

    def analyze(self, results, scale):
        estimates = {
            claim.id: one_sample_t([value[claim.id] for value in results.values()])
            for claim in self.protocol.claims
        }
        table = ResultTable("All", ["run", "planted"], [[k, v["planted"]] for k, v in results.items()])
        return Findings(estimates, tables=[table], data={"points": list(results.values())}, notes=["A note."])

    def figures(self, data):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(2, 2))
        figure.subplots().plot([point["planted"] for point in data["points"]])
        return [(figure, "The planted effect")]

    def summarize(self, value):
        return {"planted": value["planted"]}


class InThisProcess:
    """Executes the runs where it is."""

    num_workers = 1

    def execute(self, folders):
        from glassformer.experiments.runs import execute
        from glassformer.experiments.sweep import Outcome

        for folder in folders:
            execute(folder)
            yield Outcome(folder, "done")


@pytest.fixture(autouse=True)
def executor(monkeypatch, planted):
    chosen = []

    def build(name, workers, resources, logs):
        chosen.append((name, workers, resources.threads, resources.minutes))
        return InThisProcess()

    monkeypatch.setattr(study_runner, "build_executor", build)
    return chosen


def test_a_study_runs_judges_and_reports(tmp_path):
    study = PlantedStudy()
    results = run_study(study, study.protocol.scale("laptop"), tmp_path)
    verdicts = {claim["id"]: claim["verdict"] for claim in results["claims"]}
    assert verdicts == {"planted": "reproduced", "null": "contradicted"}
    assert results == json.loads((tmp_path / "results.json").read_text())
    assert results["protocol_hash"] == study.protocol.hash
    assert [run["name"] for run in results["runs"]] == [f"seed-{n}" for n in range(8)]
    page = (tmp_path / "report.html").read_text()
    for text in (
        "Is a planted effect found?",
        "contradicted",
        "A note.",
        "It is a test.",
        study.protocol.hash,
    ):
        assert text in page
    markdown = to_markdown(results)
    assert "The planted \\| has an effect" in markdown
    assert "random numbers" in markdown


def test_finished_runs_are_analyzed_again_to_the_same_digit(tmp_path):
    study = PlantedStudy()
    scale = study.protocol.scale("smoke")
    first = run_study(study, scale, tmp_path)
    written = (tmp_path / "results.json").read_bytes()
    assert run_study(PlantedStudy(), scale, tmp_path) == first
    assert (tmp_path / "results.json").read_bytes() == written


def test_a_changed_result_changes_the_verdict(tmp_path):
    study = PlantedStudy()
    scale = study.protocol.scale("laptop")
    run_study(study, scale, tmp_path)
    for path in tmp_path.glob(f"runs/*/{RESULT}"):
        result = json.loads(path.read_text())
        result["value"]["planted"] -= 2
        path.write_text(json.dumps(result))
    changed = run_study(study, scale, tmp_path)
    assert changed["claims"][0]["verdict"] == "contradicted"


def test_the_smoke_scale_judges_nothing(tmp_path):
    study = PlantedStudy()
    results = run_study(study, study.protocol.scale("smoke"), tmp_path)
    assert {claim["verdict"] for claim in results["claims"]} == {"not testable at this scale"}
    assert {claim["reason"] for claim in results["claims"]} == {study_runner.SMOKE}
    assert results["claims"][0]["measured"]["num_seeds"] == 8


@pytest.mark.parametrize("content", ["[]", '{"study": "planted"}'])
def test_a_folder_that_says_nothing_is_refused(tmp_path, content):
    (tmp_path / "study.json").write_text(content)
    study = PlantedStudy()
    with pytest.raises(ValueError, match="does not say which study the folder is for"):
        run_study(study, study.protocol.scale("smoke"), tmp_path)


def test_finished_runs_need_no_disk(tmp_path):
    study = PlantedStudy()
    run_study(study, study.protocol.scale("smoke"), tmp_path)
    study_runner.check_resources(PlantedStudy(disk_gib=1e9).protocol.scale("smoke"), tmp_path, 0.0, 0)


def test_a_folder_of_another_protocol_or_scale_is_refused(tmp_path):
    study = PlantedStudy()
    run_study(study, study.protocol.scale("smoke"), tmp_path)
    with pytest.raises(ValueError, match=r"holds the scale 'smoke', not 'laptop': choose another --out"):
        run_study(study, study.protocol.scale("laptop"), tmp_path)
    other = PlantedStudy(seeds=9)
    with pytest.raises(ValueError, match=r"scales\.smoke\.settings\.seeds: 8, now 9"):
        run_study(other, other.protocol.scale("smoke"), tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["scale"] == "smoke"


@pytest.mark.parametrize(
    ("options", "message"),
    [({"disk_gib": 1e9}, "GiB of disk, .* are free"), ({"memory_gib": 1e6}, "GiB of memory for 3 workers")],
)
def test_too_little_disk_or_memory_is_said_first(tmp_path, options, message):
    study = PlantedStudy(**options)
    with pytest.raises(OSError, match=message):
        run_study(study, study.protocol.scale("smoke"), tmp_path, workers=3)
    assert not (tmp_path / "runs").exists()


def test_free_memory_is_that_of_the_control_group_if_it_has_less(tmp_path):
    free = study_runner.available_memory_gib
    system, group = tmp_path / "meminfo", tmp_path / "group"
    assert free(system, group) is None
    system.write_text("MemTotal: 9999 kB\nMemAvailable: 4194304 kB\n")
    assert free(system, group) == 4
    group.mkdir()
    (group / "memory.stat").write_text("anon 5\ninactive_file 1073741824\n")
    (group / "memory.current").write_text(f"{2 * 2**30}\n")
    (group / "memory.max").write_text("max\n")
    assert free(system, group) == 4
    (group / "memory.max").write_text(f"{3 * 2**30}\n")
    assert free(system, group) == 2
    (group / "memory.max").write_text(f"{30 * 2**30}\n")
    assert free(system, group) == 4


def test_time_is_measured_by_one_run_at_a_time_with_all_threads(tmp_path, executor, monkeypatch):
    monkeypatch.setattr(study_runner, "available_processors", lambda: 5)
    study = PlantedStudy(exclusive=True)
    with pytest.raises(ValueError, match="planted measures time, .*: leave out --workers 2"):
        run_study(study, study.protocol.scale("smoke"), tmp_path / "no", workers=2)
    with pytest.raises(ValueError, match="leave out --executor ray"):
        run_study(study, study.protocol.scale("smoke"), tmp_path / "no", executor="ray")
    with pytest.raises(
        ValueError, match="--workers is for the local executor, got --workers 2 --executor ray"
    ):
        run_study(other := PlantedStudy(), other.protocol.scale("smoke"), tmp_path, executor="ray", workers=2)
    run_study(study, study.protocol.scale("smoke"), tmp_path / "exclusive")
    other = PlantedStudy()
    run_study(other, other.protocol.scale("smoke"), tmp_path / "shared")
    limit = 2 * study.protocol.scale("smoke").minutes
    assert executor == [("local", 1, 5, limit), ("local", 5, 1, limit)]


def test_planted_effects_are_found_and_planted_nulls_are_not(tmp_path):
    """20 repeats of a study of 8 seeds: an effect of five standard deviations, and none."""
    study = PlantedStudy()
    scale = study.protocol.scale("smoke")
    found = {"planted": 0, "null": 0}
    from planted import measure

    from glassformer.experiments.verdicts import judge_all

    for repeat in range(20):
        values = {f"seed-{n}": measure({"seed": 1000 * repeat + n}, Path()) for n in range(8)}
        findings = study.analyze(values, scale)
        for name, judgement in judge_all(study.protocol.claims, findings.estimates).items():
            found[name] += judgement.verdict in ("reproduced", "direction only")
    assert found == {"planted": 20, "null": 0}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("x", "x"),
        (12345, "12,345"),
        (0.0, "0"),
        (0.123456, "0.1235"),
        (123456.7, "123,457"),
        (1.5e-7, "1.50e-07"),
        (3e12, "3.00e+12"),
    ],
)
def test_numbers_are_shown_with_four_digits(value, text):
    assert shown(value) == text
