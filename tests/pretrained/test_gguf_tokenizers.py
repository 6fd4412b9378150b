"""Tokenizers in the metadata of GGUF files: how llama.cpp splits, what it adds, and damaged lists."""

from __future__ import annotations

from typing import Any

import pytest
import regex

from glassformer.pretrained.gguf.tokenizers import read_tokenizer
from glassformer.tokenization.base import Tokenizer
from glassformer.tokenization.pre_tokenization import bytes_to_unicode

BYTES = [bytes_to_unicode(bytes([byte])) for byte in range(256)]


def byte_level(**changes: Any) -> dict[str, Any]:
    """Metadata of a tokenizer that joins all bytes of up to nine ASCII characters of a word."""
    words = ["12", "123", "1234", "ab", "a1", "it", "'s", ",,", "$$", "Ġa", "ĠĠ", "Ġ1", "a,", "!!"]
    merges = [f"{word[:-1]} {word[-1]}" for word in words]
    values = {
        "model": "gpt2",
        "tokens": [*BYTES, *words, "<s>", "</s>"],
        "merges": merges,
        "token_type": [1] * (256 + len(words)) + [3, 3],
        "bos_token_id": 256 + len(words),
        "eos_token_id": 257 + len(words),
    }
    return {
        f"tokenizer.ggml.{name}": value for name, value in (values | changes).items() if value is not None
    }


def sentencepiece(*more: str, kind: int = 1, **changes: Any) -> dict[str, Any]:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁the", *more]
    values = {
        "model": "llama",
        "tokens": tokens,
        "scores": [0.0] * len(tokens),
        "token_type": [2, 3, 3, *[6] * 256, *[1] * 4, *[kind] * len(more)],
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return {
        f"tokenizer.ggml.{name}": value for name, value in (values | changes).items() if value is not None
    }


def default_words(text: str) -> list[str]:
    """Split by the four expressions of llama.cpp in turn, with another library."""
    words = [text]
    for pattern in (
        r"[\p{P}\$\+<=>\^~\|]+",
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
        r"\p{N}+",
        r"[0-9][0-9][0-9]",
    ):
        words = [part for word in words for part in regex.split(f"({pattern})", word) if part]
    return words


TEXTS = [
    "1234",
    "it's 1234,5678!! ab",
    "a1 12345678901 x",
    "  two  spaces\n\n\tand tabs \n",
    "price: $12.50 + <tag> a=b ~ | ^",
    "naïve 语言 ١٢٣٤ 🙂🙂 don't I'LL",
    "it'sit ''s",
    "",
    "   ",
    "x²³ ½ 12²",
]


@pytest.mark.parametrize("pre", [None, "default"])
def test_the_default_splitting_is_that_of_llama_cpp(pre: str | None) -> None:
    tokenizer = read_tokenizer(byte_level(pre=pre))
    for text in TEXTS:
        words = default_words(text)
        one_by_one = [id_ for word in words for id_ in read_tokenizer(byte_level(pre="gpt-2")).encode(word)]
        assert tokenizer.encode(text) == one_by_one, text
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert [tokenizer.label(token) for token in tokenizer.encode("1234")] == ["123", "4"]
    usual = read_tokenizer(byte_level(pre="gpt-2"))
    assert [usual.label(token) for token in usual.encode("1234")] == ["1234"]


@pytest.mark.parametrize("bos", [None, False, True])
@pytest.mark.parametrize("eos", [None, False, True])
@pytest.mark.parametrize(
    ("build", "adds_bos"),
    [(sentencepiece, True), (byte_level, False), (lambda **more: byte_level(pre="llama-bpe", **more), True)],
    ids=["llama", "gpt2", "llama-bpe"],
)
def test_the_ends_are_added_as_the_metadata_say(
    build: Any, adds_bos: bool, bos: bool | None, eos: bool | None
) -> None:
    metadata = build(add_bos_token=bos, add_eos_token=eos)
    tokenizer: Tokenizer = read_tokenizer(metadata)
    first, last = (metadata[f"tokenizer.ggml.{role}_token_id"] for role in ("bos", "eos"))
    expected = [*([first] if (adds_bos if bos is None else bos) else []), 7, *([last] if eos else [])]
    assert tokenizer.add_special_tokens([7]) == expected


def test_an_end_without_an_id_is_not_added() -> None:
    tokenizer = read_tokenizer(sentencepiece(eos_token_id=None, add_eos_token=True, add_bos_token=False))
    assert tokenizer.add_special_tokens([7]) == [7]


@pytest.mark.parametrize("kind", [1, 3, 4], ids=["normal", "control", "user defined"])
def test_a_huge_token_is_refused_in_linear_time(kind: int, assert_linear_time: Any) -> None:
    no_ids = {"merges": [], "bos_token_id": None, "eos_token_id": None}

    def refuse(length: int) -> None:
        token, types = "a" * length, [1] * 256 + [kind]
        for metadata in (
            sentencepiece(token, kind=kind),
            byte_level(tokens=[*BYTES, token], token_type=types, **no_ids),
        ):
            with pytest.raises(ValueError, match="must have at most 1000 characters each"):
                read_tokenizer(metadata)

    assert_linear_time(refuse, 250_000)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [3, 4], ids=["control", "user defined"])
def test_added_tokens_take_linear_time(kind: int, assert_linear_time: Any) -> None:
    def build(size: int) -> None:
        tokenizer = read_tokenizer(sentencepiece(*(f"<c{number}>" for number in range(size)), kind=kind))
        assert tokenizer.vocab_size == size + 263

    assert_linear_time(build, 5_000)


@pytest.mark.parametrize(
    "metadata",
    [
        sentencepiece(unknown_token_id=10**6),
        sentencepiece(unknown_token_id=-1),
        sentencepiece(unknown_token_id="<unk>"),
        sentencepiece(scores=["a"] * 3),
        sentencepiece(scores=None),
        sentencepiece(token_type=5),
        sentencepiece(tokens=[1] * 263),
        sentencepiece(tokens=7),
        byte_level(merges=[1]),
        byte_level(merges=["ab"]),
        byte_level(merges=["a b c"]),
        byte_level(merges=["zz a"]),
        byte_level(merges=None),
        byte_level(tokens=[]),
    ],
)
def test_damaged_lists_are_errors_of_one_line(metadata: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="tokenizer|merges|zip") as error:
        read_tokenizer(metadata)
    assert len(str(error.value).splitlines()) == 1
