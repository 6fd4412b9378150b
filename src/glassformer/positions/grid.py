"""Learned position embeddings of image patches (Dosovitskiy et al. 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GridPositions(nn.Module):
    """A table with one vector for the class token and one for each patch, row by row.

    For images with another number of patches, the table is interpolated (section 3.2; bicubic, as in the
    published code).

    Args:
        grid: rows and columns of patches in the table.
        d_model: width.

    """

    def __init__(self, grid: tuple[int, int], d_model: int) -> None:
        super().__init__()
        self.grid = grid
        self.table = nn.Parameter(torch.zeros(1 + grid[0] * grid[1], d_model))

    def forward(self, grid: tuple[int, int]) -> Tensor:
        """The vectors ``(1 + rows * columns, d_model)`` for a grid of (rows, columns) patches."""
        # Symbolic sizes of an exported program can be any grid: resizing to the table's own changes nothing.
        if all(isinstance(side, int) for side in grid) and grid == self.grid:
            return self.table
        patches = self.table[1:].view(*self.grid, -1).movedim(-1, 0)  # (d_model, row, column)
        resized = F.interpolate(patches[None], size=grid, mode="bicubic", align_corners=False)[0]
        return torch.cat((self.table[:1], resized.flatten(1).T))
