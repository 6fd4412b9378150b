"""Damaged checkpoints: found, named, and skipped if asked."""

import json
import math
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from glassformer.cli import main
from glassformer.models import GPTModel
from glassformer.tokenization import ByteTokenizer
from glassformer.training import Checkpoints, LanguageModeling, OptimizerConfig, adamw
from glassformer.training.checkpoint_tensors import DamagedCheckpointError
from glassformer.training.checkpoints import best_checkpoint, verify
from glassformer.training.pipeline import load_trained_model


def as_version_0_1(path):
    """Make a checkpoint one of version 0.1, which has no checksums."""
    (path / "checksums.json").unlink()
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(state | {"format": 1}))


def same_state(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "random.safetensors", "state.json"]
)
@pytest.mark.parametrize("damage", ["truncated", "missing", "header"])
@pytest.mark.parametrize("checksums", [True, False])
def test_a_damaged_file_is_named_and_nothing_is_changed(tmp_path, trained, name, damage, checksums):
    checkpoints = Checkpoints(tmp_path)
    path = checkpoints.save(*trained(), {"step": 1})
    if not checksums:
        as_version_0_1(path)
    file = path / name
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * 2 // 3] if damage == "truncated" else b"\xff" * 40)
    if damage == "missing":
        file.unlink()
    model, optimizer = trained(seed=3)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    with pytest.raises(ValueError, match=f"step-000001 is damaged: {name}"):
        checkpoints.restore(path, model, optimizer)
    assert same_state(model.state_dict(), before)


def test_a_checkpoint_with_an_unknown_format_is_rejected(tmp_path, trained):
    path = Checkpoints(tmp_path).save(*trained(), {"step": 1})
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(state | {"format": 99}))
    (path / "checksums.json").unlink()
    with pytest.raises(ValueError, match="has format 99; this version reads formats 1 to 2"):
        Checkpoints(tmp_path).restore(path, *trained())


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"d_model": 32}, r"'.*' is \(16,\) in the file and \(32,\) in the model"),
        ({"num_layers": 1}, "the model has no tensor 'blocks.1"),
        ({"num_layers": 3}, "it has no tensor 'blocks.2"),
        ({"tie_embeddings": False}, "it has no tensor 'lm_head.weight'"),
    ],
)
def test_restoring_another_architecture_names_the_tensor(tmp_path, trained, keywords, message):
    checkpoints = Checkpoints(tmp_path)
    path = checkpoints.save(*trained(), {"step": 1})
    with pytest.raises(ValueError, match=f"another architecture: .*{message}"):
        checkpoints.restore(path, *trained(**keywords))


def test_restoring_optimizer_state_of_another_model_is_rejected(tmp_path, trained):
    checkpoints = Checkpoints(tmp_path)
    path = checkpoints.save(*trained(), {"step": 1})
    other = checkpoints.save(*trained(num_layers=3), {"step": 2})
    as_version_0_1(path)
    (path / "optimizer.safetensors").write_bytes((other / "optimizer.safetensors").read_bytes())
    with pytest.raises(
        ValueError, match=r"optimizer.safetensors has another architecture: 'exp_avg.*blocks.2"
    ):
        checkpoints.restore(path, *trained())


def test_a_checkpoint_without_a_readable_loss_is_never_the_best(tmp_path, trained):
    checkpoints = Checkpoints(tmp_path)
    path = checkpoints.save(*trained(0), {"step": 1, "validation_loss": 0.5})
    (path / "state.json").write_text("{")
    assert checkpoints.best() is None


