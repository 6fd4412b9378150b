"""A folder of parts: a long work that goes on where it was killed.

    settings.json                  what the work depends on; another is an error
    parts/items-00000.json         items, as the model reads them
    parts/model-00000.safetensors  their sums

Each file is written whole or not at all, so that the parts that exist are right.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from glassformer.analysis.patterns import Item, Words
from glassformer.analysis.reduction import Sums
from glassformer.files import atomic_path, atomic_write

SETTINGS = "settings.json"


class Parts:
    """The parts in a folder.

    Args:
        folder: made where it does not exist.
        settings: JSON values that the parts depend on.

    Raises:
        ValueError: parts with other settings are there (each difference is named), or the folder is a file.
        OSError: not writable.

    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"the run folder {self.folder} is a file")
        known = self.folder / SETTINGS
        if known.exists():
            _compare(self.folder, json.loads(known.read_text("utf-8")), json.loads(json.dumps(settings)))
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise ValueError(
                f"{self.folder} holds files but no analysis (no {SETTINGS}): name another folder"
            )
        (self.folder / "parts").mkdir(parents=True, exist_ok=True)
        atomic_write(known, json.dumps(settings, indent=1) + "\n")

    def path(self, what: str, number: int, suffix: str) -> Path:
        """Where a part is, or will be."""
        return self.folder / "parts" / f"{what}-{number:05}{suffix}"

    def has_sums(self, what: str, number: int) -> bool:
        """Whether a part was measured."""
        return self.path(what, number, ".safetensors").exists()

    def write_sums(self, what: str, number: int, sums: Sums) -> None:
        """Keep the sums of a part."""
        with atomic_path(self.path(what, number, ".safetensors")) as path:
            save_file({name: values.contiguous() for name, values in sums.items()}, path)

    def read_sums(self, what: str, number: int) -> Sums:
        """The sums of a part."""
        sums: Sums = load_file(self.path(what, number, ".safetensors"))
        return sums

    def write_items(self, what: str, number: int, items: Sequence[Item]) -> None:
        """Keep a part of what is read."""
        rows = [
            {
                "ids": list(item.ids),
                "is_delimiter": [int(mark) for mark in item.is_delimiter],
                "words": item.words and list(item.words.of_token),
                "relations": item.words and dict(item.words.relations),
            }
            for item in items
        ]
        atomic_write(self.path(what, number, ".json"), json.dumps(rows))

    def read_items(self, what: str, number: int) -> list[Item]:
        """A part of what is read, without its texts."""
        rows = json.loads(self.path(what, number, ".json").read_text("utf-8"))
        return [
            Item(
                row["ids"],
                row["is_delimiter"],
                words=None if row["words"] is None else Words(row["words"], row["relations"]),
            )
            for row in rows
        ]


def _compare(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if changed:
        listed = "; ".join(f"{key} was {before.get(key)!r}, now {now.get(key)!r}" for key in changed)
        raise ValueError(f"the analysis in {folder} has other settings: {listed}: name another folder")
