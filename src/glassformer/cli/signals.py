"""Signals that end a command."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals that end a process without running its ``finally`` blocks. Windows has no SIGHUP."""
CLEANUP_SECONDS = 5.0
"""Further signals are ignored for so long, so that they do not interrupt the removal of files."""


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise SystemExit in the block, so that locks and unfinished files are removed.

    Further ones are ignored for ``CLEANUP_SECONDS``. Later ones raise again, because a library may have
    swallowed the first. Signals that are ignored or handled already, as under ``nohup``, are left alone, and
    so are all outside the main thread.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    handled = [n for n in ENDING if in_main_thread and signal.getsignal(n) is signal.SIG_DFL]
    last = -math.inf  # when a signal raised SystemExit

    def exit_once(number: int, frame: FrameType | None) -> None:
        nonlocal last
        if time.monotonic() - last >= CLEANUP_SECONDS:
            last = time.monotonic()
            raise SystemExit(128 + number)

    for number in handled:
        signal.signal(number, exit_once)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_DFL)
