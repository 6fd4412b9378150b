"""A token for the eye: what it is made of, with nothing in it that the eye cannot see."""

from __future__ import annotations

import re
import unicodedata

_SIGNS = {" ": "·", "\n": "↵", "\t": "⇥", "\r": "␍"}
_CIRCLE = "◌"  # what Unicode puts under a combining mark that stands alone


def visible(token: bytes) -> str:
    r"""The token's text with spaces, newlines and tabs as signs, and all else that is unseen escaped.

    Never empty: the empty token is ``∅``. Bytes that are no UTF-8, as in a part of a character, appear as
    ``\xe2``; a combining mark at the start stands on a dotted circle, and a dot that is one is ``\xb7``
    where it could be taken for a space: at the ends.
    """
    text = token.decode("utf-8", errors="backslashreplace")
    text = re.sub("^[ ·]+|[ ·]+$", lambda end: end[0].replace("·", r"\xb7"), text)
    label = "".join(_sign(character) for character in text)
    if label and unicodedata.combining(label[0]):
        label = _CIRCLE + label
    return label or "∅"


def _sign(character: str) -> str:
    if character in _SIGNS:
        return _SIGNS[character]
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
