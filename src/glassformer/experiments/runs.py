"""One run of a study: a function, its settings, and the folder that holds its result.

    python -m glassformer.experiments.runs FOLDER     # execute the run that FOLDER/run.json describes

The folder is all that a worker needs, so that a worker may be a process, a task of a cluster, or a job of a
batch system. A run that was killed continues where its own files allow; a finished one is not run again.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from glassformer.files import atomic_write, read_json
from glassformer.folder_lock import lock_folder

DESCRIPTION, RESULT, SECONDS = "run.json", "result.json", "seconds.txt"
"""Files of a run folder: what to run, what came out, and the time spent so far."""
ERROR, OUTPUT = "error.txt", "output.txt"
"""The traceback of a failure, and what a worker prints."""
END_WITH_STDIN = "--end-with-stdin"
"""Option of the command above: end when standard input closes, which its parent process holds open."""
FAILED = 1
"""Exit status after an exception, which is in ``error.txt``."""


@dataclass(frozen=True)
class Run:
    """One independent run.

    Args:
        name: of its folder; unique in the study.
        function: ``"module:name"`` of a function of the settings and the folder that returns the result as a
            value for JSON. It is called again after a crash and continues from what it has left there.
        settings: its first argument: config and seed, as values for JSON.
        cost: expected duration relative to that of other runs, for the time left.
        protocol: hash of the protocol that asks for it, which is stored with the result.
    """

    name: str
    function: str
    settings: Mapping[str, Any]
    cost: float = field(default=1.0, compare=False)
    protocol: str = field(default="", compare=False)

    def prepare(self, folder: Path) -> None:
        """Write the description into the folder, or check that the folder is of this run.

        Raises:
            ValueError: the folder holds a run with other settings (says which).
        """
        settings = json.loads(json.dumps(self.settings))  # as they are read again
        description = {
            "name": self.name,
            "function": self.function,
            "settings": settings,
            "protocol": self.protocol,
        }
        if (folder / DESCRIPTION).exists():
            stored = read_json(folder / DESCRIPTION)
            if stored != description:
                before = stored.get("settings", {})
                changed = [key for key in {**before, **settings} if before.get(key) != settings.get(key)]
                what = ", ".join(changed) or "another function or protocol"
                raise ValueError(f"{folder} holds a run with other settings ({what}): choose another folder")
            return
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / DESCRIPTION, json.dumps(description, indent=1) + "\n")


def is_done(folder: Path) -> bool:
    """Whether a run has its result."""
    return (folder / RESULT).exists()


def read_result(folder: Path) -> dict[str, Any]:
    """The content of ``result.json``.

    That of ``run.json``, with the ``value`` of the function, the ``seconds`` of all attempts that were not
    killed, the ``processor``, and the ``versions`` of the libraries.
    """
    result: dict[str, Any] = read_json(folder / RESULT)
    return result


def execute(folder: str | Path) -> None:
    """Execute the run that a folder describes, unless it is done; the folder is locked meanwhile.

    Raises:
        Exception: whatever the function raises; its traceback is stored in ``error.txt``.
    """
    folder = Path(folder)
    with lock_folder(folder, "run folder", on_wait=lambda message: print(message, flush=True)):
        if is_done(folder):
            return
        with suppress(FileNotFoundError):
            (folder / ERROR).unlink()
        spent, start = _spent(folder), time.monotonic()
        try:
            result = _result(folder)
            result["seconds"] = round(spent + time.monotonic() - start, 3)
            text = json.dumps(result, indent=1, allow_nan=False)
        except Exception:
            atomic_write(folder / ERROR, traceback.format_exc())
            raise
        finally:
            atomic_write(folder / SECONDS, f"{spent + time.monotonic() - start:.3f}\n")
        atomic_write(folder / RESULT, text + "\n")


def _result(folder: Path) -> dict[str, Any]:
    """Call the function of a run."""
    import torch

    from glassformer import __version__
    from glassformer.autotune import processor

    description = read_json(folder / DESCRIPTION)
    module, _, name = description["function"].partition(":")
    value = getattr(import_module(module), name)(description["settings"], folder)
    versions = {"glassformer": __version__, "torch": torch.__version__, "python": platform.python_version()}
    return {**description, "value": value, "processor": processor(), "versions": versions}


def _spent(folder: Path) -> float:
    """Seconds of earlier attempts that ended in order; those of killed ones are not counted."""
    with suppress(FileNotFoundError, ValueError):
        return float((folder / SECONDS).read_text())
    return 0.0


def _end_with_stdin() -> None:
    """End this process when standard input closes."""

    def wait() -> None:
        while sys.stdin.buffer.read(4096):
            pass
        os._exit(FAILED)

    threading.Thread(target=wait, daemon=True).start()


def main() -> int:
    """Execute the run of the folder on the command line; returns the exit status."""
    if END_WITH_STDIN in sys.argv:
        _end_with_stdin()
    try:
        execute(sys.argv[1])
    except SystemExit as stop:  # it was asked to stop
        return stop.code if isinstance(stop.code, int) else FAILED
    except Exception:
        traceback.print_exc()
        return FAILED
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # the thread that reads standard input would be waited for
