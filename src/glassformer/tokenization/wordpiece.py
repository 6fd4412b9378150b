"""WordPiece: words cut into the longest pieces of a vocabulary, from the left (BERT; Devlin et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from glassformer.tokenization.pretrained import PretrainedTokenizer
from glassformer.tokenization.training_texts import train

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_SETTINGS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


class WordPieceTokenizer(PretrainedTokenizer):
    """BERT's tokenizer: words and signs, each cut into pieces; a piece inside a word begins with ``##``.

    ``decode(encode(text))`` loses how words and signs were spaced, control characters, letters that the
    vocabulary lacks (they become ``[UNK]``) and, unless cased, capitals and accents. ``add_marks`` gives
    ``[CLS] a [SEP]`` and ``[CLS] a [SEP] b [SEP]``.
    """

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int, *, lowercase: bool = True, min_frequency: int = 2
    ) -> WordPieceTokenizer:
        """Learn the pieces of the texts, which are read once and never held together.

        Args:
            texts: what to learn from.
            vocab_size: the size to reach: the special tokens ``[PAD] [UNK] [CLS] [SEP] [MASK]`` (ids 0 to 4),
                letters, then pieces. Texts with too few pairs that occur ``min_frequency`` times give a
                smaller vocabulary.
            lowercase: whether capitals and accents are dropped.
            min_frequency: how often a pair has to occur to be joined.

        Raises:
            ValueError: a vocabulary with no room for letters, or there is no text.
        """
        if vocab_size <= len(SPECIAL_TOKENS):
            raise ValueError(
                f"vocab_size is {vocab_size}; WordPiece needs more than {len(SPECIAL_TOKENS)} special tokens"
            )
        if min_frequency < 1:
            raise ValueError(f"min_frequency is {min_frequency}; it must be at least 1")
        tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
        _add_pipeline(tokenizer, {"do_lower_case": lowercase})
        trainer = trainers.WordPieceTrainer(
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            special_tokens=list(SPECIAL_TOKENS),
            show_progress=False,
        )
        train(tokenizer, texts, trainer)
        return cls._finished(tokenizer, {"do_lower_case": lowercase})

    @classmethod
    def from_vocabulary(
        cls, path: str | Path, settings: Mapping[str, Any] | None = None
    ) -> WordPieceTokenizer:
        """From a ``vocab.txt`` of published BERTs: one piece a line, its id the number of the line.

        Args:
            path: the file.
            settings: what ``tokenizer_config.json`` says; of it ``do_lower_case`` (default True),
                ``strip_accents`` (default: as ``do_lower_case``) and ``tokenize_chinese_chars`` (default
                True) are heeded.

        Raises:
            ValueError: the file is empty, not UTF-8, lists a piece twice, or lacks a special token.
        """
        pieces = Path(path).read_bytes().decode("utf-8").splitlines()
        vocabulary = {piece: i for i, piece in enumerate(pieces)}
        if len(vocabulary) < len(pieces):
            twice = next(piece for i, piece in enumerate(pieces) if vocabulary[piece] != i)
            raise ValueError(f"the piece {twice!r} occurs twice")
        named = {key: (settings or {}).get(key, name) for key, name in _SETTINGS.items()}
        for name in named.values():
            if name not in vocabulary:
                raise ValueError(f"there is no special token {name} among its {len(vocabulary)} pieces")
        tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=named["unk_token"]))
        _add_pipeline(tokenizer, settings or {})
        return cls._finished(tokenizer, {**(settings or {}), **named})

    @classmethod
    def _finished(cls, tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any]) -> WordPieceTokenizer:
        """With its special tokens known, and BERT's marks."""
        settings = {**_SETTINGS, **settings}
        cls_token, sep_token = settings["cls_token"], settings["sep_token"]
        tokenizer.add_special_tokens([settings[key] for key in _SETTINGS])
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{cls_token} $A {sep_token}",
            pair=f"{cls_token} $A {sep_token} $B:1 {sep_token}:1",
            special_tokens=[(name, tokenizer.token_to_id(name)) for name in (cls_token, sep_token)],
        )
        return cls(tokenizer, settings)


def _add_pipeline(tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any]) -> None:
    """BERT's cleaning of texts, its words, and its way to write pieces."""
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=settings.get("do_lower_case", True),
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
