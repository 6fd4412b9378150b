"""Tensors of a checkpoint: reading, writing, and matching them to a model and its optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from glassformer.files import atomic_path


class DamagedCheckpointError(ValueError):
    """A file of a checkpoint is missing, incomplete or not what was written; the message names it."""


def damaged(file: Path, problem: object) -> DamagedCheckpointError:
    """The error for a file of a checkpoint."""
    return DamagedCheckpointError(f"checkpoint {file.parent} is damaged: {file.name} {problem}")


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file atomically."""
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file of a checkpoint.

    Raises:
        DamagedCheckpointError: the file cannot be read, or a number in it is infinite or NaN.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise damaged(path, f"cannot be read: {error}") from error
    if wrong := non_finite(tensors):
        raise damaged(path, f"has numbers that are not finite: {first_names(wrong)}")
    return tensors


def non_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors with a number that is infinite or NaN."""
    return [
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    ]


def first_names(names: list[str]) -> str:
    """At most three names, and the number of the others."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (", ".join(names[:3]) or "none") + more


def match_weights(saved: Mapping[str, Tensor], model: nn.Module, source: Path) -> list[tuple[Tensor, Tensor]]:
    """Pairs (tensor of ``model``, saved values); a shared tensor may be saved under any of its names.

    Raises:
        ValueError: a tensor is missing, unknown, or of another shape or data type.
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
        _check_dtype(tensor, state[name].dtype, name, source)
    matched = {id(state[name]) for name in saved}
    for name, tensor in state.items():
        if id(tensor) not in matched:
            raise ValueError(f"{source} has another architecture: it has no tensor {name!r}")
    return [(state[name], tensor) for name, tensor in saved.items()]


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Optimizer state by kind and parameter name: ``exp_avg/blocks.0.norm1.weight``."""
    return {
        f"{kind}/{name}": tensor.contiguous()
        for name, parameter in model.named_parameters()
        for kind, tensor in optimizer.state.get(parameter, {}).items()
    }


def match_optimizer_state(
    saved: Mapping[str, Tensor], model: nn.Module, source: Path
) -> dict[str, dict[str, Tensor]]:
    """Saved state by parameter name and kind.

    A parameter that never had a gradient, such as the pooler's in masked language modeling, has no state.

    Raises:
        ValueError: the state does not match the model.
        DamagedCheckpointError: a parameter lacks a part of its state.
    """
    parameters = dict(model.named_parameters())
    state: dict[str, dict[str, Tensor]] = {}
    for key, tensor in saved.items():
        kind, _, name = key.partition("/")
        if name not in parameters or tensor.shape not in ((), parameters[name].shape):
            raise ValueError(
                f"{source} has another architecture: {key!r} {tuple(tensor.shape)} matches no parameter"
            )
        if tensor.shape:
            _check_dtype(tensor, parameters[name].dtype, key, source)
        state.setdefault(name, {})[kind] = tensor
    kinds = {kind for kinds in state.values() for kind in kinds}
    for name, kinds_of_name in state.items():
        if missing := kinds - kinds_of_name.keys():
            raise damaged(source, f"has no {min(missing)} of {name!r}")
    return state


def load_optimizer_state(
    state: Mapping[str, dict[str, Tensor]], model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Load what ``match_optimizer_state`` returned."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    ordered = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
    by_index = {index: state[name] for index, name in enumerate(ordered) if name in state}
    optimizer.load_state_dict({"state": by_index, "param_groups": optimizer.state_dict()["param_groups"]})


def _check_dtype(tensor: Tensor, expected: torch.dtype, name: str, source: Path) -> None:
    if tensor.dtype != expected:
        raise ValueError(
            f"{source}: {name!r} has the data type {tensor.dtype} in the file and {expected} in the model"
        )
