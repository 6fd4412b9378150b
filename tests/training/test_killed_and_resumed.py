"""Runs killed by SIGKILL and resumed, compared with an uninterrupted one, and what kills leave."""

import json
import os
import random
import shutil
import time
from dataclasses import replace
from multiprocessing import get_context

import pytest

from glassformer.training import (
    CheckpointConfig,
    Checkpoints,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    train,
)
from glassformer.training.checkpoints import verify


@pytest.fixture(scope="module")
def processes():
    """Single-threaded processes, forked from one that has imported everything, so that they start fast."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["glassformer.training.pipeline"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        for name in [name for name in os.environ if name.startswith("COV")]:
            patch.delenv(name)  # a killed process would leave an incomplete coverage file
        yield context


def history(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "tokens_per_second")} for row in rows]


def weights(folder):
    return {
        name: (folder / "checkpoints" / "latest" / name).read_bytes()
        for name in ("model.safetensors", "optimizer.safetensors", "random.safetensors")
    }


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_killed_run_gives_the_same_results_after_resuming(processes, config, tmp_path, accumulation):
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{n} and {n + 1} are {2 * n + 1}.\n" for n in range(300)))
    undisturbed = replace(
        config,
        run_folder=str(tmp_path / "undisturbed"),
        steps=240,
        accumulation=accumulation,
        batch_size=4,
        data=DataConfig(
            str(text), "byte", seq_len=16, fractions=(0.95, 0.05, 0.0), folder=str(tmp_path / "tokens")
        ),
        model=ModelConfig("gpt", "none", d_model=16, num_layers=2, num_heads=2, dropout=0.1),
        evaluation=EvaluationConfig(every=15),
        checkpoints=CheckpointConfig(every=6),
    )
    killed = replace(undisturbed, run_folder=str(tmp_path / "killed"))
    whole = processes.Process(target=train, args=(undisturbed,))
    whole.start()
    whole.join(60)
    assert whole.exitcode == 0

    kills = 0
    generator = random.Random(accumulation)
    started = tmp_path / "killed" / "environment.json"  # written when a run starts or resumes
    for attempt in range(8):
        resume = (tmp_path / "killed" / "config.toml").exists()
        before = _time_of(started)
        process = processes.Process(target=train, args=(killed,), kwargs={"resume": resume})
        process.start()
        if attempt > 0:  # the first may be killed before the folder exists
            _wait_for(
                lambda before=before, process=process: not process.is_alive() or _time_of(started) != before
            )
        if attempt < 7:  # the last is not killed
            process.join(generator.uniform(0, 0.4))
            process.kill()
        process.join(60)
        if process.exitcode == 0:
            break
        assert process.exitcode == -9
        kills += 1
    assert process.exitcode == 0
    assert kills >= 2
    assert history(tmp_path / "killed") == history(tmp_path / "undisturbed")
    assert weights(tmp_path / "killed") == weights(tmp_path / "undisturbed")


def _time_of(path):
    return path.stat().st_mtime_ns if path.exists() else None


def _wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.002)


def test_what_a_killed_process_left_is_removed(tmp_path, trained):
    model, optimizer = trained(0)
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step, loss in [(1, 1.0), (2, 3.0), (3, 2.0), (4, 4.0)]:
        checkpoints.save(model, optimizer, {"step": step, "validation_loss": loss})
    before = sorted(os.listdir(tmp_path))
    assert before == ["best", "latest", "step-000001", "step-000003", "step-000004"]
    for left in (".step-000005.abcd.partial", ".step-000002.removed.partial"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "state.json").touch()
    (tmp_path / ".latest.link").symlink_to("step-000002")
    for link in ("latest", "best"):
        (tmp_path / link).unlink()
        (tmp_path / link).symlink_to("step-000003")
    shutil.copytree(tmp_path / "step-000004", tmp_path / "step-000002")
    checkpoints.clean_up()
    assert sorted(os.listdir(tmp_path)) == before
    assert os.readlink(tmp_path / "latest") == "step-000004"
    assert os.readlink(tmp_path / "best") == "step-000001"


def test_links_that_were_copied_as_folders_stay(tmp_path, trained):
    checkpoints = Checkpoints(tmp_path)
    (tmp_path / "latest").mkdir()
    (tmp_path / "latest" / "config.json").touch()
    checkpoints.save(*trained(0), {"step": 1})
    assert sorted(os.listdir(tmp_path)) == ["latest", "step-000001"]


def test_links_to_checkpoints_that_were_deleted_by_hand_are_renewed(tmp_path, trained):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(*trained(0), {"step": step, "validation_loss": 1.0 / step})
    shutil.rmtree(tmp_path / "step-000002")
    checkpoints.clean_up()
    assert {os.readlink(tmp_path / name) for name in ("latest", "best")} == {"step-000001"}
    shutil.rmtree(tmp_path / "step-000001")
    checkpoints.clean_up()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("again", [False, True])
def test_a_kill_never_leaves_a_part_of_a_checkpoint_under_its_name(tmp_path, trained, monkeypatch, again):
    """Files are deleted one by one, so a kill in between leaves some of them."""
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(*trained(0), {"step": 1})
    monkeypatch.setattr(shutil, "rmtree", lambda path, **_: path.exists() and next(path.iterdir()).unlink())
    checkpoints.save(*trained(0), {"step": 1 if again else 2})
    verify(checkpoints.latest())
    assert checkpoints.steps() == [1 if again else 2]
    monkeypatch.undo()
    checkpoints.clean_up()
    assert sorted(os.listdir(tmp_path)) == ["latest", checkpoints.latest().name]
