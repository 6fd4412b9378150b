"""Progress bar and progress lines."""

import errno
import io
import os

import pytest
from rich.console import Console

from glassformer.training.progress import ProgressDisplay

ROW = {"step": 5, "loss": 1.5, "tokens_per_second": 12345.6}
EVALUATED = ROW | {"validation_loss": 1.25, "validation_bits_per_byte": 0.75}


def test_lines_without_a_terminal():
    console = Console(file=io.StringIO(), width=40)
    display = ProgressDisplay(10, console)
    assert display.bar is None
    display.start(0)
    display.update(ROW)  # too soon after the start for a line
    display.update(EVALUATED)
    display.update(ROW | {"step": 10})
    display.print("a [text] as it is")
    display.stop()
    assert console.file.getvalue().splitlines() == [
        "step 5  validation loss 1.2500  0.7500 bits/byte",
        "step 10/10  loss 1.5000  12,346 tokens/s  0:00:00 left",
        "a [text] as it is",
    ]


def test_the_unit_of_the_speed_is_shown():
    console = Console(file=io.StringIO())
    ProgressDisplay(5, console).update({"step": 5, "loss": 1.5, "examples": 99, "examples_per_second": 20.0})
    assert "20 examples/s" in console.file.getvalue()


def test_lines_appear_at_the_given_interval(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), width=200)
    display = ProgressDisplay(2000, console)
    display.start(500)
    for step in (600, 700, 800):
        now[0] += 6
        display.update(ROW | {"step": step})
    assert console.file.getvalue() == "step 700/2000  loss 1.5000  12,346 tokens/s  0:01:18 left\n"


def test_a_row_without_training_loss():
    console = Console(file=io.StringIO())
    ProgressDisplay(10, console).update({"step": 0, "validation_loss": 4.0})
    assert console.file.getvalue() == "step 0  validation loss 4.0000\n"


def test_a_bar_in_a_terminal():
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    display = ProgressDisplay(10, console)
    assert display.bar is not None
    display.update({"step": 0, "validation_loss": 4.0})
    display.start(0)
    display.update(ROW)
    display.update(EVALUATED)
    display.print("a sample")
    display.stop()
    shown = console.file.getvalue()
    for part in (
        "validation loss 4.0000",
        "0.7500 bits/byte",
        "a sample",
        "5/10",
        "loss 1.5000  12,346 tokens/s",
    ):
        assert part in shown


def test_the_speed_is_a_moving_average():
    console = Console(file=io.StringIO(), width=200)
    display = ProgressDisplay(3, console, seconds=0)
    display.start(0)
    for step, speed in [(1, 1000.0), (2, 1000.0), (3, 2000.0)]:
        display.update(ROW | {"step": step, "tokens_per_second": speed})
    assert [line.split("  ")[2] for line in console.file.getvalue().splitlines()] == [
        "1,000 tokens/s",
        "1,000 tokens/s",
        "1,100 tokens/s",
    ]


class ClosedOutput(io.StringIO):
    """A terminal that was closed, or a pipe that nobody reads."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), BrokenPipeError()])
def test_training_goes_on_when_the_output_is_closed(monkeypatch, terminal, error):
    monkeypatch.setattr(os, "dup2", lambda *_: None)  # rich redirects the output of the process
    console = Console(file=ClosedOutput(error), force_terminal=terminal)
    display = ProgressDisplay(10, console, seconds=0)
    if display.bar is not None:
        display.bar.live.auto_refresh = False  # a thread that would report the error too
    display.start(0)
    display.update(ROW)
    display.update(EVALUATED)
    display.print("a sample")
    display.stop()
    assert console.quiet
