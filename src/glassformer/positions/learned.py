"""Learned position embeddings (Gehring et al. 2017; GPT-2, BERT)."""

from __future__ import annotations

from torch import Tensor, nn

from glassformer.integers import as_int64
from glassformer.positions.scheme import PositionScheme
from glassformer.tracing import is_tracing


class LearnedPositions(PositionScheme):
    """x + table[position].

    Args:
        max_positions: rows of the table.
        d_model: width.

    Raises:
        ValueError: if max_positions is not positive.

    """

    def __init__(self, max_positions: int, d_model: int) -> None:
        super().__init__()
        if max_positions < 1:
            raise ValueError(f"max_positions must be positive, not {max_positions}")
        self.max_positions = max_positions
        self.embedding = nn.Embedding(max_positions, d_model)

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Add table[positions].

        Raises:
            ValueError: if a position is outside the table (on a CPU; other devices raise their own error).
            TypeError: if the positions are not integers.

        """
        positions = as_int64(positions, "positions")
        if positions.device.type != "cpu" or is_tracing():
            # Reading positions would synchronize with a GPU; use the length of the text there.
            self._check_position(positions.size(-1) - 1)
        try:
            learned: Tensor = self.embedding(positions)
        except IndexError:
            self._check_position(int(positions.max()))
            raise ValueError(f"positions must be at least 0, got {int(positions.min())}") from None
        return x + learned

    def _check_position(self, position: int) -> None:
        rows = self.embedding.num_embeddings
        if position >= rows:
            raise ValueError(
                f"position {position} is outside the learned table of {rows} positions (0 to {rows - 1}): "
                "shorten the text"
            )
