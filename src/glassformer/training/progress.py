"""Progress of a training run: a progress bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressDisplay(Protocol):
    """Display of a trainer's progress."""

    def start(self, step: int) -> None:
        """Begin at ``step`` updates."""
        ...

    def update(self, row: Mapping[str, Any]) -> None:
        """Show a row of metrics."""
        ...

    def print(self, text: str) -> None:
        """Print a permanent line."""
        ...

    def stop(self) -> None:
        """End the display."""
        ...


def progress_display(total: int, console: Console | None = None) -> ProgressDisplay:
    """A ``ProgressBar`` if the console is a terminal, else ``ProgressLines``."""
    console = console or Console()
    return ProgressBar(total, console) if console.is_terminal else ProgressLines(total, console)


class ProgressBar:
    """A bar with loss, speed and remaining time."""

    def __init__(self, total: int, console: Console) -> None:
        self.progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[metrics]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self.task = self.progress.add_task("training", total=total, metrics="")
        self._text = _LossAndSpeed()

    def start(self, step: int) -> None:
        """Show the bar."""
        self.progress.update(self.task, completed=step)
        self.progress.start()

    def update(self, row: Mapping[str, Any]) -> None:
        """Advance the bar; print the validation loss if the row has one."""
        self.progress.update(self.task, completed=row["step"], metrics=self._text.update(row))
        if "validation_loss" in row:
            self.print(_validation_text(row))

    def print(self, text: str) -> None:
        """Print above the bar."""
        self.progress.console.print(text, markup=False, highlight=False)

    def stop(self) -> None:
        """Leave the bar in its last state."""
        self.progress.stop()


class ProgressLines:
    """A line every ``seconds`` seconds, at the last step, and for each evaluation."""

    def __init__(self, total: int, console: Console, seconds: float = 10.0) -> None:
        self.total, self.console, self.seconds = total, console, seconds
        self._text = _LossAndSpeed()
        self._first_step, self._start_time, self._last_time = 0, 0.0, 0.0

    def start(self, step: int) -> None:
        """Record the first step and the time."""
        self._first_step, self._start_time = step, time.monotonic()
        self._last_time = self._start_time

    def update(self, row: Mapping[str, Any]) -> None:
        """Print a line if one is due."""
        now = time.monotonic()
        text = self._text.update(row)
        if "loss" in row and (now - self._last_time >= self.seconds or row["step"] == self.total):
            self._last_time = now
            done = row["step"] - self._first_step
            remaining = (now - self._start_time) / done * (self.total - row["step"])
            self.print(f"step {row['step']}/{self.total}  {text}  {_clock(remaining)} left")
        if "validation_loss" in row:
            self.print(_validation_text(row))

    def print(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Do nothing."""


class _LossAndSpeed:
    """Text with the loss of a row, and the speed as an exponential moving average."""

    def __init__(self, momentum: float = 0.9) -> None:
        self._momentum, self._speed = momentum, 0.0

    def update(self, row: Mapping[str, Any]) -> str:
        """Add a row; the text is empty if it has no training loss."""
        if "loss" not in row:
            return ""
        key = next(name for name in row if name.endswith("_per_second"))
        unit, speed = key.removesuffix("_per_second"), row[key]
        self._speed = self._momentum * self._speed + (1 - self._momentum) * speed if self._speed else speed
        return f"loss {row['loss']:.4f}  {self._speed:,.0f} {unit}/s"


def _validation_text(row: Mapping[str, Any]) -> str:
    bits = row.get("validation_bits_per_byte")
    per_byte = "" if bits is None else f"  {bits:.4f} bits/byte"
    return f"step {row['step']}  validation loss {row['validation_loss']:.4f}{per_byte}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
