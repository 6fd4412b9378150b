"""Locks of folders: exclusive, named, released by the operating system, and without traces."""

import errno
import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from glassformer import folder_lock
from glassformer.files import atomic_path
from glassformer.folder_lock import LOCK, FolderInUseError, entries, lock_folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing is locked on Windows")


def in_thread(function):
    """Call a function in another thread, which is as foreign to a lock as another process."""
    results = []

    def run():
        try:
            results.append(function())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    return results[0]


def lock_and_return(folder, **options):
    with lock_folder(folder, **options):
        return "locked"


def test_a_locked_folder_is_refused_and_the_process_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/glassformer", "train", "--config", "my run.toml"])
    with lock_folder(tmp_path, "run folder"):
        error = in_thread(lambda: lock_and_return(tmp_path, purpose="run folder"))
    assert isinstance(error, FolderInUseError)
    assert str(error) == (
        f"the run folder {tmp_path} is in use by process {os.getpid()} "
        "(glassformer train --config 'my run.toml'): wait until it ends, or choose another folder"
    )
    assert in_thread(lambda: lock_and_return(tmp_path)) == "locked"


def test_folders_are_compared_by_what_they_are(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    monkeypatch.chdir(tmp_path)
    with lock_folder(tmp_path / "link"):
        assert isinstance(in_thread(lambda: lock_and_return("run")), FolderInUseError)
        assert lock_and_return("run/../run") == "locked"  # this thread holds the lock


def test_a_thread_may_lock_a_folder_again(tmp_path):
    with lock_folder(tmp_path):
        assert lock_and_return(tmp_path) == "locked"
        assert isinstance(in_thread(lambda: lock_and_return(tmp_path)), FolderInUseError)
    assert os.listdir(tmp_path) == []


def test_nothing_is_left(tmp_path):
    folder = tmp_path / "a" / "b"
    with lock_folder(folder):
        assert os.listdir(folder) == [LOCK]
        assert entries(folder) == []
    assert os.listdir(tmp_path) == []
    with pytest.raises(ZeroDivisionError), lock_folder(folder):
        1 / 0  # noqa: B018
    assert os.listdir(tmp_path) == []
    with lock_folder(folder):
        (folder / "file").touch()
    assert os.listdir(folder) == ["file"]


def hold(folder, ready):
    with lock_folder(folder), atomic_path(folder / "result") as temporary:
        temporary.write_text("half")
        ready.set()
        signal.pause()


@pytest.mark.slow
def test_a_killed_process_holds_no_lock_and_its_unfinished_files_are_removed(tmp_path):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready))
    process.start()
    assert ready.wait(30)
    with pytest.raises(FolderInUseError, match=f"in use by process {process.pid} "):
        lock_and_return(tmp_path)
    assert len(os.listdir(tmp_path)) == 2
    process.kill()
    process.join()
    assert len(os.listdir(tmp_path)) == 2
    assert entries(tmp_path) == []
    with lock_folder(tmp_path):
        assert os.listdir(tmp_path) == [LOCK]
    assert os.listdir(tmp_path) == []


def test_a_forked_process_does_not_share_the_lock(tmp_path):
    with lock_folder(tmp_path):
        child = os.fork()
        if child == 0:
            try:
                lock_and_return(tmp_path)
            except FolderInUseError:
                os._exit(7)
            finally:
                os._exit(8)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_waiting_processes_get_the_lock_one_after_the_other(tmp_path):
    messages, order = [], []

    def work(number):
        with lock_folder(tmp_path, on_wait=messages.append):
            order.append(("begin", number))
            order.append(("end", number))

    with ExitStack() as stack:
        stack.enter_context(lock_folder(tmp_path))
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        while len(messages) < 8:
            threading.Event().wait(0.001)
        assert order == []
        assert all(f"{tmp_path} is in use by process {os.getpid()}" in line for line in messages)
        assert messages[0].endswith(": waiting for it")
    for thread in threads:
        thread.join(30)
    assert order[0::2] == [("begin", number) for _, number in order[1::2]]
    assert len(order) == 16
    assert os.listdir(tmp_path) == []


