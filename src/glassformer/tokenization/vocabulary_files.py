"""Files that came before ``tokenizer.json``: ``vocab.txt``, or ``vocab.json`` with ``merges.txt``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models

from glassformer.choices import choose
from glassformer.tokenization.bpe import BPETokenizer
from glassformer.tokenization.names import END_OF_TEXT
from glassformer.tokenization.pretrained import PretrainedTokenizer, token_content
from glassformer.tokenization.wordpiece import WordPieceTokenizer
from glassformer.tokenization.words import cut_as_gpt2, cut_as_qwen2

_CUTS = {"GPT2Tokenizer": cut_as_gpt2, "GPTNeoXTokenizer": cut_as_gpt2, "Qwen2Tokenizer": cut_as_qwen2}

VOCABULARY_FILES = ("vocab.txt", "vocab.json", "merges.txt")
"""All files that ``read_vocabulary_files`` may read."""


def has_vocabulary_files(folder: Path) -> bool:
    """Whether the folder holds files that ``read_vocabulary_files`` reads."""
    return (folder / "vocab.txt").is_file() or (folder / "merges.txt").is_file()


def read_vocabulary_files(folder: Path, settings: Mapping[str, Any]) -> PretrainedTokenizer:
    """BERT's tokenizer from ``vocab.txt``, or a byte-level BPE from ``vocab.json`` and ``merges.txt``.

    Args:
        folder: where they are.
        settings: what ``tokenizer_config.json`` says; its ``tokenizer_class`` tells how a byte-level BPE cuts
            a text into words, which its files do not say.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: a malformed file, or a class whose way to cut words is not known.
    """
    if (folder / "vocab.txt").is_file():
        return WordPieceTokenizer.from_vocabulary(folder / "vocab.txt", settings)
    if not (folder / "vocab.json").is_file():
        raise FileNotFoundError(f"{folder / 'merges.txt'} needs vocab.json beside it, which is missing")
    name = settings.get("tokenizer_class", "GPT2Tokenizer").removesuffix("Fast")
    cut_words = choose(_CUTS, name, "tokenizer_class")
    try:
        model = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    except Exception as error:  # the library raises a bare Exception
        raise ValueError(f"vocab.json and merges.txt are no byte-pair vocabulary ({error})") from None
    tokenizer = tokenizers.Tokenizer(model)
    cut_words(tokenizer)
    tokenizer.decoder = decoders.ByteLevel()
    return _with_added_tokens(tokenizer, {"eos_token": END_OF_TEXT, **settings})


def _with_added_tokens(tokenizer: tokenizers.Tokenizer, settings: dict[str, Any]) -> PretrainedTokenizer:
    """Tokens that ``tokenizer_config.json`` adds, by their ids."""
    for number, entry in sorted(settings.get("added_tokens_decoder", {}).items(), key=lambda e: int(e[0])):
        content = token_content(entry)
        if content is None:
            raise ValueError(f"the added token {number} has no content")
        add = tokenizer.add_special_tokens if entry.get("special") else tokenizer.add_tokens
        add([content])
        if tokenizer.token_to_id(content) != int(number):
            raise ValueError(f"the added token {content!r} should have id {number}, which is not next")
    lossless = tokenizer.normalizer is None
    return BPETokenizer(tokenizer, settings) if lossless else PretrainedTokenizer(tokenizer, settings)
