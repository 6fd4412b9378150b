"""The ids that a model was trained to see around a text; here none."""

from __future__ import annotations

from collections.abc import Sequence


class NoMarks:
    """A vocabulary without special ids, apart from one that may end a text."""

    pad_token: int | None = None
    mask_token: int | None = None

    def add_marks(self, ids: Sequence[int], pair: Sequence[int] | None = None) -> list[int]:
        """The ids as they are, those of a second text behind those of the first."""
        return [*ids, *(pair or ())]
