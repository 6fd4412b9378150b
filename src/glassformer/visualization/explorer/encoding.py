"""Compact text encoding of attention maps, scores and JSON values for an HTML page.

A weight w is stored in 8 bits as round(254 sqrt(w)) and read back as (code / 254)^2, so that the error is at
most sqrt(w) / 254 + 4e-6 <= 0.004, and smaller for small weights. These errors may add up, as in a row of
equal weights, which are all rounded in the same direction. So the page adds to the codes of each row the
number between -0.5 and 0.5 with which its weights sum to one: totals are right, and each weight is within
twice the error. Code 255 marks cells that are masked, which is not the same as a weight of zero. Codes are
compressed with zlib and written in base 91.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

LEVELS = 254
"""The code of weight 1."""
MASKED = 255
"""The code of a masked cell."""
THUMBNAIL_SIZE = 40
"""Maximum number of rows and columns of a thumbnail."""
SCORE_STEP = 0.02
"""Resolution of the parts of a score, in nats."""
MAX_STEPS = 32767
"""Largest number of steps that 16 bits hold."""

Weights = npt.NDArray[np.floating]
Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PackedMaps:
    """Encoded maps of one size."""

    num_maps: int
    queries: int
    keys: int
    lower_triangular: bool
    """Whether only the keys up to each query are stored; all others are masked."""
    data: str
    """The codes, ordered by map, then key, then query; compressed, in base 91."""


@dataclass(frozen=True)
class PackedScores:
    """Encoded parts of the scores of some cells of a layer."""

    num_cells: int
    step: float
    """The value of one step, in nats: ``SCORE_STEP``, or more if 16 bits are too few for it."""
    data: str
    """16-bit numbers, all low bytes before all high bytes; compressed, in base 91. First the number of stored
    cells of each row of each head, then the distance of each cell's key from the one before it in its row,
    then for each part its value in each cell, in steps."""


@dataclass(frozen=True)
class PackedJson:
    """An encoded JSON value."""

    data: str
    """The result of ``pack_json``."""


# ---- attention maps


def quantize(weights: Weights, allowed: npt.NDArray[np.bool_] | None = None) -> Codes:
    """Encode weights between 0 and 1 in 8 bits.

    Args:
        weights: of any shape.
        allowed: the mask, broadcast to the weights; False where a cell is masked. Default: all True.
    """
    codes = np.rint(np.sqrt(np.clip(weights, 0.0, 1.0)) * LEVELS).astype(np.uint8)
    return codes if allowed is None else np.where(allowed, codes, np.uint8(MASKED))


def dequantize(codes: Codes) -> npt.NDArray[np.float32]:
    """Weights of codes; NaN where masked."""
    weights: npt.NDArray[np.float32] = np.square(codes.astype(np.float32) / np.float32(LEVELS))
    weights[codes == MASKED] = np.nan
    return weights


def max_error(weights: Weights) -> npt.NDArray[np.float64]:
    """Upper bound of ``|dequantize(quantize(weights)) - weights|``: sqrt(w) / 254 + 1 / 508^2."""
    return np.sqrt(np.asarray(weights, dtype=np.float64)) / LEVELS + (0.5 / LEVELS) ** 2


def pack_maps(codes: Codes) -> PackedMaps:
    """Encode maps ``(map, query, key)``; of causal ones only the lower triangle.

    Weights on one key change slowly from query to query, so codes are ordered by key: this is a tenth smaller
    than by query.
    """
    num_maps, queries, keys = codes.shape
    by_key = codes.transpose(0, 2, 1)  # (map, key, query)
    triangular = queries == keys > 1 and bool((codes[:, *np.triu_indices(keys, 1)] == MASKED).all())
    stored = by_key[:, *np.triu_indices(keys)] if triangular else by_key
    return PackedMaps(num_maps, queries, keys, triangular, compress(np.ascontiguousarray(stored).tobytes()))


def unpack_maps(packed: PackedMaps) -> Codes:
    """Decode to codes ``(map, query, key)``."""
    flat = np.frombuffer(decompress(packed.data), dtype=np.uint8)
    shape = (packed.num_maps, packed.keys, packed.queries)
    if not packed.lower_triangular:
        return flat.reshape(shape).transpose(0, 2, 1)
    by_key = np.full(shape, MASKED, dtype=np.uint8)
    by_key[:, *np.triu_indices(packed.keys)] = flat.reshape(packed.num_maps, -1)
    return by_key.transpose(0, 2, 1)


def thumbnails(codes: Codes) -> Codes:
    """Downsample maps by taking the maximum of each block of cells, so that thin lines stay visible.

    Args:
        codes: ``(map, query, key)``.

    Returns:
        Codes with at most ``THUMBNAIL_SIZE`` queries and keys; a block is masked where all its cells are.
    """
    _, queries, keys = codes.shape
    order = codes + np.uint8(1)  # wraps around: masked is now 0, below every weight
    order = np.maximum.reduceat(order, _block_starts(queries), axis=1)
    return np.maximum.reduceat(order, _block_starts(keys), axis=2) - np.uint8(1)


def _block_starts(count: int) -> Sequence[int]:
    blocks = min(count, THUMBNAIL_SIZE)
    return [block * count // blocks for block in range(blocks)]


# ---- scores


def select_cells(codes: Codes, max_cells: int) -> npt.NDArray[np.bool_]:
    """Choose the cells whose scores are stored: the heaviest of every row, then the heaviest of all others.

    Args:
        codes: weights of a layer, ``(head, query, key)``.
        max_cells: maximum number of cells, though at least one of every row is chosen.

    Returns:
        A boolean array ``(head, query, key)``; never True where masked.
    """
    weight = np.where(codes == MASKED, -1, codes.astype(np.int16))
    unmasked = weight >= 0
    if unmasked.sum() <= max_cells:
        return unmasked
    heaviest = weight.argmax(-1, keepdims=True)
    selected = np.zeros(unmasked.shape, dtype=np.bool_)
    np.put_along_axis(selected, heaviest, np.take_along_axis(unmasked, heaviest, -1), -1)
    others = np.where(selected, -1, weight).ravel()
    order = np.argsort(-others, kind="stable")[: max(0, max_cells - int(selected.sum()))]
    selected.ravel()[order[others[order] >= 0]] = True
    return selected


def pack_scores(selected: npt.NDArray[np.bool_], parts: Sequence[npt.NDArray[np.floating]]) -> PackedScores:
    """Encode the parts of the scores of selected cells.

    Args:
        selected: ``(head, query, key)``.
        parts: for each part its values ``(cell,)``, in the order of ``selected``.
    """
    heads, queries, keys = np.nonzero(selected)
    largest = max((float(np.abs(part).max(initial=0)) for part in parts), default=0.0)
    step = max(SCORE_STEP, largest / MAX_STEPS)
    starts_row = np.diff(heads * selected.shape[1] + queries, prepend=-1) != 0
    distances = np.where(starts_row, keys, np.diff(keys, prepend=0))
    steps = [np.rint(part / step).astype(np.int16).view(np.uint16) for part in parts]
    counts = selected.sum(-1).ravel().astype(np.uint16)
    numbers = np.concatenate([counts, distances.astype(np.uint16), *steps])
    low_and_high = numbers.astype("<u2").view(np.uint8).reshape(-1, 2).T
    return PackedScores(len(keys), step, compress(low_and_high.tobytes()))


def unpack_scores(
    packed: PackedScores, heads: int, queries: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Decode to cells ``(cell, 3)`` (head, query, key) and their parts ``(cell, part)``."""
    low_and_high = np.frombuffer(decompress(packed.data), dtype=np.uint8).reshape(2, -1)
    numbers = np.ascontiguousarray(low_and_high.T).view("<u2").ravel()
    counts, distances = (part.astype(np.intp) for part in np.split(numbers, [heads * queries])[:2])
    rows = np.repeat(np.arange(heads * queries), counts)
    ends = np.cumsum(distances[: packed.num_cells])
    starts = (np.cumsum(counts) - counts)[rows]
    keys = ends - np.where(starts > 0, ends[starts - 1], 0)
    flat = numbers[heads * queries + packed.num_cells :].astype(np.int16)
    parts = flat.reshape(len(flat) // max(1, packed.num_cells), packed.num_cells)
    cells: npt.NDArray[np.intp] = np.stack([rows // queries, rows % queries, keys], axis=-1)
    return cells, parts.T * np.float64(packed.step)


# ---- JSON, compression and base 91


def pack_json(value: Any) -> str:
    """Encode a JSON value."""
    return compress(json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii"))


def unpack_json(data: str) -> Any:
    """Decode a JSON value."""
    return json.loads(decompress(data))


def compress(data: bytes) -> str:
    """Compress bytes with zlib, and write them in base 91."""
    compressor = zlib.compressobj(9, strategy=zlib.Z_FILTERED)  # few long repeats, but skewed frequencies
    return encode_base91(compressor.compress(data) + compressor.flush())


def decompress(text: str) -> bytes:
    """Read the bytes that ``compress`` was given."""
    return zlib.decompress(decode_base91(text))


ALPHABET = "".join(chr(code) for code in range(32, 127) if chr(code) not in '"&<\\')
"""The printable ASCII characters that need no escape in HTML, in double-quoted attributes, or in JSON."""
BITS = 13
_POWERS = (1 << np.arange(BITS - 1, -1, -1)).astype(np.uint16)
_CHARACTERS = np.frombuffer(ALPHABET.encode("ascii"), dtype=np.uint8)
_DIGITS = np.zeros(128, dtype=np.uint16)
_DIGITS[_CHARACTERS] = np.arange(len(_CHARACTERS))


def encode_base91(data: bytes) -> str:
    """Write every 13 bits as two of 91 characters: 1.231 characters a byte, where base 64 takes 1.333.

    A one follows the last bit, and zeros fill up the last pair. (basE91 of Henke, 2006, packs 13 or 14 bits
    in a pair; with always 13, decoding is one short loop.)
    """
    bits = np.append(np.unpackbits(np.frombuffer(data, dtype=np.uint8)), np.uint8(1))
    values = np.pad(bits, (0, -len(bits) % BITS)).reshape(-1, BITS) @ _POWERS
    pairs = np.stack(np.divmod(values, len(ALPHABET)), axis=-1)
    return str(_CHARACTERS[pairs].tobytes(), "ascii")


def decode_base91(text: str) -> bytes:
    """Read the bytes that ``encode_base91`` wrote."""
    digits = _DIGITS[np.frombuffer(text.encode("ascii"), dtype=np.uint8)].reshape(-1, 2)
    values = digits[:, 0] * len(ALPHABET) + digits[:, 1]
    bits = (values[:, None] // _POWERS % 2).astype(np.uint8)
    return np.packbits(bits).tobytes().rstrip(b"\0")[:-1]  # without the byte that the final one begins
