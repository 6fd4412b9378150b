"""One thread that computes, a short line before it, and computations that end when nobody waits for them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from torch import nn


class BusyError(Exception):
    """As many computations wait as may."""


class AbandonedError(Exception):
    """Nobody waits for the result any more, or the thread was closed."""


class TooLongError(Exception):
    """The computation took more time than it may."""


class Job:
    """What is to be computed, and what came of it."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.result: Future[Any] = Future()
        self.abandoned = False
        self.deadline = float("inf")


class ComputingThread:
    """Runs one job after the other, beside whoever asks.

    Before each module of the model the running job is asked whether it is still wanted: one that is not, or
    that is past its time, ends there, so within a layer. The hooks that do it leave with ``close``.

    Args:
        model: what the jobs run.
        waiting: jobs that may wait while one runs.
        seconds: time that a job may take.
    """

    def __init__(self, model: nn.Module, *, waiting: int = 4, seconds: float = 120.0) -> None:
        self.waiting, self.seconds = waiting, seconds
        self._line: deque[Job] = deque()
        self._changed = threading.Condition()
        self._running: Job | None = None
        self._closed = False
        self._hooks = [module.register_forward_pre_hook(self._ask) for module in model.modules()]
        self._thread = threading.Thread(target=self._work, name="computing", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], Any]) -> Job:
        """Put a job in line.

        Raises:
            BusyError: the line is full.
            AbandonedError: the thread was closed.
        """
        job = Job(work)
        with self._changed:
            if self._closed:
                raise AbandonedError("the server is ending")
            if len(self._line) + (self._running is not None) > self.waiting:
                raise BusyError(f"the model is busy, and {len(self._line)} texts wait: try again soon")
            self._line.append(job)
            self._changed.notify()
        return job

    def abandon(self, job: Job, why: str = "nobody waits for it") -> None:
        """Out of the line with a job, or an end to it; whoever still waits is told why."""
        with self._changed:
            job.abandoned = True
            if job in self._line:
                self._line.remove(job)
            if not job.result.done():
                job.result.set_exception(AbandonedError(why))

    @property
    def load(self) -> dict[str, Any]:
        """Whether something is computed, and how many wait."""
        return {"computing": self._running is not None, "waiting": len(self._line)}

    def close(self, patience: float = 0.0) -> bool:
        """End what runs, drop what waits, take nothing more.

        Args:
            patience: seconds to wait for the running job.

        Returns:
            Whether the thread has ended.
        """
        with self._changed:
            self._closed = True
            jobs = [*self._line, *([self._running] if self._running else [])]
            self._changed.notify()
        for job in jobs:
            self.abandon(job, "the server is ending")
        self._thread.join(patience)
        if self._thread.is_alive():
            return False
        for hook in self._hooks:
            hook.remove()
        return True

    def _work(self) -> None:
        while True:
            with self._changed:
                self._running = None
                self._changed.wait_for(lambda: self._line or self._closed)
                if self._closed:
                    return
                job = self._running = self._line.popleft()
            job.deadline = time.monotonic() + self.seconds
            try:
                self._settle(job, job.work())
            except Exception as error:
                self._settle(job, None, error)

    def _settle(self, job: Job, result: Any, error: Exception | None = None) -> None:
        """Say what came of a job, where somebody still wants to know."""
        with self._changed:
            if job.result.done():
                return
            if error is None:
                job.result.set_result(result)
            else:
                job.result.set_exception(error)

    def _ask(self, module: nn.Module, args: Any) -> None:
        job = self._running
        if job is None or threading.current_thread() is not self._thread:
            return
        if job.abandoned:
            raise AbandonedError("nobody waits for it")
        if time.monotonic() > job.deadline:
            raise TooLongError(f"this took more than {self.seconds:g} seconds: shorten the text")
