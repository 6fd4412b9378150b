"""``glassformer visualize``: rollout and logit lens."""

from __future__ import annotations

import pytest
import torch

from glassformer.cli import main
from glassformer.models import GPTModel
from glassformer.tokenization import ByteTokenizer


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    model = GPTModel(257, 24, 2, 4, max_seq_len=80)
    model.tokenizer = ByteTokenizer()
    model.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.mark.slow
def test_rollout_and_logit_lens_are_drawn(folder, tmp_path, capsys):
    for option in ("--rollout", "--logit-lens"):
        out = str(tmp_path / f"{option}.svg")
        assert main(["visualize", folder, option, "--text", "a cat", "--output", out]) == 0
        assert capsys.readouterr().out == f"{out}\n"
        assert "<svg" in (tmp_path / f"{option}.svg").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rollout", "--logit-lens"], "are different figures: choose one"),
        (["--position", "1"], "--position needs --rollout"),
        (["--rollout", "--position", "99"], "position 99 does not exist"),
        (["--rollout", "--image", "missing.png"], "missing.png"),
        (["--logit-lens", "--text", ""], "the text is empty"),
    ],
)
def test_an_error_takes_one_line(folder, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["visualize", folder, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
