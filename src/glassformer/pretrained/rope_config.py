"""Conversion between ``rope_parameters`` of Hugging Face configs and the keyword ``positions``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glassformer.choices import suggestion
from glassformer.pretrained.config_reader import ConfigReader

SCALINGS: dict[str, dict[str, str]] = {
    "linear": {"factor": "factor"},
    "dynamic": {"factor": "factor"},
    "yarn": {
        "factor": "factor",
        "beta_fast": "beta_fast",
        "beta_slow": "beta_slow",
        "attention_factor": "attention_factor",
        "truncate": "truncate",
    },
    "llama3": {
        "factor": "factor",
        "low_freq_factor": "low_freq_factor",
        "high_freq_factor": "high_freq_factor",
    },
    "longrope": {
        "short_factor": "short_factors",
        "long_factor": "long_factors",
        "factor": "factor",
        "attention_factor": "attention_factor",
    },
}
"""Kinds of rotary scaling, and for each the options of Hugging Face to those of this library."""

_ORIGINAL = "original_max_position_embeddings"
_SHARED_KEYS = {"rope_theta", "partial_rotary_factor", "type", "rope_type", _ORIGINAL}
"""Keys of ``rope_parameters`` that are not options of one kind of scaling."""


def read_rope(
    config: ConfigReader,
    d_head: int,
    theta_key: str = "rope_theta",
    fraction_key: str | None = None,
    *,
    theta: float = 10_000.0,
    fraction: float = 0.25,
    original: int | None = None,
    renamed_kinds: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return ``positions`` for ``rope_parameters``, or for the older ``rope_theta`` and ``rope_scaling``.

    Args:
        config: of a model with rotary positions.
        d_head: dimensions of a head.
        theta_key: key of the base in older configs.
        fraction_key: key of the rotated fraction of a head in older configs; None if it must be 1.
        theta: base if the config has none.
        fraction: rotated fraction if the config has none, for models with a ``fraction_key``.
        original: length of training, before any scaling, of models whose config has it outside of
            ``rope_parameters``.
        renamed_kinds: older names of kinds of scaling.

    Raises:
        ValueError: a kind of scaling, or an option of it, that is not implemented.
    """
    rope = ConfigReader(config.get_dict("rope_scaling") | config.get_dict("rope_parameters"), config.source)
    theta = rope.get_float("rope_theta", default=config.get_float(theta_key, default=theta))
    fraction = config.get_float(fraction_key, default=fraction) if fraction_key else 1.0
    fraction = rope.get_float("partial_rotary_factor", default=fraction)
    kinds = {str(rope.values[key]) for key in ("type", "rope_type") if key in rope.values} or {"default"}
    kinds = {(renamed_kinds or {}).get(kind, kind) for kind in kinds}
    length = config.get_int("max_position_embeddings", 2048)
    if original is None:
        original = rope.get_int(_ORIGINAL, config.get_int(_ORIGINAL, None))
    positions: dict[str, Any] = {"kind": "rotary", "theta": float(theta)}
    if fraction != 1.0 and fraction_key is None:
        raise ValueError(
            f"{config.source}: partial_rotary_factor = {fraction} is not implemented for this model, only 1"
        )
    if not 0 < fraction <= 1:
        raise ValueError(f"{config.source}: the rotated fraction of a head must be in (0, 1], got {fraction}")
    if fraction != 1.0:
        positions["d_rotary"] = int(d_head * fraction)
    kind = " and ".join(sorted(kinds))
    if kind not in {"default", *SCALINGS}:
        raise ValueError(
            f"{config.source}: rope_type = {kind!r} is not implemented{suggestion(kind, SCALINGS)} "
            f"(there are: default, {', '.join(SCALINGS)})"
        )
    names = SCALINGS.get(kind, {})
    options = {name: value for name, value in rope.values.items() if name not in _SHARED_KEYS}
    for name, value in options.items():
        if name not in names:
            raise ValueError(f"{config.source}: {name} = {value!r} of rope_type {kind!r} is not implemented")
    if kind == "default":
        return positions
    scaling = {"kind": kind, **{names[name]: _read_option(rope, name) for name in options}}
    original = length if original is None or kind == "dynamic" else original
    if kind != "linear":
        scaling["original_max_seq_len"] = original
    if kind == "longrope":
        scaling.setdefault("factor", length / original)
    return {**positions, "scaling": scaling}


def _read_option(rope: ConfigReader, name: str) -> Any:
    """Return the value of an option: a bool, a list of numbers, or a number."""
    if name == "truncate":
        return rope.get_bool(name, True)
    return rope.get_floats(name) if name in ("short_factor", "long_factor") else rope.get_float(name)


def write_rope(positions: str | Mapping[str, Any], d_head: int, max_seq_len: int) -> dict[str, Any]:
    """Return ``rope_parameters`` for ``positions``.

    Raises:
        ValueError: positions that ``rope_parameters`` cannot express.
    """
    if not isinstance(positions, str | Mapping):
        raise ValueError(f"positions must be the same in all layers, got {positions!r:.200}")
    spec: dict[str, Any] = {"kind": positions} if isinstance(positions, str) else dict(positions)
    if spec.get("kind") != "rotary" or spec.get("pairing", "half") != "half":
        raise ValueError(f'positions must be rotary with the pairing "half", got {positions!r}')
    parameters: dict[str, Any] = {"rope_type": "default", "rope_theta": spec.get("theta", 10_000.0)}
    d_rotary = spec.get("d_rotary")
    if d_rotary is not None and d_rotary != d_head:
        exact = int(d_head * (d_rotary / d_head)) == d_rotary  # else rounding would lose a dimension
        parameters["partial_rotary_factor"] = (d_rotary if exact else d_rotary + 0.5) / d_head
    scaling = dict(spec.get("scaling") or {"kind": "none"})
    kind = scaling.pop("kind")
    if kind == "none":
        return parameters
    if kind not in SCALINGS:
        raise ValueError(f"rotary scaling must be one of {', '.join(SCALINGS)}, got {kind!r}")
    parameters["rope_type"] = kind
    original = scaling.pop("original_max_seq_len", None)
    if kind == "dynamic" and original != max_seq_len:
        raise ValueError(f"dynamic scaling must start at max_seq_len={max_seq_len}, got {original}")
    if kind in ("yarn", "llama3", "longrope"):
        parameters[_ORIGINAL] = original
    theirs = {ours: name for name, ours in SCALINGS[kind].items()}
    defaults = {
        "llama3": {"low_freq_factor": 1.0, "high_freq_factor": 4.0},
        "longrope": {"factor": 1.0},
    }
    options = defaults.get(kind, {})
    if scaling.get("attention_factor") == 0:  # computed from the factor, as without the key
        del scaling["attention_factor"]
    parameters |= {theirs[name]: value for name, value in (options | scaling).items()}
    return parameters
