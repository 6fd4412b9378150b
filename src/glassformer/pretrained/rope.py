"""Rotary positions as Hugging Face's configs describe them, to our keyword ``positions`` and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glassformer.choices import suggestion
from glassformer.pretrained.configs import ConfigReader

SCALINGS: dict[str, dict[str, str]] = {
    "linear": {"factor": "factor"},
    "dynamic": {"factor": "factor"},
    "yarn": {
        "factor": "factor",
        "beta_fast": "beta_fast",
        "beta_slow": "beta_slow",
        "attention_factor": "amplitude",
        "truncate": "whole_pairs",
    },
    "llama3": {"factor": "factor", "low_freq_factor": "low_factor", "high_freq_factor": "high_factor"},
}
"""Kinds of scaling, and for each what its options are called: theirs to ours."""

_ORIGINAL = "original_max_position_embeddings"
_READ = {"rope_theta", "partial_rotary_factor", "type", "rope_type", _ORIGINAL}
"""Keys that stand beside the options of a kind."""


def read_rope(
    config: ConfigReader, d_head: int, theta_key: str = "rope_theta", part_key: str | None = None
) -> dict[str, Any]:
    """``positions`` from ``rope_parameters``, or from the older ``rope_theta`` and ``rope_scaling``.

    Args:
        config: of a model with rotary positions.
        d_head: width of a head.
        theta_key: what older configs call the base.
        part_key: what older configs call the part of a head that turns; None where a whole head must.

    Raises:
        ValueError: a kind of scaling, or an option of one, that is not implemented.

    """
    given = ConfigReader(config.inner("rope_scaling") | config.inner("rope_parameters"), config.source)
    theta = given.number("rope_theta", default=config.number(theta_key, default=10_000.0))
    part = config.number(part_key, default=0.25) if part_key else 1.0
    part = given.number("partial_rotary_factor", default=part)
    kinds = {str(given.values[key]) for key in ("type", "rope_type") if key in given.values} or {"default"}
    original = given.size(_ORIGINAL, config.size(_ORIGINAL, None))
    length = config.size("max_position_embeddings", 2048)
    positions: dict[str, Any] = {"kind": "rotary", "theta": float(theta)}
    if part != 1.0 and part_key is None:
        raise ValueError(f"{config.source}: partial_rotary_factor = {part} is not implemented here, only 1")
    if part != 1.0:
        positions["d_rotary"] = int(d_head * part)
    kind = " and ".join(sorted(kinds))
    if kind not in {"default", *SCALINGS}:
        raise ValueError(
            f"{config.source}: rope_type = {kind!r} is not implemented{suggestion(kind, SCALINGS)} "
            f"(there are: default, {', '.join(SCALINGS)})"
        )
    names = SCALINGS.get(kind, {})
    options = {name: value for name, value in given.values.items() if name not in _READ}
    for name, value in options.items():
        if name not in names:
            raise ValueError(f"{config.source}: {name} = {value!r} of rope_type {kind!r} is not implemented")
    if kind == "default":
        return positions
    scaling = {"kind": kind, **{names[name]: _option(given, name) for name in options}}
    if kind == "dynamic":
        scaling["original_length"] = length
    elif kind != "linear":
        scaling["original_length"] = length if original is None else original
    return {**positions, "scaling": scaling}


def _option(given: ConfigReader, name: str) -> float | bool:
    """The value of an option: all are numbers but one."""
    value: float | bool = given.flag(name, True) if name == "truncate" else given.number(name)
    return value


def write_rope(positions: str | Mapping[str, Any], d_head: int, max_seq_len: int) -> dict[str, Any]:
    """``rope_parameters`` from our ``positions``.

    Raises:
        ValueError: positions that these layouts do not have.

    """
    spec: dict[str, Any] = {"kind": positions} if isinstance(positions, str) else dict(positions)
    if spec.get("kind") != "rotary" or spec.get("pairing", "half") != "half":
        raise ValueError(f'positions must be rotary with the pairing "half", not {positions!r}')
    parameters: dict[str, Any] = {"rope_type": "default", "rope_theta": spec.get("theta", 10_000.0)}
    d_rotary = spec.get("d_rotary")
    if d_rotary is not None and d_rotary != d_head:
        exact = int(d_head * (d_rotary / d_head)) == d_rotary  # or rounding would lose a dimension
        parameters["partial_rotary_factor"] = (d_rotary if exact else d_rotary + 0.5) / d_head
    scaling = dict(spec.get("scaling") or {"kind": "none"})
    kind = scaling.pop("kind")
    if kind == "none":
        return parameters
    if kind not in SCALINGS:
        raise ValueError(f"rotary scaling must be one of {', '.join(SCALINGS)}, not {kind!r}")
    parameters["rope_type"] = kind
    original = scaling.pop("original_length", None)
    if kind == "dynamic" and original != max_seq_len:
        raise ValueError(f"dynamic scaling must start at max_seq_len={max_seq_len}, not at {original}")
    if kind in ("yarn", "llama3"):
        parameters[_ORIGINAL] = original
    theirs = {ours: name for name, ours in SCALINGS[kind].items()}
    options = {"low_factor": 1.0, "high_factor": 4.0} if kind == "llama3" else {}
    parameters |= {theirs[name]: value for name, value in (options | scaling).items()}
    return parameters
