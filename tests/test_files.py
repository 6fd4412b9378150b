"""Atomic file writes, and files of installed packages."""

from __future__ import annotations

import json
import os
import stat
import sys
import tempfile
from pathlib import Path

import pytest

from glassformer.files import (
    atomic_path,
    atomic_write,
    package_file,
    read_json,
    remove_partial,
    save_table,
    temporary_folder,
)


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


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is locked on Windows")
def test_temporary_files_of_killed_processes_are_removed_by_the_next_write(tmp_path):
    path, other = tmp_path / "page [1].html", tmp_path / "page 1.html"
    left = tmp_path / f".{path.name}.x1y2z3a4.partial"
    unrelated = [tmp_path / f".{other.name}.x1y2z3a4.partial", tmp_path / f".{path.name}.partial"]
    for file in (left, *unrelated):
        file.touch()
    with atomic_path(path) as temporary:
        assert not left.exists()
        atomic_write(path, "first")  # does not remove the file that is being written
        temporary.write_text("second")
    assert path.read_text() == "second"
    assert sorted(tmp_path.iterdir()) == sorted([path, *unrelated])
    (tmp_path / ".folder.x1y2z3a4.partial").mkdir()
    remove_partial(tmp_path)
    assert sorted(p.name for p in tmp_path.glob(".*")) == [".folder.x1y2z3a4.partial", unrelated[1].name]


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


ROWS = [{"head": "0.1", "drop": 0.5}, {"head": "0.2", "drop": 0.25}]


def test_csv_has_a_line_per_row(tmp_path):
    save_table(ROWS, tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text() == "head,drop\n0.1,0.5\n0.2,0.25\n"
    save_table([], tmp_path / "empty.csv", ["head", "drop"])
    assert (tmp_path / "empty.csv").read_text() == "head,drop\n"


def test_json_has_the_rows_or_the_given_content(tmp_path):
    save_table(ROWS, tmp_path / "table.json")
    assert json.loads((tmp_path / "table.json").read_text()) == ROWS
    save_table(ROWS, tmp_path / "table.json", json_content={"rows": ROWS})
    assert json.loads((tmp_path / "table.json").read_text()) == {"rows": ROWS}


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.csv or \.json, not '\.xls'"):
        save_table(ROWS, tmp_path / "table.xls")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{", "Expecting property name"),
        (b"\xff", "can't decode byte 0xff"),
        (b"", "Expecting value"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b"9" * 5000, "Exceeds the limit"),
    ],
)
def test_what_is_not_json_is_refused_with_the_file(content, problem, tmp_path):
    path = tmp_path / "values.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} is not valid JSON: .*{problem}"):
        read_json(path)


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is locked on Windows")
@pytest.mark.skipif(sys.platform == "win32", reason="folders are not locked there")
def test_a_folder_that_another_process_removes_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    make, made = tempfile.mkdtemp, []

    def mkdtemp(**options):
        made.append(make(**options))
        if len(made) == 1:
            os.rmdir(made[0])
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    with temporary_folder() as folder:
        assert folder == Path(made[1])
        (folder / "file").touch()
    assert list(tmp_path.iterdir()) == []


def test_temporary_folders_of_killed_processes_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "glassformer-x1y2z3a4").mkdir()
    (tmp_path / "glassformer-x1y2z3a4" / "file").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    (tmp_path / "glassformer-linktome").symlink_to("mine")
    with temporary_folder() as folder:
        (folder / "file").touch()
        with temporary_folder():  # does not remove the one in use
            assert (folder / "file").exists()
        names = {"mine", "glassformer-linktome"}
        assert {path.name for path in tmp_path.iterdir()} == names | {folder.name}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert (tmp_path / "mine" / "file").exists()
