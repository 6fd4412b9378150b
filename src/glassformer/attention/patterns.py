"""The published patterns of sparse attention, as compositions of masks.

    longformer = sliding_window | global_tokens                    (Beltagy et al. 2020)
    big_bird   = sliding_window | global_tokens | random_blocks    (Zaheer et al. 2020)

A decoder joins them with ``causal()``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from glassformer.attention.mask_algebra import Blocks, Interval, Mask
from glassformer.attention.masks import Padding, causal, dilated_window, global_tokens, sliding_window
from glassformer.attention.random_bits import hash_uniform
from glassformer.choices import check_options, split_options
from glassformer.integers import check_at_least
from glassformer.tracing import is_tracing


@dataclass(frozen=True, eq=False)
class RandomBlocks(Mask):
    """table[query // block_size, key // block_size], with ``num_blocks`` drawn in each row of the table."""

    num_blocks: int
    block_size: int
    seq_len: int | None = None
    is_causal: bool = False
    seed: int = 0

    def allows(self, query: Tensor, key: Tensor) -> Tensor:  # noqa: D102
        return self._look_up(self._table(self._known_len()), query, key)

    def bounds(self, query: Interval, key: Interval) -> Blocks:  # noqa: D102
        return self._count(self._table(self._known_len()), query, key)

    def tile(self, query: Tensor, key: Tensor, q_len: int, k_len: int) -> Tensor:  # noqa: D102
        return self._look_up(self._table(self.seq_len or k_len), query + (k_len - q_len), key)

    def tile_bounds(self, query: Interval, key: Interval, q_len: int, k_len: int) -> Blocks:  # noqa: D102
        query = Interval(query.low + (k_len - q_len), query.high + (k_len - q_len))
        return self._count(self._table(self.seq_len or k_len), query, key)

    def check(self, k_len: int) -> None:  # noqa: D102
        if self.seq_len is not None and k_len > self.seq_len:
            raise ValueError(f"random blocks were drawn for {self.seq_len} slots, but there are {k_len} keys")

    def _known_len(self) -> int:
        if self.seq_len is None:
            raise ValueError("random blocks at given slots need the length of the text: give seq_len")
        return self.seq_len

    def _look_up(self, table: Tensor, query: Tensor, key: Tensor) -> Tensor:
        table, last = table.to(key.device), len(table) - 1
        # Slots before the text, which are padding, may be negative: they are masked elsewhere.
        query, key = ((slots // self.block_size).clamp(0, last) for slots in (query, key))
        return table[query, key]

    def _count(self, table: Tensor, query: Interval, key: Interval) -> Blocks:
        """Count the chosen blocks in rectangles of the table, by the sums of rectangles at its corner."""
        last = len(table) - 1
        sums = F.pad(table.long().cumsum(0).cumsum(1), (1, 0, 1, 0)).to(key.low.device)
        (q0, q1), (k0, k1) = (
            ((side.low // self.block_size).clamp(0, last), (side.high // self.block_size).clamp(0, last) + 1)
            for side in (query, key)
        )
        count = sums[q1, k1] - sums[q0, k1] - sums[q1, k0] + sums[q0, k0]
        return Blocks(possible=count > 0, certain=count == (q1 - q0) * (k1 - k0))

    def _table(self, seq_len: int) -> Tensor:
        """Booleans ``(block, block)``: in each row the blocks whose random numbers are the smallest."""

        def draw() -> Tensor:
            block = torch.arange(-(-seq_len // self.block_size), device="cpu")
            drawn = hash_uniform(self.seed, block[:, None], block[None, :])
            if self.is_causal:
                drawn = drawn.masked_fill(block[None, :] > block[:, None], torch.inf)
            chosen = drawn.argsort(dim=1)[:, : self.num_blocks]
            return torch.zeros_like(drawn, dtype=torch.bool).scatter_(1, chosen, True) & drawn.isfinite()

        return self.cached("table", (seq_len,), draw)


def random_blocks(
    num_blocks: int, block_size: int, seq_len: int | None = None, *, is_causal: bool = False, seed: int = 0
) -> RandomBlocks:
    """Let each block of queries attend to ``num_blocks`` blocks of keys drawn at random.

    The blocks are distinct and drawn uniformly (Zaheer et al. 2020, section 2 and appendix D).

    Args:
        num_blocks: blocks of keys for each block of queries; all of them in a text with fewer.
        block_size: slots in a block.
        seq_len: slots among which the blocks are drawn. Default: the keys. A longer text raises ValueError
            when the mask is used.
        is_causal: draw among the blocks up to the query's own. The draw then does not depend on ``seq_len``,
            as a decoder needs whose text still grows.
        seed: the same seed gives the same blocks.

    Raises:
        ValueError: if a number is below 1, or the seed is outside [0, 2^31).

    """
    check_at_least(1, num_blocks=num_blocks, block_size=block_size, seq_len=1 if seq_len is None else seq_len)
    check_at_least(0, seed=seed)
    if seed >= 2**31:
        raise ValueError(f"seed must be below 2**31, not {seed}")
    return RandomBlocks(num_blocks, block_size, seq_len, is_causal, seed)


def longformer(window: int, global_tokens: Sequence[int] = (0,)) -> Mask:
    """The pattern of Longformer: a sliding window and global tokens (Beltagy et al. 2020, section 3.1).

    Args:
        window: even number of neighbors of a token: ``window / 2`` on each side, besides the token itself.
        global_tokens: slots that attend to all and to which all attend.

    Raises:
        ValueError: if the window is not even and positive, or a slot is negative.

    """
    check_at_least(1, window=window)
    if window % 2:
        raise ValueError(f"window must be even and positive, half of it on each side, not {window}")
    return sliding_window(window // 2 + 1) | _global_tokens(global_tokens)


def big_bird(
    window: int,
    global_tokens: Sequence[int],
    random_blocks: int,
    block_size: int,
    seq_len: int | None = None,
    *,
    is_causal: bool = False,
    seed: int = 0,
) -> Mask:
    """The pattern of BigBird: a window, global tokens, and random blocks (Zaheer et al. 2020, section 2).

    Args:
        window: even number of neighbors, as in ``longformer``.
        global_tokens: as in ``longformer``: existing tokens, the paper's internal construction.
        random_blocks: random blocks of keys for each block of queries.
        block_size: tokens in a random block.
        seq_len: as in ``random_blocks``.
        is_causal: as in ``random_blocks``.
        seed: as in ``random_blocks``.

    Raises:
        ValueError: as ``longformer`` and ``random_blocks``.

    """
    check_at_least(1, random_blocks=random_blocks)
    drawn = _random_blocks(random_blocks, block_size, seq_len, is_causal=is_causal, seed=seed)
    return longformer(window, global_tokens) | drawn


_global_tokens, _random_blocks = global_tokens, random_blocks  # arguments have the names of the papers


@dataclass(frozen=True, eq=False)
class Shifted(Mask):
    """A mask of positions: slots minus the padding before the text, which differs from row to row."""

    mask: Mask
    """The same for all rows of the batch."""
    offset: Tensor
    """Slots before the first real token of each row, ``(batch,)``."""

    @property
    def depends_on_query(self) -> bool:  # noqa: D102
        return self.mask.depends_on_query

    def allows(self, query: Tensor, key: Tensor) -> Tensor:  # noqa: D102
        dimensions = max(query.dim(), key.dim())
        offset = self.offset.to(key.device).view(-1, 1, *[1] * dimensions)
        return self.mask.allows(query - offset, key - offset)

    def bounds(self, query: Interval, key: Interval) -> Blocks:  # noqa: D102
        least, most = self.offset.amin().to(key.low.device), self.offset.amax().to(key.low.device)
        return self.mask.bounds(
            Interval(query.low - most, query.high - least), Interval(key.low - most, key.high - least)
        )


class AttentionPattern:
    """Which keys the queries of a model may attend to, in texts of any length.

    Global tokens and random blocks are those of the text, wherever padding shifts it. The random blocks of an
    encoder are drawn for texts of ``max_seq_len``, so that they do not depend on the other texts of a batch:
    a text of half the length has half of them. Those of a decoder are drawn among the earlier ones.

    Args:
        spec: a key of ``PATTERNS``, or a mapping with ``"kind"`` and arguments of the function of that name;
            None for no restriction.
        max_seq_len: longest text that the model is meant for.
        is_causal: whether the model is a decoder: a token attends to itself and to earlier ones.
        window: of a decoder, the number of last keys to which a token attends. Default: all.

    Raises:
        ValueError: if the kind, an option or a value is unknown, or a global token is outside the text.
        TypeError: if ``spec`` is neither a name nor a mapping.

    """

    def __init__(
        self,
        spec: str | Mapping[str, Any] | None = None,
        max_seq_len: int = 1,
        *,
        is_causal: bool = False,
        window: int | None = None,
    ) -> None:
        self.kind: str | None = None
        self.options: dict[str, Any] = {}
        if spec is not None:
            self.kind, options = split_options(spec, PATTERNS, "pattern")
            function, defaults = PATTERNS[self.kind]
            check_options(options, function, ("seq_len", "is_causal"), f"pattern {self.kind!r}")
            self.options = {**defaults, **options}
        self.max_seq_len, self.is_causal = max_seq_len, is_causal
        self._fixed: Mask | None = causal() if is_causal else None
        if window is not None:
            self._fixed = causal() & sliding_window(window)
        self._last: tuple[int, Mask] | None = None
        slots = self.options.get("global_tokens", ())
        if isinstance(slots, int | str) or not isinstance(slots, Sequence):
            raise TypeError(f"global_tokens must be a list of slots, not {slots!r}")
        for slot in slots:
            check_at_least(0, global_token=slot)
            if slot >= max_seq_len:
                raise ValueError(f"the global token {slot} is outside the text: max_seq_len is {max_seq_len}")
        self.mask(max_seq_len)  # checks the values
        self.window = self._smallest_window(window)
        """Of a decoder, the number of last keys to which a token attends; None if that may be all."""

    def mask(self, k_len: int, padding_mask: Padding | None = None) -> Mask | None:
        """The mask of texts of ``k_len`` slots; None if everything is allowed."""
        mask = self._of_length(k_len)
        if padding_mask is None or mask is None:
            return padding_mask if mask is None else mask
        if not mask.is_relative:
            first = padding_mask.attention_mask.int().argmax(1)
            mask = Shifted(mask, first) if is_tracing() or first.any() else mask
        return mask & padding_mask

    def _of_length(self, k_len: int) -> Mask | None:
        """The mask of unpadded texts; the last one is kept, with all that kernels have computed from it."""
        if self.kind is None:
            return self._fixed
        if is_tracing():  # the length is a symbol; texts of a program are not longer than max_seq_len
            return self._build(self.max_seq_len, self.options)
        if self._last is None or self._last[0] != k_len:
            options = dict(self.options)
            if "global_tokens" in options:
                options["global_tokens"] = [slot for slot in options["global_tokens"] if slot < k_len]
            self._last = k_len, self._build(max(self.max_seq_len, k_len), options)
        return self._last[1]

    def _build(self, seq_len: int, options: Mapping[str, Any]) -> Mask:
        assert self.kind is not None
        lengths = {"seq_len": seq_len, "is_causal": self.is_causal} if self.kind == "big_bird" else {}
        mask = PATTERNS[self.kind][0](**options, **lengths)
        return mask if self._fixed is None else self._fixed & mask

    def _smallest_window(self, window: int | None) -> int | None:
        windows = [] if window is None else [window]
        if self.kind in ("sliding_window", "dilated_window"):
            reach = (self.options["window"] - 1) * self.options.get("dilation", 1)
            windows.append(reach + 1)
        mask = self.mask(self.max_seq_len)  # whose slots stay the same only if they are relative
        return min(windows) if windows and self.is_causal and mask is not None and mask.is_relative else None


PATTERNS: dict[str, tuple[Callable[..., Mask], dict[str, Any]]] = {
    "sliding_window": (sliding_window, {"window": 256}),
    "dilated_window": (dilated_window, {"window": 128, "dilation": 2}),
    "longformer": (longformer, {"window": 512, "global_tokens": (0,)}),
    "big_bird": (big_bird, {"window": 192, "global_tokens": (0,), "random_blocks": 3, "block_size": 64}),
}
"""Patterns by the value of a model's ``pattern``, with the defaults of their arguments: those of the papers'
base models, with one global token."""
