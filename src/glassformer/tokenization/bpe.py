"""Byte-level byte-pair encoding (Sennrich et al. 2016; Radford et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from glassformer.tokenization.pre_tokenization import byte_level_parts, bytes_to_unicode, split_like_gpt2
from glassformer.tokenization.pretrained import PretrainedTokenizer, train_on_texts
from glassformer.tokenization.special_tokens import END_OF_TEXT
from glassformer.tokenization.tiktoken_format import merges_from_ranks, read_ranks


class BPETokenizer(PretrainedTokenizer):
    """Byte-level BPE: frequent byte sequences become one token, within words split as by GPT-2.

    ``decode(encode(text)) == text`` for any text. Make one with ``train``, ``from_tiktoken`` or
    ``load_tokenizer``.

    Args:
        tokenizer: as in ``PretrainedTokenizer``.
        settings: as in ``PretrainedTokenizer``.

    Raises:
        ValueError: the tokenizer is not a byte-level BPE.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any] | None = None) -> None:
        if not is_lossless(tokenizer):
            raise ValueError(
                f"not a byte-level BPE: its model is {type(tokenizer.model).__name__}, "
                f"its decoder {type(tokenizer.decoder).__name__}, "
                f"its normalizer {type(tokenizer.normalizer).__name__}"
            )
        super().__init__(tokenizer, settings)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, *, min_frequency: int = 2) -> BPETokenizer:
        """Learn merges from texts.

        The texts are read once, and memory grows with the number of distinct words, not with their length;
        give a very long text in parts that end between words. The result is deterministic.

        Args:
            texts: the training texts.
            vocab_size: size of the vocabulary: ``<|endoftext|>`` (id 0), 256 bytes, then merges. It is
                smaller if the texts have too few pairs that occur ``min_frequency`` times.
            min_frequency: how often a pair must occur to be merged.

        Raises:
            ValueError: ``vocab_size`` is below 257, or all texts are empty.
        """
        if vocab_size < 257:
            raise ValueError(
                f"vocab_size must be at least 257 for byte-level BPE (256 bytes and {END_OF_TEXT}), "
                f"got {vocab_size}"
            )
        if min_frequency < 1:
            raise ValueError(f"min_frequency must be at least 1, got {min_frequency}")
        tokenizer = _byte_level_tokenizer(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        train_on_texts(tokenizer, texts, trainer)
        return cls(tokenizer)

    @classmethod
    def from_tiktoken(cls, path: str | Path) -> BPETokenizer:
        """Build GPT-2's own tokenizer from the file ``gpt2.tiktoken`` (see ``find_gpt2_ranks``).

        The ids are those of the published models: 50,256 ranks, then ``<|endoftext|>`` with id 50256.

        Args:
            path: a file with lines of ``<base64 of the token> <rank>``.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: the file is not a byte-pair vocabulary.
        """
        ranks = read_ranks(path)
        vocabulary = {bytes_to_unicode(token): rank for token, rank in ranks.items()}
        try:
            merges = [(bytes_to_unicode(a), bytes_to_unicode(b)) for a, b in merges_from_ranks(ranks)]
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        tokenizer = _byte_level_tokenizer(models.BPE(vocab=vocabulary, merges=merges))
        tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
        return cls(tokenizer)


def is_lossless(tokenizer: tokenizers.Tokenizer) -> bool:
    """Return whether this is a byte-level BPE without normalizer and without a space put before the text."""
    return (
        isinstance(tokenizer.model, models.BPE)
        and isinstance(tokenizer.decoder, decoders.ByteLevel)
        and tokenizer.normalizer is None
        and not any(part.add_prefix_space for part in byte_level_parts(tokenizer.pre_tokenizer))
    )


def _byte_level_tokenizer(model: models.BPE) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(model)
    split_like_gpt2(tokenizer)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
