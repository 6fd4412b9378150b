"""Kernels and patterns on the command line."""

from __future__ import annotations

import pytest

from glassformer.cli import main
from glassformer.models import GPTModel


@pytest.mark.slow
def test_train_with_a_kernel_and_a_pattern(small, tmp_path, capsys):
    run = ["train", *small, "--run-folder", str(tmp_path / "run"), "--steps", "2"]
    assert main([*run, "--model.kernel", "block_sparse", "--model.pattern", "longformer"]) == 0
    model = GPTModel.from_pretrained(tmp_path / "run" / "checkpoints" / "latest")
    assert (model.config.kernel, model.config.pattern) == ("block_sparse", "longformer")
    assert main([*run, "--overwrite", "--model.kernel", "flash", "--model.window", "4"]) == 0
    assert GPTModel.from_pretrained(tmp_path / "run" / "checkpoints" / "latest").config.window == 4
    assert main(["describe", str(tmp_path / "run")]) == 0


@pytest.mark.slow
def test_train_with_options_of_kernel_and_pattern_in_a_file(small, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(
        '[model.options]\nkernel = {kind = "block_sparse", block_size = 8}\n'
        'pattern = {kind = "big_bird", window = 4, random_blocks = 1, block_size = 4, global_tokens = [0]}\n'
    )
    run = ["train", *small, "--config", str(config), "--run-folder", str(tmp_path / "run"), "--steps", "2"]
    assert main(run) == 0
    assert main([*run, "--resume", "--allow-changes", "--steps", "3"]) == 0
    model = GPTModel.from_pretrained(tmp_path / "run" / "checkpoints" / "latest")
    assert model.config.kernel == {"kind": "block_sparse", "block_size": 8}
    assert model.config.pattern["global_tokens"] == [0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--model.kernel", "flush"], "unknown kernel 'flush', did you mean 'flash'"),
        (["train", "--model.pattern", "long"], "unknown pattern 'long'"),
        (["train", "--model.kernel", "linear", "--model.window", "4"], 'use kernel "block_sparse"'),
        (["train", "--model.kernel", "linear", "--model.pattern", "big_bird"], 'use kernel "block_sparse"'),
        (["train", "--model.kernel", "linear", "--model.positions", "alibi"], "no scores to which a bias"),
        (["train", "--model.window", "-1"], "window must be positive, not -1"),
        (["describe", "gpt2", "--kernel", "flush"], "did you mean 'flash'"),
        (["describe", "t5-small", "--kernel", "linear"], "no scores to which a bias"),
        (["describe", "vit-base", "--pattern", "longformer"], "vit models have no attention pattern"),
    ],
)
def test_wrong_kernels_and_patterns_are_one_line(arguments, message, small, tmp_path, capsys):
    if arguments[0] == "train":
        arguments = [*arguments, *small, "--run-folder", str(tmp_path / "run"), "--steps", "1"]
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_describe_shows_the_cost_of_another_kernel_and_pattern(capsys):
    shown = []
    for options in ([], ["--kernel", "block_sparse", "--pattern", "longformer"], ["--kernel", "linear"]):
        assert main(["describe", "bert-base-uncased", *options]) == 0
        lines = capsys.readouterr().out.splitlines()
        shown.append(next(line for line in lines if "scores and mixing" in line))
    assert "n^2" in shown[0]
    assert len(set(shown)) == 3
