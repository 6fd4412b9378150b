"""Timing of alternatives on machines that also run other processes.

In each round every contender runs once, and each round starts with another one, so that all of them are
measured under the same conditions. Ratios are taken within a round and reported as a median with quartiles. A
round in which other processes used the processors is repeated; the report says how many such rounds had to be
kept.
"""

from __future__ import annotations

import ctypes
import gc
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from rich.console import Console

from glassformer.experiments.complexity.measure import peak_bytes

T = TypeVar("T")


class Quartiles(NamedTuple):
    """Lower quartile, median and upper quartile."""

    low: float
    median: float
    high: float

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} ({self.low:{spec}} to {self.high:{spec}})"


def quartiles(values: Sequence[float]) -> Quartiles:
    """Quartiles of at least one value."""
    if len(values) < 2:
        return Quartiles(values[0], values[0], values[0])
    return Quartiles(*statistics.quantiles(values, n=4, method="inclusive"))


def paired_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Quartiles:
    """Quartiles of the ratios within each round."""
    return quartiles([a / b for a, b in zip(numerators, denominators, strict=True)])


@dataclass(frozen=True)
class Rounds(Generic[T]):
    """Measurements by contender, one per round."""

    results: dict[str, list[T]]
    disturbed: int
    """Rounds in which other processes used more than the allowed share of the processors."""


def interleave(
    contenders: Mapping[str, Callable[[], T]], rounds: int, warm_up: int = 1, allowed: float = 0.05
) -> Rounds[T]:
    """Run each contender once per round, with a different first contender in each round.

    Args:
        contenders: functions that measure themselves and return the measurement.
        rounds: rounds to keep.
        warm_up: rounds to discard before that.
        allowed: share of the processors used by other processes above which a round is repeated. At most
            twice as many rounds as requested are run; then disturbed ones are kept.
    """
    names = list(contenders)
    undisturbed: list[dict[str, T]] = []
    disturbed: list[dict[str, T]] = []
    for number in range(warm_up + 2 * rounds):
        first = number % len(names)
        others = _OtherProcesses()
        measured = {}
        for name in names[first:] + names[:first]:
            time.sleep(0.01)  # lets the worker threads of the previous contender stop spinning
            keep_busy()  # those of this process stop within what another process does untimed
            measured[name] = contenders[name]()
        if number >= warm_up:
            (undisturbed if others.share() <= allowed else disturbed).append(measured)
        if len(undisturbed) == rounds:
            break
    kept = undisturbed + disturbed[: rounds - len(undisturbed)]
    results = {name: [measured[name] for measured in kept] for name in names}
    return Rounds(results, len(kept) - len(undisturbed))


BUSY_SECONDS = 0.1
"""Time that the processors are kept busy before a measurement; 0 for a test of the benchmark itself."""


def keep_busy() -> None:
    """Keep the processors busy for a moment: after a pause they are slow at first.

    On two cores of an Intel Xeon in a virtual machine, the first 20 to 100 ms after a pause of 10 ms ran at
    half the speed.
    """
    matrix, end = torch.ones(256, 256), time.perf_counter() + BUSY_SECONDS
    while time.perf_counter() < end:
        torch.mm(matrix, matrix)


def timed(work: Callable[[], object], untimed: int = 0) -> Callable[[], float]:
    """A function that runs ``work`` and returns the seconds that it takes.

    Args:
        work: what to run.
        untimed: number of runs before, for work that takes a few milliseconds.
    """

    def run() -> float:
        for _ in range(untimed):
            work()
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return run


class Memory(NamedTuple):
    """Memory of a process in bytes."""

    idle: float
    """Resident memory when idle, with freed memory returned to the system."""
    tensors: float
    """Peak of the tensors in a step, above idle: exact and the same in every run."""
    process: float
    """Peak of the resident memory in a step, above idle: the median of several steps."""


def memory_of(step: Callable[[], object], steps: int = 5) -> Memory:
    """Peak memory of a step, by PyTorch's profiler, and by Linux (``/proc``) in ``steps`` further ones."""
    tensors = peak_bytes(step)
    idle, peaks = 0, []
    for _ in range(steps):
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak, VmHWM
        idle = _memory("VmRSS")
        step()
        peaks.append(_memory("VmHWM") - idle)
    return Memory(idle, tensors, statistics.median(peaks) if peaks else 0.0)


def _memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


class _OtherProcesses:
    """Processor time used by other processes since the instance was created."""

    def __init__(self) -> None:
        self._start = self._read()

    def share(self) -> float:
        """Share of all processors, from 0 to 1; 0 on systems without ``/proc``."""
        (total, busy, own), (total_0, busy_0, own_0) = self._read(), self._start
        return max(0, busy - busy_0 - (own - own_0)) / max(1, total - total_0)

    @staticmethod
    def _read() -> tuple[int, int, int]:
        """Ticks since the machine started: total, busy, and of this process and its children."""
        if not Path("/proc/stat").exists():
            return 0, 0, 0
        ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
        return sum(ticks), sum(ticks) - ticks[3] - ticks[4], sum(_ticks_of(pid) for pid in pids)


def _ticks_of(pid: int | None) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])  # in user mode and in the kernel


def machine() -> dict[str, Any]:
    """The machine and the versions of the measurement."""
    return {
        "processor": _cpuinfo("model name") or platform.processor(),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


VENDORS = {"AuthenticAMD": "AMD", "GenuineIntel": "Intel"}


def vendor() -> str:
    """Vendor of the processor: AMD, Intel, or other."""
    return VENDORS.get(_cpuinfo("vendor_id"), "other")


def _cpuinfo(field: str) -> str:
    """A field of the first processor; empty if it is not there, as on systems without ``/proc``."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(field)), "")


def goal_line(what: str, value: float, at_least: float | None = None, at_most: float | None = None) -> str:
    """A measured value with its goal, and whether it is reached; without a bound there is no goal."""
    if at_least is not None:
        bound, is_reached = f"at least {at_least}", value >= at_least
    elif at_most is not None:
        bound, is_reached = f"at most {at_most}", value <= at_most
    else:
        return f"{what}: {value:.3f}, no goal on this processor"
    return f"{what}: {value:.3f}, goal {bound}: {'reached' if is_reached else 'NOT reached'}"


def console() -> Console:
    """A console for tables, 160 columns wide if the output is not a terminal."""
    return Console(width=None if sys.stdout.isatty() else 160)


def write_json(path: Path | None, figures: Mapping[str, Any]) -> None:
    """Write the figures and the machine to a JSON file."""
    if path is not None:
        path.write_text(json.dumps({"machine": machine(), **figures}, indent=2) + "\n", "utf-8")
