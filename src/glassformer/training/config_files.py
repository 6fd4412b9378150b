"""Strict TOML files for trees of dataclasses.

An unknown key or a value of the wrong type is an error. Fields may be str, int, float, bool, Literal,
``X | None``, tuples, dicts, and nested dataclasses. TOML has no null: None is written by leaving the key out,
so it must be the default of its field.
"""

from __future__ import annotations

import tomllib
import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tomli_w

from glassformer.choices import choose, suggestion
from glassformer.files import atomic_write

Config = TypeVar("Config")

NESTING = 50
"""Most levels of tables and lists in a value, so that Python's own functions can handle it."""


def load_config(path: str | Path, defaults: Config) -> Config:
    """``defaults`` updated with the values of a TOML file.

    Keys and values of earlier versions (``RENAMED_FIELDS`` and ``RENAMED_VALUES`` of a dataclass) are
    converted.

    Raises:
        ValueError: invalid TOML or UTF-8 (names the line), an unknown key (suggests the nearest), a value of
            the wrong type, or one that the dataclass rejects; the message names the file and the key.
        OSError: the file cannot be read.
    """
    return parse_config(Path(path).read_bytes(), defaults, str(path))


def parse_config(text: str | bytes, defaults: Config, name: str) -> Config:
    """``defaults`` updated with the values of a TOML text; see ``load_config``.

    Args:
        text: TOML, or its UTF-8 bytes.
        defaults: values of the keys that are not in the text.
        name: of the file, for the message.
    """
    try:
        values = tomllib.loads(text if isinstance(text, str) else text.decode("utf-8"))
    except RecursionError:
        raise ValueError(f"{name} is not a TOML file: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{name} is not a TOML file: {error}") from error
    try:
        merged: Config = _merge(defaults, values, "", [key for key, _ in flatten(defaults)])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return merged


def config_path(name: str | Path) -> Path:
    """Path of a config file, given as a path or as the name of a config of this library.

    Raises:
        ValueError: neither a file nor a known name; suggests the nearest name.
    """
    if Path(name).is_file() or Path(name).suffix:
        return Path(name)
    included = {path.stem: path for path in (Path(__file__).parents[1] / "configs").glob("*.toml")}
    return choose(included, str(name), "config (or path of one)")


def save_config(path: str | Path, config: Any) -> None:
    """Write a config as TOML, so that ``load_config`` returns an equal one."""
    atomic_write(path, to_toml(config))


def to_toml(config: Any) -> str:
    """TOML text with every value of ``config``."""
    return tomli_w.dumps(_to_dict(config))


def flatten(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values, in the order of the fields."""
    for f in fields(config):
        value = getattr(config, f.name)
        if is_dataclass(value):
            yield from flatten(value, f"{prefix}{f.name}.")
        else:
            yield prefix + f.name, value


def differences(old: Any, new: Any) -> dict[str, tuple[Any, Any]]:
    """Pairs (old value, new value) by dotted key, where they differ."""
    before = dict(flatten(old))
    return {key: (before[key], value) for key, value in flatten(new) if before[key] != value}


def _to_dict(config: Any) -> dict[str, Any]:
    values = {f.name: getattr(config, f.name) for f in fields(config)}
    return {
        name: _to_dict(value) if is_dataclass(value) else value
        for name, value in values.items()
        if value is not None
    }


def _merge(defaults: Any, values: Mapping[str, Any], prefix: str, known: list[str]) -> Any:
    hints = get_type_hints(type(defaults))
    field_names = [f.name for f in fields(defaults)]
    renamed_fields = getattr(defaults, "RENAMED_FIELDS", {})
    renamed_values = getattr(defaults, "RENAMED_VALUES", {})
    changes = {}
    for old_name, value in values.items():
        name = renamed_fields.get(old_name, old_name)
        key = prefix + name
        if name not in field_names:
            raise ValueError(_unknown_key(key, name, [prefix + n for n in field_names] + known))
        default = getattr(defaults, name)
        if is_dataclass(default):
            if not isinstance(value, dict):
                raise ValueError(f"{key} must be a table ([{key}]), got {value!r}")
            changes[name] = _merge(default, value, f"{key}.", known)
        else:
            if isinstance(value, str):
                value = renamed_values.get(name, {}).get(value, value)
            changes[name] = _convert(value, hints[name], key)
    return replace(defaults, **changes)


def _unknown_key(key: str, name: str, known: list[str]) -> str:
    """Error message; suggests a known key with the same last part, else the nearest one."""
    same_name = [k for k in known if k.rpartition(".")[2] == name]
    return f"unknown key {key!r}{suggestion(key, same_name) or suggestion(key, known)}"


def _convert(value: Any, hint: Any, key: str) -> Any:
    """``value`` as the type ``hint``, or a ValueError."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _convert(value, next(a for a in arguments if a is not type(None)), key)
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, list) and len(value) == len(arguments):
        return tuple(_convert(v, a, key) for v, a in zip(value, arguments, strict=True))
    if origin is dict and isinstance(value, dict):
        _check_nesting(value, key)
        return value
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise ValueError(f"{key} must be a 64-bit integer, got one of {len(str(value))} digits")
    if hint is float and type(value) in (int, float):
        return float(value)
    if type(value) is hint:
        return value
    raise ValueError(f"{key} must be {_type_name(hint)}, got {value!r}")


def _check_nesting(value: Any, key: str, levels: int = NESTING) -> None:
    if levels == 0:
        raise ValueError(f"{key} is nested too deeply: at most {NESTING} tables or lists in each other")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_nesting(inner, key, levels - 1)


_TYPE_NAMES = {str: "a string", int: "an integer", float: "a number", bool: "true or false", dict: "a table"}


def _type_name(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin is tuple:
        return f"a list of {len(arguments)}"
    return _TYPE_NAMES.get(origin or hint, str(hint))
