"""Special tokens: their usual names, how config files write them, and mask tokens inside a text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import tokenizers
from tokenizers import AddedToken

from glassformer.contracts import Tokenizer

END_OF_TEXT = "<|endoftext|>"
"""The token between documents, by GPT-2's name."""

MASK = "[MASK]"
"""The mask token, by BERT's name. ``encode_with_masks`` accepts it for every tokenizer."""

USUAL_NAMES = {
    "begin_of_text": (),
    "end_of_text": (END_OF_TEXT, "</s>", "<|end_of_text|>", "<eos>", "[SEP]"),
    "pad": ("[PAD]", "<pad>", "<|pad|>"),
    "mask": ("[MASK]", "<mask>"),
}
"""Names to look for, by purpose, if the config of a tokenizer names no special token."""

_TOKEN_OPTIONS = ("single_word", "lstrip", "rstrip", "normalized")


def token_content(entry: Any) -> str | None:
    """Return the text of a token in a config file: either a string or a mapping with ``"content"``."""
    content = entry.get("content") if isinstance(entry, Mapping) else entry
    return content if isinstance(content, str) else None


def special_token_entries(settings: Mapping[str, Any]) -> list[Any]:
    """Return the entries of a config file that name special tokens, such as ``eos_token``."""
    named = [entry for key, entry in settings.items() if key.endswith("_token")]
    for key in ("additional_special_tokens", "extra_special_tokens"):
        extra = settings.get(key) or ()
        named += extra.values() if isinstance(extra, Mapping) else extra
    return named


def add_tokens(tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any]) -> None:
    """Add the tokens in ``added_tokens_decoder`` of a config file, in the order of their ids.

    Raises:
        ValueError: a malformed entry, or an id that is neither the token's own nor the next free one.
    """
    entries = settings.get("added_tokens_decoder") or {}
    if not isinstance(entries, Mapping) or not all(re.fullmatch("[0-9]{1,10}", number) for number in entries):
        raise ValueError(f"added_tokens_decoder must map ids to tokens, got {str(entries)[:60]}")
    for number, entry in sorted(entries.items(), key=lambda item: int(item[0])):
        if not token_content(entry):
            raise ValueError(f"the added token {number} has no content")
        token = added_token(entry, special=isinstance(entry, Mapping) and entry.get("special") is True)
        tokenizer.add_tokens([token])
        check_added_id(tokenizer, token.content, int(number))


def check_added_id(tokenizer: tokenizers.Tokenizer, content: str, token_id: int) -> None:
    """Raise ValueError if an added token has another id than a file says."""
    actual = tokenizer.token_to_id(content)
    if actual != token_id:
        raise ValueError(
            f"the added token {content!r} must have id {token_id}, but its place in the vocabulary gives it "
            f"{actual}"
        )


def mark_special_tokens(tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any]) -> None:
    """Mark the tokens that the settings name as special; those outside the vocabulary have no embedding."""
    marked = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    for entry in special_token_entries(settings):
        content = token_content(entry)
        if content and content not in marked and tokenizer.token_to_id(content) is not None:
            tokenizer.add_special_tokens([added_token(entry, special=True)])


def added_token(entry: Any, *, special: bool) -> AddedToken:
    """Return the token of an entry of a config file, with the options that the entry sets.

    Raises:
        ValueError: an option is not true or false.
    """
    content = token_content(entry)
    options: dict[str, Any] = {"normalized": not special}
    if isinstance(entry, Mapping):
        options |= {key: entry[key] for key in _TOKEN_OPTIONS if key in entry}
    for key, value in options.items():
        if not isinstance(value, bool):
            raise ValueError(f"{key} of the added token {content!r} must be true or false, got {value!r}")
    return AddedToken(content, special=special, **options)


def special_tokens_of(tokenizer: Tokenizer) -> dict[str, int]:
    """Return the id of each special token by its spelling."""
    known: dict[str, int] | None = getattr(tokenizer, "special_tokens", None)
    if known is not None:
        return known
    ids = (tokenizer.end_of_text, tokenizer.pad_token, tokenizer.mask_token)
    return {tokenizer.label(token): token for token in ids if token is not None}


def encode_typed_text(
    tokenizer: Tokenizer, text: str, special_tokens: bool | None = None, *, predicts_masks: bool = False
) -> tuple[list[int], list[str]]:
    """Encode a text in which special tokens may be spelled out, such as ``[SEP]`` or ``<|endoftext|>``.

    All commands and pages use this one rule. By default such words are ordinary text, so that no text can
    hold, say, the end of a document; only mask tokens are special, if the model predicts them.

    Args:
        tokenizer: a tokenizer.
        text: the text.
        special_tokens: True makes all of them special, False none. Default: the tokenizer's
            ``parse_special_tokens``.
        predicts_masks: whether the model predicts masked tokens. ``[MASK]`` is then accepted whatever the
            tokenizer's own spelling is.

    Returns:
        The ids without special tokens around them, and notes on special tokens that are ordinary text.
    """
    if special_tokens is None:
        special_tokens = getattr(tokenizer, "parse_special_tokens", None)
    known, mask = special_tokens_of(tokenizer), tokenizer.mask_token
    masks = {} if mask is None else {MASK: mask, tokenizer.label(mask): mask}
    if special_tokens is False:
        return tokenizer.encode(text), []
    parsed = {**known, **masks} if special_tokens else masks if predicts_masks else {}
    ordinary = [word for word in known if word in text and word not in parsed]
    notes = [f"ordinary text, not special tokens: {', '.join(ordinary)}"] if ordinary else []
    if special_tokens and hasattr(tokenizer, "encode_special_tokens"):
        own = next((word for word, token in known.items() if token == mask), MASK)
        return tokenizer.encode_special_tokens(text.replace(MASK, own)), notes
    if not parsed:
        return tokenizer.encode(text), notes
    ids: list[int] = []
    for part in re.split(f"({'|'.join(map(re.escape, sorted(parsed, key=len, reverse=True)))})", text):
        ids += [parsed[part]] if part in parsed else tokenizer.encode(part)
    return ids, notes


def encode_with_masks(tokenizer: Tokenizer, text: str) -> list[int]:
    """Encode a text in which ``[MASK]``, or the tokenizer's own spelling of it, becomes the mask token.

    Args:
        tokenizer: a tokenizer with a mask token.
        text: a text with any number of masks.

    Returns:
        The ids without special tokens around them.

    Raises:
        ValueError: the tokenizer has no mask token.
    """
    if tokenizer.mask_token is None:
        raise ValueError("the tokenizer has no mask token, so the model cannot predict masked tokens")
    return encode_typed_text(tokenizer, text, predicts_masks=True)[0]
