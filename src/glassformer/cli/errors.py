"""Errors of a command as one line, and files that cannot be read."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glassformer.terminal import printable

TRACEBACK = "GLASSFORMER_TRACEBACK"
"""Environment variable that, if set, makes every error print its traceback."""
USER_ERROR, INTERNAL_ERROR = 2, 1
"""Exit statuses."""
EXPECTED = (ValueError, TypeError, ArithmeticError, OSError, ImportError)
"""What the library raises for inputs that it does not accept."""


class UnreadableFileError(ValueError):
    """A file made its reader fail in a way that the reader does not expect."""


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Name the file in whatever a reader raises inside the block, even if it is a panic of a Rust library.

    Raises:
        UnreadableFileError: the reader raised something else than it documents, such as a RecursionError.
        ValueError: the reader's own, with the name of the file.
        MemoryError: the content does not fit into memory.
    """
    try:
        yield
    except (OSError, ImportError):
        raise
    except BaseException as error:
        if is_out_of_memory(error):
            raise MemoryError(f"{path} does not fit into memory") from error
        if isinstance(error, ValueError) and not isinstance(error, UnicodeError):
            if str(path) in str(error):
                raise
            raise ValueError(f"{path}: {error}") from error
        if isinstance(error, Exception) or is_panic(error):
            raise UnreadableFileError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
        raise


def is_panic(error: BaseException) -> bool:
    """Whether an error is the panic of a library that is written in Rust, which is not an ``Exception``."""
    return type(error).__name__ == "PanicException"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory cannot be allocated; PyTorch raises a RuntimeError."""
    words = "(can't|cannot) allocate memory|(not enough|out of) memory|storage size calculation overflowed"
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | OSError) and re.search(words, str(error), re.IGNORECASE) is not None
    )


def print_error(program: str, error: BaseException, message: str | None = None) -> int:
    """Print an error as one line on stderr, with its traceback if ``GLASSFORMER_TRACEBACK`` is set.

    Args:
        program: such as ``glassformer train``.
        error: any error.
        message: its message. Default: ``str(error)``.

    Returns:
        The exit status: 2, or 1 for an error inside the program.
    """
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    message = str(error) if message is None else message
    status = USER_ERROR
    hint = f"{TRACEBACK}=1 shows where"
    if is_out_of_memory(error):
        size = re.search(r"allocate ([0-9.]+ \w+)", message)
        reason = "there is not enough memory" + (f": {size[1]} cannot be allocated" if size else "")
        message = message if "does not fit" in message else reason
    elif isinstance(error, UnreadableFileError):
        message = f"{message} ({hint})"
    elif not isinstance(error, EXPECTED):
        message, status = f"internal error: {type(error).__name__}: {message} ({hint})", INTERNAL_ERROR
    print_line(program, message)
    return status


def print_line(program: str, message: str) -> None:
    """Print a message as one line on stderr."""
    print(f"{program}: {printable(' '.join(message.split()))}", file=sys.stderr)
