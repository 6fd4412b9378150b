"""Progress reports in a terminal and in plain lines."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from glassformer.data import ConsoleProgress, CountProgress, SilentProgress


class Clock:
    """A clock that is advanced by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("glassformer.data.progress.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_without_a_terminal_lines_are_printed_every_ten_seconds(clock: Clock) -> None:
    output = io.StringIO()
    progress = ConsoleProgress(Console(file=output))
    for _ in range(100):
        progress.update("tokenizing", 1_000_000 * int(clock.now - 100), 100_000_000)
        clock.now += 1
    progress.update("tokenizing", 100_000_000, 100_000_000)
    lines = output.getvalue().splitlines()
    assert lines[0] == "tokenizing: 10.0 MB of 100.0 MB (10%), 1.0 MB/s"
    assert lines[-1] == "tokenizing: 100.0 MB, 1.0 MB/s"
    assert len(lines) == 10


def test_an_unknown_total_is_omitted(clock: Clock) -> None:
    output = io.StringIO()
    progress = ConsoleProgress(Console(file=output))
    progress.update("reading", 0, None)
    clock.now += 20
    progress.update("reading", 5_000_000, None)
    assert output.getvalue() == "reading: 5.0 MB, 0.2 MB/s\n"


def test_work_done_before_the_start_does_not_count_for_the_speed(clock: Clock) -> None:
    output = io.StringIO()
    progress = ConsoleProgress(Console(file=output))
    progress.update("tokenizing", 90_000_000, 100_000_000)
    clock.now += 5
    progress.update("tokenizing", 100_000_000, 100_000_000)
    assert output.getvalue() == "tokenizing: 100.0 MB, 2.0 MB/s\n"


def test_in_a_terminal_a_bar_is_shown(clock: Clock) -> None:
    output = io.StringIO()
    progress = ConsoleProgress(Console(file=output, force_terminal=True, width=100))
    progress.update("tokenizing", 0, 4_000_000)
    progress.update("tokenizing", 1, 4_000_000)  # too soon after the first to be drawn
    clock.now += 1
    progress.update("tokenizing", 2_000_000, 4_000_000)
    progress.note("[a note]")
    progress.update("tokenizing", 4_000_000, 4_000_000)
    progress.close()
    progress.close()
    shown = output.getvalue()
    assert "tokenizing" in shown
    assert "4.0/4.0 MB" in shown
    assert "[a note]" in shown


def test_a_long_note_is_one_line() -> None:
    output = io.StringIO()
    ConsoleProgress(Console(file=output, width=20)).note("word " * 30)
    assert output.getvalue().count("\n") == 1


def test_silent_progress_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    progress = SilentProgress()
    progress.update("tokenizing", 1, 2)
    progress.note("note")
    progress.close()
    assert capfd.readouterr() == ("", "")


def test_count_progress_shows_the_remaining_time(clock: Clock) -> None:
    output = io.StringIO()
    progress = CountProgress(Console(file=output))
    progress.update("measuring", 0, 1000)
    clock.now += 10
    progress.update("measuring", 250, 1000)
    clock.now += 30
    progress.update("measuring", 1000, 1000)
    assert output.getvalue().splitlines() == [
        "measuring: 250 of 1,000 (25%), 25.0/s, 30 s left",
        "measuring: 1,000, 25.0/s",
    ]


def test_count_progress_has_a_bar_with_counts(clock: Clock) -> None:
    output = io.StringIO()
    progress = CountProgress(Console(file=output, force_terminal=True, width=100))
    progress.update("measuring", 0, 40)
    clock.now += 5
    progress.update("measuring", 40, 40)
    progress.close()
    assert "40/40" in output.getvalue()
