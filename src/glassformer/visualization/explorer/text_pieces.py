"""Pieces of the running text, one for each token: a page shows a text with them as people read it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

from glassformer.contracts import Tokenizer
from glassformer.tokenization import safe_decode
from glassformer.tokenization.special_tokens import special_tokens_of

Pieces: TypeAlias = Sequence[str | None]
"""Of each token; see ``text_pieces``."""
WINDOW = 64
"""Tokens before a token that are decoded with it, since what it stands for may depend on them."""


def text_pieces(
    tokenizer: Tokenizer | None, ids: Sequence[int], texts: Sequence[str] = ()
) -> list[str | None]:
    """The piece of the text of each token, with the spaces before it.

    Args:
        tokenizer: of the ids; None if there is none.
        ids: ``(seq,)``, with the special tokens around the text.
        texts: the text, or the two sentences, that was encoded, if known: the pieces are then as typed, even
            if the tokenizer changes case or spaces. Default: the pieces are decoded.

    Returns:
        For each token its piece; an empty one if the token continues a character of the token before it; and
        None if the token is no part of the text, as a special token.
    """
    if tokenizer is None:
        return [None] * len(ids)
    special = set(special_tokens_of(tokenizer).values())
    typed = [piece for text in texts for piece in _typed_pieces(tokenizer, text)]
    return _matched(ids, typed, special) or _decoded(tokenizer, ids, special)


def _typed_pieces(tokenizer: Tokenizer, text: str) -> list[tuple[int, str]]:
    """The ids of a text, each with the characters from the end of the id before it to its own end."""
    ids, spans = tokenizer.encode(text), tokenizer.spans(text)
    ends = pairwise([0, *(end for _, end in spans)])
    return [(token, text[before:end]) for token, (before, end) in zip(ids, ends, strict=True)]


def _matched(
    ids: Sequence[int], typed: Sequence[tuple[int, str]], special: set[int]
) -> list[str | None] | None:
    """The typed pieces at the ids they belong to; None if the ids are not those of the typed text."""
    pieces: list[str | None] = []
    position = 0
    for token in ids:
        if position < len(typed) and typed[position][0] == token:
            pieces.append(typed[position][1])
            position += 1
        elif token in special:
            pieces.append(None)
        else:
            return None
    return pieces if position else None


def _decoded(tokenizer: Tokenizer, ids: Sequence[int], special: set[int]) -> list[str | None]:
    """The pieces of ids without a typed text: what each adds to the decoded text of those before it."""
    pieces: list[str | None] = []
    context: list[int] = []
    waiting: list[int] = []  # positions of tokens that are only parts of a character so far
    for position, token in enumerate(ids):
        if token in special or token >= tokenizer.vocab_size:
            pieces.append(None)
            context, waiting = [], []
            continue
        start = len(_whole_characters(tokenizer, context[-WINDOW:]))
        context.append(token)
        text = _whole_characters(tokenizer, context[-WINDOW - 1 :])
        pieces.append(text[start:])
        if not text[start:]:
            waiting.append(position)
        elif waiting:  # the character belongs to the first of its tokens
            pieces[waiting[0]], pieces[position] = text[start:], ""
            waiting = []
    return pieces


def _whole_characters(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Decode ids, without an unfinished character at the end."""
    return safe_decode(tokenizer, ids).rstrip("\ufffd")
