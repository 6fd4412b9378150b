"""Weights of saved models: building on the meta device, and assigning the tensors of a file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.overrides import TorchFunctionMode

from glassformer.terminal import count_of

if TYPE_CHECKING:
    from glassformer.models.base import TransformerModel

    Model = TypeVar("Model", bound=TransformerModel)

FLOATING_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Types that parameters can have, by their names in safetensors files."""

_UNBOUNDED = {"max_seq_len", "window", "labels"}
"""Counts that may exceed the number of weights: of tokens, and of the classes of a model without a head."""


def build_on_meta(
    family: type[Model],
    hyperparameters: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    source: object,
) -> Model:
    """Build a model on the meta device, for weights that are assigned afterwards.

    Args:
        family: class of the model.
        hyperparameters: keywords of its constructor.
        shapes: of the tensors in the checkpoint, which bound the counts, so that little is built for others.
        source: of the hyperparameters, for error messages.

    Raises:
        ValueError: if the hyperparameters do not describe a model, or a count exceeds the tensors.

    """
    num_weights = sum(map(math.prod, shapes.values()))
    counts = {name: value for name, value in hyperparameters.items() if isinstance(value, int)}
    num_layers = counts.get("num_layers", 0) + counts.get("num_decoder_layers", 0)
    if num_layers > len(shapes):
        layers, tensors = count_of(num_layers, "layer"), count_of(len(shapes), "tensor")
        raise ValueError(f"{source}: {layers} cannot be made of {tensors}")
    for name, count in counts.items():
        if count > num_weights and name not in _UNBOUNDED:
            raise ValueError(f"{source}: {name}={count} exceeds the {num_weights} numbers in the tensors")
    try:
        with on_meta():
            return family(**hyperparameters)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{source} does not describe a model: {error}") from error


@contextmanager
def on_meta() -> Iterator[None]:
    """Build models without memory for their parameters and without drawing random numbers."""
    with torch.device("meta"), _SkipInitialization():
        yield


class _SkipInitialization(TorchFunctionMode):
    """Skip random initialization (on the meta device it would import PyTorch's compiler)."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.__name__ in ("normal_", "uniform_", "kaiming_uniform_", "trunc_normal_"):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def load_tensors(model: TransformerModel, path: Path) -> None:
    """Assign the tensors of a safetensors file to a model, on the meta device or not.

    A tied tensor may have any of its names.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is damaged, its tensors are not exactly the model's, or they do not have one
            floating-point type.

    """
    with open_tensors(path) as file:
        names = {name: name for name in file.keys()}  # noqa: SIM118  # in the model: in the file
        for alias, name in model.tied_parameters().items():
            if alias in names and name in names:
                if not torch.equal(file.get_tensor(alias), file.get_tensor(name)):
                    raise ValueError(f"{path}: {alias} must be the same tensor as {name}")
                del names[alias]
            elif alias in names:
                names[name] = names.pop(alias)
        headers = {name: file.get_slice(stored) for name, stored in names.items()}
        shapes = {name: tuple(header.get_shape()) for name, header in headers.items()}
        _check_tensors(shapes, model.untied_state_dict(), path)
        _check_types({name: header.get_dtype() for name, header in headers.items()}, path)
        tensors = {name: file.get_tensor(stored) for name, stored in names.items()}
    assign_tensors(model, tensors)


def assign_tensors(model: TransformerModel, tensors: Mapping[str, Tensor]) -> None:
    """Make tensors the parameters of a model, without a copy, and tie the tied parameters."""
    model.load_state_dict(tensors, strict=False, assign=True)
    model.tie_parameters()


@contextmanager
def open_tensors(path: Path) -> Iterator[Any]:
    """Open a safetensors file.

    Raises:
        FileNotFoundError: if it does not exist.
        ValueError: if it is damaged.

    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights: {path} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _check_tensors(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, Tensor], path: Path) -> None:
    wrong = [f"{name} is missing" for name in expected if name not in found]
    wrong += [f"{name:.200} is not part of the model" for name in found if name not in expected]
    for name, shape in found.items():
        if name in expected and shape != tuple(expected[name].shape):
            wrong.append(f"{name} has shape {shape}, the model needs {tuple(expected[name].shape)}")
    if wrong:
        more = f", and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ValueError(f"{path} does not fit the model: {'; '.join(wrong[:5])}{more}")


def _check_types(types: Mapping[str, str], path: Path) -> None:
    """Check that all tensors have the same one of ``FLOATING_TYPES``."""
    first = next(iter(types))
    for name, type_ in types.items():
        if type_ not in FLOATING_TYPES:
            raise ValueError(f"{path}: {name} has dtype {type_}, not one of {', '.join(FLOATING_TYPES)}")
        if type_ != types[first]:
            raise ValueError(
                f"{path}: all tensors must have one dtype, but {first} has {types[first]} and {name} {type_}"
            )
