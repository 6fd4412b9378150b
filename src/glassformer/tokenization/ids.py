"""Ids that a vocabulary does not have are an error that says which id and where."""

from __future__ import annotations

from collections.abc import Sequence


def check_ids(ids: Sequence[int], vocab_size: int) -> None:
    """Every id is in ``range(vocab_size)``.

    Raises:
        ValueError: naming the first id that is not, and its position.
    """
    if len(ids) == 0 or (min(ids) >= 0 and max(ids) < vocab_size):
        return
    position, bad = next((i, t) for i, t in enumerate(ids) if not 0 <= t < vocab_size)
    raise ValueError(
        f"token id {bad} at position {position} is not in the vocabulary: ids are 0 to {vocab_size - 1}"
    )
