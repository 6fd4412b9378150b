"""Honest timing, for machines that also do other things.

Contenders take turns, and each round begins with another one, so that all of them meet the same weather.
What is compared is compared within a round; what is reported is a median with its quartiles. A round in
which others than the benchmark took part of the machine is run again; the report says how many were
disturbed all the same.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
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
from torch.profiler import ProfilerActivity, profile

T = TypeVar("T")


class Spread(NamedTuple):
    """A median between its quartiles."""

    low: float
    median: float
    high: float

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} ({self.low:{spec}} to {self.high:{spec}})"


def spread(values: Sequence[float]) -> Spread:
    """Quartiles of values, at least one."""
    if len(values) < 2:
        return Spread(values[0], values[0], values[0])
    return Spread(*statistics.quantiles(values, n=4, method="inclusive"))


def paired(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """The ratio within each round, over all rounds."""
    return spread([a / b for a, b in zip(numerators, denominators, strict=True)])


@dataclass(frozen=True)
class Turns(Generic[T]):
    """What contenders returned, round by round."""

    results: dict[str, list[T]]
    disturbed: int
    """Rounds among them in which other processes had more than the allowed share of the processors."""


def take_turns(
    contenders: Mapping[str, Callable[[], T]], rounds: int, warm_up: int = 1, allowed: float = 0.05
) -> Turns[T]:
    """Let each contender run once a round, each round starting with another one.

    Args:
        contenders: what to run; each measures itself and returns what it measured.
        rounds: how many to keep.
        warm_up: rounds before that, not kept.
        allowed: other processes' share of the processors above which a round is run again. At most twice as
            many rounds as asked for are run; when calm ones are too few, disturbed ones fill up.
    """
    names = list(contenders)
    calm: list[dict[str, T]] = []
    disturbed: list[dict[str, T]] = []
    for number in range(warm_up + 2 * rounds):
        first = number % len(names)
        others = _OtherProcesses()
        taken = {}
        for name in names[first:] + names[:first]:
            time.sleep(0.01)  # threads that wait for the last one's next work fall asleep
            taken[name] = contenders[name]()
        if number >= warm_up:
            (calm if others.share() <= allowed else disturbed).append(taken)
        if len(calm) == rounds:
            break
    kept = calm + disturbed[: rounds - len(calm)]
    return Turns({name: [taken[name] for taken in kept] for name in names}, len(kept) - len(calm))


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """The same work, returning the seconds that it takes."""

    def run() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return run


class Memory(NamedTuple):
    """Bytes of a process."""

    idle: float
    """Resident when idle, with what was freed given back to the system."""
    tensors: float
    """Peak of what tensors take in a step, above idle: exact, the same in every run."""
    process: float
    """High-water mark of the resident process in a step, above idle: the median of some steps."""


def memory_of(step: Callable[[], object], steps: int = 5) -> Memory:
    """Peak memory of a step, seen by PyTorch and by the system (Linux's ``/proc``)."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    del profiler, events
    idle, peaks = 0, []
    for _ in range(steps):
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
        idle = _memory("VmRSS")
        step()
        peaks.append(_memory("VmHWM") - idle)
    return Memory(idle, max(itertools.accumulate(changes)), statistics.median(peaks))


def _memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


class _OtherProcesses:
    """How much of the processors other processes have had since this was made."""

    def __init__(self) -> None:
        self._start = self._read()

    def share(self) -> float:
        """Between 0 and 1; 0 where the system does not tell."""
        (total, busy, own), (total_0, busy_0, own_0) = self._read(), self._start
        return max(0, busy - busy_0 - (own - own_0)) / max(1, total - total_0)

    @staticmethod
    def _read() -> tuple[int, int, int]:
        """Ticks since the machine started: all, those not idle, and ours (children included)."""
        if not Path("/proc/stat").exists():
            return 0, 0, 0
        ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
        return sum(ticks), sum(ticks) - ticks[3] - ticks[4], sum(_ticks_of(pid) for pid in pids)


def _ticks_of(pid: int | None) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])  # in user mode and in the kernel


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    cpuinfo = Path("/proc/cpuinfo")
    models = (
        [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if cpuinfo.exists()
        else []
    )
    return {
        "processor": models[0].split(":", 1)[1].strip() if models else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def console() -> Console:
    """For tables: as wide as they need where the output is no terminal."""
    return Console(width=None if sys.stdout.isatty() else 160)


def write_json(path: Path | None, figures: Mapping[str, Any]) -> None:
    """All figures and the machine, for programs."""
    if path is not None:
        path.write_text(json.dumps({"machine": machine(), **figures}, indent=2) + "\n", "utf-8")
