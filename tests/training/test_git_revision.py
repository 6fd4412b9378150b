"""The git revision of a folder, compared with git's own answers, in trusted and in hostile repositories."""

import os
import shutil
import subprocess

import pytest

from glassformer.training.git_revision import git_revision

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("git") is None, reason="needs git"),
]


@pytest.fixture(autouse=True)
def no_user_config(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "nobody")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "nobody@example.org")


def git(folder, *arguments):
    command = ["git", "-C", str(folder), "-c", "protocol.file.allow=always", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    def build(name="repository", *options):
        folder = tmp_path / name
        (folder / "inner").mkdir(parents=True)
        git(folder, "init", "-q", *options)
        for file in ("a.txt", "b.txt", "inner/c.txt"):
            (folder / file).write_text(f"{file}\n")
        git(folder, "add", ".")
        git(folder, "commit", "-qm", "one")
        (folder / "untracked").touch()
        return folder

    return build


def packed(folder):
    git(folder, "pack-refs", "--all")
    return folder


def detached(folder):
    git(folder, "checkout", "-q", "--detach")
    return folder


def linked(folder):
    git(folder, "worktree", "add", "-q", "-b", "side", str(folder.parent / "linked"))
    return folder.parent / "linked"


def symbolic(folder):
    git(folder, "branch", "other")
    git(folder, "symbolic-ref", "refs/heads/alias", "refs/heads/other")
    git(folder, "symbolic-ref", "HEAD", "refs/heads/alias")
    return folder


def submodule(folder):
    outer = folder.parent / "outer"
    outer.mkdir()
    git(outer, "init", "-q")
    git(outer, "submodule", "--quiet", "add", str(folder), "module")
    git(outer, "commit", "-qm", "with a submodule")
    return outer / "module"


@pytest.mark.parametrize("variant", [lambda f: f, packed, detached, linked, symbolic, submodule])
def test_the_revision_is_that_of_git(repository, variant):
    folder = variant(repository())
    assert git_revision(folder) == (git(folder, "rev-parse", "HEAD"), False)
    assert git_revision(folder / "inner") == (git(folder, "rev-parse", "HEAD"), False)
    (folder / "a.txt").write_text("changed\n")
    assert git_revision(folder) == (git(folder, "rev-parse", "HEAD"), True)


def test_hashes_of_sha256(repository):
    folder = repository("repository", "--object-format=sha256")
    revision = git(folder, "rev-parse", "HEAD")
    assert len(revision) == 64
    assert git_revision(folder) == (revision, False)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda f: (f / "a.txt").unlink(), True),
        (lambda f: (f / "inner" / "c.txt").write_text("c"), True),
        (lambda f: git(f, "rm", "-q", "--cached", "b.txt"), True),
        (lambda f: git(f, "mv", "b.txt", "d.txt"), True),
        (lambda f: git(f, "add", "untracked"), True),
        (lambda f: os.utime(f / "a.txt", (1, 1)), False),
        (lambda f: (f / "a.txt").chmod(0o755), False),
        (lambda f: (f / "another").touch(), False),
    ],
)
def test_changes_are_found(repository, change, expected):
    folder = repository()
    change(folder)
    index = (folder / ".git" / "index").read_bytes()
    assert git_revision(folder)[1] is expected
    assert (folder / ".git" / "index").read_bytes() == index


PROGRAMS = (
    *("core.fsmonitor", "core.sshCommand", "core.pager", "core.editor", "core.askPass", "gpg.program"),
    *("filter.f.clean", "filter.f.smudge", "filter.f.process", "diff.f.textconv", "diff.f.command"),
    *("diff.external", "credential.helper", "alias.status", "alias.rev-parse", "uploadpack.packObjectsHook"),
)


def make_hostile(folder):
    """Let the repository name programs wherever git reads one, and return the file that they write."""
    ran = folder.parent / "ran"
    program = folder / ".git" / "program"
    program.write_text(f'#!/bin/sh\necho "$0 $*" >> {ran}\ncat\n')
    program.chmod(0o755)
    (folder / ".gitattributes").write_text("* filter=f diff=f\n")
    for name in ("post-index-change", "fsmonitor-watchman", "post-checkout", "reference-transaction"):
        (folder / ".git" / "hooks").mkdir(exist_ok=True)
        shutil.copy(program, folder / ".git" / "hooks" / name)
    for name in PROGRAMS:
        git(folder, "config", name, f"!{program}" if name.startswith("alias") else str(program))
    os.utime(folder / "a.txt", (1, 1))  # so that git compares its content, through the filters
    ran.unlink(missing_ok=True)
    return ran


def test_no_program_of_the_repository_is_run(repository):
    folder = repository()
    revision = git(folder, "rev-parse", "HEAD")
    ran = make_hostile(folder)
    assert git_revision(folder) == (revision, False)
    assert not ran.exists()
    subprocess.run(["git", "-C", folder, "status"], capture_output=True, check=False)
    assert ran.exists()  # git itself runs them


def test_no_program_of_a_submodule_is_run(repository):
    module = submodule(repository())
    make_hostile(repository("elsewhere"))
    for name in ("core.fsmonitor", "filter.f.clean"):
        git(module, "config", name, f"touch {module.parent / 'ran'}; true")
    (module / "a.txt").write_text("changed\n")
    assert git_revision(module.parent)[1] is False  # the same commit is checked out
    assert not (module.parent / "ran").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: (d / "HEAD").unlink(),
        lambda d: (d / "HEAD").write_text("ref: refs/heads/nowhere\n"),
        lambda d: (d / "HEAD").write_text("ref: HEAD\n"),
        lambda d: (d / "HEAD").write_text("ref: ../../../../etc/passwd\n"),
        lambda d: (d / "HEAD").write_bytes(b"ref: \0\xff\n"),
        lambda d: (d / "HEAD").unlink() or os.mkfifo(d / "HEAD"),
        lambda d: (d / "HEAD").write_text("f" * 39),
    ],
)
def test_a_damaged_repository_has_no_revision(repository, damage):
    folder = repository()
    damage(folder / ".git")
    assert git_revision(folder) == (None, None)


def test_a_missing_index_or_object_is_no_error(repository):
    folder = repository()
    revision = git(folder, "rev-parse", "HEAD")
    (folder / ".git" / "index").write_bytes(b"damaged")
    assert git_revision(folder) == (revision, None)
    shutil.rmtree(folder / ".git" / "objects")
    assert git_revision(folder) == (revision, None)


def test_outside_a_repository_and_without_git(repository, tmp_path, monkeypatch):
    assert git_revision(tmp_path) == (None, None)
    folder = repository()
    revision = git(folder, "rev-parse", "HEAD")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_revision(folder) == (revision, None)
