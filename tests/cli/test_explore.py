"""The ``glassformer explore`` command."""

from __future__ import annotations

import json
import re
import time
import webbrowser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from glassformer.analysis.head_patterns import HeadReport
from glassformer.cli import main
from glassformer.cli.explore import show_steps
from glassformer.cli.inputs import indices_in, parse_ranges
from glassformer.data import documents
from glassformer.models import ViTModel


@pytest.mark.slow
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


def test_live_option_embeds_the_model(run_folder, tmp_path, capsys):
    page = tmp_path / "page.html"
    arguments = ["explore", str(run_folder), "The cat", "--output", str(page), "--no-open", "--no-analyses"]
    assert main([*arguments, "--live"]) == 0
    captured = capsys.readouterr()
    assert re.fullmatch(r".* \(\d\.\d MB, with \d\.\d MB of 8-bit weights\)\n", captured.out)
    assert "rounding the weights to 8 bits ..." in captured.err
    assert contents_of(page)["live"]["architecture"]["is_causal"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layers", "7"], "layer 7 does not exist"),
        (["--layers", "x"], "--layers must be numbers and ranges such as 3, 0,2 or 0-7, got 'x'"),
        (["--output", "page.png"], "must be saved as .html, .htm, got '.png'"),
        (["--text", ""], "the text is empty"),
        (["--image", "picture.png"], "a GPTModel takes no images"),
        (["--layers", "0-99999999"], "layer 99999999 does not exist: layers are 0 to 2"),
        (["--layers", "9" * 30], "--layers must be numbers and ranges"),
        (["--heads-report", "missing.json"], "missing.json"),
        (["--heads-report", "heads.json", "--names"], "--names and --heads-report cannot be used together"),
    ],
)
def test_errors_take_one_line(run_folder, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("picture.png")
    assert main(["explore", str(run_folder), "--no-open", "--no-analyses", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--heads-report", "missing.json"], "missing.json"),
        (["--heads-report", "other.json"], "is not valid JSON"),
        (["--image", "missing.png"], "missing.png"),
        (["--image", "other.json"], "cannot identify image file"),
        (["--image", "picture.png", "--text", "hi"], "--image and --text cannot be used together"),
        (
            ["--image", "picture.png", "--target-text", "hi"],
            "--image and --target-text cannot be used together",
        ),
        (["--image", "picture.png", "--names"], "--image and --names cannot be used together"),
        (["--names", "--kind", "cross"], "--names needs self-attention"),
        (["--output", "other.json/deep/a.html"], "other.json is a file: nothing can be written below it"),
        (["--output", "."], ". is a folder: give the path of a file"),
    ],
)
def test_errors_that_are_found_before_the_model_is_loaded(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("picture.png")
    (tmp_path / "other.json").write_text("no report")
    monkeypatch.setattr("glassformer.cli.resolve_model.load_model", None)
    assert main(["explore", "model", "--no-open", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_names_option_needs_a_language_model(tmp_path, capsys, monkeypatch):
    ViTModel(8, 4, 8, 1, 2).save_pretrained(tmp_path / "vit")
    monkeypatch.setattr("glassformer.data.documents", None)
    page = str(tmp_path / "page.html")
    assert main(["explore", str(tmp_path / "vit"), "--no-open", "--names", "--output", page]) == 2
    assert "--names needs a language model, got a ViTModel" in capsys.readouterr().err


@given(st.sets(st.integers(0, 40), min_size=1))
def test_layers_from_numbers_and_ranges(layers):
    assert indices_in(parse_ranges(",".join(map(str, layers))), 41) == sorted(layers)
    assert indices_in(parse_ranges(f"{min(layers)}-{max(layers)}"), 41) == list(
        range(min(layers), max(layers) + 1)
    )


@pytest.mark.parametrize("text", ["", "3-1", "-1", "1-", "a", "1,,2", "1.5"])
def test_invalid_layers(text):
    with pytest.raises(ValueError, match="numbers and ranges"):
        parse_ranges(text)


def contents_of(page):
    """The contents of a page, as JSON values."""
    (found,) = re.findall(
        '<script type="application/json" id="contents">(.*?)</script>', page.read_text("utf-8")
    )
    return json.loads(found)


def test_names_option_labels_the_heads(run_folder, corpus, tmp_path, monkeypatch):
    asked = []

    def analyze(model, texts, settings, progress):
        asked.append(texts)
        row = {"layer": 0, "head": 1, "pattern": "first", "measure": "rate", "name": "first", "main": True}
        row |= {"score": 0.9, "low": 0.8, "high": 1.0, "control": "chance", "control_score": 0.1}
        return HeadReport("GPT", {}, [row])

    monkeypatch.setattr("glassformer.data.documents", lambda source: documents(str(corpus)))
    monkeypatch.setattr("glassformer.analysis.head_patterns.analyze_heads", analyze)
    page = tmp_path / "page.html"
    arguments = ["explore", str(run_folder), "--no-open", "--no-analyses", "--output", str(page)]
    assert main(arguments) == 0
    assert asked == []
    assert contents_of(page)["name"] == "run"
    assert main([*arguments, "--names"]) == 0
    (label,) = contents_of(page)["head_labels"]
    assert (label["layer"], label["head"], label["name"]) == (0, 1, "first")
    assert contents_of(page)["head_labels_source"].endswith("of run over 60 sentences")
    assert [len(texts) for texts in asked] == [60]


@pytest.mark.slow
def test_steps_are_shown_as_lines_if_the_output_is_no_terminal(run_folder, tmp_path, capsys):
    assert main(["explore", str(run_folder), "a cat", "--no-open", "-o", str(tmp_path / "page.html")]) == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "recording attention ...",
        "computing the logit lens ...",
        "computing rollout and testing its faithfulness ...",
        "decomposing attention scores ...",
    ]
    assert captured.out.count("\n") == 1


def test_steps_are_shown_beside_a_spinner_in_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes the stream for a terminal
    with show_steps() as show:
        show("computing")
        time.sleep(0.2)
    assert "computing" in capsys.readouterr().err
