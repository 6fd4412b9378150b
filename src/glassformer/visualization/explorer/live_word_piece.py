"""Description of a WordPiece tokenizer for a live page.

The `tokenizers` library takes the classes of characters from an old version of Unicode, so they are stored as
it knows them, not as the browser does.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Any

from tokenizers import normalizers, pre_tokenizers

CLEAN_OPTIONS = ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")


def describe_word_piece(parts: dict[str, Any]) -> dict[str, Any]:
    """What is needed to encode a text, as JSON values.

    Args:
        parts: the content of ``tokenizer.json``.

    Raises:
        ValueError: if the texts are prepared in other ways than BERT's.
    """
    for name, expected in (("normalizer", "BertNormalizer"), ("pre_tokenizer", "BertPreTokenizer")):
        kind = (parts[name] or {"type": None})["type"]
        if kind != expected:
            raise ValueError(
                f"A live page cannot encode texts with WordPiece and the {name} {kind}; it supports "
                f"{expected}."
            )
    for token in parts["added_tokens"]:
        if not token["special"] or not _is_split(token["content"]):
            raise ValueError(
                f"A live page cannot encode texts with the added token {token['content']!r}; it supports "
                "special tokens with punctuation, such as '[SEP]'."
            )
    model, options = parts["model"], {name: parts["normalizer"][name] for name in CLEAN_OPTIONS}
    if options["strip_accents"] is None:
        options["strip_accents"] = options["lowercase"]
    return {
        "kind": "word_piece",
        **options,
        "control": _ranges(_control_characters()),
        "accents": _ranges(_accents()),
        "punctuation": _ranges(_punctuation()),
        "vocabulary": [[token, number] for token, number in model["vocab"].items()],
        "unknown": model["vocab"][model["unk_token"]],
        "prefix": model["continuing_subword_prefix"],
        "max_characters": model["max_input_chars_per_word"],
    }


def _is_split(content: str) -> bool:
    """Whether the words of a text never contain a special token, because punctuation splits it."""
    return len(pre_tokenizers.BertPreTokenizer().pre_tokenize_str(content)) > 1


@cache
def _control_characters() -> list[int]:
    """Characters that ``clean_text`` removes."""
    candidates = [*_of_categories("Cc", "Cf", "Co"), 0xFFFD]
    return _removed_by(normalizers.BertNormalizer(True, False, False, False), candidates)


@cache
def _accents() -> list[int]:
    """Marks that ``strip_accents`` removes from decomposed characters."""
    return _removed_by(normalizers.BertNormalizer(False, False, True, False), _of_categories("Mn", "Mc"))


@cache
def _punctuation() -> list[int]:
    """Characters that are words of their own."""
    # So, Mc and Mn: some characters of these categories were punctuation in earlier versions of Unicode.
    categories = ("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "So", "Mc", "Mn")
    candidates = sorted({*range(128), *_of_categories(*categories)})
    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    return [code for code in candidates if len(split(f"a{chr(code)}b")) == 3]


def _of_categories(*categories: str) -> list[int]:
    return [code for code in range(0x110000) if unicodedata.category(chr(code)) in categories]


def _removed_by(normalizer: normalizers.BertNormalizer, codes: list[int]) -> list[int]:
    results = normalizer.normalize_str("a".join(map(chr, codes))).split("a")
    return [code for code, result in zip(codes, results, strict=True) if not result]


def _ranges(codes: Iterable[int]) -> list[list[int]]:
    """Sorted numbers as ranges ``[first, last]``."""
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return ranges
