"""Rotary positions (Su et al. 2021, RoFormer)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from glassformer.positions.rotary_scaling import build_scaling
from glassformer.positions.scheme import PositionScheme

Pairing = Literal["half", "interleaved"]

PAIRINGS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "half": (
        lambda x: x.roll(x.size(-1) // 2, dims=-1),
        lambda a, b: torch.cat((a, b), dim=-1),
    ),
    "interleaved": (
        lambda x: x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2),  # type: ignore[no-untyped-call]
        lambda a, b: torch.stack((a, b), dim=-1).flatten(-2),
    ),
}
"""For each pairing, how to exchange the two of each pair in ``(..., d_rotary)``, and how to lay out what
belongs to the first and the second of each pair, ``(..., pair)`` each."""


class RotaryPositions(PositionScheme):
    """Turn each pair of dimensions of q and k by the angle position * theta^(-2i/d_rotary).

    The score of a rotated query and a rotated key depends on their positions only through the distance
    between them (section 3.2.2): rotation by m of one and n of the other leaves rotation by n - m.

    Args:
        d_head: width of a head.
        theta: base of the angles.
        d_rotary: how many leading dimensions of a head turn (partial rotary, GPT-J and NeoX). Default: all.
        pairing: which dimensions make a pair: ``"half"``, i with i + d_rotary / 2 (NeoX, Llama in Hugging
            Face's layout), or ``"interleaved"``, 2i with 2i + 1 (RoFormer, GPT-J, Llama's own layout).
        scaling: for longer texts, ``{"kind": "yarn", "factor": 4.0, "original_length": 4096}``; the kinds
            are those of ``rotary_scaling.SCALINGS``.

    Raises:
        ValueError: an odd or too large rotary dimension, a theta that is not positive, an unknown pairing or
            scaling.

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
            raise ValueError(
                f"the rotary dimension turns pairs: it must be even, at least 2 and at most d_head={d_head}, "
                f"not {d_rotary}"
            )
        if theta <= 0:
            raise ValueError(f"theta must be positive, not {theta}")
        if pairing not in PAIRINGS:
            raise ValueError(f'pairing must be "half" or "interleaved", not {pairing!r}')
        self.theta, self.d_rotary = theta, d_rotary
        self.scaling = build_scaling(scaling)
        self._exchange, self._lay_out = PAIRINGS[pairing]
        self._last: tuple[Tensor, int, torch.dtype, Tensor, Tensor] | None = None

    def rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        """Turn queries or keys by their positions.

        Args:
            x: ``(batch, head, seq, d_head)``.
            positions: ``(seq,)`` or ``(batch, seq)``.

        Returns:
            The same shape; dimensions from ``d_rotary`` on are untouched.

        """
        cos, sin = self._cos_sin(positions, x.dtype)  # (seq, 1, d_rotary) or (batch, seq, 1, d_rotary)
        x = x.transpose(-3, -2)  # (batch, seq, head, d_head), as it lies in memory
        turning = x[..., : self.d_rotary]
        # (a, b) becomes (a cos - b sin, b cos + a sin); the signs are in sin
        turned = torch.addcmul(turning * cos, self._exchange(turning), sin)
        whole = self.d_rotary == x.size(-1)
        rotated = turned if whole else torch.cat((turned, x[..., self.d_rotary :]), dim=-1)
        return rotated.transpose(-3, -2)

    def _cos_sin(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Computed in double precision; kept, since all layers of a forward ask with the same tensor."""
        if torch.compiler.is_compiling():
            return self._compute_cos_sin(positions, dtype)
        version = 0 if positions.is_inference() else positions._version  # changes with every write in place
        if self._last is None or self._last[0] is not positions or self._last[1:3] != (version, dtype):
            self._last = (positions, version, dtype, *self._compute_cos_sin(positions, dtype))
        return self._last[3:]

    def _compute_cos_sin(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        precision = torch.float32 if positions.device.type == "mps" else torch.float64
        pairs = torch.arange(0, self.d_rotary, 2, device=positions.device, dtype=precision)
        frequencies = self.theta ** (-pairs / self.d_rotary)
        if positions.numel():
            frequencies = self.scaling(frequencies, self.theta, positions.amax(-1, keepdim=True) + 1)
        angles = positions[..., None, None] * frequencies[..., None, None, :]  # alike for every head
        cos, sin = angles.cos() * self.scaling.amplitude, angles.sin() * self.scaling.amplitude
        return self._lay_out(cos, cos).to(dtype), self._lay_out(-sin, sin).to(dtype)
