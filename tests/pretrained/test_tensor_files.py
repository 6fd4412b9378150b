"""Tensor files: memory mapping, shards, and invalid files."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from glassformer.pretrained.tensor_files import BinFile, SafetensorsFile, Shards, open_tensors

TENSORS = {
    "a": torch.arange(6.0).view(2, 3),
    "b": torch.tensor([True, False]),
    "half": torch.ones(3, dtype=torch.float16) / 3,
    "brain": torch.ones(2, 2, dtype=torch.bfloat16) / 3,
    "double": torch.ones((), dtype=torch.float64) / 3,
    "none": torch.empty(0, 4),
    "numbers": torch.arange(3),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_file(TENSORS, tmp_path / "model.safetensors")
    return tmp_path


def same(read: Any, expected: dict[str, Tensor]) -> None:
    assert set(read.shapes) == set(expected)
    for name, tensor in expected.items():
        got = read.read(name, share_mapping=name < "c")
        assert (got.dtype, tuple(got.shape)) == (tensor.dtype, read.shapes[name])
        assert read.dtypes[name] == tensor.dtype
        assert torch.equal(got, tensor)
        read.release(name)


def test_tensors_are_read(folder: Path) -> None:
    same(open_tensors(folder), TENSORS)


def test_writing_to_a_mapped_tensor_does_not_change_the_file(folder: Path) -> None:
    open_tensors(folder).read("a").zero_()
    same(open_tensors(folder), TENSORS)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's /proc to count open files")
def test_many_tensors_keep_one_file_open(tmp_path: Path) -> None:
    save_file({str(i): torch.full((3,), float(i)) for i in range(400)}, tmp_path / "model.safetensors")
    tensors, before = open_tensors(tmp_path), len(list(Path("/proc/self/fd").iterdir()))
    kept = [tensors.read(name, share_mapping=True) for name in tensors.shapes]
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
    assert all(torch.equal(tensors.read(n), t) for n, t in zip(tensors.shapes, kept, strict=True))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


def test_a_pickle_of_tensors_is_loaded(tmp_path: Path) -> None:
    strided = {**TENSORS, "turned": torch.arange(6.0).view(2, 3).T}
    torch.save(strided, tmp_path / "pytorch_model.bin")
    same(open_tensors(tmp_path), strided)
    file = open_tensors(tmp_path)
    assert file.read("turned").is_contiguous()
    file.release("turned")
    with pytest.raises(KeyError):
        file.read("turned")


def index(folder: Path, weight_map: Any, name: str = "model.safetensors") -> Path:
    (folder / f"{name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards_are_loaded_as_one_file(tmp_path: Path, kind: str) -> None:
    whole = {"safetensors": "model.safetensors", "bin": "pytorch_model.bin"}[kind]
    parts = [{"a": TENSORS["a"]}, {"b": TENSORS["b"], "half": TENSORS["half"]}]
    for number, part in enumerate(parts):
        path = tmp_path / f"part-{number}.{kind}"
        save_file(part, path) if kind == "safetensors" else torch.save(part, path)
    index(tmp_path, {"a": f"part-0.{kind}", "b": f"part-1.{kind}", "half": f"part-1.{kind}"}, whole)
    tensors = open_tensors(tmp_path)
    assert isinstance(tensors, Shards)
    same(tensors, parts[0] | parts[1])


def test_safetensors_are_preferred_to_a_pickle(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"no pickle")
    assert isinstance(open_tensors(folder), SafetensorsFile)


def test_a_folder_without_weights_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="neither model.safetensors nor pytorch_model.bin"):
        open_tensors(tmp_path)


@pytest.mark.parametrize("name", ["x" * 5000, "x\0y", ".", "a/b"])
def test_a_shard_with_an_impossible_name_is_missing(folder: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises((FileNotFoundError, ValueError), match=r"index.json names .*, which is missing"):
        open_tensors(index(folder, {"a": name}))


def test_a_missing_shard_is_an_error(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    index(folder, {"a": "model-1.safetensors", "c": "model-2.safetensors"})
    with pytest.raises(FileNotFoundError, match=r"index.json names model-2.safetensors, which is missing"):
        open_tensors(folder)


@pytest.mark.parametrize(
    "name", ["../secret.safetensors", "a/../../secret.safetensors", "..\\secret.safetensors"]
)
def test_an_index_must_not_name_files_outside_its_folder(tmp_path: Path, name: str) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "secret.safetensors")
    (tmp_path / "a").mkdir()
    for shard in (name, str(tmp_path / "secret.safetensors")):
        with pytest.raises(ValueError, match="names a file outside its folder"):
            open_tensors(index(tmp_path / "a", {"a": shard}))


@pytest.mark.parametrize(
    "content",
    ["", "[]", "[" * 100_000, '{"weight_map": ["ab"]}', '{"weight_map": {"a": 1}}'],
    ids=["empty", "list", "deep", "pairs", "number"],
)
def test_an_invalid_index_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match=r"index.json is not a valid index of shards"):
        open_tensors(tmp_path)


def test_a_tensor_that_no_shard_holds_is_an_error(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    index(folder, dict.fromkeys([*TENSORS, "gone"], "model-1.safetensors"))
    with pytest.raises(ValueError, match=r"index.json names gone in model-1.safetensors, but no file"):
        open_tensors(folder)


def test_a_name_in_two_shards_is_an_error(tmp_path: Path) -> None:
    for shard in ("x", "y"):
        save_file({"a": torch.ones(2)}, tmp_path / shard)
    with pytest.raises(ValueError, match="a is in two files: .*x, .*y"):
        open_tensors(index(tmp_path, {"a": "x", "b": "y"}))


def header(change: Any) -> Any:
    """Return a function that changes the JSON header of a file."""

    def tamper(data: bytes) -> bytes:
        (length,) = struct.unpack("<Q", data[:8])
        content = json.loads(data[8 : 8 + length])
        change(content)
        text = json.dumps(content).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + length :]

    return tamper


TAMPERED: dict[str, Any] = {
    "empty": lambda data: b"",
    "cut in its header": lambda data: data[:40],
    "cut in its tensors": lambda data: data[:-1],
    "with a trailing byte": lambda data: data + b"\x00",
    "a header longer than the file": lambda data: struct.pack("<Q", 1 << 40) + data[8:],
    "a header that is not JSON": lambda data: data[:8] + b"x" + data[9:],
    "a tensor beyond the end": header(lambda h: h["a"].update(data_offsets=[0, 1 << 30])),
    "a tensor before the beginning": header(lambda h: h["a"].update(data_offsets=[-8, 16])),
    "a larger shape": header(lambda h: h["a"].update(shape=[2000, 3000])),
    "an overflowing shape": header(lambda h: h["a"].update(shape=[1 << 40, 1 << 40])),
    "another type": header(lambda h: h["a"].update(dtype="F64")),
    "an unknown type": header(lambda h: h["a"].update(dtype="F33")),
    "two overlapping tensors": header(lambda h: h["a"].update(data_offsets=h["half"]["data_offsets"])),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_a_tampered_file_is_an_error(folder: Path, how: str) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(TAMPERED[how](path.read_bytes()))
    with pytest.raises(ValueError, match=rf"{path} is damaged, or not a safetensors file"):
        open_tensors(folder)


def test_a_type_that_is_not_implemented_is_an_error(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, dtype=torch.float8_e5m2)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="a has the type F8_E5M2, which is not implemented"):
        open_tensors(tmp_path)


class Malicious:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("how", ["torch", "pickle", "older"])
def test_a_pickle_with_code_is_rejected_without_running_it(tmp_path: Path, how: str) -> None:
    mark, path = tmp_path / "executed", tmp_path / "pytorch_model.bin"
    content = {"a": torch.ones(2), "b": Malicious(mark)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(
        ValueError, match=rf"{path} .*(must hold tensors only.*no code in it was executed|is damaged)"
    ) as error:
        open_tensors(tmp_path)
    assert not mark.exists()
    assert "weights_only=False" not in str(error.value)
    pickle_loads = pickle.loads if how == "pickle" else torch.load
    pickle_loads(path.read_bytes()) if how == "pickle" else torch.load(path, weights_only=False)
    assert mark.exists()  # so the file does contain code


@pytest.mark.parametrize(
    "tensor", [torch.eye(2).to_sparse(), torch.empty(2, device="meta")], ids=["sparse", "meta"]
)
def test_a_tensor_that_is_not_dense_is_an_error(tensor: Tensor, tmp_path: Path) -> None:
    torch.save({"a": tensor}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model.bin: a must be dense and have values"):
        open_tensors(tmp_path)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {1: torch.ones(1)}, {"state": {"a": torch.ones(1)}}])
def test_a_pickle_of_other_objects_is_an_error(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="must hold a dict of tensors"):
        open_tensors(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(100_000, 100_000),
        torch.zeros(1, 9).expand(10**9, 9),
        torch.zeros(300).as_strided((200, 100), (1, 1)),
        torch.zeros(3, dtype=torch.float64)[2:].expand(4),
        torch.arange(6.0)[::2],
    ],
    ids=["one value", "one row", "overlapping rows", "a slice", "every second value"],
)
def test_a_tensor_that_repeats_its_values_is_an_error(tensor: Tensor, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": tensor}, path, _use_new_zipfile_serialization=zipped)
    stored = tensor.untyped_storage().nbytes() // tensor.element_size()
    assert path.stat().st_size < 10_000
    if tensor.numel() > stored:
        with pytest.raises(ValueError, match=f"{path}: a has {tensor.numel()} values, but only {stored} are"):
            BinFile(path)
    else:
        assert torch.equal(BinFile(path).read("a"), tensor)


def test_a_compressed_archive_is_an_error(tmp_path: Path) -> None:
    path, usual = tmp_path / "pytorch_model.bin", tmp_path / "usual.bin"
    torch.save({"a": torch.zeros(1_000_000)}, usual)
    with zipfile.ZipFile(usual) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as small:
        for record in archive.infolist():
            small.writestr(record.filename, archive.read(record))
    assert path.stat().st_size < 10_000
    assert torch.load(path)["a"].numel() == 1_000_000  # so it would be read
    with pytest.raises(ValueError, match=rf"{path} is damaged.*its 4\d+ bytes are more than the file has"):
        BinFile(path)


@pytest.mark.parametrize("kept", [0, 10, 100, -40])
def test_a_damaged_pickle_is_an_error(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=rf"{path} (is damaged|must hold tensors only, or is damaged)"):
        BinFile(path)
