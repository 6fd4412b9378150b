"""Learned positions: a table with one vector a position (Gehring et al. 2017; GPT-2, BERT)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from glassformer.positions.scheme import PositionScheme


class LearnedPositions(PositionScheme):
    """x + table[position].

    Args:
        max_positions: rows of the table.
        d_model: width.

    Raises:
        ValueError: a table without rows.

    """

    def __init__(self, max_positions: int, d_model: int) -> None:
        super().__init__()
        if max_positions < 1:
            raise ValueError(f"a table of positions needs at least one row, not {max_positions}")
        self.max_positions = max_positions
        self.embedding = nn.Embedding(max_positions, d_model)

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """X + table[positions].

        Raises:
            ValueError: a position past the table.

        """
        rows, last = self.embedding.num_embeddings, positions.size(-1) - 1
        # Reading positions waits for a GPU; there the length of the text stands for them.
        if positions.numel() and positions.device.type == "cpu" and not torch.compiler.is_compiling():
            last = int(positions.max())
        if last >= rows:
            raise ValueError(
                f"position {last} is past the learned table of {rows} positions (0 to {rows - 1}): "
                "shorten the text"
            )
        learned: Tensor = self.embedding(positions)
        return x + learned
