"""Choice of the fastest implementation by timing it on this machine, remembered per user."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from statistics import median

import torch

from glassformer.files import atomic_write

ROUNDS = 7
"""Timed calls of each candidate."""
MARGIN = 0.97
"""Another candidate replaces the first one if it takes at most this fraction of its time."""


def fastest(candidates: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> str:
    """Return the name of the fastest candidate, or of the first one if no other is clearly faster.

    The candidates alternate, after one call each that is not timed; their medians are compared.

    Args:
        candidates: functions by name.
        rounds: number of timed calls of each.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            if number > 0:
                seconds[name].append(time.perf_counter() - start)
    medians = {name: median(values) for name, values in seconds.items()}
    first, best = next(iter(medians)), min(medians, key=medians.__getitem__)
    return best if medians[best] <= MARGIN * medians[first] else first


def remembered(
    kind: str, measure: Callable[[], dict[str, str]], valid: Callable[[object], bool]
) -> dict[str, str]:
    """Return the result of an earlier measurement on this machine, or measure now and store the result.

    Results are stored in ``cache_path()``, by processor, PyTorch version and number of threads. If the file
    cannot be read, they are measured again; if it cannot be written, they are not stored.

    Args:
        kind: what is measured.
        measure: returns the chosen names.
        valid: whether a stored value can be used.
    """
    key = f"{kind} | {processor()} | torch {torch.__version__} | {torch.get_num_threads()} threads"
    stored = _read_cache()
    value = stored.get(key)
    if isinstance(value, dict) and valid(value):
        return dict(value)
    result = measure()
    with suppress(OSError):
        path = cache_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps({**_read_cache(), key: result}, indent=2, sort_keys=True) + "\n")
    return result


def cache_path() -> Path:
    """File of the remembered measurements: in ``$XDG_CACHE_HOME/glassformer``, or the system's equivalent."""
    if "XDG_CACHE_HOME" in os.environ:
        base = Path(os.environ["XDG_CACHE_HOME"])
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home()))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path.home() / ".cache"
    return base / "glassformer" / "fastest.json"


def _read_cache() -> dict[str, object]:
    try:
        content = json.loads(cache_path().read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


@cache
def processor() -> str:
    """Vendor, family and model of the processor, and PyTorch's choice of vector instructions."""
    fields: dict[str, str] = {}
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").split("\n\n", 1)[0].splitlines():
            name, _, value = line.partition(":")
            fields[name.strip()] = value.strip()
    numbers = f"family {fields['cpu family']} model {fields['model']}" if "cpu family" in fields else ""
    name = fields.get("model name") or platform.processor() or platform.machine()
    return " ".join(part for part in (name, numbers, torch.backends.cpu.get_cpu_capability()) if part)
