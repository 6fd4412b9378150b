"""Checkpoint formats: how one kind of published model writes its config and names its tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

from glassformer.models import TransformerModel
from glassformer.models.weights import FLOATING_TYPES, assign_tensors, build_on_meta
from glassformer.pretrained.config_reader import ConfigReader
from glassformer.pretrained.weight_table import TensorReader, WeightTable, convert_weights


@dataclass(frozen=True)
class CheckpointFormat:
    """One kind of published model, for loading and saving."""

    model_class: type[TransformerModel]
    read_config: Callable[[ConfigReader, TensorReader], dict[str, Any]]
    """Returns the keywords of the model; the tensors show what a config leaves open."""
    write_config: Callable[[Mapping[str, Any]], dict[str, Any]]
    """Returns a config for the keywords of a model; raises ValueError if the format cannot express them."""
    weight_table: Callable[[Mapping[str, Any]], WeightTable]
    """Returns the tensor names of a model with these keywords."""
    ignored_keys: tuple[str, ...] = ()
    """Keys of its configs that do not change the model."""

    def config_of(self, model: TransformerModel) -> dict[str, Any]:
        """Return the config of a model.

        Raises:
            ValueError: a hyperparameter that the format cannot express.
        """
        attentions = [attention for kind in model.attentions().values() for attention in kind]
        if not all(attention.kernel.is_softmax for attention in attentions):
            raise ValueError(
                "this format has softmax attention only, so that linear attention cannot be saved"
            )
        tracked = _TrackedConfig(model.config)
        config = self.write_config(tracked)
        defaults = {field.name: field.default for field in fields(model.config)}
        for name in model.config.keys() - tracked.used - NOT_IN_CONFIG:
            if model.config[name] != defaults[name]:
                raise ValueError(f"{name} must be {defaults[name]!r}, got {model.config[name]!r}")
        return config


NOT_IN_CONFIG = {
    *("kernel", "gradient_checkpointing", "pruned_heads", "labels", "pixel_mean", "pixel_std"),
    *("bias", "qkv_bias", "out_bias", "ff_bias", "pooler"),  # the names of the tensors differ
}
"""Hyperparameters that do not change the outputs, or that are checked or saved elsewhere."""


class _TrackedConfig(Mapping[str, Any]):
    """A config that records which of its values are used."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config, self.used = config, set[str]()

    def __getitem__(self, name: str) -> Any:
        self.used.add(name)
        return self._config[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._config)

    def __len__(self) -> int:
        return len(self._config)


def build_model(
    model_class: type[TransformerModel],
    keywords: Mapping[str, Any],
    source: str,
    weight_table: Callable[[Mapping[str, Any]], WeightTable],
    tensors: TensorReader,
    dtype: torch.dtype,
) -> TransformerModel:
    """Build a model on the meta device and assign it the tensors of a checkpoint.

    Tensors that are only renamed stay memory-mapped, so no weight is in memory twice.

    Args:
        model_class: class of the model.
        keywords: of its constructor.
        source: of the keywords, for error messages.
        weight_table: returns the tensor names of a model with these keywords.
        tensors: of the checkpoint.
        dtype: of the parameters.

    Returns:
        The model in evaluation mode.

    Raises:
        ValueError: invalid keywords, or tensors that do not match the model.
    """
    model = build_on_meta(model_class, keywords, tensors.shapes, source)
    table = weight_table(model.config)
    assign_tensors(model, convert_weights(table, tensors, model.untied_state_dict(), dtype))
    return model.eval()


def check_expressible(model: TransformerModel, form: str) -> None:
    """Check that a model has the weights and all heads that other libraries' formats need.

    Raises:
        ValueError: rounded weights, or pruned heads.
    """
    model.check_not_rounded()
    if any(heads for layers in (model.config["pruned_heads"] or {}).values() for heads in layers):
        raise ValueError(
            f"a model with pruned heads cannot be saved in {form}, which has the same number of heads in "
            'each layer: save it with format="glassformer"'
        )


def common_dtype(tensors: TensorReader, config_dtype: object) -> torch.dtype:
    """Return the type of all floating-point tensors; if they differ, the type that the config names."""
    allowed = FLOATING_TYPES.values()
    found = set(tensors.dtypes.values()) & set(allowed)
    if len(found) == 1:
        return found.pop()
    name = str(config_dtype).removeprefix("torch.")
    return next((dtype for dtype in allowed if str(dtype) == f"torch.{name}"), torch.float32)


def require(config: Mapping[str, Any], **values: Any) -> None:
    """Check keywords that a checkpoint format cannot express otherwise.

    Args:
        config: keywords of a model.
        values: the required value of each keyword, or a tuple of allowed values.

    Raises:
        ValueError: a keyword with another value.
    """
    for name, value in values.items():
        allowed = value if isinstance(value, tuple) else (value,)
        if config[name] not in allowed:
            raise ValueError(f"{name} must be {' or '.join(map(repr, allowed))}, got {config[name]!r}")


def resolve_bias(config: Mapping[str, Any], name: str) -> bool:
    """Return a keyword such as ``qkv_bias``, or ``bias`` if it is None."""
    return bool(config["bias"] if config[name] is None else config[name])


def resolve_d_ff(config: Mapping[str, Any]) -> int:
    """Return ``d_ff`` or its default."""
    return int(config["d_ff"] or 4 * config["d_model"])


def resolve_d_head(config: Mapping[str, Any]) -> int:
    """Return ``d_head`` or its default."""
    return int(config["d_head"] or config["d_model"] // config["num_heads"])


def activation_name(activation: str, names: Mapping[str, str]) -> str:
    """Return the name of an activation in a checkpoint format.

    Args:
        activation: name in this library.
        names: names of the format to names in this library.

    Raises:
        ValueError: an activation that the format does not have.
    """
    first_names: dict[str, str] = {}
    for name, ours in names.items():
        first_names.setdefault(ours, name)
    if activation not in first_names:
        raise ValueError(f"activation must be one of {', '.join(first_names)}, got {activation!r}")
    return first_names[activation]
