"""Configs as TOML files, read strictly: a key that is not known or a value of another type is an error.

Works for any tree of dataclasses whose fields are str, int, float, bool, Literal, ``X | None``, tuples,
dicts, and dataclasses again. None is written as the absence of the key, so it must be the default.
"""

from __future__ import annotations

import json
import tomllib
import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from glassformer.choices import choose, suggestion
from glassformer.files import atomic_write

Config = TypeVar("Config")


def load_config(path: str | Path, defaults: Config) -> Config:
    """``defaults`` with the values of a TOML file in their places.

    Raises:
        ValueError: no TOML or no UTF-8 (with the line), an unknown key (with the nearest known one), a value
            of another type, or one that the dataclass refuses; each names the file and the key.
        OSError: the file cannot be read.
    """
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML file: {error}") from error
    try:
        merged: Config = _merged(defaults, values, "", [key for key, _ in flatten(defaults)])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return merged


def config_path(name: str | Path) -> Path:
    """The file of a config: a path, or the name of one that comes with this library.

    Raises:
        ValueError: neither; names the nearest.
    """
    if Path(name).is_file() or Path(name).suffix:
        return Path(name)
    own = {path.stem: path for path in (Path(__file__).parents[1] / "configs").glob("*.toml")}
    return choose(own, str(name), "config (or file of one)")


def save_config(path: str | Path, config: Any) -> None:
    """Write a config as TOML that ``load_config`` reads to an equal config."""
    atomic_write(path, to_toml(config))


def to_toml(config: Any) -> str:
    """Every value of ``config``, tables after plain keys."""
    return "\n".join(_table(config, "")).strip() + "\n"


def flatten(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values, in the order of the fields."""
    for f in fields(config):
        value = getattr(config, f.name)
        if is_dataclass(value):
            yield from flatten(value, f"{prefix}{f.name}.")
        else:
            yield prefix + f.name, value


def differences(old: Any, new: Any) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ, with (old, new)."""
    before = dict(flatten(old))
    return {key: (before[key], value) for key, value in flatten(new) if before[key] != value}


def _merged(defaults: Any, values: Mapping[str, Any], prefix: str, known: list[str]) -> Any:
    hints = get_type_hints(type(defaults))
    changes = {}
    for name, value in values.items():
        key = prefix + name
        if name not in hints:
            raise ValueError(_unknown(key, name, [prefix + n for n in hints] + known))
        default = getattr(defaults, name)
        if is_dataclass(default):
            if not isinstance(value, dict):
                raise ValueError(f"{key} is a table ([{key}]), not the value {value!r}")
            changes[name] = _merged(default, value, f"{key}.", known)
        else:
            changes[name] = _converted(value, hints[name], key)
    return replace(defaults, **changes)


def _unknown(key: str, name: str, known: list[str]) -> str:
    """The message for an unknown key: the known one of the same last name, else the nearest."""
    same_name = [k for k in known if k.rpartition(".")[2] == name]
    return f"unknown key {key!r}{suggestion(key, same_name) or suggestion(key, known)}"


def _converted(value: Any, hint: Any, key: str) -> Any:
    """``value`` as ``hint`` wants it, or a ValueError."""
    origin, arms = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _converted(value, next(arm for arm in arms if arm is not type(None)), key)
    if origin is Literal and value in arms:
        return value
    if origin is tuple and isinstance(value, list) and len(value) == len(arms):
        return tuple(_converted(v, arm, key) for v, arm in zip(value, arms, strict=True))
    if origin is dict and isinstance(value, dict):
        return value
    if hint is float and type(value) in (int, float):
        return float(value)
    if type(value) is hint:
        return value
    raise ValueError(f"{key} must be {_described(hint)}, not {value!r}")


def _described(hint: Any) -> str:
    origin, arms = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arms))
    if origin is tuple:
        return f"a list of {len(arms)}"
    names = {
        str: "a string",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        dict: "a table",
    }
    return names.get(origin or hint, str(hint))


def _table(config: Any, path: str) -> Iterator[str]:
    """The lines of one dataclass: its plain keys first, then its dataclasses as tables."""
    values = {f.name: getattr(config, f.name) for f in fields(config)}
    if path:
        yield f"\n[{path}]"
    for name, value in values.items():
        if value is not None and not is_dataclass(value):
            yield f"{_key(name)} = {_value(value)}"
    for name, value in values.items():
        if is_dataclass(value):
            yield from _table(value, f"{path}.{name}" if path else name)


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("-", "_").isidentifier()
    return name if bare else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + "}"
    raise TypeError(f"a {type(value).__name__} cannot be written as TOML: {value!r}")
