"""Special tokens in a text: one rule and one option in every command."""

from __future__ import annotations

import json
import re

import pytest

from glassformer.analysis import encode_text
from glassformer.cli import COMMANDS, main
from glassformer.cli.resolve_model import load_model, set_special_tokens
from glassformer.visualization.model_input import compute_attention
from glassformer.visualization.server import ModelSession
from glassformer.visualization.server.schema import PredictionRequest

TEXT = "the [MASK] [SEP] sat"
TYPED = ["generate", "fill-mask", "translate", "classify", "visualize", "explore", "serve", "tokenize"]
"""Commands that read a text that a person types."""


@pytest.mark.parametrize("command", COMMANDS)
def test_the_option_is_in_every_command_that_reads_a_typed_text(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = capsys.readouterr().out
    assert ("--special-tokens, --no-special-tokens" in shown) == (command in TYPED)


@pytest.mark.parametrize(("option", "masks", "separators"), [(None, 1, 1), (True, 1, 2), (False, 0, 1)])
def test_commands_read_a_text_alike(option, masks, separators, folders, tmp_path, capsys):
    model = load_model(folders["masked"])
    set_special_tokens(model, option)
    labels = encode_text(model, TEXT).labels
    assert (labels.count("[MASK]"), labels.count("[SEP]")) == (masks, separators)
    assert compute_attention(model, TEXT, 0).queries == labels
    assert ModelSession(model, name="m").predict(PredictionRequest(TEXT))["tokens"] == labels

    switch = {None: [], True: ["--special-tokens"], False: ["--no-special-tokens"]}[option]
    page = tmp_path / "page.html"
    command = ["explore", folders["masked"], TEXT, *switch, "--no-open", "--no-analyses", "-o", str(page)]
    assert main(command) == 0
    (contents,) = re.findall('id="contents">(.*?)</script>', page.read_text("utf-8"))
    assert json.loads(contents)["attention"][0]["queries"] == labels
    noted = "ordinary text, not special tokens: [SEP]" in contents
    assert noted == (option is None)
    capsys.readouterr()

    assert main(["fill-mask", folders["masked"], TEXT, *switch]) == (0 if masks else 2)
    error = capsys.readouterr().err
    assert ("every word is ordinary text" in error) == (masks == 0)
    assert ("(ordinary text, not special tokens: [SEP])\n" in error) == (option is None)


def test_special_tokens_change_what_a_model_computes(folders, capsys):
    results = []
    for switch in ([], ["--special-tokens"], ["--no-special-tokens"]):
        assert main(["classify", folders["classes"], "cat [SEP] mat", *switch]) == 0
        shown = capsys.readouterr()
        results.append(shown.out)
        assert (shown.err != "") == (switch == [])
    assert results[0] == results[2] != results[1]


def test_an_end_of_text_token_in_a_prompt(folders, capsys):
    def tokens(*switch):
        assert main(["tokenize", "--tokenizer", "byte", "a<|endoftext|>", *switch]) == 0
        return capsys.readouterr().out.splitlines()

    assert tokens("--special-tokens")[0] == "a[97]  <|endoftext|>[256]"
    assert tokens()[1:] == ["14 tokens, 14 bytes, 1.00 bytes / token", tokens()[-1]]
    assert tokens()[-1] == "ordinary text, not special tokens: <|endoftext|>"
    assert tokens() == [*tokens("--no-special-tokens"), tokens()[-1]]


def test_a_model_without_tokenizer_has_no_special_tokens(folders, picture, capsys):
    assert main(["classify", folders["images"], picture, "--special-tokens"]) == 2
    assert "--special-tokens needs a tokenizer" in capsys.readouterr().err
