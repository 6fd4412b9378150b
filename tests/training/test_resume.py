"""Resuming a run: equal to the bit for every task, and refused where something else has changed."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glassformer.cli import main
from glassformer.models import GPTModel
from glassformer.tokenization import ByteTokenizer
from glassformer.training import (
    CheckpointConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    NonFiniteError,
    OptimizerConfig,
    RunFolder,
    Schedule,
    TaskConfig,
    TrainingConfig,
    load_config,
    train,
)
from glassformer.training import run_folder as run_folder_module
from glassformer.training.pipeline import TASKS

MODELS = {
    "language-modeling": ModelConfig("gpt", "none", d_model=8, num_layers=1, num_heads=2, dropout=0.1),
    "masked-lm": ModelConfig("bert", "none", d_model=8, num_layers=1, num_heads=2, dropout=0.1),
    "span-corruption": ModelConfig("t5", "none", d_model=8, num_layers=1, num_heads=2, dropout=0.1),
    "image-classification": ModelConfig(
        "vit", "none", d_model=8, num_layers=1, num_heads=2, options={"patch_size": 4}
    ),
}
MODELS["sequence-to-sequence"] = MODELS["span-corruption"]
MODELS["text-classification"] = MODELS["masked-lm"]


@pytest.fixture
def task_config(config, tmp_path):
    """Build the config of a tiny run of a task: two updates, each of two batches, to each checkpoint."""

    def build(kind):
        path = tmp_path / "data.txt"
        tokenizer = {"masked-lm": "wordpiece", "text-classification": "wordpiece"}.get(kind, "byte")
        lines = [f"number {n} and so on\t{'odd' if n % 2 else 'even'} {n}" for n in range(120)]
        if kind == "text-classification":
            lines = [line.rpartition(" ")[0] for line in lines]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        if kind == "image-classification":
            path = tmp_path / "data.npz"
            random = np.random.default_rng(0)
            np.savez(path, images=random.random((60, 8, 8)), labels=np.arange(60) % 3)
        if kind in ("sequence-to-sequence", "text-classification"):
            path = path.rename(path.with_suffix(".tsv"))
        return replace(
            config,
            steps=4,
            batch_size=4,
            accumulation=2,
            task=TaskConfig(kind),
            data=DataConfig(str(path), tokenizer, 60, 24, (0.8, 0.1, 0.1), folder=str(tmp_path / "tokens")),
            model=MODELS[kind],
            evaluation=EvaluationConfig(every=2, num_generated=2),
            checkpoints=CheckpointConfig(every=2, keep=9),
        )

    return build


def files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def history(folder):
    rows = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    timed = ("seconds", "tokens_per_second", "examples_per_second")
    return [{name: value for name, value in row.items() if name not in timed} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("kind", TASKS)
def test_a_resumed_run_of_every_task_is_equal_to_the_bit(task_config, console, kind):
    config = task_config(kind)
    whole = train(config, console=console)
    expected, rows, results = files(whole.checkpoint), history(config.run_folder), whole.results
    assert expected.keys() == {"model.safetensors", "optimizer.safetensors", "random.safetensors"}
    if results is not None:  # of an earlier run to the end, which must not be taken for those of this one
        stale = {"checkpoint": results["checkpoint"], "test_loss": -1.0}
        (whole.run_folder / "results.json").write_text(json.dumps(stale))
    shutil.rmtree(whole.checkpoint)  # as if the run had been killed after the checkpoint of step 2
    resumed = train(config, resume=True, console=console)
    assert resumed.checkpoint == whole.checkpoint
    assert files(resumed.checkpoint) == expected
    assert history(config.run_folder) == rows
    assert resumed.results == results


def flip_bit(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 16
    path.write_bytes(content)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_skipped_if_asked_with_the_same_result(task_config, console):
    config = task_config("language-modeling")
    whole = train(config, console=console)
    expected, rows = files(whole.checkpoint), history(config.run_folder)
    flip_bit(whole.checkpoint / "optimizer.safetensors")
    with pytest.raises(ValueError, match=r"step-000004 is damaged: optimizer.safetensors .*--skip-damaged"):
        train(config, resume=True, console=console)
    resumed = train(config, resume=True, skip_damaged=True, console=console)
    assert "deleted: checkpoint" in console.file.getvalue()
    assert files(resumed.checkpoint) == expected
    assert history(config.run_folder) == rows


def test_an_optimizer_state_that_is_not_finite_is_never_saved(trainer):
    built = trainer()
    step = built.optimizer.step

    def overflowing_step():
        step()
        if built.step == 7:
            built.optimizer.state[built.model.norm.weight]["exp_avg_sq"][0] = float("inf")

    built.optimizer.step = overflowing_step
    with pytest.raises(NonFiniteError, match=r"after step 8, exp_avg_sq/norm.weight are not finite"):
        built.run()
    assert built.run_folder.checkpoints.steps() == [4]


def cut_rows(name, kept):
    def change(monkeypatch, folder):
        lines = (folder / name).read_text().splitlines(keepends=True)
        (folder / name).write_text("".join(lines[number] for number in kept if number < len(lines)))
        return {}

    return change


def edited(**changes):
    return lambda monkeypatch, folder: changes


def patched(target, value):
    def change(monkeypatch, folder):
        monkeypatch.setattr(target, value)
        return {}

    return change


CHANGES = {
    "threads": (patched("torch.get_num_threads", lambda: 77), "threads was 1, now 77"),
    "torch": (patched("torch.__version__", "9.9.9"), "torch was '.*', now '9.9.9'"),
    "processor": (patched("torch.backends.cpu.get_cpu_capability", lambda: "X"), "cpu_capability .* now 'X'"),
    "products": (
        patched("torch.get_float32_matmul_precision", lambda: "medium"),
        "float32_matmul_precision was 'highest', now 'medium'",
    ),
    "precision": (
        edited(precision="bfloat16"),
        "precision was 'auto', now 'bfloat16'; dtype was 'float32', now",
    ),
    "rate": (edited(optimizer=OptimizerConfig(learning_rate=0.5)), "learning_rate was 0.01, now 0.5"),
    "batch": (edited(batch_size=3, accumulation=2), "batch_size was 16, now 3; accumulation was 1, now 2"),
    "longer": (edited(steps=20), "steps was 10, now 20"),
    "cut metrics": (cut_rows("metrics.jsonl", range(6)), "metrics.jsonl had 9 rows up to step 8, now 6"),
    "a row": (cut_rows("metrics.jsonl", [0, 1, 3, 4, 5, 6, 7, 8, 9, 10]), "had 9 rows .* now 8"),
    "no metrics": (cut_rows("metrics.jsonl", []), "metrics.jsonl had 9 rows .* now 0"),
    "cut samples": (cut_rows("samples.jsonl", [0, 1]), "samples.jsonl had 3 rows up to step 8, now 2"),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_the_result_is_named_and_refused(trainer, monkeypatch, tmp_path, change):
    folder = tmp_path / "run"
    shutil.rmtree(trainer(sample=lambda model: "").run().checkpoint)  # as if it had been killed after step 8
    apply, message = CHANGES[change]
    changes = apply(monkeypatch, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=f"cannot be resumed with the same result: .*{message}.*--allow-ch"):
        trainer(resume=True, **changes)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    allowed = trainer(resume=True, allow_changes=True, **changes)
    result = allowed.run()
    assert (result.status, result.step) == ("finished", changes.get("steps", 10))
    assert "changed since the run was started: " in allowed.display.console.file.getvalue()
    assert trainer(resume=True, **changes).run_folder.notes == []


def test_an_edited_config_file_is_compared_with_that_of_the_checkpoint(trainer, tmp_path):
    trainer().run()
    config = tmp_path / "run" / "config.toml"
    config.write_text(config.read_text().replace("learning_rate = 0.01", "learning_rate = 0.5"))
    with pytest.raises(ValueError, match=r"optimizer.learning_rate was 0.01, now 0.5"):
        RunFolder.open(load_config(config, TrainingConfig()), resume=True)


def test_a_config_is_compared_with_the_file_before_the_first_checkpoint(config):
    RunFolder.open(config)
    with pytest.raises(ValueError, match="steps was 10, now 20"):
        RunFolder.open(replace(config, steps=20), resume=True)
    assert RunFolder.open(replace(config, steps=20), resume=True, allow_changes=True).notes


@pytest.mark.parametrize("allow_changes", [False, True])
def test_fewer_steps_than_were_made_are_refused(trainer, allow_changes):
    trainer().run()
    with pytest.raises(ValueError, match="has already made 10 updates: steps must be at least that, got 4"):
        trainer(resume=True, allow_changes=allow_changes, steps=4)


def test_a_model_of_another_data_type_is_refused(trainer, tiny_model):
    trainer().run()
    with pytest.raises(ValueError, match=r"has the data type torch.float32 in the file and torch.float64"):
        trainer(model=tiny_model(dropout=0.2).double(), resume=True, allow_changes=True).run()


def test_what_does_not_change_the_result_is_said(trainer, monkeypatch):
    trainer().run()
    monkeypatch.setattr(run_folder_module.platform, "platform", lambda: "Plan9")
    resumed = trainer(resume=True)
    resumed.run()
    assert "platform was" in resumed.display.console.file.getvalue()


def test_a_run_of_version_0_1_is_compared_with_its_own_files(trainer, tmp_path):
    trainer().run()
    folder = tmp_path / "run"
    for checkpoint in (folder / "checkpoints").glob("step-*"):
        (checkpoint / "checksums.json").unlink()
        state = json.loads((checkpoint / "state.json").read_text())
        (checkpoint / "state.json").write_text(
            json.dumps({"format": 1, "progress": state["progress"], "random": state["random"]})
        )
    assert trainer(resume=True).run().status == "finished"
    old = json.loads((folder / "environment.json").read_text())
    (folder / "environment.json").write_text(json.dumps({"torch": old["torch"], "threads": 8}))
    with pytest.raises(ValueError, match="threads was 8, now 1;"):
        trainer(resume=True)
    with pytest.raises(ValueError, match="clip_norm was 1.0, now 2.0"):
        trainer(resume=True, clip_norm=2.0)


def test_a_damaged_state_does_not_hide_its_checkpoint(trainer, tmp_path):
    """The settings of the newest intact state are compared, and the damaged checkpoint is named."""
    trainer().run()
    state = tmp_path / "run" / "checkpoints" / "step-000010" / "state.json"
    state.write_text(state.read_text().replace("learning_rate = 0.01", "learning_rate = 0.02"))
    with pytest.raises(ValueError, match=r"step-000010 is damaged: state.json does not match its checksum"):
        trainer(resume=True).run()


@pytest.mark.slow
def test_a_run_is_extended_on_the_command_line(task_config, console, capsys, monkeypatch):
    config = replace(task_config("sequence-to-sequence"), schedule=Schedule("constant", warmup_steps=1))
    longer = replace(config, run_folder=config.run_folder + "-8", steps=8)
    whole = train(longer, console=console)
    first = train(config, console=console)
    assert first.results["checkpoint"] == "step-000004"
    arguments = ["train", "--resume", "--run-folder", config.run_folder, "--steps", "8"]
    assert main(arguments) == 2
    assert "steps was 4, now 8; --allow-changes resumes it nevertheless" in capsys.readouterr().err
    assert main([*arguments, "--allow-changes"]) == 0
    folder = Path(config.run_folder)
    assert files(folder / "checkpoints" / "latest") == files(whole.checkpoint)
    assert json.loads((folder / "results.json").read_text()) == whole.results
    assert main(["train", "--run-folder", config.run_folder, "--overwrite", "--skip-damaged"]) == 2
    assert "skip_damaged is an option of resume" in capsys.readouterr().err
    assert main(["train", "--run-folder", config.run_folder, "--overwrite", "--allow-changes"]) == 2
    assert "allow_changes is an option of resume" in capsys.readouterr().err


def rewrite(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["language-modeling", "sequence-to-sequence", "text-classification"])
def test_changed_data_are_refused(task_config, console, kind):
    config = task_config(kind)
    train(config, console=console)
    source, stored = Path(config.data.source), Path(config.run_folder) / "data.json"
    lines, keys = source.read_text(encoding="utf-8").splitlines(), stored.read_text()
    found = set()
    for line in lines[::11]:  # a line of each split
        changed = line.replace("number", "numbers") if kind == "text-classification" else line + "!"
        rewrite(source, f"{line}\n", f"{changed}\n")
        with pytest.raises(ValueError, match="cannot be resumed with the same result") as refused:
            train(config, resume=True, console=console)
        found.update(re.findall("training data|validation or test data|tokenizer", str(refused.value)))
        assert stored.read_text() == keys
        rewrite(source, f"{changed}\n", f"{line}\n")
    assert found >= {"training data"} | (
        {"validation or test data"} if kind != "language-modeling" else set()
    )
    stored.unlink()
    with pytest.raises(ValueError, match=r"data.json is missing"):
        train(config, resume=True, console=console)
    stored.write_text("[" * 50_000)
    with pytest.raises(ValueError, match=r"data.json is not valid JSON: it is nested too deeply"):
        train(config, resume=True, console=console)
    stored.write_text(json.dumps({"tokens": json.loads(keys)["tokens"]}))  # as version 0.1 wrote it
    train(config, resume=True, console=console)
    assert json.loads(stored.read_text()) == json.loads(keys)


@pytest.mark.slow
def test_a_changed_starting_model_is_refused(task_config, console, tmp_path):
    """Its weights are those of the checkpoint, but dropout and tokenizer come from the model."""
    start = GPTModel(257, 8, 1, 2, max_seq_len=24)
    start.tokenizer = ByteTokenizer()
    start.save_pretrained(tmp_path / "start")
    config = replace(task_config("language-modeling"), model=ModelConfig(start_from=str(tmp_path / "start")))
    train(config, console=console)
    assert train(config, resume=True, console=console).status == "finished"
    rewrite(tmp_path / "start" / "config.json", '"dropout": 0.0', '"dropout": 0.5')
    with pytest.raises(ValueError, match=r"the same result: dropout was 0.0, now 0.5;"):
        train(config, resume=True, console=console)
    assert train(config, resume=True, allow_changes=True, console=console).status == "finished"
