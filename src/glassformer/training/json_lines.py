"""A file of JSON objects, a line each, that only grows."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glassformer.files import atomic_write


class JsonLines:
    """Rows with a ``step``, in the order of their steps. A torn last line, of a killed process, is no row."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row; another process sees it when this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """All rows."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")
        return [json.loads(line) for line in lines[:-1]]  # what follows the last newline is torn, or nothing

    def drop_after(self, step: int) -> None:
        """Forget the rows of later steps, and a torn last line."""
        kept = [row for row in self.rows() if row["step"] <= step]
        atomic_write(self.path, "".join(json.dumps(row) + "\n" for row in kept))

    def sync(self) -> None:
        """Force the rows to the disk."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
