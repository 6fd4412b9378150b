"""Protocols of studies: question, claims, tests and sizes, written down before the first run.

A protocol is the file ``protocol.toml`` of a study. Its hash is stored with every result, and a study refuses
to mix results of two protocols.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from glassformer.choices import choose, suggestion
from glassformer.experiments.claims import Claim

SCALES = ("smoke", "laptop", "full")
"""Under two minutes, to test the study; at most three hours of computing on two cores; the claimed sizes."""


@dataclass(frozen=True)
class Scale:
    """Sizes of a study, and what they cost."""

    name: str
    minutes: float
    """Expected time of all runs with the default executor."""
    memory_gib: float
    """Of one worker at its peak."""
    disk_gib: float
    """Of all run folders."""
    settings: Mapping[str, Any]
    """Sizes, seeds and options, which the study reads."""
    exclusive: bool = False
    """Whether the runs measure time or memory, so that one at a time has the machine for itself."""
    gpus: int = 0
    """Of one worker, which a cluster reserves for it."""


@dataclass(frozen=True)
class Protocol:
    """What a study asks, what it measures, and how it judges.

    Raises:
        ValueError: two claims have the same name, or a scale is missing.
    """

    title: str
    question: str
    primary_outcome: str
    method: str
    """How the runs are made and compared, in a paragraph."""
    hypotheses: tuple[str, ...]
    claims: tuple[Claim, ...]
    scales: Mapping[str, Scale]
    limitations: tuple[str, ...]
    """What the study does not show."""
    content: Mapping[str, Any]
    """The parsed file."""

    def __post_init__(self) -> None:
        names = [claim.id for claim in self.claims]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two claims are called {min(repeated)!r}: each needs a name of its own")
        if missing := [name for name in SCALES if name not in self.scales]:
            raise ValueError(f"the protocol has no scale {missing[0]!r}: it needs {', '.join(SCALES)}")

    @property
    def hash(self) -> str:
        """SHA-256 of the content, whatever its comments and layout."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()

    def scale(self, name: str) -> Scale:
        """The scale with this name.

        Raises:
            ValueError: an unknown name.
        """
        return choose(self.scales, name, "scale")


def load_protocol(path: Path) -> Protocol:
    """Read ``protocol.toml``.

    Raises:
        ValueError: not TOML, an unknown key, or a missing one; names the file.
        OSError: the file cannot be read.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
        return parse_protocol(content)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None


def parse_protocol(content: Mapping[str, Any]) -> Protocol:
    """Build a protocol from its parsed file.

    Raises:
        ValueError: an unknown or missing key, or an invalid value.
    """
    _check_keys(content, [f.name for f in fields(Protocol) if f.name != "content"], (), "the protocol")
    claims = []
    for row in content["claims"]:
        optional = [f.name for f in fields(Claim) if f.name not in ("id", "text", "source", "test")]
        _check_keys(row, ["id", "text", "source", "test"], optional, f"the claim {row.get('id', '')!r}")
        claims.append(Claim(**row))
    scales = {}
    for name, row in content["scales"].items():
        choose(dict.fromkeys(SCALES), name, "scale")
        for key in ("minutes", "memory_gib", "disk_gib", "gpus"):
            if isinstance(row.get(key), bool) or not isinstance(row.get(key, 0), int | float):
                raise ValueError(f"{key} of the scale {name!r} must be a number, got {row[key]!r}")
        required = ["minutes", "memory_gib", "disk_gib", "settings"]
        _check_keys(row, required, ["exclusive", "gpus"], f"the scale {name!r}")
        scales[name] = Scale(name, **row)
    return Protocol(
        title=content["title"],
        question=content["question"],
        primary_outcome=content["primary_outcome"],
        method=content["method"],
        hypotheses=tuple(content["hypotheses"]),
        claims=tuple(claims),
        scales=scales,
        limitations=tuple(content["limitations"]),
        content=content,
    )


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two parsed protocols, such as ``"scales.laptop.settings.seeds: 8, now 5"``."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    return [
        f"{key}: {_shown(before.get(key))}, now {_shown(after.get(key))}"
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    ]


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested tables and lists of tables, by their dotted key."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
        for number, inner in enumerate(value):
            name = inner.get("id", number) if isinstance(inner, Mapping) else number
            yield from _leaves(inner, f"{prefix}.{name}")
    else:
        yield prefix, value


def _shown(value: Any) -> str:
    text = "absent" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _check_keys(row: Mapping[str, Any], required: list[str], optional: Any, name: str) -> None:
    known = [*required, *optional]
    for key in row:
        if key not in known:
            raise ValueError(f"{name} has an unknown key {key!r}{suggestion(key, known)}")
    for key in required:
        if key not in row:
            raise ValueError(f"{name} has no {key!r}")
