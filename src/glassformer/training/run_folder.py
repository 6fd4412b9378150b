"""The folder of a training run: config, metrics, samples, checkpoints, results, and environment."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from glassformer.files import atomic_write
from glassformer.folder_lock import FolderInUseError, entries, lock_folder
from glassformer.training.checkpoints import Checkpoints
from glassformer.training.config import CHANGEABLE_ON_RESUME, TrainingConfig
from glassformer.training.config_files import differences, load_config, save_config
from glassformer.training.git_revision import git_revision

FILES = (
    "config.toml",
    "environment.json",
    "data.json",
    "metrics.jsonl",
    "samples.jsonl",
    "results.json",
    "tensorboard",
    "checkpoints",
)
"""Files and folders that a run writes; overwriting removes nothing else."""


class JsonLines:
    """A file of JSON objects with a ``step``, one per line, to which lines are appended.

    An incomplete last line, left by a killed process, is ignored.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row; other processes can read it when this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """All rows."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")
        return [
            json.loads(line) for line in lines[:-1]
        ]  # what follows the last newline is empty or incomplete

    def drop_after(self, step: int) -> None:
        """Remove the rows of later steps, and an incomplete last line."""
        rows = [row for row in self.rows() if row["step"] <= step]
        atomic_write(self.path, "".join(json.dumps(row) + "\n" for row in rows))

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


class RunFolder:
    """The files of a run.

    Args:
        path: the folder; ``open`` creates or checks it.
        keep: see ``Checkpoints``.
    """

    def __init__(self, path: str | Path, keep: int = 2) -> None:
        self.path = Path(path)
        self.metrics = JsonLines(self.path / "metrics.jsonl")
        self.samples = JsonLines(self.path / "samples.jsonl")
        self.checkpoints = Checkpoints(self.path / "checkpoints", keep)

    @classmethod
    def open(cls, config: TrainingConfig, *, resume: bool = False, overwrite: bool = False) -> RunFolder:
        """Create the folder of a new run, or open that of a run to resume.

        Args:
            config: written to the folder; when resuming, first compared with the stored config.
            resume: resume the run in the folder from its last checkpoint, or from the start if it has none.
            overwrite: remove the run in the folder; files that no run writes are kept.

        Raises:
            ValueError: the folder exists and neither option is set, both are set, there is no run to resume,
                or its config differs (names the keys).
            OSError: the folder cannot be written, or another process uses it (names the process).
        """
        path = cls.check(config, resume=resume, overwrite=overwrite)
        try:
            with lock_folder(path, "run folder"):
                cls.check(config, resume=resume, overwrite=overwrite)  # again, now that nothing can change
                if overwrite:
                    _remove_run(path)
                save_config(path / "config.toml", config)
        except FolderInUseError:
            raise
        except OSError as error:
            raise OSError(error.errno, f"cannot write the run folder {path}: {error.strerror}") from error
        return cls(path, config.checkpoints.keep)

    @staticmethod
    def check(config: TrainingConfig, *, resume: bool = False, overwrite: bool = False) -> Path:
        """The path of the folder; raises the errors of ``open`` without changing anything."""
        path = Path(config.run_folder)
        if resume and overwrite:
            raise ValueError("resume and overwrite cannot both be set")
        if path.exists() and not path.is_dir():
            raise ValueError(f"the run folder {path} is a file")
        existing = entries(path)
        if resume:
            _check_resumable(path, config)
        elif overwrite and existing and "config.toml" not in existing:
            raise ValueError(f"{path} is not overwritten: it contains files but no run (no config.toml)")
        elif existing and not overwrite:
            raise ValueError(
                f"the run folder {path} exists: resume the run (--resume), remove it (--overwrite), "
                "or choose another folder"
            )
        return path

    def check_data(self, key: str) -> None:
        """Store the hash of the training data, or compare it with the stored one.

        Raises:
            ValueError: the run was started on other data.
        """
        path = self.path / "data.json"
        if not path.exists():
            atomic_write(path, json.dumps({"tokens": key}) + "\n")
        elif (before := json.loads(path.read_text(encoding="utf-8"))["tokens"]) != key:
            raise ValueError(
                f"the run in {self.path} was started on other training data (hash {before}, now {key}): "
                "the data or the tokenizer has changed"
            )

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Store the metrics on the test split in ``results.json``."""
        atomic_write(self.path / "results.json", json.dumps(results, indent=2) + "\n")

    def read_results(self) -> dict[str, Any]:
        """The metrics on the test split, or an empty dict if there are none yet."""
        path = self.path / "results.json"
        results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return results

    def write_environment(self, device: torch.device) -> None:
        """Store ``environment`` in ``environment.json``."""
        atomic_write(self.path / "environment.json", json.dumps(environment(device), indent=2) + "\n")


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, device, number of threads, and the git revision of the current folder."""
    revision, changes = git_revision(Path.cwd())
    return {
        "glassformer": _version("glassformer"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "git_revision": revision,
        "git_changes": changes,
    }


def _check_resumable(path: Path, config: TrainingConfig) -> None:
    if not path.is_dir():
        raise ValueError(f"there is no run to resume in {path}: the folder does not exist")
    if not (path / "config.toml").exists():
        raise ValueError(f"there is no run to resume in {path}: it has no config.toml")
    old = load_config(path / "config.toml", TrainingConfig())
    changed = {key: v for key, v in differences(old, config).items() if key not in CHANGEABLE_ON_RESUME}
    if changed:
        listed = "; ".join(f"{key} was {before!r}, now {now!r}" for key, (before, now) in changed.items())
        raise ValueError(f"the run in {path} has another config: {listed}")


def _remove_run(path: Path) -> None:
    for name in reversed(FILES):  # config.toml last, so that a partly removed run is still recognized as one
        target = path / name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
