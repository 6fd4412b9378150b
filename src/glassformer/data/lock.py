"""One process at a time in a folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glassformer.data.progress import Progress

if sys.platform != "win32":
    import fcntl


@contextmanager
def folder_lock(folder: Path, progress: Progress) -> Iterator[None]:
    """Make the folder if it is missing, and hold it; another process that wants it waits.

    The system drops the lock when its holder ends in whatever way, so none is ever left behind. On Windows
    nothing is locked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield
        return
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.note(f"another process is building {folder}: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
