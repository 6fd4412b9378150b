"""Progress of a sweep: a line for each run that ends and, on a terminal, a table of running ones."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.box import SIMPLE
from rich.console import Console
from rich.live import Live
from rich.table import Table

from glassformer.experiments.runs import OUTPUT, is_done, read_result
from glassformer.terminal import count_of, printable

if TYPE_CHECKING:
    from glassformer.experiments.sweep import Executor, Outcome

TAIL = 4096
"""Bytes at the end of a run's output in which its last line is looked for."""


class SweepProgress:
    """Shows how far the runs of a sweep are, and how long the rest takes.

    Ray and Slurm do not tell when a run starts, so the table of running ones is empty there.

    Args:
        costs: of each run by its name, relative to each other.
        folder: parent of the run folders.
        executor: tells how many runs are executed at the same time.
        console: where it is shown; None shows nothing.
    """

    def __init__(
        self, costs: Mapping[str, float], folder: Path, executor: Executor, console: Console | None
    ) -> None:
        self.costs, self.folder, self.executor, self.console = costs, folder, executor, console
        self.done = {name for name in costs if is_done(folder / name)}
        self.started: dict[str, float] = {}
        self._durations: dict[str, float] = {}
        self._live: Live | None = None

    def __enter__(self) -> Self:
        """Show the table, on a terminal."""
        if self.done:
            self._print(f"{len(self.done)} of {count_of(len(self.costs), 'run')} are done already")
        if self.console is not None and self.console.is_terminal and len(self.done) < len(self.costs):
            self._live = Live(
                get_renderable=self.table, console=self.console, refresh_per_second=1, transient=True
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the table."""
        if self._live is not None:
            self._live.stop()

    def report(self, outcome: Outcome, attempt: int, last: bool) -> None:
        """Show how an attempt began or ended.

        Args:
            outcome: of the attempt.
            attempt: its number, from 1.
            last: whether a run whose worker was killed is not tried again.
        """
        name = outcome.folder.name
        if outcome.kind == "started":
            self.started[name] = time.monotonic()
            self._print(f"{name}: started" + (f", attempt {attempt}" if attempt > 1 else ""))
            return
        self.started.pop(name, None)
        if outcome.kind == "done":
            self.done.add(name)
            seconds = read_result(outcome.folder)["seconds"]
            rest = f", {self._left()}" if len(self.done) < len(self.costs) else ""
            self._print(f"[{len(self.done)}/{len(self.costs)}] {name}: {duration(seconds)}{rest}")
        elif outcome.kind == "killed" and not last:
            self._print(f"{name}: {outcome.message}; it is tried again")
        else:
            self._print(f"{name}: failed, {outcome.message}")

    def table(self) -> Table:
        """The running runs: for how long, and the last line that each has printed."""
        title = f"{len(self.done)} of {count_of(len(self.costs), 'run')} done"
        table = Table(title=f"{title}, {self._left()}" if self.done else title, box=SIMPLE)
        for column in ("running", "for", "last line of its output"):
            table.add_column(column, overflow="ellipsis", no_wrap=True)
        now = time.monotonic()
        for name, start in list(self.started.items()):
            line = printable(last_line(self.folder / name / OUTPUT))
            table.add_row(printable(name), duration(now - start), line)
        return table

    def seconds_left(self) -> float:
        """From the durations of the runs that are done, by their costs."""
        done = list(self.done)  # the table is drawn by another thread
        spent = sum(self._seconds(name) for name in done)
        cost = sum(self.costs[name] for name in done)
        left = sum(self.costs.values()) - cost
        return spent / cost * left / max(1, self.executor.num_workers) if cost else 0.0

    def _seconds(self, name: str) -> float:
        """Duration of a run that is done; read once."""
        if name not in self._durations:
            self._durations[name] = read_result(self.folder / name)["seconds"]
        return self._durations[name]

    def _left(self) -> str:
        return f"about {duration(self.seconds_left())} left"

    def _print(self, line: str) -> None:
        if self.console is not None:
            self.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)


def last_line(file: Path) -> str:
    """The last line of a text file that is not blank; empty if there is none."""
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, file.stat().st_size - TAIL))
            lines = opened.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""


def duration(seconds: float) -> str:
    """A duration as people say it: ``"8 s"``, ``"12 min"``, ``"2 h 05 min"``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
