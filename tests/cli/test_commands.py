"""The commands end to end: output, files, errors, exit status."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from glassformer.cli import COMMANDS, main
from glassformer.models import GPTModel


def refused(capsys, *arguments):
    """The one line of an error, printed after any progress."""
    assert main(list(arguments)) == 2
    *progress, line = capsys.readouterr().err.splitlines()
    assert all(": " in text and "MB" in text for text in progress)
    assert line.startswith("glassformer")
    return line


def test_the_overview_lists_every_command(capsys):
    for arguments in ([], ["--help"], ["-h"], ["help"]):
        assert main(arguments) == 0
        shown = capsys.readouterr().out
        assert all(name in shown for name in COMMANDS)
    for arguments in (["--version"], ["-V"]):
        assert main(arguments) == 0
        assert capsys.readouterr().out.startswith("glassformer ")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    shown = []
    for arguments in ([command, "--help"], [command, "-h"], ["help", command]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0
        shown.append(capsys.readouterr().out)
    assert f"usage: glassformer {command}" in shown[0]
    assert shown[0] == shown[1] == shown[2]
    for metavar in ("STR", "PATH", "{None}|", "{None,slide", "BOOL"):
        assert metavar not in shown[0]
    takes_model = command not in ("demo", "study", "train", "tokenize")
    assert ("MODEL" in shown[0].splitlines()[0]) == takes_model


@pytest.mark.slow
def test_help_does_not_import_torch():
    for arguments in (
        [],
        ["train", "--help"],
        ["demo", "--help"],
        ["generate", "--help"],
        ["tokenize", "--help"],
    ):
        program = (
            "import sys\nfrom glassformer.cli import main\n"
            f"try: main({arguments!r})\nexcept SystemExit: pass\n"
            "print([m for m in ('torch', 'matplotlib', 'numpy') if m in sys.modules], file=sys.stderr)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stderr.strip() == "[]", arguments


@pytest.mark.slow
def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "glassformer", "--version"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("glassformer ")


@pytest.mark.slow
def test_errors_are_one_line(capsys, tmp_path):
    for arguments in (["genrate"], ["help", "genrate"]):
        assert "unknown command 'genrate', did you mean 'generate'" in refused(capsys, *arguments)
    assert "--tempertaure, 3; did you mean --temperature" in refused(
        capsys, "generate", "x", "--tempertaure", "3"
    )
    assert "--temperature must be a number, got 'hot'" in refused(
        capsys, "generate", "x", "--temperature", "hot"
    )
    assert "MODEL is missing" in refused(capsys, "generate")
    assert "./nowhere does not exist" in refused(capsys, "generate", "./nowhere")
    assert "neither a model" in refused(capsys, "generate", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    assert "has no checkpoint yet" in refused(capsys, "generate", str(tmp_path))
    assert "data.sorce" in refused(capsys, "train", "--data.sorce", "x")
    assert "beta1" in refused(capsys, "train", "--optimizer.beta1", "3")
    assert "neither a folder nor a preset, did you mean 'gpt2'" in refused(capsys, "describe", "gtp2")
    assert "unknown gpt preset 'gpt-nanno', did you mean 'gpt-nano'" in refused(
        capsys,
        "train",
        "--model.preset",
        "gpt-nanno",
        "--data.tokenizer",
        "byte",
        "--data.folder",
        str(tmp_path),
    )


@pytest.mark.slow
def test_train_writes_a_run_folder(run_folder, capsys):
    assert (run_folder / "config.toml").exists()
    rows = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    samples = [json.loads(line) for line in (run_folder / "samples.jsonl").read_text().splitlines()]
    assert all(sample["text"].startswith("The") for sample in samples)
    again = GPTModel.from_pretrained(run_folder / "checkpoints" / "latest")
    assert again.tokenizer.decode([72, 105]) == "Hi"


@pytest.mark.slow
def test_an_existing_run_folder_is_not_overwritten(run_folder, small, capsys):
    before = (run_folder / "metrics.jsonl").read_bytes()
    assert "(--resume), remove it (--overwrite)" in refused(
        capsys, "train", *small, "--run-folder", str(run_folder)
    )
    assert (run_folder / "metrics.jsonl").read_bytes() == before


@pytest.mark.slow
def test_resume_uses_the_config_of_the_run(small, tmp_path, capsys):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main(["train", *small, "--run-folder", str(whole), "--steps", "6"]) == 0
    assert main(["train", *small, "--run-folder", str(cut), "--steps", "6", "--checkpoints.every", "3"]) == 0
    (cut / "checkpoints" / "step-000006").rename(cut / "away")
    assert main(["train", "--resume", "--run-folder", str(cut)]) == 0
    a, b = (GPTModel.from_pretrained(run / "checkpoints" / "step-000006") for run in (whole, cut))
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    capsys.readouterr()
    assert "batch_size was 2, now 3" in refused(
        capsys, "train", "--resume", "--run-folder", str(cut), "--batch-size", "3"
    )
    assert "nothing" not in refused(capsys, "train", "--resume", "--run-folder", str(tmp_path / "none"))
    (tmp_path / "more.toml").write_text("batch_size = 4\n")
    assert "batch_size was 2, now 4" in refused(
        capsys, "train", "--resume", "--run-folder", str(cut), "--config", str(tmp_path / "more.toml")
    )


@pytest.mark.slow
def test_resume_uses_the_run_folder_of_the_config(small, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text('run_folder = "mine"\nsteps = 2\n')
    assert main(["train", "--config", "mine.toml", *small]) == 0
    assert main(["train", "--config", "mine.toml", *small, "--resume"]) == 0
    assert not (tmp_path / "runs" / "train").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "mistake",
    [
        ["--model.max-seq-len", "8"],
        ["--prompt", ""],
        ["--device", "mps"],
        ["--model.positions", "rotery"],
        ["--batch-size", "0"],
    ],
)
def test_overwrite_deletes_nothing_if_the_options_are_invalid(mistake, small, tmp_path, capsys):
    folder = tmp_path / "run"
    assert main(["train", *small, "--run-folder", str(folder), "--steps", "1"]) == 0
    before = sorted(path.name for path in folder.rglob("*"))
    assert main(["train", *small, "--run-folder", str(folder), "--steps", "1", "--overwrite", *mistake]) == 2
    assert sorted(path.name for path in folder.rglob("*")) == before


@pytest.mark.slow
def test_resume_refuses_another_text(tmp_path, capsys):
    text, folder = tmp_path / "text.txt", tmp_path / "run"
    text.write_text("one two three. " * 300)
    arguments = ["train", "--data.source", str(text), "--data.folder", str(tmp_path / "tokens")]
    arguments += ["--data.seq-len", "8", "--data.vocab-size", "260", "--model.preset", "gpt-nano"]
    arguments += ["--steps", "2", "--run-folder", str(folder)]
    assert main(arguments) == 0
    text.write_text("one two threw. " * 300)
    capsys.readouterr()
    assert main(["train", "--resume", "--run-folder", str(folder)]) == 2
    assert "the training data changed" in capsys.readouterr().err


@pytest.mark.slow
def test_the_error_of_a_damaged_checkpoint_names_the_previous_one(small, tmp_path, capsys):
    folder = tmp_path / "run"
    steps = ["--steps", "2", "--checkpoints.every", "1", "--run-folder", str(folder)]
    assert main(["train", *small, *steps]) == 0
    weights = folder / "checkpoints" / "step-000002" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    capsys.readouterr()
    message = refused(capsys, "train", "--resume", "--run-folder", str(folder))
    assert "step-000002 is damaged" in message
    assert "step-000001" in message


def test_a_damaged_tokenizer_is_trained_again(tmp_path, corpus):
    arguments = ["tokenize", "--source", str(corpus), "--vocab-size", "280", "--folder", str(tmp_path)]
    assert main(arguments) == 0
    trained = next(tmp_path.glob("bpe-*/tokenizer.json"))
    good = trained.read_bytes()
    trained.write_bytes(good[:500])
    assert main(arguments) == 0
    assert trained.read_bytes() == good


@pytest.mark.slow
def test_options_override_the_config_file_and_the_file_overrides_defaults(small, tmp_path, capsys):
    (tmp_path / "a.toml").write_text("steps = 2\nseed = 7\n[optimizer]\nlearning_rate = 0.5\n")
    flags = ["--config", str(tmp_path / "a.toml"), "--seed", "8", "--run-folder", str(tmp_path / "run")]
    assert main(["train", *flags, *small]) == 0
    written = (tmp_path / "run" / "config.toml").read_text()
    assert "steps = 2" in written
    assert "seed = 8" in written
    assert "learning_rate = 0.5" in written
    capsys.readouterr()
    (tmp_path / "bad.toml").write_text("stepps = 2\n")
    assert "unknown key 'stepps', did you mean 'steps'" in refused(
        capsys, "train", "--config", str(tmp_path / "bad.toml")
    )


def test_an_interrupted_run_prints_the_command_that_resumes_it(small, tmp_path, capsys, monkeypatch):
    from glassformer.training import pipeline
    from glassformer.training.trainer import TrainingResult

    stopped = TrainingResult("interrupted", 3, tmp_path, tmp_path / "step-000003", {}, "SIGINT")
    monkeypatch.setattr(pipeline, "train", lambda *args, **kwargs: stopped)
    assert main(["train", *small, "--run-folder", "somewhere"]) == 130
    assert "glassformer train --resume --run-folder somewhere" in capsys.readouterr().out


@pytest.mark.slow
def test_generate_prints_the_prompt_and_its_continuation(run_folder, capsys, monkeypatch):
    options = ["--max-new-tokens", "12", "--seed", "1"]
    assert main(["generate", str(run_folder), "--prompt", "The cat", *options]) == 0
    first = capsys.readouterr().out
    assert first.startswith("The cat")
    assert len(first) > len("The cat\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO("The cat"))
    assert main(["generate", str(run_folder), "--prompt", "-", *options]) == 0
    assert capsys.readouterr().out == first
    assert main(["generate", str(run_folder), "--prompt", "The cat", "--samples", "2", *options]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("--- 1 of 2 ---\nThe cat")
    assert "--- 2 of 2 ---" in shown
    assert main(["generate", str(run_folder), "--max-new-tokens", "2"]) == 0
    capsys.readouterr()
    assert "prompt is empty" in refused(capsys, "generate", str(run_folder), "--prompt", "")
    assert "temperature" in refused(capsys, "generate", str(run_folder), "--temperature", "-1")
    overflow = ["--max-new-tokens", "200", "--temperature", "0", "--overflow"]
    for policy, message in (("extend", "position"), ("error", "max_seq_len"), ("wrap", "overflow")):
        assert message in refused(capsys, "generate", str(run_folder), *overflow, policy)
    assert "below 2**63" in refused(capsys, "generate", str(run_folder), "--seed", "9" * 20)


def test_generate_needs_a_tokenizer_and_a_prompt_or_start_token(tmp_path, capsys):
    from glassformer.tokenization import CharacterTokenizer

    model = GPTModel(3, 4, 1, 1, max_seq_len=8)
    model.save_pretrained(tmp_path / "a")
    assert "has no tokenizer" in refused(capsys, "generate", str(tmp_path / "a"))
    model.tokenizer = CharacterTokenizer("abc")
    model.save_pretrained(tmp_path / "b")
    assert "no token that begins a document" in refused(capsys, "generate", str(tmp_path / "b"))
    assert (
        main(["generate", str(tmp_path / "b"), "--prompt", "ab", "--max-new-tokens", "3", "--samples", "2"])
        == 0
    )


@pytest.mark.slow
def test_visualize_draws_all_layers_or_one_layer_or_one_head(run_folder, tmp_path, capsys):
    target, out = str(run_folder), tmp_path / "new" / "a.png"
    assert main(["visualize", target, "--text", "The cat", "--output", str(out)]) == 0
    drawn = capsys.readouterr().out.split()
    assert drawn == [str(out.with_name(f"a-layer{n}.png")) for n in range(3)]
    assert main(["visualize", target, "--text", "The cat", "--layer", "1", "--output", str(out)]) == 0
    svg = out.with_suffix(".svg")
    assert (
        main(["visualize", target, "--text", "cat", "--layer", "1", "--head", "2", "--output", str(svg)]) == 0
    )
    assert capsys.readouterr().out.split() == [str(out), str(svg)]
    assert all(path.stat().st_size > 1000 for path in (out, svg))
    assert "max-texts must be at least 1" in refused(capsys, "visualize", target, "--max-texts", "0")
    assert "needs --layer" in refused(capsys, "visualize", target, "--head", "0")
    assert "layers are 0 to 2" in refused(capsys, "visualize", target, "--layer", "9", "--output", str(out))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "a.bmp"], ".png, .svg, .pdf, got '.bmp'"),
        (["--output", "file/a.png"], "file is a file: nothing can be written below it"),
        (["--output", "."], ". is a folder: give the path of a file"),
        (["--image", "missing.png"], "missing.png"),
        (["--image", "file", "--text", "hi"], "--image and --text cannot be used together"),
        (["--image", "file", "--head", "0", "--layer", "1"], "--image and --head cannot be used together"),
        (["--image", "file", "--logit-lens"], "--image and --logit-lens cannot be used together"),
        (["--logit-lens", "--kind", "cross"], "--logit-lens and --kind cannot be used together"),
        (["--logit-lens", "--layer", "1", "--head", "0"], "--logit-lens and --head cannot be used together"),
        (["--rollout", "--kind", "cross"], "--rollout and --kind cannot be used together"),
        (["--patterns", "sotu", "--text", "hi"], "--patterns and --text cannot be used together"),
    ],
)
def test_visualize_checks_options_before_loading_the_model(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("glassformer.cli.resolve_model.load_model", None)
    assert message in refused(capsys, "visualize", "model", *arguments)


@pytest.mark.slow
def test_visualize_draws_patterns(run_folder, corpus, tmp_path, capsys):
    out = tmp_path / "heads.png"
    arguments = ["--patterns", str(corpus), "--max-texts", "3", "--output", str(out)]
    assert main(["visualize", str(run_folder), *arguments]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert out.exists()


def test_tokenize_writes_files_or_shows_tokens(corpus, tmp_path, capsys):
    arguments = [
        "--source",
        str(corpus),
        "--vocab-size",
        "300",
        "--folder",
        str(tmp_path),
        "--fractions",
        "1",
        "0",
        "0",
    ]
    assert main(["tokenize", *arguments]) == 0
    shown = capsys.readouterr().out
    assert f"{len(corpus.read_bytes()):,}" in shown
    assert "validation" in shown
    assert main(["tokenize", "--tokenizer", "byte", "--text", "é\n"]) == 0
    assert capsys.readouterr().out == "\\xc3[195]  \\xa9[169]  ↵[10]\n3 tokens, 3 bytes, 1.00 bytes / token\n"
    assert main(["tokenize", "--tokenizer", "byte", "--text", ""]) == 0
    assert "0 tokens, 0 bytes" in capsys.readouterr().out


def test_describe_prints_the_published_number_of_parameters(run_folder, capsys):
    assert main(["describe", "gpt2", "--seq-len", "1024"]) == 0
    shown = capsys.readouterr().out
    assert "124,439,808" in shown
    assert "291.6 G" in shown
    assert main(["describe", str(run_folder), "--seq-len", "8", "--batch-size", "2"]) == 0
    assert "n = 8, batch 2" in capsys.readouterr().out
    assert "exceeds the learned table" in refused(capsys, "describe", "gpt2", "--seq-len", "2000")
    assert "seq_len must be at least 1, not 0" in refused(capsys, "describe", "gpt2", "--seq-len", "0")


@pytest.mark.slow
def test_ctrl_c_and_closed_pipes_print_no_traceback(run_folder, monkeypatch):
    from glassformer.cli.generate import Generate

    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Generate, "run", interrupt)
    assert main(["generate", str(run_folder)]) == 130
    program = (
        f"{sys.executable} -m glassformer generate {run_folder} --prompt The --max-new-tokens 300 | head -c 1"
    )
    done = subprocess.run(["bash", "-o", "pipefail", "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "T", "")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", ["-V", "-h", "help generate", "tokenize -h"])
def test_help_for_a_closed_pipe_prints_no_traceback(arguments):
    program = f"{sys.executable} -m glassformer {arguments} | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
@pytest.mark.parametrize("arguments", [["-V"], ["-h"], ["tokenize", "a", "--tokenizer", "byte"]])
def test_a_full_disk_is_an_error_of_one_line(arguments):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "glassformer", *arguments], stdout=full, stderr=subprocess.PIPE, text=True
        )
    (line,) = done.stderr.splitlines()
    assert (done.returncode, "No space left on device" in line) == (2, True)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("attention of several kinds: give kind='encoder'", "of several kinds: give --kind 'encoder'"),
        ("too short: give max_texts=", "too short: give --max-texts"),
        ("no slope leads up. Give outcome=Similarity(v)", "no slope leads up. Give outcome=Similarity(v)"),
        ("each token has a class of its own: give position=", "of its own: give position="),
    ],
)
def test_messages_of_the_library_name_the_options_of_the_command(monkeypatch, capsys, message, expected):
    def run(self):
        raise ValueError(message)

    monkeypatch.setattr("glassformer.cli.prune.Prune.run", run)
    assert refused(capsys, "prune", "model", "smaller").endswith(expected)
