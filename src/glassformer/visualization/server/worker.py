"""Worker thread that runs the model, with a short queue and cancellation."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from torch import nn

from glassformer.deprecation import renamed_arguments


class QueueFullError(Exception):
    """The queue of waiting jobs is full."""


class JobCancelledError(Exception):
    """The job was cancelled: its client disconnected, or the server is shutting down."""


class JobTimeoutError(Exception):
    """The job exceeded its time limit."""


class Job:
    """A function to call in the worker thread, and the future of its result."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.future: Future[Any] = Future()
        self.cancelled = False
        self.deadline = float("inf")


class ModelWorker:
    """A thread that runs jobs one after the other.

    A forward pre-hook on every module of the model checks whether the running job was cancelled or is past
    its deadline, so a job stops within one layer. ``close`` removes the hooks.

    Args:
        model: the model that the jobs run.
        max_queued: number of jobs that may wait while one runs.
        timeout: seconds that one job may take.
    """

    @renamed_arguments(waiting="max_queued", seconds="timeout")
    def __init__(self, model: nn.Module, *, max_queued: int = 4, timeout: float = 120.0) -> None:
        self.max_queued, self.timeout = max_queued, timeout
        self._queue: deque[Job] = deque()
        self._condition = threading.Condition()
        self._running: Job | None = None
        self._closed = False
        self._hooks = [module.register_forward_pre_hook(self._check) for module in model.modules()]
        self._thread = threading.Thread(target=self._run, name="model-worker", daemon=True)
        self._thread.start()

    def submit(self, function: Callable[[], Any]) -> Job:
        """Queue a job.

        Raises:
            QueueFullError: ``max_queued`` jobs are waiting.
            JobCancelledError: the worker was closed.
        """
        job = Job(function)
        with self._condition:
            if self._closed:
                raise JobCancelledError("the server is shutting down")
            if len(self._queue) + (self._running is not None) > self.max_queued:
                raise QueueFullError(
                    f"the model is busy and {len(self._queue)} requests are waiting: try again soon"
                )
            self._queue.append(job)
            self._condition.notify()
        return job

    def cancel(self, job: Job, reason: str = "the client disconnected") -> None:
        """Remove a job from the queue, or stop it at the next module of the model."""
        with self._condition:
            job.cancelled = True
            if job in self._queue:
                self._queue.remove(job)
            if not job.future.done():
                job.future.set_exception(JobCancelledError(reason))

    @property
    def status(self) -> dict[str, Any]:
        """Whether a job is running, and the number of waiting jobs."""
        return {"computing": self._running is not None, "waiting": len(self._queue)}

    @renamed_arguments(patience="timeout")
    def close(self, timeout: float = 0.0) -> bool:
        """Cancel all jobs and accept no more.

        Args:
            timeout: seconds to wait for the running job to stop.

        Returns:
            Whether the thread has ended.
        """
        with self._condition:
            self._closed = True
            jobs = [*self._queue, *([self._running] if self._running else [])]
            self._condition.notify()
        for job in jobs:
            self.cancel(job, "the server is shutting down")
        self._thread.join(timeout)
        if self._thread.is_alive():
            return False
        for hook in self._hooks:
            hook.remove()
        return True

    def _run(self) -> None:
        while True:
            with self._condition:
                self._running = None
                self._condition.wait_for(lambda: self._queue or self._closed)
                if self._closed:
                    return
                job = self._running = self._queue.popleft()
            job.deadline = time.monotonic() + self.timeout
            try:
                self._finish(job, job.function())
            except Exception as error:
                self._finish(job, None, error)

    def _finish(self, job: Job, result: Any, error: Exception | None = None) -> None:
        """Set the result of a job, unless it was cancelled."""
        with self._condition:
            if job.future.done():
                return
            if error is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(error)

    def _check(self, module: nn.Module, args: Any) -> None:
        """Stop the running job if it was cancelled or is late; forward passes of other threads go on."""
        job = self._running
        if job is None or threading.current_thread() is not self._thread:
            return
        if job.cancelled:
            raise JobCancelledError("the client disconnected")
        if time.monotonic() > job.deadline:
            raise JobTimeoutError(f"the request took more than {self.timeout:g} seconds: shorten the text")
