"""Signals that end a command."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals that end a process without running its ``finally`` blocks. Windows has no SIGHUP."""


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise SystemExit in the block, so that locks and unfinished files are removed.

    Further ones are ignored until the block ends. Signals that are ignored or handled already, as under
    ``nohup``, are left alone, and so are all outside the main thread.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    handled = [n for n in ENDING if in_main_thread and signal.getsignal(n) is signal.SIG_DFL]

    def exit_once(number: int, frame: FrameType | None) -> None:
        for one in handled:
            signal.signal(one, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for number in handled:
        signal.signal(number, exit_once)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_DFL)
