"""Partial results of a long analysis, stored in its run folder so that an interrupted run can be resumed.

    settings.json             what the results depend on; a run with other settings is refused
    parts/NAME.json           a result of JSON values
    parts/NAME.safetensors.z  a result of tensors, compressed with zlib: sums over items are mostly zeros

Every file is written atomically.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from glassformer.files import PARTIAL, atomic_write, read_json, remove_partial
from glassformer.folder_lock import entries
from glassformer.models import TransformerModel
from glassformer.positions.rotary_scaling import RENAMED_OPTIONS


class PartialResults:
    """Partial results by name.

    The folder is created, and checked to be writable, before any computation.

    Args:
        folder: the run folder, which the caller has locked with ``lock_folder``.
        settings: all that the results depend on, as JSON values.

    Raises:
        ValueError: the folder belongs to a run with other settings, or holds other files.
        OSError: the folder is not writable.
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any]) -> None:
        self.folder, self.parts = Path(folder), Path(folder) / "parts"
        self._deleted = self.folder / f".parts{PARTIAL}"
        path = self.folder / "settings.json"
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"the run folder {self.folder} is a file")
        resumed = path.exists()
        if entries(self.folder) and not resumed:
            raise ValueError(
                f"{self.folder} holds files but no analysis (no settings.json): name another folder"
            )
        settings = json.loads(json.dumps(settings))
        before = read_json(path) if resumed else settings
        if not isinstance(before, dict):
            raise ValueError(f"{path} must hold a JSON object, got {type(before).__name__}")
        changed = [key for key in {**before, **settings} if before.get(key) != settings.get(key)]
        if changed:
            changes = "; ".join(f"{k} was {before.get(k)!r}, now {settings.get(k)!r}" for k in changed)
            raise ValueError(
                f"{self.folder} was started with other settings: {changes}; name another --run-folder"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps(settings, indent=1) + "\n")  # first: it tells what the folder is
        self.parts.mkdir(exist_ok=True)
        remove_partial(self.parts)  # and what a killed process did not delete
        shutil.rmtree(self._deleted, ignore_errors=True)

    def read(self, name: str, parse: Callable[[Any], Any] = lambda value: value) -> Any:
        """A result of JSON values, or None if it is missing.

        Args:
            name: of the result.
            parse: converts the JSON value.

        Raises:
            ValueError: the file is damaged, so that ``parse`` raises an error.
        """
        path = self._path(name)
        if not path.exists():
            return None
        content = read_json(path)
        try:
            return parse(content)
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
            raise _damaged(path, error) from error

    def write(self, name: str, result: Any) -> None:
        """Store a result of JSON values."""
        atomic_write(self._path(name), json.dumps(result) + "\n")

    def has_tensors(self, name: str) -> bool:
        """Whether a result of tensors is stored."""
        return self._path(name, ".safetensors.z").exists()

    def read_tensors(self, name: str) -> dict[str, Tensor]:
        """A result of tensors.

        Raises:
            FileNotFoundError: it is missing.
            ValueError: the file is damaged.
        """
        path = self._path(name, ".safetensors.z")
        try:
            return load(zlib.decompress(path.read_bytes()))
        except (zlib.error, SafetensorError) as error:
            raise _damaged(path, error) from error

    def write_tensors(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Store a result of tensors."""
        content = save({key: values.contiguous() for key, values in tensors.items()})
        atomic_write(self._path(name, ".safetensors.z"), zlib.compress(content, 1))

    def delete(self) -> None:
        """Delete all results but not the settings."""
        os.replace(self.parts, self._deleted)  # all at once: a part of them could not be resumed
        shutil.rmtree(self._deleted)

    def _path(self, name: str, suffix: str = ".json") -> Path:
        return self.parts / f"{quote(name, safe=' ')}{suffix}"


def _damaged(path: Path, error: Exception) -> ValueError:
    reason = f"{type(error).__name__}: {error}"
    return ValueError(f"{path} is damaged ({reason}): delete it, and it is computed again")


def model_fingerprint(model: TransformerModel) -> str:
    """A hash of the family, the configuration, and the name, type, shape and bytes of every tensor."""
    config = _with_names_of_version_0_1(model.saved_config())
    identity = [model.family, config]
    if model.weights_format is not None:  # activations are rounded, too
        identity.append(model.weights_format)
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
    for name, tensor in model.untied_state_dict().items():
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _with_names_of_version_0_1(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with the former names of options, so that analyses of version 0.1 are resumed."""
    positions = config.get("positions")
    if not isinstance(positions, Mapping) or not isinstance(positions.get("scaling"), Mapping):
        return dict(config)
    former = {new: old for old, new in RENAMED_OPTIONS.items()}
    scaling = {former.get(name, name): value for name, value in positions["scaling"].items()}
    return {**config, "positions": {**positions, "scaling": scaling}}


def data_fingerprint(texts: Sequence[str | Sequence[int]]) -> str:
    """A hash of texts, or of sequences of token ids."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(repr(text).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()[:16]
