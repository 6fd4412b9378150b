"""Cut texts into sentences by a rule that is simple enough to state, and draw some of them.

A sentence ends at a line's end, or at one of . ! ? with the quotes and brackets that close behind it, where
white space and then a capital letter or a digit follow, with or without opening quotes and brackets. The full
stop of a single capital letter (an initial), or of an abbreviation in ``ABBREVIATIONS``, ends none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np

SHORTEST, LONGEST = 4, 64
"""Words, counted by white space, of a sentence that is kept."""

ABBREVIATIONS = (
    *("Mr", "Mrs", "Ms", "Messrs", "Dr", "St", "Gen", "Gov", "Hon", "Sen", "Rep", "Prof", "Rev", "Jr", "Sr"),
    *("Capt", "Col", "Lieut", "Lt", "Maj", "No", "Nos", "vs", "etc"),
    *("Jan", "Feb", "Mar", "Apr", "Aug", "Sept", "Oct", "Nov", "Dec"),
)

_END = re.compile(r"""[.!?]+['"\u201d\u2019)\]]*(?=\s+['"\u201c\u2018(\[]*[A-Z0-9])""")
_LAST_WORD = re.compile(r"(\w+)\.$")


def sentences(texts: Iterable[str], shortest: int = SHORTEST, longest: int = LONGEST) -> Iterator[str]:
    """The sentences of texts, in order, white space joined; those of other lengths are left out.

    Args:
        texts: of any length.
        shortest: words that a sentence has at least.
        longest: words that it has at most.

    """
    for text in texts:
        for line in text.splitlines():
            for sentence in cut(line):
                words = sentence.split()
                if shortest <= len(words) <= longest:
                    yield " ".join(words)


def cut(line: str) -> Iterator[str]:
    """The sentences of one line."""
    begin = 0
    for end in _END.finditer(line):
        sentence = line[begin : end.end()]
        last = _LAST_WORD.search(sentence)
        if last and (last[1] in ABBREVIATIONS or (len(last[1]) == 1 and last[1].isupper())):
            continue
        yield sentence.strip()
        begin = end.end()
    if line[begin:].strip():
        yield line[begin:].strip()


def draw(texts: Iterable[str], count: int, seed: int) -> list[str]:
    """At most ``count`` of the texts, each with the same chance, in their order.

    One pass, in the memory of what is drawn (reservoir sampling; Vitter 1985, algorithm R).
    """
    if count < 1:
        raise ValueError(f"give a number of texts of at least 1, not {count}")
    generator = np.random.default_rng([seed, 5])
    drawn: list[tuple[int, str]] = []
    for number, text in enumerate(texts):
        if number < count:
            drawn.append((number, text))
        elif (place := int(generator.integers(number + 1))) < count:
            drawn[place] = (number, text)
    return [text for _, text in sorted(drawn)]
