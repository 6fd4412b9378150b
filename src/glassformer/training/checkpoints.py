"""Checkpoints of a training run: model, optimizer, random state, and progress.

``checkpoints/step-000123/`` contains the files of ``save_pretrained``, so it can be loaded like any other
model, and ``optimizer.safetensors``, ``random.safetensors``, ``state.json``, and the SHA-256 of each of these
files in ``checksums.json``. A checkpoint is written to a temporary folder, flushed to the disk and renamed,
so it is complete or absent. ``latest`` and ``best`` are links to checkpoints.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from glassformer.files import PARTIAL, atomic_write, read_json_object, sync
from glassformer.training.checkpoint_tensors import (
    DamagedCheckpointError,
    damaged,
    load_optimizer_state,
    match_optimizer_state,
    match_weights,
    optimizer_state,
    read_tensors,
    write_tensors,
)
from glassformer.training.devices import random_state, set_random_state

FORMAT = 2
"""Of ``state.json``. Format 1 has no checksums."""
STATE, CHECKSUMS = "state.json", "checksums.json"
TRAINING_FILES = {"optimizer.safetensors", "random.safetensors"}
"""Files of a checkpoint that only training reads."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: ``checkpoints/`` of the run folder; created when the first checkpoint is saved.
        keep: number of newest checkpoints to keep, in addition to the best.
    """

    def __init__(self, folder: str | Path, keep: int = 2) -> None:
        self.folder = Path(folder)
        self.keep = keep

    def save(
        self,
        model: Any,
        optimizer: torch.optim.Optimizer,
        progress: Mapping[str, Any],
        settings: Mapping[str, Any] | None = None,
    ) -> Path:
        """Save a checkpoint, then remove the ones that are not to be kept.

        Args:
            model: an ``nn.Module`` with ``save_pretrained(folder)``.
            optimizer: optimizer of the model's parameters.
            progress: JSON values with ``step`` and, if known, ``validation_loss``.
            settings: JSON values with which a process that resumes the run compares its own.

        Raises:
            OSError: the disk is full or not writable; the existing checkpoints are unchanged.
        """
        target = self.path(progress["step"])
        self.folder.mkdir(parents=True, exist_ok=True)
        with _atomic_folder(target) as folder:
            model.save_pretrained(folder)
            tensors, values = random_state()
            write_tensors(folder / "optimizer.safetensors", optimizer_state(model, optimizer))
            write_tensors(folder / "random.safetensors", tensors)
            state = {"format": FORMAT, "progress": dict(progress), "random": values}
            state["settings"] = dict(settings or {})
            atomic_write(folder / STATE, json.dumps(state))
            checksums = {path.name: _sha256(path) for path in sorted(folder.iterdir())}
            atomic_write(folder / CHECKSUMS, json.dumps(checksums, indent=1) + "\n")
        self.clean_up()
        return target

    def clean_up(self) -> None:
        """Renew the links, and remove checkpoints that are not to be kept or that a killed process left.

        No other process may be writing checkpoints here.
        """
        for path in (*self.folder.glob(f".*{PARTIAL}"), *self.folder.glob(".*.link")):
            _remove(path)
        latest, best = self.latest(), self.best()
        self._link("latest", latest)
        self._link("best", best)
        for path in map(self.path, self.steps()[: -self.keep]):
            if path != best:
                _remove(_set_aside(path))

    def restore(self, path: Path, model: Any, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Restore model, optimizer and random number generators; return the ``progress`` given to ``save``.

        Raises:
            DamagedCheckpointError: a file is missing or not what was written; names it.
            ValueError: the checkpoint has another format or architecture, or tensors of another data type.
                Nothing is changed in either case.
        """
        verify(path)
        state = read_state(path)
        weights, optimizer_file = path / "model.safetensors", path / "optimizer.safetensors"
        matched = match_weights(read_tensors(weights), model, weights)
        moments = match_optimizer_state(read_tensors(optimizer_file), model, optimizer_file)
        before = random_state()
        try:
            set_random_state(read_tensors(path / "random.safetensors"), state["random"])
        except (LookupError, TypeError, ValueError, RuntimeError, OverflowError) as error:
            set_random_state(*before)
            if isinstance(error, DamagedCheckpointError):
                raise
            problem = f"lacks {error}" if isinstance(error, KeyError) else f"is invalid: {error}"
            raise DamagedCheckpointError(
                f"checkpoint {path} is damaged: its random state {problem}"
            ) from error
        with torch.no_grad():
            for tensor, saved in matched:
                tensor.copy_(saved)
        load_optimizer_state(moments, model, optimizer)
        progress: dict[str, Any] = state["progress"]
        return progress

    def restore_latest(
        self,
        model: Any,
        optimizer: torch.optim.Optimizer,
        *,
        skip_damaged: bool = False,
        on_skip: Callable[[str], None] = lambda message: None,
    ) -> dict[str, Any] | None:
        """Restore the newest checkpoint and return its ``progress``, or None if there is no checkpoint.

        Args:
            model: see ``save``.
            optimizer: see ``save``.
            skip_damaged: restore the newest checkpoint that is not damaged, and delete the damaged ones.
            on_skip: called with the reason for each checkpoint that is skipped.

        Raises:
            DamagedCheckpointError: the checkpoint, or with ``skip_damaged`` every checkpoint, is damaged.
            ValueError: see ``restore``.
        """
        steps = self.steps()[::-1]
        errors: list[str] = []
        for step in steps:
            path = self.path(step)
            try:
                progress = self.restore(path, model, optimizer)
                if progress["step"] != step:
                    raise damaged(path / STATE, f"is of step {progress['step']}")
            except DamagedCheckpointError as error:
                if not skip_damaged and len(steps) > 1:
                    advice = f"--skip-damaged resumes from the one before it, {self.path(steps[1]).name}"
                    raise DamagedCheckpointError(f"{error}; {advice}") from error
                errors.append(str(error))
                continue
            for number, message in enumerate(errors):
                on_skip(f"deleted: {message}")
                _remove(_set_aside(self.path(steps[number])))
            return progress
        if errors:
            raise DamagedCheckpointError(errors[0])
        return None

    def newest_state(self) -> dict[str, Any] | None:
        """Content of ``state.json`` of the newest checkpoint in which it is not damaged, or None."""
        for step in reversed(self.steps()):
            with suppress(ValueError):
                verify(self.path(step), lambda name: name == STATE)
                return read_state(self.path(step))
        return None

    def steps(self) -> list[int]:
        """Steps of all checkpoints, ascending."""
        found = (p.name.removeprefix("step-") for p in self.folder.glob("step-*") if p.is_dir())
        return sorted(int(number) for number in found if number.isdigit())

    def path(self, step: int) -> Path:
        """Path of the checkpoint after ``step`` updates."""
        return self.folder / f"step-{step:06d}"

    def latest(self) -> Path | None:
        """The newest checkpoint, or None."""
        steps = self.steps()
        return self.path(steps[-1]) if steps else None

    def best(self) -> Path | None:
        """The checkpoint with the lowest validation loss, or None if no loss is known."""
        losses = {step: self._validation_loss(step) for step in self.steps()}
        known = {step: loss for step, loss in losses.items() if loss is not None}
        return self.path(min(known, key=lambda step: known[step])) if known else None

    def _validation_loss(self, step: int) -> float | None:
        with suppress(ValueError):
            loss: float | None = read_state(self.path(step))["progress"].get("validation_loss")
            return loss if loss is not None and abs(loss) < math.inf else None
        return None

    def _link(self, name: str, target: Path | None) -> None:
        """Point the link ``name`` to ``target``, or remove it; without effect if there are no links."""
        link, temporary = self.folder / name, self.folder / f".{name}.link"
        with suppress(OSError):
            if target is None:
                link.unlink(missing_ok=True)
            elif not link.is_symlink() or os.readlink(link) != target.name:
                temporary.symlink_to(target.name, target_is_directory=True)
                os.replace(temporary, link)
        with suppress(OSError):
            temporary.unlink(missing_ok=True)  # not renamed, for example because the link is a folder now


