"""Attention scores in parts, of as many cells as a page has room for.

Of a row the softmax keeps apart what its largest scores are, so the heaviest cell of every row is kept, and
then the heaviest of all others. A part is kept as a whole number of steps of 1/50 nat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from glassformer.visualization.explorer.packing import MASKED, Codes, deflated, inflated

STEP = 0.02
"""Nats between two values that a part can have: within 0.01 of what it is."""
LARGEST = 32767
"""Steps that a number of 16 bits holds."""


@dataclass(frozen=True)
class PackedScores:
    """Parts of the scores of some cells of a layer, as the page carries them."""

    cells: int
    step: float
    """Of the parts: ``STEP``, or more where they are too large for it."""
    data: str
    """Numbers of 16 bits, all low bytes before all high ones: for each row of each head how many of its cells
    are there; of each cell how far its key is from the one before it in the row; the first part of each cell,
    the second, ...: deflated and printed."""


def chosen_cells(codes: Codes, most: int) -> npt.NDArray[np.bool_]:
    """Which cells are kept, ``(head, query, key)``: all that are not masked, or the heaviest.

    Args:
        codes: of the layer's maps, ``(head, query, key)``.
        most: cells to keep, though never less than one of every row.
    """
    weight = np.where(codes == MASKED, -1, codes.astype(np.int16))
    seen = weight >= 0
    if seen.sum() <= most:
        return seen
    first = weight.argmax(-1, keepdims=True)
    kept = np.zeros(seen.shape, dtype=np.bool_)
    np.put_along_axis(kept, first, np.take_along_axis(seen, first, -1), -1)
    others = np.where(kept, -1, weight).ravel()
    order = np.argsort(-others, kind="stable")[: max(0, most - int(kept.sum()))]
    kept.ravel()[order[others[order] >= 0]] = True
    return kept


def pack_scores(kept: npt.NDArray[np.bool_], parts: Sequence[npt.NDArray[np.floating]]) -> PackedScores:
    """The parts of the cells that are kept.

    Args:
        kept: ``(head, query, key)``.
        parts: of each kind an array ``(cell,)``, in the order of ``kept``.
    """
    heads, queries, keys = np.nonzero(kept)
    largest = max((float(np.abs(part).max(initial=0)) for part in parts), default=0.0)
    step = max(STEP, largest / LARGEST)
    new_row = np.diff(heads * kept.shape[1] + queries, prepend=-1) != 0
    apart = np.where(new_row, keys, np.diff(keys, prepend=0))
    steps = [np.rint(part / step).astype(np.int16).view(np.uint16) for part in parts]
    numbers = np.concatenate([kept.sum(-1).ravel().astype(np.uint16), apart.astype(np.uint16), *steps])
    low_and_high = numbers.astype("<u2").view(np.uint8).reshape(-1, 2).T
    return PackedScores(len(keys), step, deflated(low_and_high.tobytes()))


def unpack_scores(
    packed: PackedScores, heads: int, queries: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Cells ``(cell, 3)`` as head, query and key, and their parts ``(cell, part)``."""
    low_and_high = np.frombuffer(inflated(packed.data), dtype=np.uint8).reshape(2, -1)
    numbers = np.ascontiguousarray(low_and_high.T).view("<u2").ravel()
    counts, apart = (part.astype(np.intp) for part in np.split(numbers, [heads * queries])[:2])
    rows = np.repeat(np.arange(heads * queries), counts)
    ends = np.cumsum(apart[: packed.cells])
    starts = (np.cumsum(counts) - counts)[rows]
    keys = ends - np.where(starts > 0, ends[starts - 1], 0)
    flat = numbers[heads * queries + packed.cells :].astype(np.int16)
    parts = flat.reshape(len(flat) // max(1, packed.cells), packed.cells)
    cells: npt.NDArray[np.intp] = np.stack([rows // queries, rows % queries, keys], axis=-1)
    return cells, parts.T * np.float64(packed.step)
