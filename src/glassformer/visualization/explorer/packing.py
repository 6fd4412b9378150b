"""Attention weights small enough for one file: 8 bits on a square-root scale, deflated, and printed.

A weight w becomes the code round(254 sqrt(w)), and is read back as (code / 254)^2: at most
sqrt(w) / 254 + 4e-6 away from w, which is never more than 0.004. Small weights are kept finer than large
ones, as in the colours. The code 255 stands for a cell that the mask hides, which is not the same as a
weight of zero.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from glassformer.visualization.explorer.printing import printed, unprinted

LEVELS = 254
"""The code of weight 1."""
MASKED = 255
"""The code of a cell that may not be attended to."""
THUMBNAIL = 40
"""Rows and columns of a thumbnail at most."""

Weights = npt.NDArray[np.floating]
Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Packed:
    """Codes of several maps of one size, as the page carries them."""

    maps: int
    queries: int
    keys: int
    triangle: bool
    """Whether only the keys up to the query are there; all others are masked."""
    data: str
    """Key by key of each map the codes of the queries, deflated (zlib) and printed."""


@dataclass(frozen=True)
class PackedJson:
    """A JSON value, as the page carries it."""

    data: str
    """Of ``pack_json``."""


def quantized(weights: Weights, allowed: npt.NDArray[np.bool_] | None = None) -> Codes:
    """Codes of weights between 0 and 1.

    Args:
        weights: any shape.
        allowed: broadcasts to the weights; False where the mask hides. Default: nothing is hidden.
    """
    codes = np.rint(np.sqrt(np.clip(weights, 0.0, 1.0)) * LEVELS).astype(np.uint8)
    return codes if allowed is None else np.where(allowed, codes, np.uint8(MASKED))


def restored(codes: Codes) -> npt.NDArray[np.float32]:
    """Weights of codes; NaN where masked."""
    weights: npt.NDArray[np.float32] = np.square(codes.astype(np.float32) / np.float32(LEVELS))
    weights[codes == MASKED] = np.nan
    return weights


def largest_error(weights: Weights) -> npt.NDArray[np.float64]:
    """How far ``restored(quantized(weights))`` may be from the weights: sqrt(w) / 254 + 1 / 508^2."""
    return np.sqrt(np.asarray(weights, dtype=np.float64)) / LEVELS + (0.5 / LEVELS) ** 2


def pack(codes: Codes) -> Packed:
    """Maps ``(map, query, key)`` as the page carries them; causal ones as triangles.

    What looks at one key changes slowly from query to query, so codes are laid out key by key: that is a
    tenth smaller than row by row.
    """
    maps, queries, keys = codes.shape
    by_key = codes.transpose(0, 2, 1)  # (map, key, query)
    triangle = queries == keys > 1 and bool((codes[:, *np.triu_indices(keys, 1)] == MASKED).all())
    laid_out = by_key[:, *np.triu_indices(keys)] if triangle else by_key
    return Packed(maps, queries, keys, triangle, deflated(np.ascontiguousarray(laid_out).tobytes()))


def unpack(packed: Packed) -> Codes:
    """The codes ``(map, query, key)`` again."""
    flat = np.frombuffer(inflated(packed.data), dtype=np.uint8)
    shape = (packed.maps, packed.keys, packed.queries)
    if not packed.triangle:
        return flat.reshape(shape).transpose(0, 2, 1)
    by_key = np.full(shape, MASKED, dtype=np.uint8)
    by_key[:, *np.triu_indices(packed.keys)] = flat.reshape(packed.maps, -1)
    return by_key.transpose(0, 2, 1)


def thumbnails(codes: Codes) -> Codes:
    """Maps made small: of each block of cells the largest weight, so that no thin line is lost.

    Args:
        codes: ``(map, query, key)``.

    Returns:
        ``(map, query, key)`` with at most 40 of either; a block is masked where all its cells are.
    """
    _, queries, keys = codes.shape
    order = codes + np.uint8(1)  # masked is 0 now, below every weight
    order = np.maximum.reduceat(order, _starts(queries), axis=1)
    return np.maximum.reduceat(order, _starts(keys), axis=2) - np.uint8(1)


def pack_json(value: Any) -> str:
    """Any JSON value, deflated and printed; a lone surrogate stays what it is."""
    return deflated(json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii"))


def unpack_json(data: str) -> Any:
    """The value again."""
    return json.loads(inflated(data))


def _starts(count: int) -> Sequence[int]:
    """Where each of at most 40 blocks begins."""
    blocks = min(count, THUMBNAIL)
    return [block * count // blocks for block in range(blocks)]


def deflated(data: bytes) -> str:
    """Bytes as text. Codes seldom repeat in long runs, but some are frequent: zlib has a way with these."""
    press = zlib.compressobj(9, strategy=zlib.Z_FILTERED)
    return printed(press.compress(data) + press.flush())


def inflated(text: str) -> bytes:
    """The bytes again."""
    return zlib.decompress(unprinted(text))
