"""Checkpoints of a training run: model, optimizer, random state, and progress.

``checkpoints/step-000123/`` contains the files of ``save_pretrained``, so it can be loaded like any other
model, and ``optimizer.safetensors``, ``random.safetensors`` and ``state.json``. A checkpoint is written to a
temporary folder, flushed to the disk and renamed, so it is complete or absent. ``latest`` and ``best`` are
links to checkpoints.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from glassformer.files import atomic_path, atomic_write, sync
from glassformer.training.devices import random_state, set_random_state

FORMAT = 1
_PARTIAL = ".partial"


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: ``checkpoints/`` of the run folder; created when the first checkpoint is saved.
        keep: number of newest checkpoints to keep, in addition to the best.
    """

    def __init__(self, folder: str | Path, keep: int = 2) -> None:
        self.folder = Path(folder)
        self.keep = keep

    def save(self, model: Any, optimizer: torch.optim.Optimizer, progress: Mapping[str, Any]) -> Path:
        """Save a checkpoint, then remove the ones that are not to be kept.

        Args:
            model: an ``nn.Module`` with ``save_pretrained(folder)``.
            optimizer: optimizer of the model's parameters.
            progress: JSON values with ``step`` and, if known, ``validation_loss``.

        Raises:
            OSError: the disk is full or not writable; the existing checkpoints are unchanged.
        """
        target = self.path(progress["step"])
        self.folder.mkdir(parents=True, exist_ok=True)
        self._remove_partial()
        with _atomic_folder(target) as folder:
            model.save_pretrained(folder)
            tensors, values = random_state()
            _write(folder / "optimizer.safetensors", _optimizer_state(model, optimizer))
            _write(folder / "random.safetensors", tensors)
            state = {"format": FORMAT, "progress": dict(progress), "random": values}
            atomic_write(folder / "state.json", json.dumps(state))
        self._link("latest", target)
        self._remove_old()
        return target

    def restore(self, path: Path, model: Any, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Restore model, optimizer and random number generators; return the ``progress`` given to ``save``.

        Raises:
            ValueError: a file is missing or damaged, or has another architecture; names the file or tensor.
                Nothing is changed in this case.
        """
        try:
            state = json.loads((path / "state.json").read_text(encoding="utf-8"))
            progress: dict[str, Any] = state["progress"]
            random_values, version = state["random"], state["format"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"checkpoint {path} is damaged: state.json: {error}") from error
        if version != FORMAT:
            raise ValueError(f"checkpoint {path} has format {version}; this version reads format {FORMAT}")
        matched = match_weights(_read(path / "model.safetensors"), model, path / "model.safetensors")
        moments = _match_optimizer_state(
            _read(path / "optimizer.safetensors"), model, path / "optimizer.safetensors"
        )
        try:
            set_random_state(_read(path / "random.safetensors"), random_values)
        except (KeyError, TypeError, RuntimeError) as error:
            raise ValueError(f"checkpoint {path} is damaged: its random state lacks {error}") from error
        with torch.no_grad():
            for tensor, saved in matched:
                tensor.copy_(saved)
        _load_optimizer_state(moments, model, optimizer)
        return progress

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
        with suppress(OSError, ValueError, KeyError):
            state = json.loads((self.path(step) / "state.json").read_text(encoding="utf-8"))
            loss: float | None = state["progress"].get("validation_loss")
            return loss
        return None

    def _remove_old(self) -> None:
        best = self.best()
        if best is not None:
            self._link("best", best)
        for step in self.steps()[: -self.keep]:
            if self.path(step) != best:
                shutil.rmtree(self.path(step))

    def _remove_partial(self) -> None:
        """Remove incomplete checkpoints of killed processes."""
        for folder in self.folder.glob(f".*{_PARTIAL}"):
            shutil.rmtree(folder)

    def _link(self, name: str, target: Path) -> None:
        """Point the link ``name`` to ``target``; without effect on file systems that have no links."""
        temporary = self.folder / f".{name}.link"
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(target.name, target_is_directory=True)
            os.replace(temporary, self.folder / name)


def best_checkpoint(run_folder: Path) -> Path:
    """The checkpoint of a run with the lowest validation loss, or the newest if no loss is known.

    Raises:
        ValueError: the run has no checkpoint yet.
    """
    checkpoints = Checkpoints(run_folder / "checkpoints")
    chosen = checkpoints.best() or checkpoints.latest()
    if chosen is None:
        raise ValueError(f"the run in {run_folder} has no checkpoint yet")
    return chosen


def match_weights(saved: Mapping[str, Tensor], model: nn.Module, source: Path) -> list[tuple[Tensor, Tensor]]:
    """Pairs (tensor of ``model``, saved values); a shared tensor may be saved under any of its names.

    Raises:
        ValueError: a tensor is missing, unknown, or of another shape.
    """
    state = model.state_dict(keep_vars=True)
    for name, tensor in saved.items():
        if name not in state:
            raise ValueError(f"{source} has another architecture: the model has no tensor {name!r}")
        if tensor.shape != state[name].shape:
            raise ValueError(
                f"{source} has another architecture: {name!r} is {tuple(tensor.shape)} in the file"
                f" and {tuple(state[name].shape)} in the model"
            )
    matched = {id(state[name]) for name in saved}
    for name, tensor in state.items():
        if id(tensor) not in matched:
            raise ValueError(f"{source} has another architecture: it has no tensor {name!r}")
    return [(state[name], tensor) for name, tensor in saved.items()]


def _optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Optimizer state by kind and parameter name: ``exp_avg/blocks.0.norm1.weight``."""
    return {
        f"{kind}/{name}": tensor.contiguous()
        for name, parameter in model.named_parameters()
        for kind, tensor in optimizer.state.get(parameter, {}).items()
    }


def _match_optimizer_state(
    saved: Mapping[str, Tensor], model: nn.Module, source: Path
) -> dict[str, dict[str, Tensor]]:
    """Saved state by parameter name and kind; raises ValueError if it does not match the model.

    A parameter that never had a gradient, such as the pooler's in masked language modeling, has no state.
    """
    parameters = dict(model.named_parameters())
    state: dict[str, dict[str, Tensor]] = {}
    for key, tensor in saved.items():
        kind, _, name = key.partition("/")
        if name not in parameters or tensor.shape not in ((), parameters[name].shape):
            raise ValueError(
                f"{source} has another architecture: {key!r} {tuple(tensor.shape)} matches no parameter"
            )
        state.setdefault(name, {})[kind] = tensor
    kinds = {kind for kinds in state.values() for kind in kinds}
    for name, kinds_of_name in state.items():
        if missing := kinds - kinds_of_name.keys():
            raise ValueError(f"{source} is incomplete: it has no {min(missing)} of {name!r}")
    return state


def _load_optimizer_state(
    state: Mapping[str, dict[str, Tensor]], model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    names = {parameter: name for name, parameter in model.named_parameters()}
    ordered = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
    by_index = {index: state[name] for index, name in enumerate(ordered) if name in state}
    optimizer.load_state_dict({"state": by_index, "param_groups": optimizer.state_dict()["param_groups"]})


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"checkpoint {path.parent} is damaged: {path.name}: {error}") from error


@contextmanager
def _atomic_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to ``target`` if the block succeeds, and removed otherwise."""
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=_PARTIAL))
    try:
        folder.chmod(0o755)
        yield folder
        for path in (*folder.iterdir(), folder):
            sync(path)
        if target.exists():
            shutil.rmtree(target)
        os.replace(folder, target)
        sync(target.parent)
    except SafetensorError as error:
        raise OSError(f"cannot write {target}: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
