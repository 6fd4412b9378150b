"""One folder holds one run: its config, figures, samples, checkpoints, and what it ran on."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from glassformer.files import atomic_write
from glassformer.training.checkpoints import Checkpoints
from glassformer.training.config import FREE_ON_RESUME, TrainingConfig
from glassformer.training.config_files import differences, load_config, save_config
from glassformer.training.json_lines import JsonLines

OWN_NAMES = (
    "config.toml",
    "environment.json",
    "data.json",
    "metrics.jsonl",
    "samples.jsonl",
    "results.json",
    "tensorboard",
    "checkpoints",
)
"""What a run writes into its folder; the only things that overwriting removes."""


class RunFolder:
    """The files of a run.

    Args:
        path: the folder, as ``open`` made or found it.
        keep: checkpoints to keep, besides the best.
    """

    def __init__(self, path: str | Path, keep: int = 2) -> None:
        self.path = Path(path)
        self.metrics = JsonLines(self.path / "metrics.jsonl")
        self.samples = JsonLines(self.path / "samples.jsonl")
        self.checkpoints = Checkpoints(self.path / "checkpoints", keep)

    @classmethod
    def open(cls, config: TrainingConfig, *, resume: bool = False, overwrite: bool = False) -> RunFolder:
        """The folder of a new run, or of the one to go on with.

        Args:
            config: is written into a new run's folder, and compared with the one in an old run's.
            resume: go on with the run that is there, from its last checkpoint or, without one, the start.
            overwrite: remove the run that is there; files that no run writes stay.

        Raises:
            ValueError: the folder exists and neither is asked for; both are; there is nothing to resume; or
                the run that is there has another config (names the keys).
            OSError: not writable.
        """
        path = cls.check(config, resume=resume, overwrite=overwrite)
        if overwrite:
            _remove_run(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            save_config(path / "config.toml", config)
        except OSError as error:
            raise OSError(error.errno, f"cannot write the run folder {path}: {error.strerror}") from error
        return cls(path, config.checkpoints.keep)

    @staticmethod
    def check(config: TrainingConfig, *, resume: bool = False, overwrite: bool = False) -> Path:
        """Raise what ``open`` would, and change nothing; the folder's path."""
        path = Path(config.run_folder)
        if resume and overwrite:
            raise ValueError("resume goes on with a run and overwrite removes it: choose one of them")
        if path.exists() and not path.is_dir():
            raise ValueError(f"the run folder {path} is a file")
        there = [p.name for p in path.iterdir() if p.suffix != ".partial"] if path.is_dir() else []
        if resume:
            _check_resumable(path, config)
        elif overwrite and there and "config.toml" not in there:
            raise ValueError(f"{path} holds files but no run (no config.toml): it will not be overwritten")
        elif there and not overwrite:
            raise ValueError(
                f"the run folder {path} exists: resume the run (--resume), remove it (--overwrite), "
                "or name another folder"
            )
        return path

    def bind_data(self, key: str) -> None:
        """Keep which tokens the run is trained on, or make sure that they are still the same.

        Args:
            key: a hash of text, tokenizer and split.

        Raises:
            ValueError: the run was begun on others.
        """
        path = self.path / "data.json"
        if not path.exists():
            atomic_write(path, json.dumps({"tokens": key}) + "\n")
        elif (before := json.loads(path.read_text(encoding="utf-8"))["tokens"]) != key:
            raise ValueError(
                f"the run in {self.path} was begun on other tokens ({before}, now {key}): "
                "its text or its tokenizer has changed"
            )

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Keep the figures of the test split, in ``results.json``."""
        atomic_write(self.path / "results.json", json.dumps(results, indent=2) + "\n")

    def read_results(self) -> dict[str, Any]:
        """The figures of the test split, or nothing where they were not taken yet."""
        path = self.path / "results.json"
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return known

    def write_environment(self, device: torch.device) -> None:
        """Keep what the run's figures depend on besides its config, in ``environment.json``."""
        atomic_write(self.path / "environment.json", json.dumps(environment(device), indent=2) + "\n")


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, the machine's device and threads, and the git revision of the current folder."""
    revision = _git("rev-parse", "HEAD")
    return {
        "glassformer": _version("glassformer"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "git_revision": revision,
        "git_changes": None
        if revision is None
        else bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


def _check_resumable(path: Path, config: TrainingConfig) -> None:
    if not path.is_dir():
        raise ValueError(f"there is no run in {path} to resume: the folder does not exist")
    if not (path / "config.toml").exists():
        raise ValueError(f"there is no run in {path} to resume: it has no config.toml")
    old = load_config(path / "config.toml", TrainingConfig())
    changed = {key: v for key, v in differences(old, config).items() if key not in FREE_ON_RESUME}
    if changed:
        listed = "; ".join(f"{key} was {was!r}, now {now!r}" for key, (was, now) in changed.items())
        raise ValueError(f"the run in {path} has another config: {listed}")


def _remove_run(path: Path) -> None:
    for name in reversed(OWN_NAMES):  # config.toml goes last, so that a half-removed run is still a run
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


def _git(*arguments: str) -> str | None:
    """What git says, or None without git or a repository."""
    try:
        answer = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
