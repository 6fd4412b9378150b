"""Metrics as TensorBoard event files; needs the extra ``tensorboard``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def require_tensorboard() -> Any:
    """The class that writes event files.

    Raises:
        ImportError: TensorBoard is not installed; says how to.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(
            "tensorboard = true needs an extra: pip install 'glassformer[tensorboard]'"
        ) from error
    return SummaryWriter


class TensorBoardLog:
    """One curve for each metric.

    Args:
        folder: for event files.
        first_step: of this run or of its continuation; older events of later steps are hidden.

    Raises:
        ImportError: TensorBoard is not installed; says how to.
    """

    def __init__(self, folder: str | Path, first_step: int = 0) -> None:
        self.writer: Any = require_tensorboard()(str(folder), purge_step=first_step)

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a point to the curve of every metric."""
        for name, value in row.items():
            if name != "step":
                self.writer.add_scalar(name, value, row["step"])
        self.writer.flush()
