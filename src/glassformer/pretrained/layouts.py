"""What a layout is: how one kind of published model writes its config and names its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from glassformer.models import TransformerModel
from glassformer.pretrained.configs import ConfigReader
from glassformer.pretrained.conversion import Table, Tensors


@dataclass(frozen=True)
class Layout:
    """One kind of published model, in both directions."""

    family: type[TransformerModel]
    read_config: Callable[[ConfigReader, Tensors], dict[str, Any]]
    """Keywords of the family from a config; the tensors tell what a config leaves open."""
    write_config: Callable[[Mapping[str, Any]], dict[str, Any]]
    """A config from keywords; a ValueError says why this layout cannot express them."""
    table: Callable[[Mapping[str, Any]], Table]
    """The names of a model with these keywords."""
    harmless: tuple[str, ...] = ()
    """Keys of its configs that change nothing."""


def require(config: Mapping[str, Any], **values: Any) -> None:
    """Refuse keywords that a layout cannot express.

    Raises:
        ValueError: naming the first that has another value than the one (or those, in a tuple) given.

    """
    for name, value in values.items():
        allowed = value if isinstance(value, tuple) else (value,)
        if config[name] not in allowed:
            raise ValueError(f"{name} must be {' or '.join(map(repr, allowed))}, not {config[name]!r}")


def chosen(config: Mapping[str, Any], name: str, default: str = "bias") -> Any:
    """A keyword, or where it is None the one that it defaults to."""
    return config[default] if config[name] is None else config[name]


def width_inside(config: Mapping[str, Any]) -> int:
    """d_ff, chosen or not."""
    return int(config["d_ff"] or 4 * config["d_model"])


def width_of_head(config: Mapping[str, Any]) -> int:
    """d_head, chosen or not."""
    return int(config["d_head"] or config["d_model"] // config["num_heads"])


def written_activation(word: str, names: Mapping[str, str]) -> str:
    """Their word for our activation.

    Args:
        word: ours.
        names: theirs to ours.

    Raises:
        ValueError: one that they do not have.

    """
    theirs: dict[str, str] = {}
    for name, ours in names.items():
        theirs.setdefault(ours, name)  # the first of several
    if word not in theirs:
        raise ValueError(f"activation must be one of {', '.join(theirs)}, not {word!r}")
    return theirs[word]
