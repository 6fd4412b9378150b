"""Control characters in labels, tokens and names of files are never printed as they are."""

from __future__ import annotations

import io
import re
import shutil
import sys

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from glassformer.cli import main
from glassformer.cli.generate import write
from glassformer.models import BERTModel, GPTModel, T5Model
from glassformer.terminal import printable
from glassformer.tokenization import ByteTokenizer, PretrainedTokenizer, SymbolTokenizer

ESC = "\x1b[31mred\x07"
SHOWN = "\\x1b[31mred\\x07"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, save_model):
    """Models whose folders, labels and tokens hold control characters."""
    folder = tmp_path_factory.mktemp("models") / ESC
    words = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0, "[MASK]": 1, ESC: 2, "\x9b2J": 3}, "[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words = PretrainedTokenizer(words, {"mask_token": "[MASK]"})
    symbols = SymbolTokenizer([*"abc", "\x1b", "\x07"])
    size = {"vocab_size": 4, "d_model": 8, "num_layers": 1, "num_heads": 2, "max_seq_len": 64}
    built = {
        "masked": (BERTModel(**size, head="masked_lm"), words),
        "classes": (BERTModel(**size, head="classification", labels=[ESC, "\x9b2J"]), words),
        "sounds": (T5Model(symbols.vocab_size, 8, 1, 2, max_seq_len=16), symbols),
        "text": (GPTModel(257, 8, 1, 2, max_seq_len=64), ByteTokenizer()),
    }
    return {name: save_model(*parts, folder / name) for name, parts in built.items()}


@pytest.mark.parametrize(
    ("text", "keep", "expected"),
    [
        (ESC, "", SHOWN),
        ("a\nb\tc\rd", "\n\t", "a\nb\tc\\rd"),
        ("a\nb", "", "a\\nb"),
        ("\x80\x9f\x7f\x00", "", "\\x80\\x9f\\x7f\\x00"),
        ("\u2028\u202e\u2066\ud800", "", "\\u2028\\u202e\\u2066\\ud800"),
        ("naïve 中文 👩‍👩‍👧 ש\u200f", "", "naïve 中文 👩‍👩‍👧 ש\u200f"),
    ],
)
def test_printable_text(text, keep, expected):
    assert printable(text, keep) == expected


def test_a_generated_text_keeps_lines_and_tabs_on_a_terminal(monkeypatch):
    for terminal, expected in ((True, f"a\n\t{SHOWN}\\r"), (False, f"a\n\t{ESC}\r")):
        stream = io.StringIO()
        stream.isatty = lambda terminal=terminal: terminal
        monkeypatch.setattr(sys, "stdout", stream)
        write(f"a\n\t{ESC}\r")
        assert stream.getvalue() == expected


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [True, False])
def test_no_command_prints_control_characters(terminal, hostile, corpus, tmp_path, capsys, monkeypatch):
    folder = tmp_path / ESC
    folder.mkdir()
    (folder / "text.txt").write_text(corpus.read_text())
    data = str(folder / "text.txt")
    tiny = ["--data.tokenizer", "byte", "--data.seq-len", "8", "--data.fractions", "0.8", "0.1", "0.1"]
    tiny += ["--model.preset", "gpt-nano", "--batch-size", "2", "--steps", "1", "--prompt", f"a {ESC}"]

    def run(name):
        return "--run-folder", str(folder / name)

    commands = [
        (0, "fill-mask", hostile["masked"], "[MASK]", "--top-k", "4"),
        (0, "classify", hostile["classes"], f"a {ESC}"),
        (0, "translate", hostile["sounds"], "abc", "--max-new-tokens", "9"),
        (0, "tokenize", "--tokenizer", "byte", f"a {ESC}"),
        (0, "tokenize", "--source", data, "--tokenizer", "byte", "--folder", str(folder / "tokens")),
        (0, "describe", hostile["text"]),
        (0, "visualize", hostile["text"], "abc", "-o", str(folder / "a.svg")),
        (0, "explore", hostile["text"], "abc", "--no-open", "-o", str(folder / "a.html")),
        (0, "prune", hostile["text"], str(folder / "small"), "--heads", "0.0"),
        (0, "train", *tiny, "--data.source", data, *run("run")),
        (0, "analyze", hostile["text"], "--data", data, "--patterns", "tokens", *run("analysis")),
        (0, "ablate", hostile["text"], "--tasks", "copy-1", "--items", "2", *run("ablation")),
        (2, "generate", str(folder / "none")),
        (2, "generate", hostile["text"], ESC, "--prompt", ESC, f"--{ESC}"),
        (2, ESC),
        (2, "help", ESC),
        (2, "serve", str(folder / "none.gguf")),
        (2, "train", "--config", f"{folder}/none.toml"),
        (0, "generate", hostile["text"], f"a\n{ESC}", "--seed", "1", "--max-new-tokens", "40"),
    ]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    for status, *arguments in commands:
        if arguments[0] == "generate" and status == 0 and not terminal:
            continue  # a text in a file or a pipe is exact
        assert main(arguments) == status, arguments
        shown = capsys.readouterr()
        for text in (shown.out, shown.err):
            assert not re.search("\x1b\\[31mred|[\x07\x9b]", text), arguments
            assert terminal or "\x1b" not in text, arguments  # progress bars move the cursor of a terminal


def test_hostile_names_in_errors_of_files(hostile, tmp_path, capsys):
    folder = tmp_path / ESC
    shutil.copytree(hostile["text"], folder)
    (folder / "model.safetensors").write_bytes(b"no tensors")
    assert main(["generate", str(folder), "a"]) == 2
    error = capsys.readouterr().err
    assert SHOWN in error
    assert "\x1b" not in error