def test_processes_that_create_and_remove_the_same_folder_do_not_disturb_each_other(tmp_path):
    errors, inside = [], []

    def work():
        try:
            for _ in range(50):
                with lock_folder(tmp_path / "a", on_wait=lambda message: None):
                    inside.append(1)
                    assert len(inside) == 1
                    inside.pop()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_folder_that_is_removed_while_it_is_created_is_created_again(tmp_path, monkeypatch):
    mkdir, calls = Path.mkdir, []

    def removed_at_first(path, *args, **kwargs):
        calls.append(path)
        if len(calls) == 1:  # as mkdir(exist_ok=True) does if the folder vanishes before it is looked at
            raise FileExistsError
        mkdir(path, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", removed_at_first)
    with lock_folder(tmp_path / "a"):
        assert (tmp_path / "a" / LOCK).exists()
    assert len(calls) == 2


def test_a_broken_link_is_no_folder(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match="a is a file"), lock_folder(tmp_path / "a"):
        pass


@pytest.mark.parametrize(
    ("content", "holder"),
    [
        ("", "another process"),
        ("{", "another process"),
        ("[1]", "another process"),
        ('{"process": 5}', "another process"),
        ('{"process": 5, "host": "far", "command": "x"}', "process 5 on far (x)"),
        (
            json.dumps({"process": 5, "host": socket.gethostname(), "command": "\x1b[2J\n"}),
            "process 5 (?[2J?)",
        ),
    ],
)
def test_the_content_of_the_lock_may_be_anything(tmp_path, content, holder):
    with lock_folder(tmp_path):
        (tmp_path / LOCK).write_text(content)
        error = in_thread(lambda: lock_and_return(tmp_path))
    assert f"is in use by {holder}: wait" in str(error)


def test_a_process_that_has_just_locked_the_folder_is_named(tmp_path):
    with lock_folder(tmp_path):
        content = (tmp_path / LOCK).read_text()
        (tmp_path / LOCK).write_text("")
        timer = threading.Timer(0.05, (tmp_path / LOCK).write_text, [content])
        timer.start()
        error = in_thread(lambda: lock_and_return(tmp_path))
        timer.join()
    assert f"is in use by process {os.getpid()} (" in str(error)


def test_a_lock_that_was_removed_by_hand_is_no_longer_held(tmp_path):
    with lock_folder(tmp_path):
        (tmp_path / LOCK).unlink()
        with ExitStack() as stack:
            assert in_thread(lambda: stack.enter_context(lock_folder(tmp_path))) is None
            names = os.listdir(tmp_path)
            assert names == [LOCK]
            assert lock_and_return(tmp_path) == "locked"
            assert os.listdir(tmp_path) == names  # the other's


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match=f"{tmp_path}/run"):
        lock_and_return(tmp_path / "run")
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match=f"the run folder {tmp_path}/file is a file"):
        lock_and_return(tmp_path / "file", purpose="run folder")
    with pytest.raises(NotADirectoryError):
        lock_and_return(tmp_path / "file" / "run")


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    real = os.open

    def read_only(path, flags, *mode):
        if str(path).endswith(LOCK):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(OSError, match=f"Read-only file system: '{tmp_path}/new'"):
        lock_and_return(tmp_path / "new")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_warns(tmp_path, monkeypatch, number):
    def unsupported(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(folder_lock.fcntl, "flock", unsupported)
    with pytest.warns(UserWarning, match=rf"{tmp_path} cannot be locked \(.*\): use it from one process"):
        assert lock_and_return(tmp_path) == "locked"
    assert os.listdir(tmp_path) == []


def test_other_errors_are_raised(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(folder_lock.fcntl, "flock", broken)
    with pytest.raises(OSError, match="Input/output error"):
        lock_and_return(tmp_path / "new")


def test_entries_are_without_locks_and_unfinished_files(tmp_path):
    for name in (LOCK, ".config.toml.x1y2z3a4.partial", ".prune.partial", "a", ".hidden", "b.partial"):
        (tmp_path / name).touch()
    assert sorted(entries(tmp_path)) == [".hidden", "a", "b.partial"]
    assert entries(tmp_path / "missing") == []
