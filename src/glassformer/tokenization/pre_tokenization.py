"""Pre-tokenization for byte-level BPE: splitting a text into words, and writing bytes as characters.

A vocabulary gives the published ids only with the splitting that it was trained with.
"""

from __future__ import annotations

from typing import Any

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_PATTERN = LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")
LLAMA_CPP_PATTERNS = (r"[\p{P}$+<=>^~|]+", GPT2_PATTERN, r"\p{N}+", r"[0-9]{3}")


def split_like_gpt2(tokenizer: tokenizers.Tokenizer) -> None:
    """Split before spaces and between letters, digits and punctuation; a word keeps the space before it."""
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def split_like_gpt_neox(tokenizer: tokenizers.Tokenizer) -> None:
    """Split like GPT-2, after normalization to NFC."""
    tokenizer.normalizer = normalizers.NFC()
    split_like_gpt2(tokenizer)


def split_like_smollm(tokenizer: tokenizers.Tokenizer) -> None:
    """Split like GPT-2, with every digit a word of its own."""
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words])


def split_like_llama_cpp(tokenizer: tokenizers.Tokenizer) -> None:
    """Split as llama.cpp does by default: like GPT-2, with punctuation apart and digits in threes."""
    _split_by(tokenizer, *LLAMA_CPP_PATTERNS)


def split_like_llama3(tokenizer: tokenizers.Tokenizer) -> None:
    """Split digits into groups of three, and keep one punctuation character with the letters after it."""
    _split_by(tokenizer, LLAMA3_PATTERN)


def split_like_qwen2(tokenizer: tokenizers.Tokenizer) -> None:
    """Split like Llama 3, with every digit a word of its own, after normalization to NFC."""
    tokenizer.normalizer = normalizers.NFC()
    _split_by(tokenizer, QWEN2_PATTERN)


def byte_level_parts(pre_tokenizer: Any) -> list[pre_tokenizers.ByteLevel]:
    """Return the byte-level pre-tokenizers in a pre-tokenizer, which may be a sequence."""
    parts: Any = pre_tokenizer if isinstance(pre_tokenizer, pre_tokenizers.Sequence) else [pre_tokenizer]
    return [part for part in parts if isinstance(part, pre_tokenizers.ByteLevel)]


def set_prefix_space(tokenizer: tokenizers.Tokenizer, value: bool) -> None:
    """Set whether byte-level pre-tokenizers put a space before a text that begins with none."""
    for part in byte_level_parts(tokenizer.pre_tokenizer):
        part.add_prefix_space = value


def _split_by(tokenizer: tokenizers.Tokenizer, *patterns: str) -> None:
    """Make each match of a regular expression a word, and split the words by the next expression."""
    words = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in patterns]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*words, byte_level])


def _byte_alphabet() -> dict[int, str]:
    """GPT-2's table: printable Latin-1 characters stand for themselves, the other 68 bytes are U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(0x100 + i) for i, byte in enumerate(others)}


_CHARACTER_OF_BYTE = _byte_alphabet()
_BYTE_OF_CHARACTER = {character: bytes([byte]) for byte, character in _CHARACTER_OF_BYTE.items()}


def bytes_to_unicode(token: bytes) -> str:
    """Write a token as the vocabularies of byte-level BPE do: one visible character for each byte."""
    return "".join(_CHARACTER_OF_BYTE[byte] for byte in token)


def unicode_to_bytes(token: str) -> bytes:
    """Invert ``bytes_to_unicode``; characters outside the table are encoded in UTF-8."""
    return b"".join(_BYTE_OF_CHARACTER.get(character) or character.encode("utf-8") for character in token)
