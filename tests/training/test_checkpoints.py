"""Checkpoints: exact restoration, atomic writes, and errors."""

import errno
import os
import shutil
from importlib import import_module

import pytest
import torch

from glassformer.models import GPTModel
from glassformer.training import Checkpoints
from glassformer.training import checkpoints as checkpoints_module


def tree(folder):
    """Every file below a folder, with its bytes."""
    return {
        p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file() and not p.is_symlink()
    }


def same_state(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("updates", [0, 2])
def test_save_and_restore_everything(tmp_path, trained, tied, updates):
    model, optimizer = trained(updates, tie_embeddings=tied)
    checkpoints = Checkpoints(tmp_path / "c")
    path = checkpoints.save(model, optimizer, {"step": 12, "tokens": 99})
    drawn = torch.rand(3)
    assert path.name == "step-000012"

    other, other_optimizer = trained(1, seed=5, tie_embeddings=tied)
    assert checkpoints.restore(path, other, other_optimizer) == {"step": 12, "tokens": 99}
    assert same_state(model.state_dict(), other.state_dict())
    assert torch.equal(torch.rand(3), drawn)
    old, new = optimizer.state_dict(), other_optimizer.state_dict()
    assert old["param_groups"] == new["param_groups"]
    assert old["state"].keys() == new["state"].keys()
    assert all(same_state(old["state"][i], new["state"][i]) for i in old["state"])


def test_the_model_of_a_checkpoint_can_be_loaded_alone(tmp_path, trained):
    model, optimizer = trained()
    Checkpoints(tmp_path).save(model, optimizer, {"step": 1})
    assert same_state(GPTModel.from_pretrained(tmp_path / "latest").state_dict(), model.state_dict())


def test_checkpoints_contain_no_pickle_files(tmp_path, trained):
    files = tree(Checkpoints(tmp_path).save(*trained(), {"step": 1}))
    assert {p.suffix for p in files} == {".json", ".safetensors"}


def test_the_newest_checkpoints_and_the_best_are_kept(tmp_path, trained):
    model, optimizer = trained(0)
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.latest() is None
    assert checkpoints.best() is None
    for step, loss in [(1, 3.0), (2, 1.0), (3, None), (4, 2.0), (5, 2.5)]:
        known = {} if loss is None else {"validation_loss": loss}
        checkpoints.save(model, optimizer, {"step": step, **known})
    assert checkpoints.steps() == [2, 4, 5]
    assert checkpoints.latest() == (tmp_path / "latest").resolve() == tmp_path / "step-000005"
    assert checkpoints.best() == (tmp_path / "best").resolve() == tmp_path / "step-000002"


def test_saving_the_same_step_again_replaces_the_checkpoint(tmp_path, trained):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(*trained(0), {"step": 1, "tokens": 1})
    model, optimizer = trained()
    path = checkpoints.save(model, optimizer, {"step": 1, "tokens": 2})
    other, other_optimizer = trained(0)
    assert checkpoints.restore(path, other, other_optimizer)["tokens"] == 2
    assert same_state(model.state_dict(), other.state_dict())


def test_checkpoints_that_are_links_to_another_disk_are_removed_as_links(tmp_path, trained):
    checkpoints, elsewhere = Checkpoints(tmp_path / "run", keep=1), tmp_path / "elsewhere"
    os.replace(checkpoints.save(*trained(), {"step": 1}), elsewhere)
    checkpoints.path(1).symlink_to(elsewhere)
    checkpoints.save(*trained(), {"step": 1})  # replaces the link
    assert not checkpoints.path(1).is_symlink()
    shutil.rmtree(checkpoints.path(1))
    checkpoints.path(1).symlink_to(elsewhere)
    checkpoints.save(*trained(), {"step": 2})
    assert sorted(os.listdir(tmp_path / "run")) == ["latest", "step-000002"]
    assert (elsewhere / "model.safetensors").exists()


def test_save_on_a_file_system_without_links(tmp_path, trained, monkeypatch):
    monkeypatch.setattr(
        "pathlib.Path.symlink_to", lambda *_, **__: (_ for _ in ()).throw(OSError("no links"))
    )
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.save(*trained(), {"step": 3}) == checkpoints.latest()
    assert [p.name for p in tmp_path.iterdir()] == ["step-000003"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        ("glassformer.models.base", "save_file", 1),
        ("glassformer.training.checkpoint_tensors", "save_file", 1),
        ("glassformer.training.checkpoint_tensors", "save_file", 2),
        ("glassformer.training.checkpoints", "atomic_write", 1),
        ("glassformer.training.checkpoints", "sync", 1),
        ("glassformer.training.checkpoints", "sync", 4),
        ("os", "replace", 1),
        ("os", "replace", 7),  # renames the folder
    ],
)
def test_a_full_disk_leaves_existing_checkpoints_unchanged(
    tmp_path, trained, monkeypatch, module, name, call
):
    checkpoints = Checkpoints(tmp_path)
    model, optimizer = trained()
    checkpoints.save(model, optimizer, {"step": 1, "validation_loss": 1.0})
    before = tree(tmp_path)
    real, calls = getattr(import_module(module), name), []

    def full(*args, **kwargs):
        calls.append(args)
        if len(calls) == call:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **kwargs)

    monkeypatch.setattr(import_module(module), name, full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(model, optimizer, {"step": 2})
    assert tree(tmp_path) == before
    assert checkpoints.latest().name == "step-000001"
    checkpoints.restore(checkpoints.latest(), *trained(0))


@pytest.mark.slow
def test_a_real_write_error_keeps_the_previous_checkpoint(tmp_path, run_python):
    """Files are limited to 20 kB, so that the optimizer's state cannot be written."""
    message = run_python(
        f"""
import resource, signal, torch
from glassformer.models import GPTModel
from glassformer.training import Checkpoints, OptimizerConfig, adamw
model = GPTModel(11, 16, 1, 2, max_seq_len=16)
optimizer = adamw(model, OptimizerConfig())
checkpoints = Checkpoints({str(tmp_path)!r})
checkpoints.save(model, optimizer, {{"step": 1}})
sum(p.sum() for p in model.parameters()).backward()
optimizer.step()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, most))
try:
    checkpoints.save(model, optimizer, {{"step": 2}})
except OSError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
checkpoints.restore(checkpoints.latest(), model, optimizer)
print(sorted(p.name for p in checkpoints.folder.iterdir()))
"""
    )
    assert "step-000002" in message
    assert "['latest', 'step-000001']" in message


def test_incomplete_checkpoints_of_killed_processes_are_removed(tmp_path, trained):
    left = tmp_path / ".step-000002.abc.partial"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps() == []
    checkpoints.save(*trained(), {"step": 3})
    assert not left.exists()


def test_saving_without_write_permission_raises(tmp_path, trained, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(checkpoints_module.tempfile, "mkdtemp", refuse)
    with pytest.raises(PermissionError):
        Checkpoints(tmp_path).save(*trained(0), {"step": 1})
