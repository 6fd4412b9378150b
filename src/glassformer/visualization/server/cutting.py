"""How much of a text is read, where it was cut, and whose limit that was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from glassformer.analysis import Reading
from glassformer.contracts import Tokenizer

SAID = 40
"""Characters of the last words that were read."""


@dataclass(frozen=True)
class Limit:
    """How many tokens are read."""

    longest: int
    """By this server."""
    own: int
    """By the model."""

    @property
    def words(self) -> str:
        """Whose limit it is, and how to move it."""
        if self.longest >= self.own:
            return f"the model reads {self.own:,} tokens at most"
        return (
            f"this server reads {self.longest:,} tokens at most (--max-tokens), the model itself {self.own:,}"
        )


@dataclass(frozen=True)
class Part(Reading):
    """A text as far as it is read."""

    left_out: tuple[int, ...] = ()
    """Token ids that are not read."""
    cut: int = 0
    """The place in ``ids`` where they would have stood."""


def part_of(
    reading: Reading,
    ids: list[int],
    add_marks: Callable[[list[int]], list[int]],
    tokenizer: Tokenizer,
    limit: Limit,
    hole: int | None = None,
) -> Part:
    """A reading, with what was left out of it.

    Args:
        reading: of the first of the ids, and the marks around them.
        ids: of the whole text, without marks.
        add_marks: puts them there.
        tokenizer: for the last words that were read.
        limit: of both.
        hole: the id of [MASK], where those that are left out are to be counted.
    """
    length = len(add_marks(ids))
    kept = len(ids) - max(0, length - limit.longest)
    if kept == len(ids):
        return Part(reading.ids, reading.labels, reading.is_delimiter, reading.notes)
    kept = max(0, kept)
    left_out = tuple(ids[kept:])
    holes = "" if hole is None or hole not in left_out else f", {left_out.count(hole)} [MASK] among them"
    last = _last_words(tokenizer.decode(ids[:kept]))
    verb = "is" if len(left_out) == 1 else "are"
    note = (
        f"{len(left_out):,} of {length:,} tokens {verb} not read{holes}: the last words that are read are "
        f"“{last}”; {limit.words}"
    )
    differing = (one != other for one, other in zip(add_marks([0]), add_marks([1]), strict=False))
    begin = next(
        (place for place, differs in enumerate(differing) if differs), 0
    )  # after the marks before it
    notes = (*(note for note in reading.notes if not note.startswith("cut to ")), note)
    return Part(reading.ids, reading.labels, reading.is_delimiter, notes, left_out, begin + kept)


def _last_words(text: str) -> str:
    """The end of a text: some words, or of one that is longer its last characters."""
    words = text.rstrip("\ufffd").split()
    taken = words[-1:]
    for word in reversed(words[:-1]):
        if len(" ".join([word, *taken])) > SAID:
            break
        taken.insert(0, word)
    whole = len(taken) == len(words)
    said = " ".join(taken)
    if len(said) > SAID:
        said, whole = said[-SAID:], False
    return said if whole else f"… {said}"
