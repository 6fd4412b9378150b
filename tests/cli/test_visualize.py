"""``glassformer visualize``: rollout and logit lens."""

from __future__ import annotations

import pytest
import torch

from glassformer.cli import main
from glassformer.models import GPTModel
from glassformer.tokenization import ByteTokenizer
from glassformer.visualization import AttentionVisualizer


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
    ("arguments", "positions", "layers", "follow"),
    [
        ([], None, None, None),
        (["--layers", "0,1", "--positions", "0-2,4"], [0, 1, 2, 4], [1, 2], None),
        (["--layer", "1", "--position", "-1"], [-1], [2], None),
        (["--follow", "t", "98"], None, None, ["t", 98]),
    ],
)
def test_the_logit_lens_takes_positions_layers_and_tokens(
    folder, tmp_path, monkeypatch, arguments, positions, layers, follow
):
    asked = []
    monkeypatch.setattr(AttentionVisualizer, "plot_logit_lens", lambda *_, **options: asked.append(options))
    out = str(tmp_path / "lens.png")
    assert main(["visualize", folder, "a cat", "--logit-lens", *arguments, "--output", out]) == 0
    assert asked == [{"target_text": None, "positions": positions, "layers": layers, "follow": follow}]


@pytest.mark.slow
def test_the_chosen_part_of_the_logit_lens_is_drawn(folder, tmp_path):
    out = tmp_path / "lens.svg"
    options = ["--layers", "0-1", "--positions", "0,2", "--follow", "t", "--output", str(out)]
    assert main(["visualize", folder, "a cat", "--logit-lens", *options]) == 0
    assert out.stat().st_size > 5_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rollout", "--logit-lens"], "are different figures: choose one"),
        (["--position", "1"], "--position needs --rollout"),
        (["--rollout", "--position", "99"], "position 99 does not exist"),
        (["--rollout", "--image", "missing.png"], "missing.png"),
        (["--logit-lens", "--text", ""], "the text is empty"),
        (["--logit-lens", "--layers", "0-2"], "layer 2 does not exist: layers are 0 to 1"),
        (["--logit-lens", "--positions", "0-99"], "position 44 does not exist: positions are 0 to 43"),
        (["--logit-lens", "--positions", "0-999999999"], "--position must be at most 1,000,000"),
        (["--logit-lens", "--follow", "cat"], "'cat' must be a single token to be followed (it is: c, a, t)"),
        (["--rollout", "--position", "0-1"], "--position must be one number with --rollout"),
        (["--rollout", "--follow", "t"], "--follow needs --logit-lens"),
    ],
)
def test_an_error_takes_one_line(folder, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["visualize", folder, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
