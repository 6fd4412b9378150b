"""Whether there is a place for a file, known before the work."""

from __future__ import annotations

import tempfile
from pathlib import Path


def check_folder(folder: Path) -> None:
    """Make sure that a file can be written into a folder, which is made if it is missing.

    Raises:
        OSError: it cannot be made or written to.
    """
    in_the_way = next(
        (path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None
    )
    if in_the_way is not None:
        raise NotADirectoryError(f"{in_the_way} is a file: nothing can be written below it")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None
