"""Learned position embeddings (Gehring et al. 2017; GPT-2, BERT)."""

from __future__ import annotations

from torch import Tensor, nn

from glassformer.integers import as_int64, check_at_least
from glassformer.positions.scheme import PositionScheme
from glassformer.tracing import is_tracing


class LearnedPositions(PositionScheme):
    """x + table[position + offset].

    Args:
        max_positions: number of positions.
        d_model: width.
        offset: rows before that of position 0, which the model does not use (OPT, RoBERTa, BART; there they
            belonged to padding).

    Raises:
        ValueError: if max_positions is not positive, or offset is negative.

    """

    max_positions: int

    def __init__(self, max_positions: int, d_model: int, offset: int = 0) -> None:
        super().__init__()
        if max_positions < 1:
            raise ValueError(f"max_positions must be positive, not {max_positions}")
        check_at_least(0, offset=offset)
        self.max_positions, self.offset = max_positions, offset
        self.embedding = nn.Embedding(max_positions + offset, d_model)

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Add table[positions + offset].

        Raises:
            ValueError: if a position is outside the table (on a CPU; other devices raise their own error).
            TypeError: if the positions are not integers.

        """
        positions = as_int64(positions, "positions")
        if positions.device.type != "cpu" or is_tracing():
            # Reading positions would synchronize with a GPU; use the length of the text there.
            self._check_position(positions.size(-1) - 1)
        try:
            learned: Tensor = self.embedding(positions + self.offset if self.offset else positions)
        except IndexError:
            self._check_position(int(positions.max()))
            raise ValueError(f"positions must be at least 0, got {int(positions.min())}") from None
        return x + learned

    def _check_position(self, position: int) -> None:
        last = self.max_positions - 1
        if position > last:
            raise ValueError(
                f"position {position} is outside the learned table of {last + 1} positions (0 to {last}): "
                "shorten the text"
            )
