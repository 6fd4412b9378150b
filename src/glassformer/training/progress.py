"""Progress of a training run: a progress bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from glassformer.terminal import printable

SPEED_MOMENTUM = 0.9
"""Weight of the earlier speed in its exponential moving average."""


class ProgressDisplay:
    """Loss, speed and remaining time of a run.

    In a terminal, a bar. Elsewhere, a line every ``seconds`` seconds and at the last step. In both, a line
    for each evaluation. If the terminal is closed or the pipe breaks, nothing more is shown, and training
    goes on.

    Args:
        total: updates of the whole run.
        console: where progress is shown; None is standard output.
        seconds: time between two lines.
    """

    def __init__(self, total: int, console: Console | None = None, seconds: float = 10.0) -> None:
        self.total, self.seconds = total, seconds
        self.console = console or Console()
        self.bar: Progress | None = None
        if self.console.is_terminal:
            columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn())
            text = TextColumn("{task.fields[text]}")
            self.bar = Progress(*columns, text, TimeRemainingColumn(), console=self.console)
            self._task = self.bar.add_task("training", total=total, text="")
        self._speed = 0.0
        self._first_step, self._start_time, self._last_time = 0, 0.0, 0.0

    def start(self, step: int) -> None:
        """Begin at ``step`` updates."""
        self._first_step = step
        self._start_time = self._last_time = time.monotonic()
        if self.bar is not None:
            self.bar.update(self._task, completed=step)
            with self._may_fail():
                self.bar.start()
                return
            self.bar = None  # a bar that was not started cannot be stopped

    def update(self, row: Mapping[str, Any]) -> None:
        """Show a row of metrics: training loss and speed, validation loss, or both."""
        text = self._loss_and_speed(row) if "loss" in row else ""
        if self.bar is not None:
            self.bar.update(self._task, completed=row["step"], text=text)
        elif text:
            self._print_if_due(row["step"], text)
        if "validation_loss" in row:
            bits = row.get("validation_bits_per_byte")
            per_byte = "" if bits is None else f"  {bits:.4f} bits/byte"
            self.print(f"step {row['step']}  validation loss {row['validation_loss']:.4f}{per_byte}")

    def print(self, text: str) -> None:
        """Print a permanent line, above the bar."""
        text = printable(text, keep="\n\t")
        with self._may_fail():
            self.console.print(text, markup=False, highlight=False, soft_wrap=self.bar is None)

    def stop(self) -> None:
        """Leave the bar in its last state."""
        if self.bar is not None:
            with self._may_fail():
                self.bar.stop()

    @contextmanager
    def _may_fail(self) -> Iterator[None]:
        """Show nothing more after the output has failed: what was learned must still be saved."""
        try:
            yield
        except (OSError, SystemExit):  # rich ends the program when a pipe breaks
            self.console.quiet = True

    def _loss_and_speed(self, row: Mapping[str, Any]) -> str:
        key = next(name for name in row if name.endswith("_per_second"))
        previous = self._speed or row[key]
        self._speed = SPEED_MOMENTUM * previous + (1 - SPEED_MOMENTUM) * row[key]
        return f"loss {row['loss']:.4f}  {self._speed:,.0f} {key.removesuffix('_per_second')}/s"

    def _print_if_due(self, step: int, text: str) -> None:
        now = time.monotonic()
        if now - self._last_time >= self.seconds or step == self.total:
            self._last_time = now
            done = step - self._first_step
            minutes, seconds = divmod(round((now - self._start_time) / done * (self.total - step)), 60)
            hours, minutes = divmod(minutes, 60)
            self.print(f"step {step}/{self.total}  {text}  {hours}:{minutes:02}:{seconds:02} left")