def best_checkpoint(run_folder: Path) -> Path:
    """The checkpoint of a run with the lowest validation loss, or the newest if no loss is known.

    Raises:
        ValueError: the run has no checkpoint yet, or a file of its model is damaged.
    """
    checkpoints = Checkpoints(run_folder / "checkpoints")
    chosen = checkpoints.best() or checkpoints.latest()
    if chosen is None:
        raise ValueError(f"the run in {run_folder} has no checkpoint yet")
    verify_model(chosen)
    return chosen


def verify_model(folder: Path) -> None:
    """Compare what a model is loaded from with its checksums, if the folder is a checkpoint of a run.

    Raises:
        DamagedCheckpointError: a file is missing or differs; names it.
    """
    if (folder / CHECKSUMS).exists() and (folder / STATE).exists():
        verify(folder, lambda name: name not in TRAINING_FILES)


def read_state(path: Path) -> dict[str, Any]:
    """Content of ``state.json`` of a checkpoint.

    Raises:
        DamagedCheckpointError: the file is missing or lacks a value.
        ValueError: it was written by a later version.
    """
    file = path / STATE
    try:
        state = read_json_object(file)
    except (OSError, ValueError) as error:
        raise damaged(file, f"cannot be read: {error}") from error
    if (version := state.get("format")) not in range(1, FORMAT + 1):
        raise ValueError(f"checkpoint {path} has format {version}; this version reads formats 1 to {FORMAT}")
    progress = state.get("progress")
    if not isinstance(progress, dict) or not isinstance(state.get("random"), dict):
        raise damaged(file, "must have the objects 'progress' and 'random'")
    if not isinstance(state.setdefault("settings", {}), dict):
        raise damaged(file, "must have an object as 'settings'")
    for name, kinds in {"step": int, "tokens": int, "seconds": int | float}.items():
        value = progress.get(name, None if name == "step" else 0)
        if not (isinstance(value, kinds) and 0 <= value < 2**63):
            raise damaged(file, f"has the {name} {value!r}, which must be a number of at least 0")
    if not isinstance(loss := progress.get("validation_loss", 0), int | float):
        raise damaged(file, f"has the validation_loss {loss!r}, which must be a number")
    return state


