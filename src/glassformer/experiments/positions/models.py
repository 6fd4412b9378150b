"""Models that differ in their positions alone, and learned tables for longer texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassformer.choices import choose
from glassformer.models import GPTModel
from glassformer.positions import LearnedPositions, SinusoidalPositions

SCHEMES = {
    "sinusoidal": "sinusoidal",
    "learned": "learned",
    "rotary": "rotary",
    "alibi": "alibi",
    "t5": "relative_bias",
    "none": "none",
}
"""``positions`` of a model by the name of the scheme in the studies."""


class ScaledSinusoidalPositions(SinusoidalPositions):
    """sqrt(d_model) * x + PE (Vaswani et al. 2017, sections 3.4 and 3.5)."""

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Scale the embeddings and add PE(positions)."""
        return super().embed(x * math.sqrt(self.d_model), positions)


def build_model(scheme: str, settings: Mapping[str, Any], vocab_size: int, max_seq_len: int) -> GPTModel:
    """A GPT with RMSNorm, tied embeddings and no biases, whatever its positions.

    Args:
        scheme: a key of ``SCHEMES``.
        settings: with ``d_model``, ``num_layers`` and ``num_heads``.
        vocab_size: number of tokens.
        max_seq_len: rows of a learned table.

    Raises:
        ValueError: an unknown scheme.
    """
    model = GPTModel(
        vocab_size=vocab_size,
        d_model=settings["d_model"],
        num_layers=settings["num_layers"],
        num_heads=settings["num_heads"],
        max_seq_len=max_seq_len,
        positions=choose(SCHEMES, scheme, "position scheme"),
        norm="rms",
        bias=False,
        tie_embeddings=True,
        dropout=0.0,
    )
    if scheme == "sinusoidal":
        model.positions = ScaledSinusoidalPositions(settings["d_model"])
    initialize(model)
    return model


def initialize(model: GPTModel) -> None:
    """Draw random weights with which products keep the variance of their input.

    The standard deviation is 1 / sqrt(number of inputs), of embeddings 1 / sqrt(d_model), as Vaswani et al.
    scale them; projections into the residual stream are divided by sqrt(number of sublayers) as in GPT-2. The
    smaller weights of GPT-2 make the attention of a small model nearly uniform at first, so that it takes
    thousands of updates to learn to find one token.
    """
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2 or name.startswith("positions."):
            continue
        std = parameter.size(1) ** -0.5
        if name.endswith(("out_proj.weight", "down_proj.weight")):
            std /= math.sqrt(2 * len(model.blocks))
        nn.init.normal_(parameter, std=std)
    if isinstance(model.positions, LearnedPositions):
        table = model.positions.embedding.weight
        nn.init.normal_(table, std=table_std(table.size(1)))


def table_std(d_model: int) -> float:
    """Standard deviation of an untrained row of learned positions: half of that of embeddings, as GPT-2."""
    return 0.5 / math.sqrt(d_model)


def parameters_without_embeddings(num_layers: int, d_model: int) -> int:
    """Parameters of the blocks of ``build_model``, but for the norms: 12 d^2 in each layer."""
    return num_layers * 12 * d_model**2


def _untrained(table: Tensor, rows: int, seed: int) -> Tensor:
    new = torch.randn(rows - len(table), table.size(1), generator=torch.Generator().manual_seed(seed))
    return torch.cat((table, table_std(table.size(1)) * new.to(table)))


def _clamped(table: Tensor, rows: int, _: int) -> Tensor:
    return table[torch.arange(rows).clamp(max=len(table) - 1)]


def _interpolated(table: Tensor, rows: int, _: int) -> Tensor:
    columns = table.T[None]  # (1, d_model, row)
    return F.interpolate(columns, size=rows, mode="linear", align_corners=True)[0].T


POLICIES: dict[str, Callable[[Tensor, int, int], Tensor]] = {
    "untrained": _untrained,
    "clamp": _clamped,
    "interpolate": _interpolated,
}
"""Tables ``(rows, d_model)`` for longer texts, made from the trained one and a seed. ``untrained`` adds rows
as a larger table would have them before training, ``clamp`` repeats the last row, and ``interpolate``
stretches the table linearly, so that its first and last row are those of the first and last token."""


def extend_table(table: Tensor, rows: int, policy: str, seed: int = 0) -> Tensor:
    """A table of learned positions with more rows.

    Args:
        table: ``(max_positions, d_model)``, trained.
        rows: at least as many as the table has; with as many, it is returned as it is.
        policy: a key of ``POLICIES``.
        seed: of untrained rows.

    Raises:
        ValueError: fewer rows, or an unknown policy.
    """
    extend = choose(POLICIES, policy, "policy for learned positions")
    if rows < len(table):
        raise ValueError(f"rows must be at least the {len(table)} of the table, got {rows}")
    return table if rows == len(table) else extend(table, rows, seed)


@contextmanager
def extended_positions(model: GPTModel, length: int, policy: str | None, seed: int = 0) -> Iterator[None]:
    """Let a model with learned positions take texts of this length inside the block.

    Args:
        model: as ``build_model`` returns it.
        length: of the texts, in tokens.
        policy: a key of ``POLICIES``; None leaves the model as it is.
        seed: of untrained rows.
    """
    trained = model.positions
    if (
        policy is None
        or not isinstance(trained, LearnedPositions)
        or length <= trained.embedding.num_embeddings
    ):
        yield
        return
    table = extend_table(trained.embedding.weight.detach(), length, policy, seed)
    extended = LearnedPositions(length, table.size(1)).to(table.device)
    with torch.no_grad():
        extended.embedding.weight.copy_(table)
    model.positions = extended
    try:
        yield
    finally:
        model.positions = trained
