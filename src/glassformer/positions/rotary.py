"""Rotary position embeddings (Su et al. 2021, RoFormer)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from glassformer.integers import as_int64
from glassformer.positions.rotary_scaling import Scaling, build_scaling
from glassformer.positions.scheme import PositionScheme
from glassformer.tracing import is_tracing

Pairing = Literal["half", "interleaved"]


def _swap_halves(x: Tensor) -> Tensor:
    return x.roll(x.size(-1) // 2, dims=-1)


def _join_halves(first: Tensor, second: Tensor) -> Tensor:
    return torch.cat((first, second), dim=-1)


def _swap_neighbors(x: Tensor) -> Tensor:
    return x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)  # type: ignore[no-untyped-call,no-any-return]


def _interleave(first: Tensor, second: Tensor) -> Tensor:
    return torch.stack((first, second), dim=-1).flatten(-2)


PAIRINGS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "half": (_swap_halves, _join_halves),
    "interleaved": (_swap_neighbors, _interleave),
}
"""For each pairing, a function that swaps the elements of each pair in ``(..., d_rotary)``, and one that
arranges the values of the first and the second elements, ``(..., pair)`` each, as ``(..., d_rotary)``."""


class RotaryPositions(PositionScheme):
    """Rotate each pair of dimensions of q and k by the angle position * theta^(-2i/d_rotary).

    The score of a rotated query and a rotated key depends on their positions only through their distance
    (section 3.2.2).

    Args:
        d_head: width of a head.
        theta: base of the frequencies.
        d_rotary: number of leading dimensions of a head that are rotated (GPT-J and GPT-NeoX). Default: all.
        pairing: dimensions of a pair: ``"half"``, i with i + d_rotary / 2 (NeoX, Llama in Hugging
            Face's layout), or ``"interleaved"``, 2i with 2i + 1 (RoFormer, GPT-J, Llama's own layout).
        scaling: for longer texts, ``{"kind": "yarn", "factor": 4.0, "original_max_seq_len": 4096}``;
            see ``rotary_scaling.SCALINGS``.

    Raises:
        ValueError: if d_rotary is odd or too large, theta is not positive, or the pairing or scaling is
            unknown.

    """

    def __init__(
        self,
        d_head: int,
        theta: float = 10_000.0,
        d_rotary: int | None = None,
        pairing: Pairing = "half",
        scaling: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        d_rotary = d_head if d_rotary is None else d_rotary
        if d_rotary < 2 or d_rotary % 2 or d_rotary > d_head:
            raise ValueError(f"d_rotary must be even, at least 2 and at most d_head={d_head}, not {d_rotary}")
        if not 0 < theta < 2**63:
            raise ValueError(f"theta must be {'below 2**63' if theta > 0 else 'positive'}, not {theta}")
        if pairing not in PAIRINGS:
            raise ValueError(f'pairing must be "half" or "interleaved", not {pairing!r}')
        self.theta, self.d_rotary = theta, d_rotary
        self.scaling = build_scaling(scaling)
        self.scaling.check_pairs(d_rotary // 2)
        self.extrapolates = type(self.scaling) is not Scaling  # all others are for longer texts
        self.max_cached_len = self.scaling.max_constant_len
        self._swap, self._arrange = PAIRINGS[pairing]
        self._cached: tuple[Tensor, int, torch.dtype, Tensor, Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """The state without cached tensors, for copies and other processes."""
        return {**super().__getstate__(), "_cached": None}  # type: ignore[no-untyped-call]

    def rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        """Rotate queries or keys by their positions.

        Args:
            x: ``(batch, head, seq, d_head)``.
            positions: ``(seq,)`` or ``(batch, seq)``.

        Returns:
            The same shape; dimensions from ``d_rotary`` on are unchanged.

        Raises:
            TypeError: if the positions are not integers.

        """
        cos, sin = self._cos_sin(positions, x.dtype)  # (seq, 1, d_rotary) or (batch, seq, 1, d_rotary)
        x = x.transpose(-3, -2)  # (batch, seq, head, d_head), the memory layout
        part = x[..., : self.d_rotary]
        # (a, b) becomes (a cos - b sin, b cos + a sin); the signs are in sin
        rotated = torch.addcmul(part * cos, self._swap(part), sin)
        if self.d_rotary < x.size(-1):
            rotated = torch.cat((rotated, x[..., self.d_rotary :]), dim=-1)
        return rotated.transpose(-3, -2)

    def _cos_sin(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines, cached because all layers of a forward pass the same tensor of positions."""
        if is_tracing():
            return self._compute_cos_sin(positions, dtype)
        version = 0 if positions.is_inference() else positions._version  # changes with every in-place write
        if self._cached is None or self._cached[0] is not positions or self._cached[1:3] != (version, dtype):
            self._cached = (positions, version, dtype, *self._compute_cos_sin(positions, dtype))
        return self._cached[3:]

    def _compute_cos_sin(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        positions = as_int64(positions, "positions")
        precision = torch.float32 if positions.device.type == "mps" else torch.float64
        pairs = torch.arange(0, self.d_rotary, 2, device=positions.device, dtype=precision)
        frequencies = self.theta ** (-pairs / self.d_rotary)
        if positions.numel():
            frequencies = self.scaling(frequencies, self.theta, positions.amax(-1, keepdim=True) + 1)
        angles = positions[..., None, None] * frequencies[..., None, None, :]  # the same for every head
        cos, sin = angles.cos() * self.scaling.attention_factor, angles.sin() * self.scaling.attention_factor
        return self._arrange(cos, cos).to(dtype), self._arrange(-sin, sin).to(dtype)
