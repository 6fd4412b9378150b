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

import torch

from glassformer.files import atomic_write

ROUNDS = 7
"""Fewest timed calls of each candidate."""
SECONDS = 0.02
"""Time of the calls of each candidate from which there are no more of them."""
COLD_BYTES = 2**26
"""Bytes of weights that no cache holds, so that a product with few rows takes the time of reading them."""
MARGIN = 0.97
"""Another candidate replaces the first one if it takes at most this fraction of its time."""


def fastest(candidates: Mapping[str, Callable[[], object]]) -> str:
    """Return the name of the fastest candidate, or of the first one if no other is clearly faster.

    Another one must win twice, because on a machine that is busy with something else it may win by chance.

    Args:
        candidates: functions by name.
    """
    first, best = next(iter(candidates)), _winner(candidates)
    return best if best == first or _winner(candidates) == best else first


def _winner(candidates: Mapping[str, Callable[[], object]]) -> str:
    """Time the candidates once.

    They alternate, after one call each that is not timed. Their shortest times are compared, because other
    processes only make a call longer.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for run in candidates.values():
        run()
    while any(len(times) < ROUNDS or sum(times) < SECONDS for times in seconds.values()):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    shortest = {name: min(times) for name, times in seconds.items()}
    first, best = next(iter(shortest)), min(shortest, key=shortest.__getitem__)
    return best if shortest[best] <= MARGIN * shortest[first] else first


def remembered(
    kind: str, measure: Callable[[], dict[str, str]], valid: Callable[[dict[str, object]], bool]
) -> dict[str, str]:
    """Return the result of an earlier measurement on this machine, or measure now and store the result.

    Results are stored in ``cache_path()``, by processor, PyTorch version and number of threads. If the file
    cannot be read, they are measured again; if it cannot be written, they are not stored. If two processes
    write at the same time, one result may be lost, and is measured again by a later process.

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
    with suppress(OSError, RuntimeError):  # not writable, or there is no home directory
        path = cache_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps({**_read_cache(), key: result}, indent=2, sort_keys=True) + "\n")
    return result


def cache_path() -> Path:
    """File of the remembered measurements: in ``$XDG_CACHE_HOME/glassformer``, or the system's equivalent."""
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if chosen.is_absolute():  # others are to be ignored, says the XDG Base Directory Specification
        base = chosen
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
    except (OSError, ValueError, RuntimeError):  # unreadable, no JSON, no home directory, or nested too deep
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
    name = fields.get("model name") or platform.processor() or platform.machine()
    known = [key for key in ("cpu family", "model", "CPU implementer", "CPU part") if key in fields]
    numbers = [f"{key} {fields[key]}" for key in known]
    return " ".join([name, *numbers, torch.backends.cpu.get_cpu_capability()])