@pytest.mark.parametrize("name", ["torch.cpu", "numpy.key"])
def test_an_incomplete_random_state_is_named_and_no_weight_is_changed(tmp_path, trained, name):
    checkpoints = Checkpoints(tmp_path)
    path = checkpoints.save(*trained(), {"step": 1})
    as_version_0_1(path)
    tensors = load_file(path / "random.safetensors")
    del tensors[name]
    (path / "random.safetensors").unlink()
    save_file(tensors, path / "random.safetensors")
    model, optimizer = trained(seed=3)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    with pytest.raises(ValueError, match=f"step-000001 is damaged: its random state lacks '{name}'"):
        checkpoints.restore(path, model, optimizer)
    assert same_state(model.state_dict(), before)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint with a tokenizer."""
    torch.manual_seed(0)
    model = GPTModel(257, 8, 1, 2, max_seq_len=16)
    model.tokenizer = ByteTokenizer()
    optimizer = adamw(model, OptimizerConfig())
    LanguageModeling()(model, torch.randint(11, (2, 9))).backward()
    optimizer.step()
    folder = tmp_path_factory.mktemp("checkpoints")
    return Checkpoints(folder).save(model, optimizer, {"step": 1, "tokens": 16, "seconds": 1.5e-05})


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_anywhere_is_found_and_its_file_is_named(saved, data):
    """Every bit of every file of a checkpoint counts, also those of the checksums."""
    names = sorted(path.name for path in saved.iterdir())
    assert "tokenizer.json" in names
    file = saved / data.draw(st.sampled_from(names))
    content = file.read_bytes()
    position, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
    flipped = bytearray(content)
    flipped[position] ^= 1 << bit
    file.write_bytes(flipped)
    try:
        with pytest.raises(DamagedCheckpointError, match="step-000001 is damaged: ") as found:
            verify(saved)
    finally:
        file.write_bytes(content)
    if file.name != "checksums.json":
        assert f"{file.name} does not match its checksum" in str(found.value)
    verify(saved)


@pytest.mark.parametrize("name", ["model.safetensors", "checksums.json", "state.json", "config.json"])
def test_a_missing_file_is_named(tmp_path, saved, name):
    folder = shutil.copytree(saved, tmp_path / "step-000001")
    (folder / name).unlink()
    with pytest.raises(DamagedCheckpointError, match=f"step-000001 is damaged: {name}"):
        verify(folder)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("model.safetensors", "blocks.1.feed_forward.up_proj.weight"),
        ("optimizer.safetensors", "exp_avg_sq/norm.weight"),
        ("optimizer.safetensors", "step/norm.bias"),
    ],
)
def test_numbers_that_are_not_finite_are_refused_by_name(tmp_path, trained, file, name, number):
    path = Checkpoints(tmp_path).save(*trained(), {"step": 1})
    as_version_0_1(path)
    tensors = {key: tensor.clone() for key, tensor in load_file(path / file).items()}
    tensors[name].view(-1)[0] = number
    save_file(tensors, path / file)
    with pytest.raises(DamagedCheckpointError, match=f"{file} has numbers that are not finite: {name}"):
        Checkpoints(tmp_path).restore(path, *trained())


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("optimizer.safetensors", lambda t: t.pop("exp_avg/norm.bias"), "has no exp_avg of 'norm.bias'"),
        (
            "model.safetensors",
            lambda t: t.update({"norm.bias": t["norm.bias"].half()}),
            "float16 in the file",
        ),
        ("model.safetensors", lambda t: t.update({"norm.bias": t["norm.bias"].long()}), "int64 in the file"),
        (
            "optimizer.safetensors",
            lambda t: t.update({"exp_avg/norm.bias": t["exp_avg/norm.bias"].double()}),
            "float64 in the file",
        ),
    ],
)
def test_incomplete_or_mixed_tensors_are_refused(tmp_path, trained, file, change, message):
    path = Checkpoints(tmp_path).save(*trained(), {"step": 1})
    as_version_0_1(path)
    tensors = {key: tensor.clone() for key, tensor in load_file(path / file).items()}
    change(tensors)
    save_file(tensors, path / file)
    with pytest.raises(ValueError, match=message):
        Checkpoints(tmp_path).restore(path, *trained())


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("{}", "has format None"),
        ("[1]", "must hold a JSON object"),
        ('{"format": 1}', "must have the objects"),
        ('{"format": 1, "random": {}, "progress": []}', "must have the objects"),
        ('{"format": 1, "random": {}, "progress": {}}', "has the step None"),
        ('{"format": 1, "random": {}, "progress": {"step": NaN}}', "has the step nan"),
        ('{"format": 1, "random": {}, "progress": {"step": -1}}', "has the step -1"),
        ('{"format": 1, "random": {}, "progress": {"step": 1, "seconds": Infinity}}', "the seconds inf"),
        ('{"format": 1, "random": {}, "progress": {"step": 1, "tokens": "9"}}', "the tokens '9'"),
        ('{"format": 1, "random": {}, "progress": {"step": 1, "validation_loss": []}}', "validation_loss"),
        ('{"format": 1, "random": {}, "progress": {"step": 1}}', "its random state lacks 'numpy'"),
        ('{"format": 1, "random": {"numpy": 3}, "progress": {"step": 1}}', "its random state is invalid"),
        ("\udcff", "cannot be read"),
    ],
)
def test_a_state_that_cannot_be_used_is_refused(tmp_path, trained, state, message):
    path = Checkpoints(tmp_path).save(*trained(), {"step": 1})
    as_version_0_1(path)
    (path / "state.json").write_bytes(state.encode("utf-8", "surrogateescape"))
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match=f"step-000001.*{message}"):
        Checkpoints(tmp_path).restore(path, *trained())
    assert torch.equal(torch.get_rng_state(), before) or "random" in message
    assert Checkpoints(tmp_path).best() is None


def test_the_best_checkpoint_has_a_finite_loss(tmp_path, trained):
    checkpoints = Checkpoints(tmp_path, keep=9)
    for step, loss in enumerate([math.nan, 2.0, math.inf, 3.0]):
        checkpoints.save(*trained(0), {"step": step, "validation_loss": loss})
    assert checkpoints.best() == checkpoints.path(1)


def test_the_newest_checkpoint_that_is_not_damaged_is_restored_if_asked(tmp_path, trained):
    checkpoints = Checkpoints(tmp_path, keep=9)
    for step in (1, 2, 3):
        checkpoints.save(*trained(), {"step": step})
    flip_bit(checkpoints.path(3) / "optimizer.safetensors")
    (checkpoints.path(2) / "random.safetensors").unlink()
    with pytest.raises(ValueError, match=r"step-000003 is damaged: optim.*; --skip-damaged .* step-000002"):
        checkpoints.restore_latest(*trained())
    assert checkpoints.steps() == [1, 2, 3]
    skipped = []
    progress = checkpoints.restore_latest(*trained(), skip_damaged=True, on_skip=skipped.append)
    assert progress == {"step": 1}
    assert checkpoints.steps() == [1]
    assert ["step-000003" in skipped[0], "step-000002" in skipped[1]] == [True, True]
    flip_bit(checkpoints.path(1) / "model.safetensors")
    with pytest.raises(ValueError, match=r"step-000001 is damaged: model.safetensors does not match"):
        checkpoints.restore_latest(*trained(), skip_damaged=True)
    assert checkpoints.steps() == [1]  # nothing is deleted if there is no checkpoint left


def test_another_architecture_is_no_damage(tmp_path, trained):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(*trained(), {"step": 1})
    checkpoints.save(*trained(num_layers=1), {"step": 2})
    with pytest.raises(ValueError, match="step-000002.*another architecture"):
        checkpoints.restore_latest(*trained(), skip_damaged=True)
    assert checkpoints.steps() == [1, 2]


def test_a_checkpoint_under_the_name_of_another_step_is_damaged(tmp_path, trained):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(*trained(), {"step": 1}).rename(checkpoints.path(9))
    with pytest.raises(ValueError, match=r"step-000009 is damaged: state.json is of step 1"):
        checkpoints.restore_latest(*trained())


def flip_bit(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 4
    path.write_bytes(content)


def test_the_model_of_a_run_is_verified(tmp_path, trained, capsys):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    path = checkpoints.save(*trained(), {"step": 1})
    flip_bit(path / "optimizer.safetensors")  # not a file of the model
    assert best_checkpoint(tmp_path) == path
    (path / "optimizer.safetensors").unlink()  # as in a copy that is not to be resumed
    assert load_trained_model(str(path)).vocab_size == 11
    flip_bit(path / "model.safetensors")
    for model in (tmp_path, path):  # a run folder, and a checkpoint
        with pytest.raises(ValueError, match=r"step-000001 is damaged: model.safetensors does not match"):
            load_trained_model(str(model))
        assert main(["describe", str(model)]) == 2
        assert "step-000001 is damaged: model.safetensors does not match" in capsys.readouterr().err
    (path / "state.json").unlink()  # a copy of the model alone is no checkpoint
    assert load_trained_model(str(path)).vocab_size == 11
