"""Runs killed by SIGKILL and resumed, compared with an uninterrupted one."""

import json
import os
import random
import time
from dataclasses import replace
from multiprocessing import get_context

import pytest

from glassformer.training import CheckpointConfig, DataConfig, EvaluationConfig, ModelConfig, train


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
        steps=80,
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
