"""A small byte-level BPE of the `tokenizers` library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

MERGES = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("Ġ", "a"), ("1", "2")]


def byte_level_bpe(*, add_prefix_space: bool = False, **parts: Any) -> tokenizers.Tokenizer:
    """A tokenizer with 256 bytes and ``MERGES``; ``parts`` are attributes to set, such as a normalizer."""
    vocabulary = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    for left, right in MERGES:
        vocabulary[left + right] = len(vocabulary)
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, MERGES))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return tokenizer


@pytest.fixture(scope="session")
def make_byte_level_bpe() -> Callable[..., tokenizers.Tokenizer]:
    return byte_level_bpe


@pytest.fixture(scope="session")
def merges() -> list[tuple[str, str]]:
    return MERGES
