"""Atomic file writes, and files of installed packages."""

from __future__ import annotations

import os
import stat

import pytest

from glassformer.files import atomic_path, atomic_write, package_file


def test_text_and_bytes_are_written(tmp_path):
    atomic_write(tmp_path / "text", "ä\n")
    atomic_write(tmp_path / "bytes", b"\x00")
    assert (tmp_path / "text").read_bytes() == "ä\n".encode()
    assert (tmp_path / "bytes").read_bytes() == b"\x00"


def test_an_error_leaves_only_the_old_file(tmp_path):
    path = tmp_path / "file"
    atomic_write(path, "old")
    with pytest.raises(RuntimeError, match="stop"), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("stop")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_deleted_temporary_file_is_not_a_second_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "file") as temporary:
        temporary.unlink()
    assert list(tmp_path.iterdir()) == []


def test_the_file_has_the_permissions_of_a_new_file(tmp_path):
    old = os.umask(0o027)
    try:
        atomic_write(tmp_path / "file", "x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        atomic_write(tmp_path / "nowhere" / "file", "x")


def test_files_of_packages_are_found_or_the_error_says_what_to_install():
    assert package_file("glassformer", "files.py", "glassformer").name == "files.py"
    for package, file in (("glassformer", "nothing.py"), ("no_such_package", "file")):
        with pytest.raises(FileNotFoundError, match=r"is not installed: pip install --no-deps package==1\.0"):
            package_file(package, file, "package==1.0")
