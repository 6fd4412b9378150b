"""A run as it goes: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressDisplay(Protocol):
    """Where a trainer shows how far it is."""

    def start(self, step: int) -> None:
        """The run begins, or goes on, after ``step`` updates."""
        ...

    def update(self, row: Mapping[str, Any]) -> None:
        """One more update, with its row of metrics."""
        ...

    def say(self, text: str) -> None:
        """A line that stays."""
        ...

    def stop(self) -> None:
        """The run is over; the terminal is as it was."""
        ...


def progress_display(total: int, console: Console | None = None) -> ProgressDisplay:
    """A bar if the console is a terminal, else lines."""
    console = console or Console()
    return ProgressBar(total, console) if console.is_terminal else ProgressLines(total, console)


class ProgressBar:
    """Loss, speed and time left, in place."""

    def __init__(self, total: int, console: Console) -> None:
        self.progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self.task = self.progress.add_task("training", total=total, figures="")
        self._figures = _Figures()

    def start(self, step: int) -> None:
        """Show the bar."""
        self.progress.update(self.task, completed=step)
        self.progress.start()

    def update(self, row: Mapping[str, Any]) -> None:
        """Move the bar."""
        self.progress.update(self.task, completed=row["step"], figures=self._figures.of(row))
        if "validation_loss" in row:
            self.say(_validation(row))

    def say(self, text: str) -> None:
        """Print above the bar."""
        self.progress.console.print(text, markup=False, highlight=False)

    def stop(self) -> None:
        """Leave the bar as it stands."""
        self.progress.stop()


class ProgressLines:
    """A line every few seconds, and one for each evaluation."""

    def __init__(self, total: int, console: Console, seconds: float = 10.0) -> None:
        self.total, self.console, self.seconds = total, console, seconds
        self._figures = _Figures()
        self._first_step, self._began, self._said = 0, 0.0, 0.0

    def start(self, step: int) -> None:
        """Remember when and where the run began."""
        self._first_step, self._began = step, time.monotonic()
        self._said = self._began

    def update(self, row: Mapping[str, Any]) -> None:
        """Say how far it is, if the last time is long enough ago."""
        now = time.monotonic()
        figures = self._figures.of(row)
        if "loss" in row and (now - self._said >= self.seconds or row["step"] == self.total):
            self._said = now
            done = row["step"] - self._first_step
            left = (now - self._began) / done * (self.total - row["step"])
            self.say(f"step {row['step']}/{self.total}  {figures}  {_clock(left)} left")
        if "validation_loss" in row:
            self.say(_validation(row))

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Nothing to put back."""


class _Figures:
    """The loss as it is, and the speed as a mean that forgets: a single step's is too restless to read."""

    def __init__(self, memory: float = 0.9) -> None:
        self._memory, self._speed = memory, 0.0

    def of(self, row: Mapping[str, Any]) -> str:
        """One more row; the text to show, empty for a row without training."""
        if "loss" not in row:
            return ""
        key = next(name for name in row if name.endswith("_per_second"))
        unit, now = key.removesuffix("_per_second"), row[key]
        self._speed = self._memory * self._speed + (1 - self._memory) * now if self._speed else now
        return f"loss {row['loss']:.4f}  {self._speed:,.0f} {unit}/s"


def _validation(row: Mapping[str, Any]) -> str:
    bits = row.get("validation_bits_per_byte")
    per_byte = "" if bits is None else f"  {bits:.4f} bits/byte"
    return f"step {row['step']}  validation loss {row['validation_loss']:.4f}{per_byte}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
