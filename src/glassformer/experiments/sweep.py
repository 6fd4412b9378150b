"""Sweeps: independent runs in folders of their own, skipped when done and retried when killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from rich.console import Console

from glassformer.experiments.runs import ERROR, OUTPUT, Run, is_done
from glassformer.experiments.sweep_progress import SweepProgress
from glassformer.terminal import count_of

MAX_ATTEMPTS = 3
"""Of a run whose worker is killed. A run that raises an exception would raise it again."""


@dataclass(frozen=True)
class Outcome:
    """How one attempt of a run began or ended."""

    folder: Path
    kind: Literal["started", "done", "failed", "killed"]
    """``started`` says that it has begun, where that is known; ``failed`` is an exception of the run, and
    ``killed`` is everything that happened to its worker."""
    message: str = ""


class Executor(Protocol):
    """Where runs are executed: processes of this machine, or tasks or jobs of several."""

    num_workers: int
    """Runs at the same time, for the time left."""

    def execute(self, folders: Sequence[Path]) -> Generator[Outcome, None, None]:
        """Execute the runs in their folders; yield each outcome when it is known.

        When the iterator is closed, as after Ctrl-C, runs that are not done are stopped.
        """
        ...


class SweepError(RuntimeError):
    """Runs of a sweep failed; the message names them and their first error."""


def run_sweep(
    runs: Sequence[Run], folder: str | Path, executor: Executor, console: Console | None = None
) -> None:
    """Execute the runs that are not done, each in the folder with its name.

    Args:
        runs: all runs of a study.
        folder: parent of the run folders.
        executor: where they are executed.
        console: where the state of each run and the time left are shown. Default: nowhere.

    Raises:
        ValueError: two runs have the same name, or a folder holds a run with other settings.
        SweepError: a run raised an exception, or its worker was killed ``MAX_ATTEMPTS`` times; the other runs
            are finished first.
    """
    folder = Path(folder)
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        raise ValueError("two runs have the same name: each needs a folder of its own")
    for run in runs:
        run.prepare(folder / run.name)
    attempts = dict.fromkeys(names, 0)
    failed: dict[str, str] = {}
    with SweepProgress({run.name: run.cost for run in runs}, folder, executor, console) as progress:
        while pending := [name for name in names if not is_done(folder / name) and name not in failed]:
            for name in pending:
                attempts[name] += 1
            ended = set()
            with closing(executor.execute([folder / name for name in pending])) as outcomes:
                for outcome in outcomes:
                    name = outcome.folder.name
                    last = attempts[name] >= MAX_ATTEMPTS
                    if outcome.kind != "started":
                        ended.add(name)
                    if outcome.kind == "failed" or (outcome.kind == "killed" and last):
                        failed[name] = outcome.message
                    progress.report(outcome, attempts[name], last)
            for name in pending:
                if name not in ended:
                    failed[name] = "the executor did not say how it ended"
    if failed:
        name, message = next(iter(failed.items()))
        others = f" (and {count_of(len(failed) - 1, 'other run')})" if len(failed) > 1 else ""
        logs = [folder / name / file for file in (ERROR, OUTPUT) if (folder / name / file).exists()]
        see = f"see {logs[0]}; " if logs else ""
        raise SweepError(f"the run {name}{others} failed: {message}; {see}the same command tries again")


def wait_until(condition: Callable[[], bool], seconds: float, every: float = 0.05) -> bool:
    """Wait for a condition for at most so long; returns whether it holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(every)
    return True
