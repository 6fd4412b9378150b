"""Parsing of options, and renamed options."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from glassformer.cli import arguments
from glassformer.cli.arguments import Command, UsageError, replace_renamed


@dataclass
class CountWords(Command):
    """An example command."""

    text: str
    max_words: int = 3
    lower: bool = True
    unit: str = "word"


@pytest.fixture(autouse=True)
def renamed(monkeypatch):
    options = {"--most": "--max-words", "--small-letters": "--lower"}
    monkeypatch.setattr(arguments, "RENAMED_OPTIONS", {"count-words": options})
    monkeypatch.setattr(arguments, "RENAMED_VALUES", {"count-words": {"--unit": {"letter": "character"}}})


@pytest.mark.parametrize(
    ("given", "expected", "warning"),
    [
        (["--text", "a"], CountWords("a"), ""),
        (["--text", "a", "--most", "5"], CountWords("a", 5), "--most is now called --max-words"),
        (["--text", "a", "--most=5"], CountWords("a", 5), "--most is now called --max-words"),
        (
            ["--text", "a", "--no-small_letters"],
            CountWords("a", lower=False),
            "--no-small-letters is now called --no-lower",
        ),
        (["--text", "letter"], CountWords("letter"), ""),
        (["--text=letter"], CountWords("letter"), ""),
        (
            ["--text", "a", "--unit", "letter"],
            CountWords("a", unit="character"),
            "letter is now called character",
        ),
        (
            ["--unit=letter", "--text", "a"],
            CountWords("a", unit="character"),
            "letter is now called character",
        ),
    ],
)
def test_renamed_options_are_accepted_with_a_warning(given, expected, warning, capsys):
    assert CountWords.parse(given) == expected
    error = capsys.readouterr().err
    assert error == (f"glassformer count-words: {warning}\n" if warning else "")


def test_other_commands_are_not_affected_by_a_renamed_option():
    assert replace_renamed("other", ["--most", "5"]) == ["--most", "5"]


def test_an_unknown_option_is_a_one_line_error_with_a_suggestion():
    with pytest.raises(UsageError, match=r"--max-wrods.*did you mean --max-words.*glassformer count-words"):
        CountWords.parse(["--text", "a", "--max-wrods", "5"])
