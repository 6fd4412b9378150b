"""Texts, images, numbers and paths as people type them."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from glassformer.cli import main
from glassformer.cli.inputs import indices_in, input_text, parse_ranges

COMMANDS = {
    "generate": ["text", "--seed", "1", "--max-new-tokens", "4"],
    "fill-mask": ["masked"],
    "classify": ["classes"],
    "translate": ["sounds", "--max-new-tokens", "4"],
    "tokenize": ["--tokenizer", "byte"],
}
TEXTS = {"fill-mask": "the [MASK] sat", "translate": "cab"}


def error_of(capsys, *arguments):
    assert main(list(arguments)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("command", COMMANDS)
def test_a_text_is_an_argument_an_option_standard_input_or_a_file(
    command, folders, tmp_path, capsys, monkeypatch
):
    text = TEXTS.get(command, "the cat")
    path = tmp_path / "text"
    path.write_text(f"{text}\n")
    words = [folders.get(word, word) for word in COMMANDS[command]]
    options = ["--text", "--prompt"] if command == "generate" else ["--text"]
    spellings = [[text], ["-"], ["--text-file", str(path)], ["--text-file", "-"]]
    spellings += [[option, value] for option in options for value in (text, "-")]
    shown = []
    for spelling in spellings:
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{text}\n"))
        assert main([command, *words, *spelling]) == 0
        output = capsys.readouterr()
        assert output.err == ""
        shown.append(output.out)
    assert shown[0]
    assert len(set(shown)) == 1


@pytest.mark.parametrize(
    ("given", "content", "expected"),
    [
        (("a\n", None, None), "", "a\n"),  # an argument is used as it is
        (("-", None, None), "a\n\n", "a\n"),
        ((None, "-", None), "", ""),
        ((None, None, "FILE"), "\ufeffa b\r\n", "a b"),
        ((None, None, "FILE"), "a", "a"),
        ((None, None, None), "a", None),
    ],
)
def test_the_last_newline_of_a_file_is_left_out(given, content, expected, tmp_path, monkeypatch):
    path = tmp_path / "text"
    path.write_text(content, encoding="utf-8", newline="")
    monkeypatch.setattr(sys, "stdin", io.StringIO(content))
    assert input_text(*given[:2], path if given[2] else None) == expected


def test_two_texts_are_refused(folders, picture, tmp_path, capsys):
    (tmp_path / "text").write_text("a")
    text, images, file = folders["text"], folders["images"], ["--text-file", str(tmp_path / "text")]
    for arguments, names in (
        (["generate", text, "a", "--prompt", "b"], "TEXT and --prompt"),
        (["generate", text, "a", *file], "TEXT and --text-file"),
        (["generate", text, "--text", "b", *file], "--prompt and --text-file"),
        (["translate", folders["sounds"], "a", "--text", "-"], "TEXT and --text"),
        (["classify", images, picture, "--image", picture], "IMAGE and --image"),
        (["classify", images, picture, "--text", "a"], "--image and --text"),
        (["visualize", images, picture, *file], "--image and --text-file"),
        (["explore", images, picture, "--target-text", "a"], "--image and --target-text"),
        (["explore", text, "a", "--no-analyses", "--faithfulness"], "--no-analyses and --faithfulness"),
        (
            ["prune", text, str(tmp_path / "s"), "--fraction", "0.1", "--kind", "self"],
            "--fraction and --kind",
        ),
        (["train", "--resume", "--overwrite"], "--resume and --overwrite"),
    ):
        assert f"{names} cannot be used together" in error_of(capsys, *arguments)


def test_a_text_that_names_a_file_is_used_with_a_note(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "speech.txt").write_text("the cat")
    assert main(["classify", folders["classes"], "speech.txt"]) == 0
    note = capsys.readouterr().err
    assert note == "(speech.txt is a file, but is taken as a text: --text-file speech.txt reads it)\n"
    for text in ("the cat", "a\0b", "x" * 5000, ".", ""):
        assert input_text(text, None, None) == text
    assert capsys.readouterr().err == ""


def test_files_that_are_no_texts_are_named(folders, tmp_path, capsys):
    path = tmp_path / "latin"
    path.write_bytes(b"caf\xe9")
    assert f"{path} is not UTF-8 text" in error_of(
        capsys, "generate", folders["text"], "--text-file", str(path)
    )
    assert "missing does not exist" in error_of(capsys, "generate", folders["text"], "--text-file", "missing")
    assert "is a folder" in error_of(capsys, "generate", folders["text"], "--text-file", str(tmp_path))


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (None, "standard input is closed"),
        (io.StringIO("caf\udce9"), "standard input is not UTF-8 text"),
        (io.TextIOWrapper(io.BytesIO(b"caf\xe9"), "utf-8"), "standard input is not UTF-8 text"),
    ],
)
def test_standard_input_that_is_no_text(stream, message, folders, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", stream)
    assert message in error_of(capsys, "generate", folders["text"], "-")


def test_a_word_with_the_suffix_of_an_image_is_an_image(folders, picture, tmp_path, capsys):
    results = []
    for arguments in ([picture], ["--image", picture]):
        assert main(["classify", folders["images"], *arguments]) == 0
        results.append(capsys.readouterr().out)
    assert results[0] == results[1]
    assert "nowhere.JPG does not exist" in error_of(capsys, "classify", folders["images"], "nowhere.JPG")
    assert main(["classify", folders["classes"], "the cat.png"]) == 0  # two words are a text
    out = tmp_path / "v.svg"
    assert main(["visualize", folders["images"], picture, "--layer", "0", "-o", str(out)]) == 0
    assert out.exists()


def test_translate_reads_a_source_from_each_line_of_a_file(folders, tmp_path, capsys, monkeypatch):
    content = "cab\n \nhedge\n"
    (tmp_path / "sources").write_text(content)
    monkeypatch.setattr(sys, "stdin", io.StringIO(content))
    shown = []
    for arguments in (["--text-file", str(tmp_path / "sources")], ["-"]):
        assert main(["translate", folders["sounds"], "--max-new-tokens", "5", *arguments]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert len(shown[0].splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [("3", [3]), ("0,2", [0, 2]), ("0-7", [*range(8)]), ("2, 0 - 1", [0, 1, 2]), ("1,1-2,2", [1, 2])],
)
def test_numbers_of_layers(text, expected):
    assert indices_in(parse_ranges(text), 8) == expected
    with pytest.raises(ValueError, match=f"head {max(expected)} does not exist: heads are 0 to"):
        indices_in(parse_ranges(text), max(expected), "head")


@pytest.mark.slow
def test_layers_and_heads_are_drawn_each_in_a_figure(folders, tmp_path, capsys):
    def drawn(*options):
        out = str(tmp_path / "a.svg")
        assert main(["visualize", folders["text"], "a cat", "-o", out, *options]) == 0
        return [line.removeprefix(f"{tmp_path}/") for line in capsys.readouterr().out.split()]

    assert drawn("--layers", "0-1") == drawn() == ["a-layer0.svg", "a-layer1.svg"]
    assert drawn("--layer", "1", "--heads", "0,1") == ["a-head0.svg", "a-head1.svg"]
    assert drawn("--layer", "0,1", "--head", "1") == ["a-layer0.svg", "a-layer1.svg"]
    assert drawn("--layer", "1", "--head", "0") == ["a.svg"]
    assert "head 2 does not exist: heads are 0 to 1" in error_of(
        capsys, "visualize", folders["text"], "a", "--layer", "0", "--head", "2"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "M", "My", "fellow"], "a text of several words needs quotation marks"),
        (
            ["generate", "M", "--text", "-x"],
            "--text needs a value; one that begins with - is",
        ),
        (
            ["train", "--device", "cud"],
            "--device cannot be 'cud', did you mean 'cuda'? (there are:",
        ),
        (
            ["analyze", "TEXT", "--patterns", "inducton"],
            "pattern 'inducton', did you mean 'induction'",
        ),
        (["ablate", "TEXT", "--how", "zeero"], "unknown ablation 'zeero', did you mean 'zero'"),
        (["visualize", "TEXT", "--kind", "slef"], "unknown kind of attention 'slef', did you mean 'self'"),
        (["generate", "M", "--top-k", "1.5"], "--top-k must be an integer, got '1.5'"),
        (["generate", "M", "--max-new-tokens", str(2**63)], "--max-new-tokens must be below 2**63"),
        (["visualize", "M", "--max-texts", "9" * 5000], "--max-texts must be an integer"),
        (["train", "--steps", "1e3"], "--steps must be an integer, got '1e3'"),
        (["generate"], "MODEL is missing"),
        (["generate", "--hlep"], "an argument is missing"),
    ],
)
def test_misspelled_and_missing_words(arguments, message, folders, corpus, capsys):
    words = [folders["text"] if word == "TEXT" else word for word in arguments]
    words += ["--data", str(corpus)] if words[0] == "analyze" else []
    assert message in error_of(capsys, *words)


def test_values_of_optional_numbers_and_texts():
    from glassformer.cli.generate import Generate

    assert Generate.parse(["m", "None"]).argument == "None"
    assert Generate.parse(["m", "--prompt", "None", "--top-k", "None"]).prompt == "None"
    assert Generate.parse(["m", "--top-k", "None"]).top_k is None
    assert Generate.parse(["m", "-5 degrees", "--top-k", "3"]).argument == "-5 degrees"
    assert Generate.parse(["m", "--text=-x"]).prompt == "-x"


def test_the_values_of_faithfulness_in_version_0_1():
    from glassformer.cli.explore import Explore

    for words, expected in (
        (["--faithfulness"], True),
        (["--no-faithfulness"], False),
        ([], None),
        (["--faithfulness", "True"], True),
        (["--faithfulness", "False"], False),
        (["--faithfulness=None"], None),
        (["--faithfulness=True"], True),
    ):
        assert Explore.parse(["m", *words, "a text"]) == Explore("m", "a text", faithfulness=expected)


@pytest.mark.slow
def test_wrong_paths_are_refused_before_torch_is_imported(tmp_path):
    lines = [
        ["visualize", "m", "a", "-o", "a.bmp"],
        ["visualize", "m", "missing.png"],
        ["visualize", "m", "a", "--layer", "x"],
        ["visualize", "m", "--patterns", "none"],
        ["explore", "m", "a", "-o", "a.png"],
        ["explore", "m", "a", "--layers", "x"],
        ["describe", "none.gguf"],
        ["explore", "m", "a", "--heads-report", "none.json"],
        ["generate", "./nowhere", "a"],
        ["generate", "m", "--text-file", "none.txt"],
        ["classify", "m", "none.jpg"],
        ["fill-mask", "none.gguf", "a"],
        ["translate", "a/b/c", "a"],
        ["analyze", "m", "--data", "none"],
        ["ablate", "m", "--named", "a", "--report", "none.json"],
        ["prune", "m", "s", "--heads", "0.0", "--data", "none"],
        ["serve", "./nowhere"],
        ["serve", "m", "--heads-report", "none.json"],
    ]
    program = (
        "import sys\nfrom glassformer.cli import main\n"
        f"for line in {lines!r}:\n"
        "    assert main(line) == 2, line\n"
        "    assert 'torch' not in sys.modules, line\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == len(lines)