def verify(path: Path, needed: Callable[[str], bool] = lambda name: True) -> None:
    """Compare the files of a checkpoint with their checksums. Checkpoints of version 0.1 have none.

    Args:
        path: folder of the checkpoint.
        needed: whether the file of a name is compared; others may be missing. Default: all are.

    Raises:
        DamagedCheckpointError: a file is missing or differs; names it.
    """
    file = path / CHECKSUMS
    if not file.exists() and read_state(path)["format"] == 1:
        return
    try:
        checksums = read_json_object(file)
    except (OSError, ValueError) as error:
        raise damaged(file, f"cannot be read: {error}") from error
    present = {entry.name for entry in path.iterdir() if entry.is_file()}
    for name in filter(needed, dict.fromkeys((*checksums, STATE))):
        if name not in present:
            raise damaged(path / name, "is missing")
        if _sha256(path / name) != checksums.get(name):
            raise damaged(path / name, f"does not match its checksum in {CHECKSUMS}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _set_aside(path: Path) -> Path:
    """Rename a checkpoint that is to be removed, so that a kill never leaves a part of it under its name."""
    aside = path.with_name(f".{path.name}.removed{PARTIAL}")
    with suppress(FileNotFoundError):
        _remove(aside)
    os.replace(path, aside)
    return aside


def _remove(path: Path) -> None:
    """Remove a folder with its content, a file, or a link, as to a checkpoint on another disk."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


@contextmanager
def _atomic_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to ``target`` if the block succeeds, and removed otherwise."""
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=PARTIAL))
    try:
        folder.chmod(0o755)
        yield folder
        for path in (*folder.iterdir(), folder):
            sync(path)
        replaced = _set_aside(target) if target.exists() else None
        os.replace(folder, target)
        sync(target.parent)
        if replaced is not None:
            _remove(replaced)
    except SafetensorError as error:
        raise OSError(f"cannot write {target}: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
