"""fill-mask, translate, classify, and the other commands with models of every family."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from glassformer.cli import main
from glassformer.cli.train import sample_continuation
from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel
from glassformer.tokenization import ByteTokenizer

TEXT = "the cat sat on the mat"


def refused(capsys, *arguments):
    assert main(list(arguments)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def output(capsys, *arguments):
    assert main(list(arguments)) == 0
    return capsys.readouterr().out.splitlines()


def test_fill_mask_prints_tokens_with_their_probabilities(folders, capsys):
    lines = output(capsys, "fill-mask", folders["masked"], "--text", "the [MASK] sat", "--top-k", "4")
    model = BERTModel.from_pretrained(folders["masked"])
    ids = model.tokenizer.add_special_tokens(
        [*model.tokenizer.encode("the"), model.tokenizer.mask_token, *model.tokenizer.encode("sat")]
    )
    best = model(torch.tensor([ids]))[0, 2].softmax(-1).topk(4)
    expected = [
        f"{p:7.2%}  {model.tokenizer.decode([token]).strip()}"
        for p, token in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
    assert lines == expected
    lines = output(capsys, "fill-mask", folders["masked"], "--text", "[MASK] cat [MASK]", "--top-k", "1")
    assert [line for line in lines if "mask" in line] == ["--- mask 1 of 2 ---", "--- mask 2 of 2 ---"]
    assert len(lines) == 4


@pytest.mark.slow
def test_translate_prints_a_line_for_each_source(folders, capsys, monkeypatch):
    model = T5Model.from_pretrained(folders["sounds"])
    sources = ["a b", "cab", "hedge a cab"]

    def expected(source, **options):
        ids = model.tokenizer.add_special_tokens(model.tokenizer.encode(source))
        rows = model.generate([ids], 9, **options)
        return [model.tokenizer.decode(row) for row in rows]

    arguments = ["translate", folders["sounds"], "--max-new-tokens", "9"]
    assert output(capsys, *arguments, "--text", "cab") == expected("cab", num_beams=4)
    greedy = output(capsys, *arguments, "--text", "cab", "--num-beams", "1")
    assert greedy == expected("cab", temperature=0)
    for size in ("1", "2", "16"):
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(sources) + "\n"))
        lines = output(capsys, *arguments, "--text", "-", "--batch-size", size, "--length-penalty", "0.5")
        assert lines == [expected(source, num_beams=4, length_penalty=0.5)[0] for source in sources]
    monkeypatch.setattr(sys, "stdin", io.StringIO("a b\r\ncab\r\n"))
    lines = output(capsys, *arguments, "--text", "-", "--n-best", "3", "--num-beams", "5")
    best = [expected(source, num_beams=5, num_return_sequences=3) for source in sources[:2]]
    assert lines == [f"{rank}\t{row}" for rows in best for rank, row in enumerate(rows, start=1)]


@pytest.mark.parametrize("options", [["--n-best", "1"], ["--n-best", "2"]])
def test_an_empty_source_has_an_empty_target(options, folders, capsys, monkeypatch):
    def translated(text):
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        return output(
            capsys, "translate", folders["sounds"], "--max-new-tokens", "5", "--text", "-", *options
        )

    n = int(options[1])
    full, gaps = translated("a b\ncab\nhedge\n"), translated("a b\ncab\n  \nhedge\n\n")
    gap = [""] if n == 1 else ["1\t", "2\t"]
    assert gaps == [*full[: 2 * n], *gap, *full[2 * n :], *gap]
    assert translated("\n") == gap


def test_ids_outside_the_tokenizer_are_printed_as_unknown(folders, capsys):
    (line,) = output(capsys, "translate", folders["wide sounds"], "--text", "cab", "--max-new-tokens", "9")
    assert "\ufffd" in line
    hot = ["--max-new-tokens", "20", "--temperature", "2", "--seed", "0"]
    for samples in ("1", "2"):
        lines = output(capsys, "generate", folders["wide text"], "--prompt", "a", *hot, "--samples", samples)
        assert "\ufffd" in "".join(lines)
    model = GPTModel.from_pretrained(folders["wide text"])
    assert "\ufffd" in sample_continuation("a", 20)(model)


def test_classify_prints_labels_with_their_probabilities(folders, picture, capsys, monkeypatch):
    model = BERTModel.from_pretrained(folders["classes"])
    ids = model.tokenizer.add_special_tokens(model.tokenizer.encode(TEXT))
    probabilities = model(torch.tensor([ids]))[0].softmax(-1)
    order = probabilities.argsort(descending=True).tolist()
    expected = [f"{probabilities[place].item():7.2%}  {['old', 'new', 'odd'][place]}" for place in order]
    assert output(capsys, "classify", folders["classes"], "--text", TEXT) == expected
    monkeypatch.setattr(sys, "stdin", io.StringIO(TEXT))
    assert output(capsys, "classify", folders["classes"], "--text", "-", "--top-k", "1") == expected[:1]
    lines = output(capsys, "classify", folders["images"], "--image", picture)
    assert sorted(line.split()[1] for line in lines) == ["0", "1", "2", "3"]
    numbers = [float(line.split("%")[0]) for line in lines]
    assert numbers == sorted(numbers, reverse=True)
    assert sum(numbers) == pytest.approx(100, abs=0.05)


def test_truncation_is_reported_on_stderr(folders, capsys):
    assert main(["classify", folders["classes"], "--text", "the cat " * 20]) == 0
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 3
    assert shown.err == "(cut to the model's 16 tokens of 42)\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "sounds"], "holds a T5Model that cannot generate: use translate"),
        (["generate", "masked"], "holds a BERTModel that cannot generate: use fill-mask"),
        (["generate", "images"], "holds a ViTModel that cannot generate: use classify"),
        (["translate", "text", "--text", "a"], "holds a GPTModel that cannot translate: use generate"),
        (["fill-mask", "classes", "--text", "a [MASK]"], "cannot fill-mask: use classify"),
        (["classify", "bare", "--text", "a"], "cannot classify: its output is hidden states"),
        (["classify", "tags", "--text", "a"], "its output is a class for each token"),
        (["classify", "images", "--text", "a"], "a ViTModel takes no text: give it an image"),
        (["classify", "classes", "--image", "PICTURE"], "a BERTModel takes no images: give it a text"),
        (["classify", "classes"], "give a text or an image"),
        (["classify", "classes", "--text", "a", "--top-k", "0"], "--top-k must be at least 1, got 0"),
        (["classify", "images", "--image", "nowhere.png"], "nowhere.png"),
        (["classify", "classes", "--text", ""], "the text is empty"),
        (["fill-mask", "masked", "--text", "no mask"], "the text has no [MASK]"),
        (["fill-mask", "masked", "--text", "[MASK] " * 20], "at most max_seq_len=16 tokens, got 22"),
        (["fill-mask", "masked", "--text", "[MASK]", "--top-k", "999"], "top_k must be between 1 and the"),
        (["translate", "sounds", "--text", " "], "the source is empty"),
        (
            ["translate", "sounds", "--text", "a", "--num-beams", "99"],
            "num_beams must be between 1 and the vocabulary size 14",
        ),
        (
            ["translate", "sounds", "--text", "a", "--n-best", "9"],
            "num_return_sequences must be at most num_beams",
        ),
        (["translate", "sounds", "--text", "a", "--batch-size", "0"], "--batch-size must be at least 1"),
        (["visualize", "images"], "a ViTModel takes no text: give it an image"),
        (["visualize", "text", "--image", "PICTURE"], "a GPTModel takes no images"),
        (["visualize", "text", "--target-text", "a"], "takes no target text"),
        (
            ["visualize", "sounds", "--kind", "corss"],
            "unknown kind of attention 'corss', did you mean 'cross'",
        ),
        (["describe", "images", "--seq-len", "9"], "an image has 5 tokens, not 9"),
        (["describe", "text", "--target-len", "9"], "a GPTModel has no target sequence"),
    ],
)
def test_unsupported_commands_are_one_line_errors(arguments, message, folders, picture, tmp_path, capsys):
    command, name, *options = [picture if word == "PICTURE" else word for word in arguments]
    output = ["--output", str(tmp_path / "a.png")] if command == "visualize" else []
    line = refused(capsys, command, folders[name], *options, *output)
    assert line.startswith(f"glassformer {command}: ")
    assert message in line


@pytest.mark.slow
def test_visualize_draws_every_kind_of_attention_of_every_family(folders, picture, tmp_path, capsys):
    out = tmp_path / "a.svg"

    def drawn(name, *options):
        lines = output(capsys, "visualize", folders[name], "--output", str(out), *options)
        assert all((tmp_path / line).stat().st_size > 1000 for line in lines)
        return [line.removeprefix(f"{tmp_path}/") for line in lines]

    kinds = [f"a-{kind}-layer{layer}.svg" for kind in ("encoder", "decoder", "cross") for layer in (0, 1)]
    assert drawn("sounds", "--text", "cab") == kinds
    one = ["--kind", "cross", "--layer", "1", "--text", "cab", "--target-text", "K AH B"]
    assert drawn("sounds", *one) == ["a.svg"]
    assert drawn("sounds", *one, "--head", "1") == ["a.svg"]
    assert drawn("sounds", "--kind", "decoder", "--text", "cab") == ["a-layer0.svg", "a-layer1.svg"]
    assert drawn("bare", "--text", TEXT) == ["a-layer0.svg", "a-layer1.svg"]
    assert drawn("images", "--image", picture, "--layer", "1") == ["a.svg"]


def test_describe_supports_every_family(folders, capsys):
    shown = "\n".join(output(capsys, "describe", folders["sounds"], "--seq-len", "7", "--target-len", "5"))
    assert "at n = 7, m = 5, batch 1" in shown
    assert "cross-attention" in shown
    assert "class_token" in "\n".join(output(capsys, "describe", folders["images"]))
    for preset, size in (("bert-base-uncased", "109,482,240"), ("t5-small", "60,506,624")):
        assert size in "\n".join(output(capsys, "describe", preset))
    assert "86,567,656" in "\n".join(output(capsys, "describe", "vit-base"))


def test_a_regression_model_has_no_classes(save_model, tmp_path, capsys):
    model = BERTModel(257, 16, 1, 2, head="classification", labels=1)
    target = save_model(model, ByteTokenizer(), tmp_path / "one")
    assert "is a regression model" in refused(capsys, "classify", target, "--text", "a b")


def test_changes_of_an_image_are_reported_on_stderr(save_model, tmp_path, capsys):
    model = ViTModel(8, 4, 16, 1, 2, num_channels=1, labels=2)
    target = save_model(model, None, tmp_path / "vit")
    Image.fromarray(np.zeros((20, 13), np.uint8)).save(tmp_path / "tall.png")
    assert main(["classify", str(target), "--image", str(tmp_path / "tall.png")]) == 0
    assert "(stretched from 20 x 13 to 8 x 8 pixels)" in capsys.readouterr().err


def test_the_help_of_fill_mask_mentions_no_gguf_files(capsys):
    with pytest.raises(SystemExit):
        main(["fill-mask", "--help"])
    assert "gguf" not in capsys.readouterr().out


def test_probabilities_stand_under_a_heading_in_a_terminal(folders, monkeypatch, capsys):
    for command, name, text, heading in (
        ("classify", "classes", "the cat", "probability of each class:"),
        ("fill-mask", "masked", "the [MASK]", "probability of each token:"),
    ):
        for is_terminal in (True, False):
            monkeypatch.setattr("sys.stdout.isatty", lambda is_terminal=is_terminal: is_terminal)
            assert main([command, folders[name], "--text", text]) == 0
            assert capsys.readouterr().out.startswith(heading) == is_terminal
