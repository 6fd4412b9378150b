"""Progress reports of long tasks: a bar in a terminal, plain lines otherwise."""

from __future__ import annotations

import time
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as RichProgress

LINE_SECONDS = 10.0
BAR_SECONDS = 0.05


class Progress(Protocol):
    """Receiver of progress reports. Amounts are bytes of text, or counts."""

    def update(self, task: str, done: int, total: int | None) -> None:
        """Report that ``done`` of ``total`` (None: unknown) are done; if equal, the task is finished."""
        ...

    def note(self, line: str) -> None:
        """Show a message of one line."""
        ...

    def close(self) -> None:
        """Clean up after the task ended or failed."""
        ...


class SilentProgress:
    """Progress that shows nothing."""

    def update(self, task: str, done: int, total: int | None) -> None:
        """Do nothing."""

    def note(self, line: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class ConsoleProgress:
    """Progress on the error stream: a bar in a terminal, otherwise a line every ten seconds."""

    def __init__(self, console: Console | None = None) -> None:
        """Report to a console, by default the error stream."""
        self._console = console or Console(stderr=True)
        self._bars: RichProgress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, tuple[float, int]] = {}
        self._updated: dict[str, float] = {}

    def update(self, task: str, done: int, total: int | None) -> None:
        """Update the bar or print a line, if enough time has passed or the task is finished."""
        now = time.monotonic()
        started, done_before = self._started.setdefault(task, (now, done))
        interval = BAR_SECONDS if self._console.is_terminal else LINE_SECONDS
        if done != total and now - self._updated.setdefault(task, now) < interval:
            return
        self._updated[task] = now
        if self._console.is_terminal:
            self._update_bar(task, done, total)
        else:
            speed = (done - done_before) / max(now - started, 1e-3)
            self.note(f"{task}: {self.format_line(done, total, speed)}")

    def note(self, line: str) -> None:
        """Print one line."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Stop the bar."""
        if self._bars:
            self._bars.stop()
            self._bars = None
        for state in (self._tasks, self._started, self._updated):
            state.clear()

    def columns(self) -> list[ProgressColumn]:
        """Return the columns beside a bar."""
        return [DownloadColumn(), TransferSpeedColumn()]

    def format_line(self, done: int, total: int | None, speed: float) -> str:
        """Return the text of a line, such as ``12.0 MB of 48.0 MB (25%), 1.0 MB/s``."""
        amount = f"{done / 1e6:,.1f} MB"
        if total is not None and done != total:
            amount += f" of {total / 1e6:,.1f} MB ({done / total:.0%})"
        return f"{amount}, {speed / 1e6:,.1f} MB/s"

    def _update_bar(self, task: str, done: int, total: int | None) -> None:
        if self._bars is None:
            self._bars = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                *self.columns(),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._bars.start()
        if task not in self._tasks:
            self._tasks[task] = self._bars.add_task(task, total=total)
        self._bars.update(self._tasks[task], completed=done, total=total)


class CountProgress(ConsoleProgress):
    """Progress of counted items, such as sentences or examples."""

    def columns(self) -> list[ProgressColumn]:
        """Return the columns beside a bar."""
        return [MofNCompleteColumn()]

    def format_line(self, done: int, total: int | None, speed: float) -> str:
        """Return the text of a line, such as ``250 of 1,000 (25%), 25.0/s, 30 s left``."""
        if total is None or done == total:
            return f"{done:,}, {speed:,.1f}/s"
        left = f", {(total - done) / speed:,.0f} s left" if speed else ""
        return f"{done:,} of {total:,} ({done / total:.0%}), {speed:,.1f}/s{left}"
