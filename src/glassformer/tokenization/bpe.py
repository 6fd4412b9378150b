"""Byte-level byte-pair encoding: frequent runs of bytes become one token (Sennrich et al. 2016; GPT-2, 2019).

The work is done by the `tokenizers` library. A text is first split into words, as GPT-2 does: a word takes
the space before it along, and merges never cross the border of two words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from glassformer.tokenization.byte_level import spell
from glassformer.tokenization.names import END_OF_TEXT
from glassformer.tokenization.pretrained import PretrainedTokenizer
from glassformer.tokenization.ranks import merges_from_ranks, read_ranks
from glassformer.tokenization.training_texts import train
from glassformer.tokenization.words import cut_as_gpt2


class BPETokenizer(PretrainedTokenizer):
    """Byte-level BPE with an end-of-text token. ``decode(encode(text)) == text`` for any text.

    Make one with ``train``, ``from_tiktoken`` or ``load_tokenizer``.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any] | None = None) -> None:
        """Wrap a tokenizer of the `tokenizers` library; arguments as ``PretrainedTokenizer``.

        Raises:
            ValueError: it is not a byte-level BPE.
        """
        if not is_lossless(tokenizer):
            raise ValueError(
                f"not a byte-level BPE: its model is {type(tokenizer.model).__name__}, "
                f"its decoder {type(tokenizer.decoder).__name__}, "
                f"its normalizer {type(tokenizer.normalizer).__name__}"
            )
        super().__init__(tokenizer, settings)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, *, min_frequency: int = 2) -> BPETokenizer:
        """Learn the merges of the texts, which are read once and never held together.

        The same texts give the same vocabulary, byte for byte. Memory grows with the number of distinct
        words, not with the length of the texts; a huge text should come in pieces that end between words.

        Args:
            texts: what to learn from.
            vocab_size: the size to reach: ``<|endoftext|>`` (id 0), 256 bytes, then merges. Texts with too
                few pairs that occur ``min_frequency`` times give a smaller vocabulary; read ``.vocab_size``.
            min_frequency: how often a pair has to occur to be merged.

        Raises:
            ValueError: ``vocab_size`` is below 257, or there is no text.
        """
        if vocab_size < 257:
            raise ValueError(
                f"vocab_size is {vocab_size}; byte-level BPE needs at least 257: 256 bytes and {END_OF_TEXT}"
            )
        if min_frequency < 1:
            raise ValueError(f"min_frequency is {min_frequency}; it must be at least 1")
        tokenizer = _byte_level(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        train(tokenizer, texts, trainer)
        return cls(tokenizer)

    @classmethod
    def from_tiktoken(cls, path: str | Path) -> BPETokenizer:
        """GPT-2's own tokenizer, from the file ``gpt2.tiktoken`` (see ``find_gpt2_ranks``).

        The ids are those of the published models: 50,256 ranks, and ``<|endoftext|>`` after them as 50256.

        Args:
            path: a file with lines of ``<base64 of the token> <rank>``.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is no byte-pair vocabulary, with the line at fault.
        """
        ranks = read_ranks(path)
        vocabulary = {spell(token): rank for token, rank in ranks.items()}
        merges = [(spell(left), spell(right)) for left, right in merges_from_ranks(ranks)]
        tokenizer = _byte_level(models.BPE(vocab=vocabulary, merges=merges))
        tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
        return cls(tokenizer)


def is_lossless(tokenizer: tokenizers.Tokenizer) -> bool:
    """Whether it is a byte-level BPE that takes a text as it is: nothing normalized, no space put before."""
    return (
        isinstance(tokenizer.model, models.BPE)
        and isinstance(tokenizer.decoder, decoders.ByteLevel)
        and tokenizer.normalizer is None
        and not getattr(tokenizer.pre_tokenizer, "add_prefix_space", False)
    )


def _byte_level(model: models.BPE) -> tokenizers.Tokenizer:
    """GPT-2's pipeline around a model: its words, its spelling of bytes."""
    tokenizer = tokenizers.Tokenizer(model)
    cut_as_gpt2(tokenizer)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
