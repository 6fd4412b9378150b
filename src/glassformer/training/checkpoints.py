"""Checkpoints: whole or absent, nothing pickled, everything that a run needs to go on to the bit.

``checkpoints/step-000123/`` holds the model as ``save_pretrained`` writes it (so that it can be loaded as
any other model), ``optimizer.safetensors``, ``random.safetensors`` and ``state.json``. It is written under
another name, forced to the disk and renamed; ``latest`` and ``best`` are links to two of them.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from glassformer.files import atomic_path, atomic_write, sync
from glassformer.training.random_state import random_state, set_random_state

FORMAT = 1
_PARTIAL = ".partial"


class SavableModel(Protocol):
    """A model, as far as checkpoints are concerned."""

    def save_pretrained(self, folder: Path) -> None:
        """Write ``config.json``, ``model.safetensors`` and, if there is one, the tokenizer."""
        ...


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: ``checkpoints/`` of the run folder; made when first needed.
        keep: how many of the newest stay, besides the best.
    """

    def __init__(self, folder: str | Path, keep: int = 2) -> None:
        self.folder = Path(folder)
        self.keep = keep

    def save(self, model: Any, optimizer: torch.optim.Optimizer, progress: Mapping[str, Any]) -> Path:
        """Save everything after ``progress["step"]`` updates; older checkpoints go when it is on the disk.

        Args:
            model: an ``nn.Module`` that is a ``SavableModel``.
            optimizer: over parameters of ``model``.
            progress: JSON values; ``step``, and ``validation_loss`` where it is known.

        Raises:
            OSError: the disk is full or not writable; the checkpoints that were there are as they were.
        """
        target = self.folder / f"step-{progress['step']:06d}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._clear_partial()
        with _whole_folder(target) as folder:
            model.save_pretrained(folder)
            tensors, values = random_state()
            _write(folder / "optimizer.safetensors", _optimizer_tensors(model, optimizer))
            _write(folder / "random.safetensors", tensors)
            state = {"format": FORMAT, "progress": dict(progress), "random": values}
            atomic_write(folder / "state.json", json.dumps(state))
        self._point("latest", target)
        self._prune()
        return target

    def restore(self, path: Path, model: Any, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Put model, optimizer and random generators back as they were; the ``progress`` of ``save``.

        Raises:
            ValueError: a file is missing, truncated or damaged, or is of another architecture; says which
                file or tensor. Nothing was changed then.
        """
        try:
            state = json.loads((path / "state.json").read_text(encoding="utf-8"))
            progress: dict[str, Any] = state["progress"]
            random_values, version = state["random"], state["format"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"checkpoint {path} is damaged: state.json: {error}") from error
        if version != FORMAT:
            raise ValueError(f"checkpoint {path} has format {version}; this version reads {FORMAT}")
        weights = _read(path / "model.safetensors")
        matched = match_weights(weights, model, path / "model.safetensors")
        moments = _matched_moments(
            _read(path / "optimizer.safetensors"), model, path / "optimizer.safetensors"
        )
        try:
            set_random_state(_read(path / "random.safetensors"), random_values)
        except (KeyError, TypeError, RuntimeError) as error:
            raise ValueError(f"checkpoint {path} is damaged: its random state lacks {error}") from error
        with torch.no_grad():
            for tensor, saved in matched:
                tensor.copy_(saved)
        _load_moments(moments, model, optimizer)
        return progress

    def steps(self) -> list[int]:
        """The steps that there are checkpoints of, ascending."""
        found = (p.name.removeprefix("step-") for p in self.folder.glob("step-*") if p.is_dir())
        return sorted(int(number) for number in found if number.isdigit())

    def path(self, step: int) -> Path:
        """Where the checkpoint after ``step`` updates is."""
        return self.folder / f"step-{step:06d}"

    def latest(self) -> Path | None:
        """The newest checkpoint, or None."""
        steps = self.steps()
        return self.path(steps[-1]) if steps else None

    def best(self) -> Path | None:
        """The checkpoint with the lowest validation loss, or None where no loss is known."""
        losses = {step: self._validation_loss(step) for step in self.steps()}
        known = {step: loss for step, loss in losses.items() if loss is not None}
        return self.path(min(known, key=lambda step: known[step])) if known else None

    def _validation_loss(self, step: int) -> float | None:
        with suppress(OSError, ValueError, KeyError):
            state = json.loads((self.path(step) / "state.json").read_text(encoding="utf-8"))
            loss: float | None = state["progress"].get("validation_loss")
            return loss
        return None

    def _prune(self) -> None:
        best = self.best()
        if best is not None:
            self._point("best", best)
        for step in self.steps()[: -self.keep]:
            if self.path(step) != best:
                shutil.rmtree(self.path(step))

    def _clear_partial(self) -> None:
        """Remove what a killed process left half-written."""
        for left in self.folder.glob(f".*{_PARTIAL}"):
            shutil.rmtree(left)

    def _point(self, name: str, target: Path) -> None:
        """Make the link ``name`` lead to ``target``; a convenience: a system without links does without."""
        temporary = self.folder / f".{name}.link"
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(target.name, target_is_directory=True)
            os.replace(temporary, self.folder / name)


def best_of_run(folder: Path) -> Path:
    """The best checkpoint of a run by validation loss, or the newest where no loss is known.

    Raises:
        ValueError: the run has no checkpoint yet.
    """
    checkpoints = Checkpoints(folder / "checkpoints")
    chosen = checkpoints.best() or checkpoints.latest()
    if chosen is None:
        raise ValueError(f"the run in {folder} has no checkpoint yet")
    return chosen


def match_weights(saved: Mapping[str, Tensor], model: nn.Module, source: Path) -> list[tuple[Tensor, Tensor]]:
    """Pairs (tensor of ``model``, its saved values); a shared tensor may be saved under any of its names.

    Raises:
        ValueError: a tensor is missing, unknown, or of another shape.
    """
    state = model.state_dict(keep_vars=True)
    for name, tensor in saved.items():
        if name not in state:
            raise ValueError(f"{source} is of another architecture: the model has no tensor {name!r}")
        if tensor.shape != state[name].shape:
            raise ValueError(
                f"{source} is of another architecture: {name!r} is {tuple(tensor.shape)} in the file"
                f" and {tuple(state[name].shape)} in the model"
            )
    filled = {id(state[name]) for name in saved}
    for name, tensor in state.items():
        if id(tensor) not in filled:
            raise ValueError(f"{source} is of another architecture: it has no tensor {name!r}")
    return [(state[name], tensor) for name, tensor in saved.items()]


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state by parameter: ``exp_avg/blocks.0.norm1.weight``."""
    return {
        f"{kind}/{name}": tensor.contiguous()
        for name, parameter in model.named_parameters()
        for kind, tensor in optimizer.state.get(parameter, {}).items()
    }


def _matched_moments(
    saved: Mapping[str, Tensor], model: nn.Module, source: Path
) -> dict[str, dict[str, Tensor]]:
    """The saved state by parameter name and kind, found to fit."""
    parameters = dict(model.named_parameters())
    moments: dict[str, dict[str, Tensor]] = {}
    for key, tensor in saved.items():
        kind, _, name = key.partition("/")
        fits = name in parameters and tensor.shape in ((), parameters[name].shape)
        if not fits:
            raise ValueError(
                f"{source} is of another architecture: {key!r} {tuple(tensor.shape)} has no parameter"
            )
        moments.setdefault(name, {})[kind] = tensor
    missing = [
        name for name, parameter in parameters.items() if parameter.requires_grad and name not in moments
    ]
    if moments and missing:
        raise ValueError(f"{source} is of another architecture: it has no state of {missing[0]!r}")
    return moments


def _load_moments(
    moments: Mapping[str, dict[str, Tensor]], model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    names = {parameter: name for name, parameter in model.named_parameters()}
    ordered = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
    state = {index: moments[name] for index, name in enumerate(ordered) if name in moments}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"checkpoint {path.parent} is damaged: {path.name}: {error}") from error


@contextmanager
def _whole_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``target`` when the block ends without an error, and else vanishes."""
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
