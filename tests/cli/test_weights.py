"""The option --weights of the commands that generate text."""

from __future__ import annotations

import pytest

from glassformer.cli import main
from glassformer.cli.resolve_model import load_model, load_model_into_memory


def printed(capsys, *arguments):
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def test_float32_weights_give_the_same_text(folders, capsys):
    generate = ("generate", folders["text"], "--prompt", "a", "--max-new-tokens", "6", "--temperature", "0")
    assert printed(capsys, *generate, "--weights", "float32") == printed(capsys, *generate)
    translate = ("translate", folders["sounds"], "--text", "cab", "--max-new-tokens", "6")
    assert printed(capsys, *translate, "--weights", "float32") == printed(capsys, *translate)


@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8"])
def test_models_are_loaded_with_the_weights(weights, folders, capsys):
    assert load_model_into_memory(str(folders["text"]), weights).weights_format == weights
    assert load_model(str(folders["text"])).weights_format is None
    printed(
        capsys, "generate", folders["text"], "--max-new-tokens", "3", "--prompt", "a", "--weights", weights
    )


@pytest.mark.parametrize("command", ["generate", "translate", "serve"])
def test_an_unknown_format_is_an_error_that_lists_all(command, folders, capsys):
    assert main([command, str(folders["text"]), "--weights", "int4"]) == 2
    assert "there are: float32, bfloat16, int8" in capsys.readouterr().err
