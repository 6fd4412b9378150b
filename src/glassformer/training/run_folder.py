"""The folder of a training run: config, metrics, samples, checkpoints, results, and environment."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from glassformer.backends import MissingBackendError, resolve_backends
from glassformer.files import atomic_write, read_json_object
from glassformer.folder_lock import FolderInUseError, entries, lock_folder
from glassformer.models import TransformerModel
from glassformer.training.checkpoints import Checkpoints
from glassformer.training.config import TrainingConfig
from glassformer.training.config_files import save_config
from glassformer.training.devices import choose_device, numerics
from glassformer.training.git_revision import git_revision
from glassformer.training.metrics_files import JsonLines
from glassformer.training.resume import changes_since, data_changes, model_changes, recorded_environment

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
        self.notes: list[str] = []
        """What has changed since the run was interrupted, for the user."""

    @classmethod
    def open(
        cls,
        config: TrainingConfig,
        *,
        resume: bool = False,
        overwrite: bool = False,
        allow_changes: bool = False,
    ) -> RunFolder:
        """Create the folder of a new run, or open that of a run to resume.

        Args:
            config: written to the folder; when resuming, first compared with the stored config.
            resume: resume the run in the folder from its last checkpoint, or from the start if it has none.
            overwrite: remove the run in the folder; files that no run writes are kept.
            allow_changes: resume although the result will not be that of an uninterrupted run.

        Raises:
            ValueError: the folder exists and neither option is set, both are set, there is no run to resume,
                or something on which its result depends has changed (says what).
            OSError: the folder cannot be written, or another process uses it (names the process).
        """
        path = cls.check(config, resume=resume, overwrite=overwrite, allow_changes=allow_changes)
        try:
            with lock_folder(path, "run folder"):
                # again, now that nothing can change
                path, notes = cls._check(config, resume, overwrite, allow_changes)
                if overwrite:
                    _remove_run(path)
                save_config(path / "config.toml", config)
        except FolderInUseError:
            raise
        except OSError as error:
            raise OSError(error.errno, f"cannot write the run folder {path}: {error.strerror}") from error
        run = cls(path, config.checkpoints.keep)
        run.notes = notes
        return run

    @classmethod
    def check(
        cls,
        config: TrainingConfig,
        *,
        resume: bool = False,
        overwrite: bool = False,
        allow_changes: bool = False,
    ) -> Path:
        """The path of the folder; raises the errors of ``open`` without changing anything."""
        return cls._check(config, resume, overwrite, allow_changes)[0]

    @classmethod
    def _check(
        cls, config: TrainingConfig, resume: bool, overwrite: bool, allow_changes: bool
    ) -> tuple[Path, list[str]]:
        """The path of the folder, and what has changed since the run in it was interrupted."""
        path = Path(config.run_folder)
        if resume and overwrite:
            raise ValueError("resume and overwrite cannot both be set")
        if allow_changes and not resume:
            raise ValueError("allow_changes is an option of resume: set both")
        if path.exists() and not path.is_dir():
            raise ValueError(f"the run folder {path} is a file")
        existing = entries(path)
        if resume:
            return path, cls(path)._check_resumable(config, allow_changes)
        if overwrite and existing and "config.toml" not in existing:
            raise ValueError(f"{path} is not overwritten: it contains files but no run (no config.toml)")
        elif existing and not overwrite:
            raise ValueError(
                f"the run folder {path} exists: resume the run (--resume), remove it (--overwrite), "
                "or choose another folder"
            )
        return path, []

    def check_data(self, key: str, *, allow_changes: bool = False, **others: str) -> None:
        """Store the hashes of the data, or compare them with the stored ones.

        Args:
            key: hash of the training data.
            allow_changes: store the hashes although they differ from the stored ones.
            others: hashes of ``held_out`` data and of the ``tokenizer``.

        Raises:
            ValueError: the run was started on other data.
        """
        path, hashes = self.path / "data.json", {"tokens": key, **others}
        before = read_json_object(path) if path.exists() else {}
        if changed := data_changes(before, hashes):
            self._refuse_changes(changed, allow_changes)
        if not before and self.checkpoints.latest() is not None:
            self._refuse_changes([f"{path.name} is missing, so the data may be other data"], allow_changes)
        if before != hashes:
            atomic_write(path, json.dumps(before | hashes) + "\n")

    def check_model(self, model: TransformerModel, *, allow_changes: bool = False) -> None:
        """Compare the hyperparameters of a model with those of the last checkpoint, if there is one.

        Raises:
            ValueError: they differ; names them.
        """
        latest = self.checkpoints.latest()
        if latest is not None and (changed := model_changes(latest, model)):
            self._refuse_changes(changed, allow_changes)

    def _check_resumable(self, config: TrainingConfig, allow_changes: bool) -> list[str]:
        path = self.path
        if not path.is_dir():
            raise ValueError(f"there is no run to resume in {path}: the folder does not exist")
        if not (path / "config.toml").exists():
            raise ValueError(f"there is no run to resume in {path}: it has no config.toml")
        rows = {file.path.name: file.rows() for file in (self.metrics, self.samples)}
        missing: list[str] = []
        try:
            now = environment(config, recorded_environment(path))
        except MissingBackendError as error:
            missing, now = [str(error)], self.environment(config)
        changed, self.notes = changes_since(path, config, now, rows)
        changed = missing + [change for change in changed if not (missing and change.startswith("backends"))]
        if changed:
            self._refuse_changes(changed, allow_changes)
        return self.notes

    def _refuse_changes(self, changed: list[str], allow_changes: bool) -> None:
        """Note what changes the result of the run, or raise a ValueError."""
        if not allow_changes:
            raise ValueError(
                f"the run in {self.path} cannot be resumed with the same result: {'; '.join(changed)};"
                " --allow-changes resumes it nevertheless"
            )
        self.notes += changed

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Store the metrics on the test split in ``results.json``."""
        atomic_write(self.path / "results.json", json.dumps(results, indent=2) + "\n")

    def read_results(self) -> dict[str, Any]:
        """The metrics on the test split, or an empty dict if there are none yet."""
        path = self.path / "results.json"
        return read_json_object(path) if path.exists() else {}

    def drop_results(self) -> None:
        """Remove the metrics on the test split, because the run will have other checkpoints."""
        (self.path / "results.json").unlink(missing_ok=True)

    def environment(self, config: TrainingConfig) -> dict[str, Any]:
        """``environment`` with the precision and the backends that the run has recorded.

        Other backends are taken if a recorded one is missing, which only ``allow_changes`` resumes.
        """
        recorded = recorded_environment(self.path)
        try:
            return environment(config, recorded)
        except MissingBackendError:
            return environment(config, {**(recorded or {}), "backends": resolve_backends(config.backend)})

    def write_environment(self, config: TrainingConfig) -> dict[str, Any]:
        """Store ``self.environment`` in ``environment.json``, and return it."""
        current = self.environment(config)
        atomic_write(self.path / "environment.json", json.dumps(current, indent=2) + "\n")
        return current


def environment(config: TrainingConfig, recorded: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Versions, device, precision, backends, threads, and the git revision of the current folder."""
    revision, changes = git_revision(Path.cwd())
    return {
        "glassformer": _version("glassformer"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        **numerics(choose_device(config.device), config.precision, config.backend, recorded),
        "git_revision": revision,
        "git_changes": changes,
    }


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
