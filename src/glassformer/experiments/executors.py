"""Executors of a sweep: processes of this machine, a Ray cluster, or Slurm.

Run folders must lie on a file system that all workers share. Every executor starts a process for each run.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glassformer.choices import choose
from glassformer.experiments.runs import END_WITH_STDIN, ERROR, FAILED, OUTPUT, is_done
from glassformer.experiments.sweep import Executor, Outcome, wait_until
from glassformer.experiments.sweep_progress import last_line
from glassformer.integers import check_at_least

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
STOP_SECONDS = 20.0
"""After which a worker that was asked to stop is killed."""
MODULE = "glassformer.experiments.runs"


@dataclass(frozen=True)
class Resources:
    """What one run needs."""

    threads: int = 1
    gpus: int = 0
    memory_gib: float = 0.0
    """Zero leaves it to the cluster."""
    minutes: float = 240.0
    """After which a batch system may end it."""


class LocalExecutor:
    """Processes of this machine.

    A worker that is killed is an outcome; if this process is killed, its workers end too.

    Args:
        num_workers: processes at the same time.
        threads: of each. Small models train faster in several processes of one thread than in one process
            of several.

    Raises:
        ValueError: a number is below 1.
    """

    def __init__(self, num_workers: int, threads: int = 1) -> None:
        check_at_least(1, num_workers=num_workers, threads=threads)
        self.num_workers, self.threads = num_workers, threads

    def execute(self, folders: Sequence[Path]) -> Generator[Outcome, None, None]:
        """Execute the runs; see ``Executor.execute``."""
        waiting = list(folders)
        running: dict[Path, subprocess.Popen[bytes]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.num_workers:
                    folder = waiting.pop(0)
                    running[folder] = self._start(folder)
                    yield Outcome(folder, "started")
                ended = [folder for folder, process in running.items() if process.poll() is not None]
                for folder in ended:
                    process = running.pop(folder)
                    process.communicate()  # closes the pipe
                    yield outcome_of(folder, process.returncode)
                if not ended:
                    time.sleep(0.05)
        finally:
            _stop(list(running.values()))

    def _start(self, folder: Path) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(self.threads))}
        with (folder / OUTPUT).open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", MODULE, str(folder), END_WITH_STDIN],
                env=environment,
                stdin=subprocess.PIPE,  # held open: the worker ends when this process does
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches this process alone, which then stops the workers
            )


def outcome_of(folder: Path, status: int) -> Outcome:
    """The outcome of a process that executed a run, by its exit status."""
    if is_done(folder):
        return Outcome(folder, "done")
    if status == FAILED and (folder / ERROR).exists():
        return Outcome(folder, "failed", last_line(folder / ERROR))
    if status < 0:
        names = {number.value: number.name for number in signal.Signals}
        name = names.get(-status, f"signal {-status}")
        return Outcome(folder, "killed", f"its worker was killed by {name}")
    return Outcome(folder, "killed", f"its worker ended with status {status} and no result")


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    """Let processes save what they have, and kill those that take too long."""
    for process in processes:
        process.terminate()
    wait_until(lambda: all(process.poll() is not None for process in processes), STOP_SECONDS)
    for process in processes:
        process.kill()
        process.communicate()


class RayExecutor:
    """Tasks of Ray Core (extra ``ray``), on the cluster of RAY_ADDRESS, a running one, or a local one.

    Ray executes the task of a worker or node that was killed again.

    Args:
        resources: that are reserved for each run.
        max_retries: how often a task is executed again after its worker or node was killed.

    Raises:
        ImportError: Ray is not installed.
    """

    def __init__(self, resources: Resources | None = None, max_retries: int = 3) -> None:
        try:
            import ray
        except ImportError as error:
            raise ImportError(
                f"--executor ray needs Ray: pip install 'glassformer[ray]' ({error})"
            ) from error
        self.ray: Any = ray
        if not ray.is_initialized():
            ray.init(log_to_driver=False, configure_logging=False)
        needed = resources or Resources()
        self.threads = needed.threads
        self.options = {"num_cpus": needed.threads, "num_gpus": needed.gpus, "max_retries": max_retries}
        if needed.memory_gib:
            self.options["memory"] = int(needed.memory_gib * 2**30)
        found = ray.cluster_resources()
        fit = [found.get("CPU", 1) // needed.threads]
        if needed.gpus:
            fit.append(found.get("GPU", 0) // needed.gpus)
        self.num_workers = max(1, int(min(fit)))

    def execute(self, folders: Sequence[Path]) -> Generator[Outcome, None, None]:
        """Execute the runs; see ``Executor.execute``."""
        task = self.ray.remote(**self.options)(_execute_in_process)
        pending = {task.remote(str(folder.resolve()), self.threads): folder for folder in folders}
        try:
            while pending:
                (reference,), _ = self.ray.wait(list(pending), num_returns=1)
                folder = pending.pop(reference)
                try:
                    kind, message = self.ray.get(reference)
                except self.ray.exceptions.RayError as error:
                    kind, message = "killed", f"its task ended with {_error_line(error)}"
                yield Outcome(folder, kind, message)
        finally:
            for reference in pending:
                self.ray.cancel(reference, force=True)


class SlurmExecutor:
    """Jobs of Slurm through submitit (extra ``slurm``), one array for all runs.

    Args:
        logs: folder for what submitit writes; it must be on the shared file system.
        resources: that each job asks for.
        cluster: of submitit: None finds Slurm; "local" uses processes of this machine.
        options: further parameters of the jobs, such as ``{"slurm_partition": "cpu"}``.

    Raises:
        ImportError: submitit is not installed.
    """

    def __init__(
        self,
        logs: Path,
        resources: Resources | None = None,
        cluster: str | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        try:
            import submitit
        except ImportError as error:
            raise ImportError(
                f"--executor slurm needs submitit: pip install 'glassformer[slurm]' ({error})"
            ) from error
        self.executor: Any = submitit.AutoExecutor(folder=str(logs), cluster=cluster)
        needed = resources or Resources()
        parameters: dict[str, Any] = {
            "cpus_per_task": needed.threads,
            "timeout_min": math.ceil(needed.minutes),
        }
        if needed.gpus:
            parameters["gpus_per_node"] = needed.gpus
        if needed.memory_gib:
            parameters["mem_gb"] = needed.memory_gib
        self.executor.update_parameters(**{**parameters, **(options or {})})
        self.threads, self.num_workers = needed.threads, 1

    def execute(self, folders: Sequence[Path]) -> Generator[Outcome, None, None]:
        """Execute the runs; see ``Executor.execute``."""
        arguments = [str(folder.resolve()) for folder in folders]
        jobs = self.executor.map_array(_execute_in_process, arguments, [self.threads] * len(arguments))
        pending = dict(zip(jobs, folders, strict=True))
        self.num_workers = len(pending)
        try:
            while pending:
                ended = [job for job in pending if job.done()]
                for job in ended:
                    folder = pending.pop(job)
                    error = job.exception()
                    ending = f"its job ended with {_error_line(error)}" if error else ""
                    yield Outcome(folder, *(("killed", ending) if error else job.result()))
                if not ended:
                    time.sleep(0.5)
        finally:
            for job in pending:
                job.cancel()


def _execute_in_process(folder: str, threads: int) -> tuple[str, str]:
    """Execute a run in a process of its own, which inherits no state of other runs.

    Returns:
        The kind and message of the outcome.
    """
    *_, outcome = LocalExecutor(1, threads).execute([Path(folder)])
    return outcome.kind, outcome.message


def _error_line(error: BaseException) -> str:
    """The type of an error with the last line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__


EXECUTORS: dict[str, Callable[..., Executor]] = {
    "local": lambda workers, resources, logs: LocalExecutor(workers, resources.threads),
    "ray": lambda workers, resources, logs: RayExecutor(resources),
    "slurm": lambda workers, resources, logs: SlurmExecutor(logs, resources),
}
"""By the name of ``--executor``."""


def build_executor(name: str, workers: int, resources: Resources, logs: Path) -> Executor:
    """The executor with this name.

    Args:
        name: a key of ``EXECUTORS``.
        workers: processes at the same time on this machine.
        resources: of each run.
        logs: folder for what a batch system writes.

    Raises:
        ValueError: an unknown name, or a number below 1.
        ImportError: what it needs is not installed.
    """
    return choose(EXECUTORS, name, "executor")(workers, resources, logs)
