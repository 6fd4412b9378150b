"""The command ``glassformer analyze``."""

from __future__ import annotations

import csv
import json
import re
import sys
import weakref

import pytest
import torch

from glassformer.analysis import HeadReport, head_patterns
from glassformer.analysis.head_patterns import analyze
from glassformer.cli import main
from glassformer.models import GPTModel, ViTModel
from glassformer.tokenization import ByteTokenizer

QUICK = ("--patterns", "tokens,copying", "--max-sentences", "70")


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    torch.manual_seed(0)
    model = GPTModel(257, 16, 2, 2, max_seq_len=80)
    model.tokenizer = ByteTokenizer()
    folder = tmp_path_factory.mktemp("model") / "tiny"
    model.save_pretrained(folder)
    return folder


def refused(capsys, *arguments):
    assert main(["analyze", *map(str, arguments)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("glassformer analyze: ")
    return line


@pytest.mark.slow
def test_results_are_in_the_run_folder(target, corpus, tmp_path, capsys):
    folder = tmp_path / "run"
    arguments = ["analyze", str(target), "--data", str(corpus), *QUICK, "--run-folder", str(folder)]
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert "measuring the model: " in shown.err
    for text in ("previous", "induction", "heads labeled (+ marks", "none", str(folder)):
        assert text in shown.out
    content = json.loads((folder / "heads.json").read_text())
    assert content["format"] == "glassformer-heads-1"
    assert content["model"].endswith("tiny")
    assert content["data"]["num_items"] == 60
    with (folder / "heads.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(content["rows"])
    for picture in ("heads.png", "clusters.png"):
        assert (folder / picture).stat().st_size > 10_000
    output = " ".join(shown.out.split())
    assert "random weights: one model of the same shape, seed 0" in output
    assert "heads are not significantly clustered: " in output
    assert "adjusted Rand index of the clusters on the two halves of the sentences: " in output


@pytest.mark.slow
def test_partial_results_are_deleted_after_the_results_are_written(
    target, corpus, tmp_path, capsys, monkeypatch
):
    folder = tmp_path / "run"
    arguments = ["analyze", str(target), "--data", str(corpus), *QUICK, "--run-folder", str(folder)]
    save = HeadReport.save

    def full(self, path):
        raise OSError("the disk is full")

    monkeypatch.setattr(HeadReport, "save", full)
    assert main(arguments) == 2
    most = int(re.search(r"take at most ([\d,]+) MB", capsys.readouterr().out)[1])
    assert 0 < sum(path.stat().st_size for path in (folder / "parts").iterdir()) < 1e6 * (most + 1)
    monkeypatch.setattr(HeadReport, "save", save)
    assert main(arguments) == 0
    assert not (folder / "parts").exists()
    first = (folder / "heads.json").read_bytes()
    assert main([*arguments, "--keep-partial-results"]) == 0  # measured again
    assert (folder / "heads.json").read_bytes() == first
    assert (folder / "parts").exists()


@pytest.mark.slow
def test_a_single_sentence_gives_a_report_without_clusters(target, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("There is but a single sentence.")
    folder = tmp_path / "run"
    assert main(["analyze", str(target), "--data", str(text), *QUICK, "--run-folder", str(folder)]) == 0
    assert "no clusters: comparing heads needs at least two texts" in capsys.readouterr().out
    assert json.loads((folder / "heads.json").read_text())["data"]["num_items"] == 1
    assert (folder / "heads.png").exists()
    assert not (folder / "clusters.png").exists()


@pytest.mark.slow
def test_an_interrupted_analysis_is_resumed(target, corpus, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"
    arguments = ["analyze", str(target), "--data", str(corpus), *QUICK, "--run-folder", str(folder)]
    arguments.append("--keep-partial-results")
    collect_sums, parts = analyze.collect_sums, []

    def interrupted(*args, **kwargs):
        if len(parts) == 2:
            raise KeyboardInterrupt
        parts.append(args)
        return collect_sums(*args, **kwargs)

    monkeypatch.setattr(analyze, "collect_sums", interrupted)
    assert main(arguments) == 130
    monkeypatch.setattr(analyze, "collect_sums", lambda *a, **k: parts.append(a) or collect_sums(*a, **k))
    assert main(arguments) == 0
    assert len(parts) == 4  # text and repeated tokens, of the model and the baseline
    first = (folder / "heads.json").read_bytes()
    assert main([*arguments, "--margin", "0.3"]) == 0  # measured already
    assert len(parts) == 4
    assert main(arguments) == 0
    assert (folder / "heads.json").read_bytes() == first
    capsys.readouterr()
    assert "started with other settings: max_tokens was 256, now 9" in refused(
        capsys, *arguments[1:], "--max-tokens", 9
    )
    assert "started with other settings: data was" in refused(
        capsys, target, "--data", corpus, "--run-folder", folder, *QUICK[:3], "50"
    )


@pytest.mark.slow
def test_the_model_is_released_before_the_baseline_is_built(target, corpus, tmp_path, monkeypatch):
    """Two models at once would need twice the memory."""
    alive = []
    builder = head_patterns.random_weights_builder

    def watched(model, seed):
        reference, build = weakref.ref(model), builder(model, seed)

        def checked():
            alive.append(reference() is not None)
            return build()

        return checked

    monkeypatch.setattr(head_patterns, "random_weights_builder", watched)
    folder = str(tmp_path / "run")
    assert main(["analyze", str(target), "--data", str(corpus), *QUICK, "--run-folder", folder]) == 0
    assert alive == [False, False]  # for its sums, and for its distances


@pytest.mark.slow
def test_truncated_sentences_are_reported(target, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text(
        "This is a sentence of several words. " * 5 + "And another that is a little longer than it. " * 5
    )
    arguments = [
        str(target),
        "--data",
        str(text),
        "--patterns",
        "first",
        "--run-folder",
        str(tmp_path / "run"),
    ]
    assert main(["analyze", *arguments, "--max-tokens", "36"]) == 0
    assert "5 sentences were truncated to 36 tokens" in " ".join(capsys.readouterr().out.split())
    text.write_text("This is a sentence of several words, far longer than all that the model reads at once.")
    arguments[-1] = str(tmp_path / "long")
    assert main(["analyze", *arguments]) == 0
    assert "1 sentence was truncated to 80 tokens" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_errors_are_one_line(target, corpus, tmp_path, capsys):
    on = ("--data", corpus, "--run-folder", tmp_path / "run")
    assert "unknown pattern 'frist', did you mean 'first'" in refused(
        capsys, target, *on, "--patterns", "frist"
    )
    assert "no patterns: choose from" in refused(capsys, target, *on, "--patterns", ",")
    assert "margin must be at least 0 and below 1" in refused(capsys, target, *on, "--margin", "1.5")
    assert "the number of texts must be at least 1, not 0" in refused(
        capsys, target, *on, "--max-sentences", "0"
    )
    assert "no file or folder" in refused(capsys, target, "--data", tmp_path / "nowhere")
    (tmp_path / "empty.txt").write_text("\n\n too short\n")
    assert "no sentence of 4 to 64 words" in refused(capsys, target, "--data", tmp_path / "empty.txt")
    (tmp_path / "file").write_text("")
    assert "is a file" in refused(capsys, target, *on[:2], "--run-folder", tmp_path / "file")
    assert "Not a directory" in refused(capsys, target, *on[:2], "--run-folder", tmp_path / "file" / "run")
    assert "unknown kind of attention 'cross'" in refused(capsys, target, *on, "--kind", "cross")
    assert not (tmp_path / "run").exists()
    ViTModel(8, 4, 4, 2, 1).save_pretrained(tmp_path / "vit")
    assert "a ViTModel takes no text" in refused(capsys, tmp_path / "vit", *on)
    GPTModel(9, 8, 1, 2).save_pretrained(tmp_path / "bare")
    assert "set model.tokenizer" in refused(capsys, tmp_path / "bare", *on, "--patterns", "first")


@pytest.mark.slow
def test_without_scikit_learn_there_are_no_clusters(target, corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "glassformer.experiments.head_clusters.figure", None)
    folder = tmp_path / "run"
    assert main(["analyze", str(target), "--data", str(corpus), *QUICK, "--run-folder", str(folder)]) == 0
    assert "no clusters: " in capsys.readouterr().out
    assert (folder / "heads.png").exists()
    assert not (folder / "clusters.png").exists()
