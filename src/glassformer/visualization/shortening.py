"""Texts that are cut where a word ends."""

from __future__ import annotations


def shortened(text: str, longest: int) -> str:
    """At most ``longest`` characters: whole words and …, unless that would take half of them away."""
    if len(text) <= longest:
        return text
    end = text.rfind(" ", longest // 2, longest - 1)
    return f"{text[:end]} …" if end > 0 else f"{text[: longest - 1]}…"


def shortened_quotes(caption: str, longest: int) -> str:
    """The same for quoted texts with arrows between them, each of which keeps its quotes."""
    texts = caption.split(" → ")
    if len(caption) <= longest:
        return caption
    share = (longest - 3 * (len(texts) - 1)) // len(texts) - 2
    return " → ".join(
        f"“{shortened(text[1:-1], share)}”" if text[:1] + text[-1:] == "“”" else shortened(text, share)
        for text in texts
    )
