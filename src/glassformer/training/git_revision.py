"""The git revision of a folder, read without the configuration of its repository.

The configuration of a repository names programs that git runs (``core.fsmonitor``, filters, hooks, ssh), and
the folder may come from anyone. So the revision is read from the files of the repository, and git compares
the working tree with it under the configuration of the user alone.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from glassformer.files import temporary_folder

MAX_BYTES = 2**26
"""Largest file of a repository that is read."""
_HASH = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")


def git_revision(folder: Path) -> tuple[str | None, bool | None]:
    """Return the hash of the commit that is checked out, and whether a file of it was changed.

    Submodules count by the commit that is checked out in them, and modes of files do not count.

    Args:
        folder: in the working tree.

    Returns:
        None for what is not known: outside a repository, without git, or in a repository of another format.
    """
    for tree in (folder.absolute(), *folder.absolute().parents):
        git_dir = _git_dir(tree / ".git")
        if git_dir is not None:
            common = git_dir / (_read(git_dir / "commondir") or "").strip()  # that of a linked working tree
            revision = _resolve("HEAD", git_dir, common)
            return revision, None if revision is None else _has_changes(tree, git_dir, common, revision)
    return None, None


def _git_dir(path: Path) -> Path | None:
    """Return the folder of a repository: ``.git``, or what the file ``.git`` of a working tree names."""
    if path.is_dir():
        return path
    prefix, _, target = (_read(path) or "").partition(":")
    return path.parent / target.strip() if prefix == "gitdir" else None


def _resolve(name: str, git_dir: Path, common: Path) -> str | None:
    """Return the hash that a reference stands for."""
    for _ in range(5):  # symbolic references, as many as git follows
        content = _read(git_dir / name) or _read(common / name)
        if content is None:
            packed = re.search(f"^([0-9a-f]+) {re.escape(name)}$", _read(common / "packed-refs") or "", re.M)
            content = packed[1] if packed else ""
        if not content.startswith("ref:"):
            return content.strip() if _HASH.fullmatch(content.strip()) else None
        name = content.removeprefix("ref:").strip()
    return None


def _has_changes(tree: Path, git_dir: Path, common: Path, revision: str) -> bool | None:
    """Compare the working tree with a commit, in an empty repository with its objects and its index."""
    with temporary_folder() as empty:
        for name in ("objects", "refs"):
            (empty / name).mkdir()
        (empty / "HEAD").write_text(revision + "\n")
        version, sha256 = (1, "[extensions]\nobjectFormat = sha256\n") if len(revision) == 64 else (0, "")
        (empty / "config").write_text(
            f"[core]\nrepositoryFormatVersion = {version}\nfileMode = false\nfsmonitor = false\n{sha256}"
        )
        variables = {
            "GIT_DIR": str(empty),
            "GIT_WORK_TREE": str(tree),
            "GIT_INDEX_FILE": str(git_dir / "index"),
            "GIT_OBJECT_DIRECTORY": str(common / "objects"),
            "GIT_OPTIONAL_LOCKS": "0",  # the index is not written
        }
        command = ["git", "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | variables
        try:
            done = subprocess.run(
                command, cwd=tree, env=environment, capture_output=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return bool(done.stdout.strip())


def _read(path: Path) -> str | None:
    """Return the content of a regular file of moderate size, or None."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return None
        return path.read_text("utf-8", "replace")
    except (OSError, ValueError):  # for example a null byte in the name
        return None
