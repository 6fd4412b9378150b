"""Special tokens: their usual names, how config files write them, and mask tokens inside a text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

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


def token_content(entry: Any) -> str | None:
    """Return the text of a token in a config file: either a string or a mapping with ``"content"``."""
    content = entry.get("content") if isinstance(entry, Mapping) else entry
    return content if isinstance(content, str) else None


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
    mask = tokenizer.mask_token
    if mask is None:
        raise ValueError("the tokenizer has no mask token, so the model cannot predict masked tokens")
    before, *others = re.split("|".join(map(re.escape, (MASK, tokenizer.label(mask)))), text)
    ids = tokenizer.encode(before)
    for part in others:
        ids = [*ids, mask, *tokenizer.encode(part)]
    return ids
