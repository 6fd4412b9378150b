"""The demo from end to end, on a small text with few steps."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from glassformer.cli import demo, demo_report, main
from glassformer.training.config import DataConfig
from glassformer.visualization import AttentionVisualizer

pytestmark = pytest.mark.slow


@pytest.fixture
def small_demo(monkeypatch):
    data = DataConfig(vocab_size=300, seq_len=16, fractions=(0.8, 0.1, 0.1))
    model = replace(demo.CONFIG.model, preset="gpt-nano")
    monkeypatch.setattr(demo, "CONFIG", replace(demo.CONFIG, data=data, model=model, batch_size=2))


@pytest.mark.usefixtures("small_demo")
def test_the_demo_trains_analyzes_and_reports(corpus, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "demo"
    called = []

    def visualizer(model, name=None):
        called.append(name)
        return AttentionVisualizer(model, name)

    monkeypatch.setattr(demo_report, "AttentionVisualizer", visualizer)
    arguments = ["demo", "--steps", "3", "--source", str(corpus), "--run-folder", str(folder)]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    for said in ("unigram", "bigram", "validation loss", "bits/byte", "report.html", "My fellow citizens"):
        assert said in shown, said
    assert set(called) == {demo_report.NAME}  # every title names the model
    page = (folder / "report.html").read_text("utf-8")
    assert len(re.findall("<figure><div class=.wide.><img", page)) == 4
    assert page.count("<iframe") == 1
    explorer = (folder / "explorer.html").read_text("utf-8")
    assert explorer.replace("&", "&amp;").replace(chr(34), "&quot;") in page
    assert '<a class="page" href="explorer.html">' in page
    assert json.loads((folder / "heads.json").read_text())["format"] == "glassformer-heads-1"
    assert "before training" in page
    titles = re.findall("<h2>(.*?)</h2>", page)
    assert [title.split(".")[0] for title in titles[:-1]] == [str(number) for number in range(1, 7)]
    assert '<p class="tokens"><span>' in page
    assert "<details>" in page
    assert "held-out sentences" in page
    assert "after 3 steps" in page
    last = re.findall(r"step 3 .*validation loss [\d.]+ +([\d.]+) bits/byte", shown)
    assert f"<dd>{float(last[0]):.3f}</dd>" in page
    assert (folder / "heads.png").exists()
    assert len(list(folder.glob("attention-layer*.png"))) == 2
    assert main(arguments) == 2  # a finished demo is not overwritten
    assert "remove it (--overwrite)" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0


@pytest.mark.usefixtures("small_demo")
def test_an_interrupted_demo_tells_how_to_resume(corpus, tmp_path, capsys, monkeypatch):
    from glassformer.training import pipeline
    from glassformer.training.trainer import TrainingResult

    stopped = TrainingResult("interrupted", 2, tmp_path, tmp_path, {}, "SIGINT")
    monkeypatch.setattr(pipeline, "train", lambda *args, **kwargs: stopped)
    assert main(["demo", "--source", str(corpus), "--run-folder", str(tmp_path / "demo")]) == 130
    assert "interrupted at step 2" in capsys.readouterr().out


@pytest.mark.usefixtures("small_demo")
def test_a_second_demo_takes_the_next_folder(corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("runs/demo", "runs/demo-2", "runs/demo-3"):
        assert main(["demo", "--steps", "1", "--source", str(corpus)]) == 0
        assert (tmp_path / folder / "report.html").exists()
    assert main(["demo", "--steps", "2", "--source", str(corpus), "--overwrite"]) == 0
    assert "after 2 steps" in (tmp_path / "runs/demo/report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("seconds", "num_tokens", "steps"),
    [
        (1.0, 10**7, 2000),
        (0.09, 10**7, 2000),
        (0.06, 10**7, 3000),
        (0.05, 10**7, 3500),
        (1e-4, 10**7, 24000),  # five passes of 2048 tokens per update
        (1e-4, 10**5, 2000),
    ],
)
def test_a_faster_machine_makes_more_updates(seconds, num_tokens, steps):
    assert demo.affordable_steps(seconds, num_tokens) == steps


@pytest.mark.usefixtures("small_demo")
def test_updates_are_timed_without_steps(corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, "CONFIG", replace(demo.CONFIG, steps=3))
    monkeypatch.setattr(demo, "MAX_PASSES", 0)
    assert main(["demo", "--source", str(corpus), "--run-folder", str(tmp_path / "demo")]) == 0
    assert re.search(r"3 updates: one takes \d+ ms on this machine", capsys.readouterr().out)
    assert "steps = 3\n" in (tmp_path / "demo" / "config.toml").read_text()


def test_an_unknown_backend_is_refused_at_once(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("GLASSFORMER_BACKEND", "mkl9")
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 2
    assert "'mkl9' (from GLASSFORMER_BACKEND) does not exist: there are torch" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "tokens").exists()
