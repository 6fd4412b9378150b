"""How wrong written symbols are: edit distance, and the two rates made of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def edit_distance(a: Sequence[Any], b: Sequence[Any]) -> int:
    """The fewest insertions, deletions and substitutions that make ``b`` of ``a`` (Levenshtein 1966)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        above, row = row, [i]
        for j, y in enumerate(b, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return row[-1]


def error_rates(
    written: Sequence[Sequence[Any]], references: Sequence[Sequence[Sequence[Any]]]
) -> dict[str, float]:
    """Symbol and sequence error rates, against the nearest reference of each.

    symbol_error_rate = sum of edit distances / sum of the references' lengths (of phonemes: PER);
    sequence_error_rate = the part that is not equal to any reference (of words: WER).

    Args:
        written: what a model wrote, one sequence for each source.
        references: for each source everything that is right, at least one.

    Raises:
        ValueError: nothing to compare, or another number of references.

    """
    if not written or len(written) != len(references):
        raise ValueError(f"{len(written)} sequences with {len(references)} references cannot be compared")
    errors = symbols = wrong = 0
    for sequence, known in zip(written, references, strict=True):
        distance, length = min((edit_distance(sequence, right), len(right)) for right in known)
        errors, symbols, wrong = errors + distance, symbols + length, wrong + (distance > 0)
    return {"symbol_error_rate": errors / max(symbols, 1), "sequence_error_rate": wrong / len(written)}
