"""Files that are whole or absent: write beside, fsync, rename."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name when the block ends without an error.

    A reader sees the old file or the new one, never a part; after an error or a full disk the old file
    stays as it was and the temporary one is gone.

    Raises:
        OSError: the folder is missing, not writable, or the disk is full.

    """
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        sync(temporary)
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
        sync(path.parent)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


def atomic_write(path: str | Path, data: bytes | str) -> None:
    """Write a whole small file atomically; text is stored as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)


def sync(path: Path) -> None:
    """Force a file's data, or a folder's names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    """The process's umask; there is no call that only reads it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
