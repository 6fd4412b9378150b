"""Locks of folders that only one process may write to."""

from __future__ import annotations

import errno
import json
import os
import shlex
import socket
import stat
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from glassformer.files import PARTIAL, remove_partial

if sys.platform != "win32":
    import fcntl

LOCK = ".lock"
"""File of the lock in its folder."""
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems without locks answer."""

_held: set[tuple[int, int, Path]] = set()  # process, thread and folder


class FolderInUseError(OSError):
    """Another process has locked the folder; the message names it."""


@contextmanager
def lock_folder(
    folder: str | Path, purpose: str = "folder", on_wait: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Lock a folder while the block runs, and remove what killed processes left of unfinished writes in it.

    The folder is created if it is missing, and removed at the end if it was created here and is empty. The
    file ``.lock`` in it names the process and is removed at the end. The operating system releases the lock
    when the process ends, however it ends. A thread may lock a folder again that it has locked.

    Nothing is locked on Windows, nor, with a warning, on file systems that have no locks.

    Args:
        folder: the folder.
        purpose: what the folder is, for messages, such as ``"run folder"``.
        on_wait: called with a message before waiting for another process. Default: do not wait.

    Raises:
        FolderInUseError: another process has locked the folder, and ``on_wait`` is None.
        OSError: the folder cannot be created or written to.
    """
    folder = Path(folder)
    key = os.getpid(), threading.get_ident(), folder.resolve()
    if sys.platform == "win32" or key in _held:
        folder.mkdir(parents=True, exist_ok=True)
        yield
        return
    created = [path for path in (folder, *folder.parents) if not path.exists()]  # innermost first
    try:
        handle = _acquire(folder, purpose, on_wait)
        _held.add(key)
        try:
            remove_partial(folder)
            yield
        finally:
            _held.discard(key)
            _release(handle, folder / LOCK)
    finally:
        for path in created:
            with suppress(OSError):
                path.rmdir()


def entries(folder: Path) -> list[str]:
    """Names of the files in a folder, without its lock and unfinished writes."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return [name for name in names if name != LOCK and not (name.startswith(".") and name.endswith(PARTIAL))]


def _acquire(folder: Path, purpose: str, on_wait: Callable[[str], None] | None) -> int:
    """Lock the file of the lock and write into it who holds it; return its file descriptor."""
    path = folder / LOCK
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            if _is_other(folder):
                raise NotADirectoryError(f"the {purpose} {folder} is a file") from None
            continue  # removed by another process before it was seen to be a folder
        try:  # a link would lead the write below out of the folder
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:
            continue  # another process that had created the folder has removed it
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(folder)) from None
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                in_use = f"the {purpose} {folder} is in use by {_holder(handle)}"
                if on_wait is None:
                    raise FolderInUseError(
                        f"{in_use}: wait until it ends, or choose another folder"
                    ) from None
                on_wait(f"{in_use}: waiting for it")
                fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                os.close(handle)
                raise
            message = f"{folder} cannot be locked ({error.strerror}): use it from one process at a time"
            warnings.warn(message, stacklevel=2)
        except BaseException:
            os.close(handle)
            raise
        if _is_file(handle, path):
            with suppress(OSError):  # a full disk is reported by what is written next
                os.ftruncate(handle, 0)
                os.write(handle, _this_process().encode("utf-8", "replace"))
            return handle
        os.close(handle)  # the process that held the lock has removed its file


def _is_other(path: Path) -> bool:
    """Whether there is something at a path, also a broken link, that is no folder."""
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError:
        return path.is_symlink()


def _release(handle: int, path: Path) -> None:
    if _is_file(handle, path):
        with suppress(OSError):
            path.unlink()  # before the lock is released, so that no other process holds it
    os.close(handle)


def _is_file(handle: int, path: Path) -> bool:
    """Whether a path still is the file that was opened."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except OSError:
        return False


def _this_process() -> str:
    program = Path(sys.argv[0] or "python")
    name = program.parent.name if program.name == "__main__.py" else program.name
    command = shlex.join([name, *sys.argv[1:]])
    return json.dumps({"process": os.getpid(), "host": socket.gethostname(), "command": command[:200]})


def _holder(handle: int) -> str:
    """Describe the process that holds the lock, from the content of the file."""
    for _ in range(10):
        if os.fstat(handle).st_size:
            break
        time.sleep(0.02)  # a process that has just locked the file is about to write it
    try:
        content = json.loads(os.pread(handle, 4096, 0))
        process, host, command = (str(content[name]) for name in ("process", "host", "command"))
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
    elsewhere = "" if host == socket.gethostname() else f" on {host}"
    described = f"process {process}{elsewhere} ({command})"
    return "".join(character if character.isprintable() else "?" for character in described)
