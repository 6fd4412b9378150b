"""How byte-level BPE vocabularies cut a text into words before they merge inside each.

A vocabulary gives the published ids only behind the cut that it was made with.
"""

from __future__ import annotations

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def cut_as_gpt2(tokenizer: tokenizers.Tokenizer) -> None:
    """A word takes the space before it along."""
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def cut_as_smollm(tokenizer: tokenizers.Tokenizer) -> None:
    """Each digit for itself, the rest as GPT-2."""
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words])


def cut_as_llama3(tokenizer: tokenizers.Tokenizer) -> None:
    """A sign goes with the letters behind it, digits in groups of three, line ends for themselves."""
    _cut_by(tokenizer, _LLAMA3)


def cut_as_qwen2(tokenizer: tokenizers.Tokenizer) -> None:
    """As Llama 3, but each digit for itself; accents are composed with their letters first."""
    tokenizer.normalizer = normalizers.NFC()
    _cut_by(tokenizer, _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}"))


def _cut_by(tokenizer: tokenizers.Tokenizer, pattern: str) -> None:
    """Words are the matches of a regular expression."""
    words = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    spelled = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, spelled])
