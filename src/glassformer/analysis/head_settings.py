"""What an analysis of heads depends on besides the model and its texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glassformer.analysis.patterns import Pattern, token_patterns
from glassformer.analysis.syntax import syntax_patterns
from glassformer.choices import choose

GROUPS = {
    "tokens": ("previous", "current", "next", "first", "delimiter"),
    "offsets": tuple(name for name in token_patterns() if name.startswith("offset")),
    "copying": ("induction", "duplicate"),
    "syntax": tuple(syntax_patterns()),
}
"""Words that stand for several patterns."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What an analysis depends on besides model and texts."""

    patterns: Sequence[str] = tuple(GROUPS)
    """Names of patterns, or of ``GROUPS``."""
    kind: str | None = None
    """Of self-attention: of an encoder-decoder ``"encoder"`` or ``"decoder"``."""
    margin: float = 0.1
    """By which a head's rate and mass are to exceed every control before it is named."""
    seed: int = 0
    """Of the halves, the bootstrap, the repeated tokens and the random weights."""
    max_tokens: int = 256
    """Longer texts are cut."""
    num_repeated: int = 256
    """Sequences of repeated random tokens."""
    replicates: int = 1000
    """Of the bootstrap."""

    def __post_init__(self) -> None:
        if not 0 <= self.margin < 1:
            raise ValueError(f"margin must be at least 0 and below 1, not {self.margin}")
        for name, least in (("max_tokens", 2), ("num_repeated", 2), ("replicates", 2), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not self.chosen():
            raise ValueError(f"no patterns: choose from {', '.join([*GROUPS, *all_patterns()])}")

    def chosen(self) -> dict[str, Pattern]:
        """The patterns themselves, in the order of all patterns.

        Raises:
            ValueError: an unknown name.

        """
        known = all_patterns()
        words = {**{name: (name,) for name in known}, **GROUPS}
        names = {name for word in self.patterns for name in choose(words, word, "pattern")}
        return {name: pattern for name, pattern in known.items() if name in names}


def all_patterns() -> dict[str, Pattern]:
    """Every pattern there is, by name: of tokens and of words."""
    return {**token_patterns(), **syntax_patterns()}
