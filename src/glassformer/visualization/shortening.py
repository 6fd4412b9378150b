"""Texts that are cut where a word ends."""

from __future__ import annotations


def shortened(text: str, longest: int) -> str:
    """At most ``longest`` characters: whole words and …, unless that would take half of them away."""
    if len(text) <= longest:
        return text
    end = text.rfind(" ", longest // 2, longest - 1)
    return f"{text[:end]} …" if end > 0 else f"{text[: longest - 1]}…"
