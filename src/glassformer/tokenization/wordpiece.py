"""WordPiece: words split greedily into the longest pieces of a vocabulary (BERT; Devlin et al. 2019)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from glassformer.tokenization.config_files import boolean_setting
from glassformer.tokenization.pretrained import PretrainedTokenizer, train_on_texts
from glassformer.tokenization.special_tokens import add_tokens, token_content

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
        """Learn pieces from texts. The result is deterministic.

        Args:
            texts: the training texts. They are read twice, so those of an iterator are kept in memory.
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
        texts = list(texts) if isinstance(texts, Iterator) else texts
        settings = {"do_lower_case": lowercase}
        special = list(_SPECIAL_TOKENS.values())
        # The library numbers the letters inside words in random order, which decides between pairs of equal
        # frequency. So the letters are found first, and then numbered in their order.
        letters = _train(texts, settings, vocab_size=0, special_tokens=special).keys() - set(special)
        numbered = [*special, *sorted(letters, key=lambda letter: (letter.startswith("##"), letter))]
        vocabulary = _train(
            texts, settings, vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=numbered
        )
        tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        _add_pipeline(tokenizer, settings)
        return cls._with_special_tokens(tokenizer, settings)

    def settings_for_transformers(self) -> dict[str, Any]:
        """Return the settings as for other tokenizers, or for BERT's class if that builds the same."""
        settings = super().settings_for_transformers()
        normalizer, names = self._tokenizer.normalizer, _special_tokens(self.settings)
        around = [self._tokenizer.token_to_id(names[key]) for key in ("cls_token", "sep_token")]
        is_bert = isinstance(normalizer, normalizers.BertNormalizer) and self.add_special_tokens([]) == around
        if not is_bert or "tokenizer_class" in self.settings:
            return settings
        return {**settings, **normalizer_settings(normalizer), "tokenizer_class": "BertTokenizer"}

    @classmethod
    def from_vocabulary(
        cls, path: str | Path, settings: Mapping[str, Any] | None = None
    ) -> WordPieceTokenizer:
        """Load the ``vocab.txt`` of a published BERT: one piece per line, its id the line number from 0.

        Args:
            path: the file.
            settings: content of ``tokenizer_config.json``, of which ``do_lower_case`` (default True),
                ``strip_accents`` (default: same as ``do_lower_case``), ``tokenize_chinese_chars`` (default
                True), the added tokens and the names of special tokens are used.

        Raises:
            ValueError: the file is not UTF-8, repeats a piece, or lacks a special token; or a setting has a
                wrong value.
        """
        settings = settings or {}
        pieces = Path(path).read_bytes().decode("utf-8").removesuffix("\n").split("\n")
        if len(set(pieces)) < len(pieces):
            repeated = next(piece for piece, count in Counter(pieces).items() if count > 1)
            raise ValueError(f"the piece {repeated!r} occurs twice")
        # The library removes white space at the end of a line, as it does for `transformers`.
        vocabulary = models.WordPiece.read_file(str(path))
        unknown = _special_tokens(settings)["unk_token"]
        tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
        _add_pipeline(tokenizer, settings)
        add_tokens(tokenizer, settings)
        for name in _special_tokens(settings).values():
            if tokenizer.token_to_id(name) is None:
                raise ValueError(f"the special token {name} is missing from the {len(vocabulary)} pieces")
        return cls._with_special_tokens(tokenizer, settings)

    @classmethod
    def _with_special_tokens(
        cls, tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any]
    ) -> WordPieceTokenizer:
        names = _special_tokens(settings)
        tokenizer.add_special_tokens(list(names.values()))
        set_template(tokenizer, settings)
        return cls(tokenizer, {**names, **settings, **names})  # the order is that of saved files


def set_template(tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any]) -> None:
    """Put BERT's special tokens around each text, unless the vocabulary lacks them."""
    names = _special_tokens(settings)
    before, between = names["cls_token"], names["sep_token"]
    ids = [(name, tokenizer.token_to_id(name)) for name in (before, between)]
    around = [token_id for _, token_id in ids]
    if None not in around and tokenizer.encode("").ids != around:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[before, "$A", between],
            pair=[before, "$A", between, "$B:1", f"{between}:1"],
            special_tokens=ids,
        )


def _train(texts: Iterable[str], settings: Mapping[str, Any], **options: Any) -> dict[str, int]:
    """Return the vocabulary that the library learns with the options of its trainer."""
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    _add_pipeline(tokenizer, settings)
    train_on_texts(tokenizer, texts, trainers.WordPieceTrainer(show_progress=False, **options))
    return tokenizer.get_vocab()


def _special_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the contents of BERT's special tokens, which settings may rename."""
    return {key: token_content(settings.get(key)) or name for key, name in _SPECIAL_TOKENS.items()}


def normalizer_settings(normalizer: normalizers.BertNormalizer) -> dict[str, Any]:
    """Return the settings of ``tokenizer_config.json`` that give this normalizer."""
    return {
        "do_lower_case": normalizer.lowercase,
        "strip_accents": normalizer.strip_accents,
        "tokenize_chinese_chars": normalizer.handle_chinese_chars,
    }


def bert_normalizer(settings: Mapping[str, Any]) -> normalizers.BertNormalizer:
    """Return BERT's normalizer with the settings of ``tokenizer_config.json``.

    Raises:
        ValueError: a setting is neither true nor false.
    """
    strip_accents = settings.get("strip_accents")  # None: the same as do_lower_case
    return normalizers.BertNormalizer(
        lowercase=boolean_setting(settings, "do_lower_case", True),
        strip_accents=None if strip_accents is None else boolean_setting(settings, "strip_accents"),
        handle_chinese_chars=boolean_setting(settings, "tokenize_chinese_chars", True),
    )


def _add_pipeline(tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any]) -> None:
    """Set BERT's normalizer, pre-tokenizer and decoder."""
    tokenizer.normalizer = bert_normalizer(settings)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
