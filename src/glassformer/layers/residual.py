"""How sublayers join the residual stream: three ways, each one line of algebra."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import Tensor

Sublayer = Callable[[Tensor], Tensor]
Part = TypeVar("Part")


class PreNorm:
    """x + f(norm(x)) for each sublayer in turn (GPT-2; Xiong et al. 2020).

    The stream itself is never normalized, so a model ends with one more norm.
    """

    final_norm = True

    def __call__(self, x: Tensor, sublayers: Sequence[Sublayer], norms: Sequence[Sublayer]) -> Tensor:
        """Pass ``(batch, seq, d_model)`` through the sublayers."""
        for sublayer, norm in zip(sublayers, norms, strict=True):
            x = x + sublayer(norm(x))
        return x

    def norms_needed(self, sublayers: int) -> int:
        """One norm a sublayer."""
        return sublayers

    def reads_before(self, sublayer: Part, norm: Part) -> Part:
        """The norm: of a sublayer and its norm, the one that the stream enters."""
        return norm


class PostNorm:
    """norm(x + f(x)) for each sublayer in turn (Vaswani et al. 2017, section 3.1; BERT)."""

    final_norm = False

    def __call__(self, x: Tensor, sublayers: Sequence[Sublayer], norms: Sequence[Sublayer]) -> Tensor:
        """Pass ``(batch, seq, d_model)`` through the sublayers."""
        for sublayer, norm in zip(sublayers, norms, strict=True):
            x = norm(x + sublayer(x))
        return x

    def norms_needed(self, sublayers: int) -> int:
        """One norm a sublayer."""
        return sublayers

    def reads_before(self, sublayer: Part, norm: Part) -> Part:
        """The sublayer: of a sublayer and its norm, the one that the stream enters."""
        return sublayer


class Parallel:
    """x + f(norm(x)) + g(norm(x)): the sublayers read the same stream (GPT-J, GPT-NeoX, PaLM).

    Args:
        shared_norm: one norm for all sublayers (GPT-J) instead of one each (GPT-NeoX).

    """

    final_norm = True

    def __init__(self, shared_norm: bool = False) -> None:
        self.shared_norm = shared_norm

    def __call__(self, x: Tensor, sublayers: Sequence[Sublayer], norms: Sequence[Sublayer]) -> Tensor:
        """Pass ``(batch, seq, d_model)`` through the sublayers."""
        if self.shared_norm:
            normed = norms[0](x)
            return x + sum(sublayer(normed) for sublayer in sublayers)
        return x + sum(sublayer(norm(x)) for sublayer, norm in zip(sublayers, norms, strict=True))

    def norms_needed(self, sublayers: int) -> int:
        """One norm for all, or one a sublayer."""
        return 1 if self.shared_norm else sublayers

    def reads_before(self, sublayer: Part, norm: Part) -> None:
        """Nothing: no stream runs between sublayers that stand side by side."""


Residual = PreNorm | PostNorm | Parallel

RESIDUALS: dict[str, Callable[[], Residual]] = {
    "pre": PreNorm,
    "post": PostNorm,
    "parallel": Parallel,
    "parallel_shared": lambda: Parallel(shared_norm=True),
}
"""Residual schemes by the word that a model takes for them."""
