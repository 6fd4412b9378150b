"""Cutting a long text where a tokenizer would cut it anyway."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

PIECE_CHARACTERS = 2**16
LIMIT = 16
"""A text without a place to cut is cut regardless once it is this many pieces long."""

# Between a word and the space or newline after it. GPT-2's words, and those of its successors, begin with
# their space and never hold a letter and then white space, so no token spans such a place. (Some successors
# join punctuation with the newline after it: hence a newline counts only after a letter or digit.)
_BOUNDARY = re.compile(r"\S(?= )|[^\W_](?=\n)")


def pieces(chunks: Iterable[str], size: int = PIECE_CHARACTERS) -> Iterator[str]:
    """Join the chunks and cut them anew into pieces whose ids, put together, are the ids of the whole text.

    A piece ends at the first place after ``size`` characters where a word is followed by a space, or a letter
    by a newline. A run of ``16 * size`` characters that has no such place (a megabyte without a space) is cut
    all the same, to bound the memory: only there can the ids differ.

    Args:
        chunks: a text in parts, cut anywhere; where does not matter.
        size: characters of a piece.

    Yields:
        Pieces that are not empty and that join to the text.
    """
    rest = ""
    for chunk in chunks:
        rest += chunk
        start = 0
        while end := _end(rest, start, size):
            yield rest[start:end]
            start = end
        rest = rest[start:]
    if rest:
        yield rest


def _end(text: str, start: int, size: int) -> int:
    """Where the piece that begins at ``start`` ends, or 0 if more text must be seen to know."""
    limit = start + LIMIT * size
    boundary = _BOUNDARY.search(text, start + size - 1, limit + 1)
    if boundary:
        return boundary.end()
    return limit if len(text) > limit else 0
