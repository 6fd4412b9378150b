"""``glassformer explore``: one page, written and opened."""

from __future__ import annotations

import webbrowser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassformer.cli import main
from glassformer.cli.explore import numbers


def test_a_page_is_written_and_opened(run_folder, tmp_path, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    page = tmp_path / "new" / "page.html"
    arguments = ["explore", str(run_folder), "--text", "The cat", "--output", str(page), "--layers", "0"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith(f"{page} (")
    assert opened == [page.resolve().as_uri()]
    assert "window.glassformer" in page.read_text("utf-8")
    assert main([*arguments, "--no-open", "--no-analyses"]) == 0
    assert len(opened) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layers", "7"], "layer 7 does not exist"),
        (["--layers", "x"], "layers are numbers and ranges such as 0-15,20, not 'x'"),
        (["--output", "page.png"], "a page is saved as .html, not '.png'"),
        (["--text", ""], "the text is empty"),
        (["--image", "missing.png"], "a GPTModel reads no images"),
        (["--heads-report", "missing.json"], "missing.json"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(run_folder, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["explore", str(run_folder), "--no-open", "--no-analyses", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@given(st.sets(st.integers(0, 40), min_size=1))
def test_layers_are_read_from_numbers_and_ranges(layers):
    assert numbers(",".join(map(str, layers))) == sorted(layers)
    assert numbers(f"{min(layers)}-{max(layers)}") == list(range(min(layers), max(layers) + 1))


@pytest.mark.parametrize("text", ["", "3-1", "-1", "1-", "a", "1,,2", "1.5"])
def test_other_words_are_no_layers(text):
    with pytest.raises(ValueError, match="numbers and ranges"):
        numbers(text)
