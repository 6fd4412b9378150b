"""Text of models and files for terminals, and counts with their nouns."""

from __future__ import annotations

import re

# Control characters, line and paragraph separators, bidirectional overrides, lone surrogates.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object, keep: str = "") -> str:
    r"""Escape the characters of a text that control a terminal: ESC becomes ``\x1b``.

    Args:
        text: a text, or a value such as a path.
        keep: characters to leave as they are, such as ``"\n\t"``.
    """

    def escape(match: re.Match[str]) -> str:
        return match[0] if match[0] in keep else match[0].encode("unicode_escape").decode()

    return _UNPRINTABLE.sub(escape, str(text))


def count_of(number: int, noun: str) -> str:
    """A number with its noun, in the plural unless it is one: ``"1 layer"``, ``"1,200 layers"``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
