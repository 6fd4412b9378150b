"""Saving and loading of models."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from glassformer.models import BERTModel, GPTModel, T5Model, TransformerModel, ViTModel
from glassformer.tokenization import ByteTokenizer

SIZES = {"vocab_size": 257, "d_model": 8, "num_layers": 1, "num_heads": 2, "max_seq_len": 8}


@pytest.fixture
def folder(tmp_path):
    GPTModel(**SIZES).save_pretrained(tmp_path)
    return tmp_path


def rewrite_config(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def rewrite_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    (folder / "model.safetensors").unlink()
    save_file(tensors, folder / "model.safetensors")


def test_a_tied_head_is_saved_once_and_tied_on_loading(folder):
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert "token_embedding.weight" in file.keys()  # noqa: SIM118 - the file is no mapping
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118 - the file is no mapping
    model = GPTModel.from_pretrained(folder)
    assert model.lm_head.weight is model.token_embedding.weight
    assert not model.training


def test_the_tokenizer_is_saved_with_the_model(tmp_path):
    model = GPTModel(**SIZES)
    model.tokenizer = ByteTokenizer()
    model.save_pretrained(tmp_path)
    again = GPTModel.from_pretrained(tmp_path)
    assert again.tokenizer.decode(again.tokenizer.encode("naïve 🙂")) == "naïve 🙂"


def test_saving_removes_the_tokenizer_of_another_model(tmp_path):
    model = GPTModel(**SIZES)
    model.tokenizer = ByteTokenizer()
    model.save_pretrained(tmp_path)
    GPTModel(**SIZES).save_pretrained(tmp_path)
    assert GPTModel.from_pretrained(tmp_path).tokenizer is None


def test_a_loaded_model_can_be_trained_and_saved_over_itself(folder):
    model = GPTModel.from_pretrained(folder)
    before = (folder / "model.safetensors").read_bytes()
    with torch.no_grad():
        model.token_embedding.weight.add_(1.0)
    assert (folder / "model.safetensors").read_bytes() == before
    model.save_pretrained(folder)
    again = GPTModel.from_pretrained(folder)
    assert torch.equal(again.token_embedding.weight, model.token_embedding.weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(d_modle=3), "unknown key 'd_modle', did you mean 'd_model'"),
        (lambda c: c.pop("norm"), "the key 'norm' is missing"),
        (lambda c: c.update(format="other"), 'does not have the format "glassformer-1"'),
        (lambda c: c.update(family="gtp"), "unknown model family 'gtp', did you mean 'gpt'"),
        (lambda c: c.update(family=["gpt"]), "unknown model family"),
        (lambda c: c.update(vocab_size="300"), "config.json does not describe a model"),
        (lambda c: c.update(positions=3), "config.json does not describe a model"),
        (lambda c: c.update(norm_eps="x"), "norm_eps must be a small number above 0, not 'x'"),
        (lambda c: c.update(num_layers="1"), "config.json does not describe a model"),
        (
            lambda c: c.update(num_layers=10**9),
            r"config.json: 1,000,000,000 layers cannot be made of \d+ ten",
        ),
        (
            lambda c: c.update(num_heads=3),
            "config.json does not describe a model: d_model=8 is not divisible",
        ),
    ],
)
def test_a_config_is_read_strictly(folder, change, message):
    rewrite_config(folder, change)
    with pytest.raises(ValueError, match=message):
        GPTModel.from_pretrained(folder)


FAMILIES = {
    "gpt": (
        GPTModel,
        {**SIZES, "positions": "alibi", "d_head": 4, "window": 3, "pruned_heads": {"self": [[0]]}},
    ),
    "bert": (BERTModel, {**SIZES, "positions": "none", "num_kv_heads": 1, "head": "classification"}),
    "t5": (T5Model, {**SIZES, "num_decoder_layers": 1, "d_ff": 16}),
    "vit": (
        ViTModel,
        {"image_size": 8, "patch_size": 4, "num_registers": 1, "d_model": 8, "num_layers": 1, "num_heads": 2},
    ),
}
LENGTHS = {"max_seq_len", "window"}  # which no tensor bounds


@pytest.mark.parametrize("huge", [2**31, 2**62, 2**63, 10**400], ids=["2**31", "2**62", "2**63", "10**400"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_huge_count_is_refused_before_anything_is_built(family, huge, tmp_path, little_memory):
    model_class, sizes = FAMILIES[family]
    model_class(**sizes, norm_eps=1e-6).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    counts = [name for name, value in config.items() if type(value) is int]
    assert len(counts) >= 5
    for name in counts:
        rewrite_config(tmp_path, lambda c, name=name: c.update({name: huge}))
        if name not in LENGTHS or huge >= 2**63:
            with pytest.raises(ValueError, match=str(tmp_path)) as error:
                TransformerModel.from_pretrained(tmp_path)
            assert "alloc" not in str(error.value)
        rewrite_config(tmp_path, lambda c, name=name: c.update({name: config[name]}))


def test_the_number_of_unused_labels_is_not_a_size(tmp_path):
    ViTModel(4, 4, d_model=2, num_layers=1, num_heads=1, d_ff=1, head="none").save_pretrained(tmp_path)
    assert TransformerModel.from_pretrained(tmp_path).config.labels == 1000  # more than there are weights


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (0, "labels must be positive, not 0"),
        ([], "labels must be positive, not 0"),
        (True, "labels must be an int, not True"),
        (["a", "b", "a"], "labels must be different names, but 'a' occurs 2 times"),
    ],
)
def test_labels_are_checked(labels, problem):
    with pytest.raises((TypeError, ValueError), match=problem):
        BERTModel(**SIZES, labels=labels)


@pytest.mark.parametrize("content", ["{", "[]", "3", "[" * 100_000], ids=["cut", "list", "number", "deep"])
def test_an_invalid_config_raises(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json (is not valid JSON|must hold a JSON object)"):
        GPTModel.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("norm.weight"), "norm.weight is missing"),
        (lambda t: t.update(extra=torch.ones(1)), "extra is not part of the model"),
        (lambda t: t.update({"e" * 10**5: torch.ones(1)}), "model: e{200} is not part of the model$"),
        (
            lambda t: t.update({"norm.weight": torch.ones(9)}),
            r"norm.weight has shape \(9,\), the model needs \(8,\)",
        ),
        (
            lambda t: [t.pop(name) for name in list(t) if "embedding.weight" not in name],
            "and 13 more",
        ),
        (
            lambda t: [t.pop(name) for name in list(t) if name != "norm.weight"],
            "vocab_size=257 exceeds the 8 numbers in the tensors",
        ),
        (lambda t: t.clear(), "1 layer cannot be made of 0 tensors"),
        (lambda t: t.update({"norm.weight": torch.ones(8, dtype=torch.int32)}), "norm.weight has dtype I32"),
        (
            lambda t: t.update({"norm.weight": torch.ones(8, dtype=torch.float8_e4m3fn)}),
            "norm.weight has dtype F8_E4M3, not one of F64, F32, F16, BF16",
        ),
        (
            lambda t: t.update({"norm.weight": torch.ones(8, dtype=torch.float16)}),
            "all tensors must have one dtype, but blocks.0.* has F32 and norm.weight F16",
        ),
        (
            lambda t: t.update({"norm.bias": torch.ones(8, dtype=torch.float64)}),
            "all tensors must have one dtype, but blocks.0.* has F32 and norm.bias F64",
        ),
    ],
)
def test_tensors_must_be_exactly_the_models(folder, change, message):
    rewrite_tensors(folder, change)
    with pytest.raises(ValueError, match=message):
        GPTModel.from_pretrained(folder)


def test_a_checkpoint_of_another_size_names_the_tensor(folder):
    rewrite_config(folder, lambda c: c.update(d_ff=40))
    with pytest.raises(ValueError, match=r"up_proj.weight has shape \(32, 8\), the model needs \(40, 8\)"):
        GPTModel.from_pretrained(folder)


@pytest.mark.parametrize("keep", [0, 4, 40, -1])
def test_a_truncated_file_is_refused(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        GPTModel.from_pretrained(folder)


def test_missing_files_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.config\.json does not exist"):
        GPTModel.from_pretrained(tmp_path / "nowhere")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors does not exist"):
        GPTModel.from_pretrained(folder)


def test_weights_that_are_a_folder_are_named(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors does not exist"):
        GPTModel.from_pretrained(folder)


def test_the_message_of_a_long_key_is_short(folder):
    rewrite_config(folder, lambda c: c.update({"x" * 10**6: 1}))
    with pytest.raises(ValueError, match="config.json: unknown key 'xxx") as error:
        GPTModel.from_pretrained(folder)
    assert len(str(error.value)) < 1000


def test_loading_another_family_raises(folder, monkeypatch):
    monkeypatch.setattr(TransformerModel, "families", dict(TransformerModel.families))

    class Other(TransformerModel):
        family = "other"

    with pytest.raises(ValueError, match="holds a gpt model, not a other one"):
        Other.from_pretrained(folder)


def test_a_full_disk_leaves_the_old_checkpoint(folder, monkeypatch):
    old = (folder / "model.safetensors").read_bytes()

    def full(tensors, path, metadata):
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("glassformer.models.base.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        GPTModel(**SIZES).save_pretrained(folder)
    assert (folder / "model.safetensors").read_bytes() == old
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_a_failed_write_raises_oserror(folder, monkeypatch):
    def fail(tensors, path, metadata):
        raise SafetensorError("I/O error: File too large")

    monkeypatch.setattr("glassformer.models.base.save_file", fail)
    with pytest.raises(OSError, match=r"cannot write .*model.safetensors.*File too large"):
        GPTModel(**SIZES).save_pretrained(folder)


@pytest.mark.slow
def test_loading_takes_no_more_memory_than_the_weights(tmp_path):
    sizes = {"vocab_size": 1000, "d_model": 1024, "num_layers": 5, "num_heads": 2, "max_seq_len": 8}
    GPTModel(**sizes).save_pretrained(tmp_path)
    weights = (tmp_path / "model.safetensors").stat().st_size
    program = f"""
import resource
from glassformer.models import GPTModel
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = GPTModel.from_pretrained({str(tmp_path)!r})
total = sum(parameter.double().sum().item() for parameter in model.blocks[0].parameters())
model(__import__("torch").arange(8)[None])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1.3 * weights
