"""Saying how far a long work is: a bar in a terminal, a plain line now and then elsewhere."""

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
from rich.progress import Progress as Bars

LINE_SECONDS = 10.0
BAR_SECONDS = 0.05


class Progress(Protocol):
    """What a long work reports to. Amounts are bytes of text, or things that the work counts."""

    def update(self, task: str, done: int, total: int | None) -> None:
        """``done`` of ``total`` (None: unknown so far) of a task are done; equal means finished."""
        ...

    def note(self, line: str) -> None:
        """Something that a user should know, in one line."""
        ...

    def close(self) -> None:
        """The work ended, well or not."""
        ...


class SilentProgress:
    """Says nothing."""

    def update(self, task: str, done: int, total: int | None) -> None:
        """Say nothing."""

    def note(self, line: str) -> None:
        """Say nothing."""

    def close(self) -> None:
        """Nothing to close."""


class ConsoleProgress:
    """A bar on the error stream if that is a terminal, else a line every ten seconds and at the end."""

    def __init__(self, console: Console | None = None) -> None:
        """Report to a console, by default the error stream."""
        self._console = console or Console(stderr=True)
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, tuple[float, int]] = {}
        self._shown: dict[str, float] = {}

    def update(self, task: str, done: int, total: int | None) -> None:
        """Move the bar, or print a line, if it is time or the task is finished."""
        now = time.monotonic()
        began, done_before = self._began.setdefault(task, (now, done))
        wait = BAR_SECONDS if self._console.is_terminal else LINE_SECONDS
        if done != total and now - self._shown.setdefault(task, now) < wait:
            return
        self._shown[task] = now
        if self._console.is_terminal:
            self._move_bar(task, done, total)
        else:
            self.note(f"{task}: {self.said(done, total, (done - done_before) / max(now - began, 1e-3))}")

    def note(self, line: str) -> None:
        """Print one line."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Take the bar off the terminal's live area."""
        if self._bars:
            self._bars.stop()
            self._bars = None
        for noted in (self._tasks, self._began, self._shown):
            noted.clear()

    def columns(self) -> list[ProgressColumn]:
        """What stands beside a bar."""
        return [DownloadColumn(), TransferSpeedColumn()]

    def said(self, done: int, total: int | None, speed: float) -> str:
        """What a line says."""
        return f"{_amount(done, total)}, {speed / 1e6:,.1f} MB/s"

    def _move_bar(self, task: str, done: int, total: int | None) -> None:
        if self._bars is None:
            self._bars = Bars(
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
    """The same for what is counted: sentences, examples, ..."""

    def columns(self) -> list[ProgressColumn]:
        """Done and total."""
        return [MofNCompleteColumn()]

    def said(self, done: int, total: int | None, speed: float) -> str:
        """Done, total and the time that is left."""
        if total is None or done == total:
            return f"{done:,}, {speed:,.1f}/s"
        left = f", {(total - done) / speed:,.0f} s left" if speed else ""
        return f"{done:,} of {total:,} ({done / total:.0%}), {speed:,.1f}/s{left}"


def _amount(done: int, total: int | None) -> str:
    """12.0 MB of 48.0 MB (25%), or 48.0 MB where that is all or the end is not known."""
    if total is None or done == total:
        return f"{done / 1e6:,.1f} MB"
    return f"{done / 1e6:,.1f} MB of {total / 1e6:,.1f} MB ({done / total:.0%})"
