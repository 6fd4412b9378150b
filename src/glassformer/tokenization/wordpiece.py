"""WordPiece: words split greedily into the longest pieces of a vocabulary (BERT; Devlin et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from glassformer.tokenization.pretrained import PretrainedTokenizer, train_on_texts

_SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


class WordPieceTokenizer(PretrainedTokenizer):
    """BERT's tokenizer: words and punctuation, split into pieces; pieces inside a word start with ``##``.

    ``decode(encode(text))`` loses spacing and control characters; letters outside the vocabulary become
    ``[UNK]``, and unless the tokenizer is cased, case and accents are lost. ``add_special_tokens`` gives
    ``[CLS] a [SEP]`` and ``[CLS] a [SEP] b [SEP]``.
    """

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int, *, lowercase: bool = True, min_frequency: int = 2
    ) -> WordPieceTokenizer:
        """Learn pieces from texts, which are read once.

        Args:
            texts: the training texts.
            vocab_size: size of the vocabulary: ``[PAD] [UNK] [CLS] [SEP] [MASK]`` (ids 0 to 4), letters, then
                pieces. It is smaller if the texts have too few pairs that occur ``min_frequency`` times.
            lowercase: whether to remove case and accents.
            min_frequency: how often a pair must occur to be joined.

        Raises:
            ValueError: ``vocab_size`` is below 6, or all texts are empty.
        """
        if vocab_size <= len(_SPECIAL_TOKENS):
            raise ValueError(
                f"vocab_size must be above the {len(_SPECIAL_TOKENS)} special tokens of WordPiece, "
                f"got {vocab_size}"
            )
        if min_frequency < 1:
            raise ValueError(f"min_frequency must be at least 1, got {min_frequency}")
        tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
        _add_pipeline(tokenizer, {"do_lower_case": lowercase})
        trainer = trainers.WordPieceTrainer(
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            special_tokens=list(_SPECIAL_TOKENS.values()),
            show_progress=False,
        )
        train_on_texts(tokenizer, texts, trainer)
        return cls._with_special_tokens(tokenizer, {"do_lower_case": lowercase})

    @classmethod
    def from_vocabulary(
        cls, path: str | Path, settings: Mapping[str, Any] | None = None
    ) -> WordPieceTokenizer:
        """Load the ``vocab.txt`` of a published BERT: one piece per line, its id the line number from 0.

        Args:
            path: the file.
            settings: content of ``tokenizer_config.json``, of which ``do_lower_case`` (default True),
                ``strip_accents`` (default: same as ``do_lower_case``), ``tokenize_chinese_chars`` (default
                True) and the names of special tokens are used.

        Raises:
            ValueError: the file is not UTF-8, repeats a piece, or lacks a special token.
        """
        pieces = Path(path).read_bytes().decode("utf-8").splitlines()
        vocabulary = {piece: i for i, piece in enumerate(pieces)}
        if len(vocabulary) < len(pieces):
            repeated = next(piece for i, piece in enumerate(pieces) if vocabulary[piece] != i)
            raise ValueError(f"the piece {repeated!r} occurs twice")
        named = {key: (settings or {}).get(key, name) for key, name in _SPECIAL_TOKENS.items()}
        for name in named.values():
            if name not in vocabulary:
                raise ValueError(f"the special token {name} is missing from the {len(vocabulary)} pieces")
        tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=named["unk_token"]))
        _add_pipeline(tokenizer, settings or {})
        return cls._with_special_tokens(tokenizer, {**(settings or {}), **named})

    @classmethod
    def _with_special_tokens(
        cls, tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any]
    ) -> WordPieceTokenizer:
        settings = {**_SPECIAL_TOKENS, **settings}
        cls_token, sep_token = settings["cls_token"], settings["sep_token"]
        tokenizer.add_special_tokens([settings[key] for key in _SPECIAL_TOKENS])
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{cls_token} $A {sep_token}",
            pair=f"{cls_token} $A {sep_token} $B:1 {sep_token}:1",
            special_tokens=[(name, tokenizer.token_to_id(name)) for name in (cls_token, sep_token)],
        )
        return cls(tokenizer, settings)


def _add_pipeline(tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any]) -> None:
    """Set BERT's normalizer, pre-tokenizer and decoder."""
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=settings.get("do_lower_case", True),
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
