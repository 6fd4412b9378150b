"""Description of a tokenizer for a live page, which encodes typed texts itself.

A page splits text by Unicode properties of the browser, and gets the same ids as the `tokenizers` library for
all characters that both know: browsers of 2025 know those of Unicode 17, the library those of Unicode 16.
"""

from __future__ import annotations

from typing import Any

from glassformer.contracts import Tokenizer
from glassformer.models import TransformerModel
from glassformer.tokenization import MASK, ByteTokenizer, CharacterTokenizer, PretrainedTokenizer
from glassformer.tokenization.pre_tokenization import (
    GPT2_PATTERN,
    LLAMA3_PATTERN,
    LLAMA_CPP_PATTERNS,
    QWEN2_PATTERN,
    bytes_to_unicode,
)
from glassformer.tokenization.special_tokens import special_tokens_of
from glassformer.visualization.explorer.live_word_piece import describe_word_piece

_BYTE_LEVEL_PATTERN = GPT2_PATTERN + r"|\s+"
_CONTRACTIONS = r"'(?:[sS\u017ftTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])"
"""What ``(?i:'s|'t|'re|'ve|'m|'ll|'d)`` matches: U+017F is another lower-case S."""
_KNOWN_PATTERNS = (GPT2_PATTERN, LLAMA3_PATTERN, QWEN2_PATTERN, *LLAMA_CPP_PATTERNS)
"""Regular expressions of pre-tokenizers that mean the same in JavaScript, after ``_as_javascript``."""


def live_tokenizer(model: TransformerModel) -> Tokenizer:
    """The tokenizer of a model, or bytes if it has none.

    Raises:
        ValueError: if it has none, and its vocabulary has no room for bytes.
    """
    if model.tokenizer is not None:
        return model.tokenizer
    if int(model.config["vocab_size"]) < 256:
        raise _unsupported("a model without a tokenizer, and with fewer than 256 tokens")
    return ByteTokenizer()


def describe_tokenizer(model: TransformerModel) -> dict[str, Any]:
    """What is needed to encode a text, as JSON values.

    Raises:
        ValueError: if a page cannot encode texts as the tokenizer does; the message names the part.
    """
    tokenizer = live_tokenizer(model)
    if isinstance(tokenizer, ByteTokenizer):
        description: dict[str, Any] = {"kind": "byte"}
    elif isinstance(tokenizer, CharacterTokenizer):
        description = {"kind": "character", "characters": tokenizer.characters}
    elif isinstance(tokenizer, PretrainedTokenizer):
        parts = tokenizer.description()
        is_word_piece = parts["model"]["type"] == "WordPiece"
        description = describe_word_piece(parts) if is_word_piece else _describe_bpe(parts)
    else:
        raise _unsupported(f"the {type(tokenizer).__name__}")
    marked = tokenizer.add_special_tokens([-1])
    place = marked.index(-1)
    return {
        **description,
        "before": marked[:place],
        "after": marked[place + 1 :],
        "masks": _masks(model, tokenizer),
        "vocab_size": int(model.config["vocab_size"]),
    }


def _masks(model: TransformerModel, tokenizer: Tokenizer) -> dict[str, int]:
    """Spellings of the mask in a text, if the model predicts masks; see ``encode_typed_text``."""
    parsed = getattr(tokenizer, "parse_special_tokens", None)
    if parsed and special_tokens_of(tokenizer):
        raise _unsupported("special tokens that texts spell out (--special-tokens)")
    mask = tokenizer.mask_token
    if mask is None or parsed is False or model.task != "masked_lm":
        return {}
    return {MASK: mask, tokenizer.label(mask): mask}


def _describe_bpe(parts: dict[str, Any]) -> dict[str, Any]:
    model = parts["model"]
    if model["type"] != "BPE":
        raise _unsupported(f"the {model['type']} model of a tokenizer")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"):
        if model.get(name):
            raise _unsupported(f"the option {name} of a BPE")
    vocabulary: dict[str, int] = model["vocab"]
    letters = [bytes_to_unicode(bytes([byte])) for byte in range(256)]
    if any(letter not in vocabulary for letter in letters):
        raise _unsupported("a BPE without a token for each byte")
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    merged = {vocabulary[first + second] for first, second in merges}
    for token in parts["added_tokens"]:
        if not token["special"]:
            raise _unsupported(f"the added token {token['content']!r}, which is not special")
        if token["id"] in merged or (token["content"] in letters):
            raise _unsupported(f"the special token {token['content']!r}, which merges of a text may give")
    return {
        "kind": "bpe",
        "normalizer": _describe_normalizer(parts["normalizer"]),
        "patterns": _describe_pre_tokenizer(parts["pre_tokenizer"]),
        "bytes": [vocabulary[letter] for letter in letters],
        "merges": [token for a, b in merges for token in (vocabulary[a], vocabulary[b], vocabulary[a + b])],
    }


def _describe_normalizer(normalizer: dict[str, Any] | None) -> str | None:
    if normalizer is None:
        return None
    if normalizer["type"] != "NFC":
        raise _unsupported(f"the normalizer {normalizer['type']}")
    return "NFC"


def _describe_pre_tokenizer(part: dict[str, Any] | None) -> list[str]:
    """Regular expressions of JavaScript by which a text is split, one after the other."""
    if part is None or (kind := part["type"]) not in ("Sequence", "ByteLevel", "Digits", "Split"):
        raise _unsupported(f"the pre-tokenizer {part and part['type']}")
    if kind == "Sequence":
        *first, last = part["pretokenizers"]
        if last["type"] != "ByteLevel" or any(one["type"] == "ByteLevel" for one in first):
            raise _unsupported("a pre-tokenizer that does not end with ByteLevel")
        return [pattern for one in (*first, last) for pattern in _describe_pre_tokenizer(one)]
    if kind == "ByteLevel":
        if part["add_prefix_space"]:
            raise _unsupported("a space that the tokenizer adds before a text")
        return [_as_javascript(_BYTE_LEVEL_PATTERN)] if part["use_regex"] else []
    if kind == "Digits":
        return [r"\p{N}" if part["individual_digits"] else r"\p{N}+"]
    pattern = part["pattern"].get("Regex")
    if pattern not in _KNOWN_PATTERNS or part["behavior"] != "Isolated" or part["invert"]:
        raise _unsupported(f"the pre-tokenizer Split with {part['pattern']}")
    return [_as_javascript(pattern)]


def _as_javascript(pattern: str) -> str:
    """A regular expression with the flag u; its own spaces are others than those of Unicode."""
    pattern = pattern.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)", _CONTRACTIONS)
    return pattern.replace(r"\s", r"\p{White_Space}").replace(r"\S", r"\P{White_Space}")


def _unsupported(part: str) -> ValueError:
    return ValueError(
        f"A live page cannot encode texts with {part}; it supports tokenizers of bytes and of "
        "characters, byte-level BPE, and WordPiece."
    )
