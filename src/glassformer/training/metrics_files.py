"""Files of the metrics of a run: JSON Lines and TensorBoard events."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glassformer.files import atomic_write, parse_json


class JsonLines:
    """A file of JSON objects with a ``step``, one per line, to which lines are appended.

    An incomplete last line, left by a killed process, is ignored.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.num_rows = 0
        """Rows that ``drop_after`` kept and ``append`` added."""

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row; other processes can read it when this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.num_rows += 1

    def rows(self) -> list[dict[str, Any]]:
        """All rows.

        Raises:
            ValueError: a line is not a JSON object with a step; names the file and the line.
        """
        if not self.path.exists():
            return []
        lines = self.path.read_bytes().split(b"\n")[:-1]  # what follows is empty or incomplete
        rows = []
        for number, line in enumerate(lines, start=1):
            row = parse_json(line, name := f"line {number} of {self.path}")
            if not isinstance(row, dict) or type(row.get("step")) is not int:
                raise ValueError(f"{name} must be a JSON object with an integer 'step'")
            rows.append(row)
        return rows

    def drop_after(self, step: int) -> None:
        """Remove the rows of later steps, and an incomplete last line."""
        rows = [row for row in self.rows() if row["step"] <= step]
        atomic_write(self.path, "".join(json.dumps(row) + "\n" for row in rows))
        self.num_rows = len(rows)

    def sync(self) -> None:
        """Flush the file to the disk."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())


def require_tensorboard() -> Any:
    """The class ``torch.utils.tensorboard.SummaryWriter``.

    Raises:
        ImportError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(
            "tensorboard=true needs the package: pip install 'glassformer[tensorboard]'"
        ) from error
    return SummaryWriter


class TensorBoardLog:
    """Metrics as TensorBoard scalars.

    Args:
        folder: folder of the event files.
        first_step: first step of this process; events of later steps, from before a resume, are hidden.

    Raises:
        ImportError: TensorBoard is not installed.
    """

    def __init__(self, folder: str | Path, first_step: int = 0) -> None:
        self.writer: Any = require_tensorboard()(str(folder), purge_step=first_step)

    def append(self, row: Mapping[str, Any]) -> None:
        """Add every metric of a row."""
        for name, value in row.items():
            if name != "step":
                self.writer.add_scalar(name, value, row["step"])
        self.writer.flush()
