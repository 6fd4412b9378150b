"""What a long analysis has found so far, in its run folder: a file a part, each whole or absent.

settings.json             what the parts depend on; another is an error
parts/NAME.json           a part of JSON values
parts/NAME.safetensors.z  a part of tensors, compressed (zlib): sums over items are mostly zeros
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from safetensors.torch import load, save
from torch import Tensor

from glassformer.files import atomic_write


class KeptParts:
    """The parts that are done, by name.

    Begun again with the same settings, the analysis finds its parts and goes on. The folder is made, and
    tried, before any work is done.

    Args:
        folder: of the run.
        settings: all that the parts depend on, as JSON values.

    Raises:
        ValueError: the folder holds an analysis with other settings (names them), or other files but none of
            an analysis.
        OSError: not writable.
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any]) -> None:
        self.folder, self.parts = Path(folder), Path(folder) / "parts"
        path = self.folder / "settings.json"
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"the run folder {self.folder} is a file")
        there = self.folder.is_dir() and any(self.folder.iterdir())
        if there and not path.exists():
            raise ValueError(
                f"{self.folder} holds files but no analysis (no settings.json): name another folder"
            )
        settings = json.loads(json.dumps(settings))
        before = json.loads(path.read_text("utf-8")) if there else settings
        changed = [key for key in {**before, **settings} if before.get(key) != settings.get(key)]
        if changed:
            listed = "; ".join(f"{k} was {before.get(k)!r}, now {settings.get(k)!r}" for k in changed)
            raise ValueError(
                f"{self.folder} was begun with other settings: {listed}; name another --run-folder"
            )
        self.parts.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.parts):
            atomic_write(path, json.dumps(settings, indent=1) + "\n")

    def read(self, name: str) -> Any:
        """A part, or None where it is not done."""
        path = self._path(name)
        return json.loads(path.read_text("utf-8")) if path.exists() else None

    def write(self, name: str, part: Any) -> None:
        """Keep a part, of JSON values."""
        atomic_write(self._path(name), json.dumps(part) + "\n")

    def has_tensors(self, name: str) -> bool:
        """Whether a part of tensors is done."""
        return self._path(name, ".safetensors.z").exists()

    def read_tensors(self, name: str) -> dict[str, Tensor]:
        """A part of tensors.

        Raises:
            FileNotFoundError: it is not done.
        """
        return load(zlib.decompress(self._path(name, ".safetensors.z").read_bytes()))

    def write_tensors(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep a part, of tensors."""
        content = save({key: values.contiguous() for key, values in tensors.items()})
        atomic_write(self._path(name, ".safetensors.z"), zlib.compress(content, 1))

    def delete(self) -> None:
        """Let go of all parts; the settings stay."""
        shutil.rmtree(self.parts)

    def _path(self, name: str, suffix: str = ".json") -> Path:
        return self.parts / f"{quote(name, safe=' ')}{suffix}"
