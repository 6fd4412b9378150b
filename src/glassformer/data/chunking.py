"""Splitting a long text into chunks at token boundaries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

CHUNK_CHARACTERS = 2**16
MAX_CHUNK_SIZES = 16
"""A text without a token boundary is split anyway after this many times the chunk size."""

# Between a word and the space or newline after it. The words of GPT-2 and its successors begin with their
# space and never hold a letter followed by white space, so no token spans such a boundary. Some successors
# join punctuation with the newline after it, so a newline counts only after a letter or digit.
_BOUNDARY = re.compile(r"\S(?= )|[^\W_](?=\n)")


def chunk_text(parts: Iterable[str], size: int = CHUNK_CHARACTERS) -> Iterator[str]:
    """Split a text into chunks whose token ids, concatenated, are the token ids of the whole text.

    A chunk ends at the first boundary after ``size`` characters: between a word and a space, or a letter and
    a newline. A run of ``16 * size`` characters without a boundary is split anyway to bound the memory; only
    there can the token ids differ.

    Args:
        parts: the text in parts of any size; where they end does not matter.
        size: minimum number of characters of a chunk.

    Yields:
        Chunks that are not empty and join to the text.
    """
    rest = ""
    for part in parts:
        rest += part
        start = 0
        while end := _chunk_end(rest, start, size):
            yield rest[start:end]
            start = end
        rest = rest[start:]
    if rest:
        yield rest


def _chunk_end(text: str, start: int, size: int) -> int:
    """Return the end of the chunk that begins at ``start``, or 0 if more text is needed."""
    limit = start + MAX_CHUNK_SIZES * size
    boundary = _BOUNDARY.search(text, start + size - 1, limit + 1)
    if boundary:
        return boundary.end()
    return limit if len(text) > limit else 0
