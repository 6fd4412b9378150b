"""The GGUF file format: split files, and files whose tensors are not where they should be."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

import glassformer
from glassformer.pretrained.gguf.file import GGUFFile, open_gguf

gguf = pytest.importorskip("gguf")
pytestmark = pytest.mark.filterwarnings("ignore:.*loaded without its tokenizer")


def peer() -> nn.Module:
    config = transformers.LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=61,
        max_position_embeddings=40,
    )
    return transformers.LlamaForCausalLM(config).eval()


@pytest.mark.slow
@torch.no_grad()
def test_all_parts_of_a_split_file_are_read(tmp_path: Path, write: Any) -> None:
    theirs = peer()
    write(theirs, tmp_path / "llama.gguf", part_tensors=8)
    parts = sorted(tmp_path.iterdir())
    assert [part.name for part in parts] == [f"llama-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    ids = torch.randint(0, 61, (2, 9))
    ours = glassformer.from_pretrained(parts[0])
    torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-5, rtol=1e-5)
    for number in (2, 3):
        with pytest.raises(
            ValueError, match=f"is part {number} of 3 of a split file: give the first .*-00001-of-00003.gguf"
        ):
            glassformer.from_pretrained(parts[number - 1])
    other = tmp_path / "renamed.gguf"
    other.write_bytes(parts[0].read_bytes())
    with pytest.raises(ValueError, match="is part 1 of 3 .* whose name must end in -00001-of-00003.gguf"):
        glassformer.from_pretrained(other)
    kept = parts[1].read_bytes()
    parts[1].unlink()
    with pytest.raises(
        FileNotFoundError, match="is the first part of 3, but .*-00002-of-00003.gguf is missing"
    ):
        glassformer.from_pretrained(parts[0])
    parts[1].write_bytes(parts[2].read_bytes())
    with pytest.raises(ValueError, match="-00002-of-00003.gguf is not part 2 of the 3 parts of"):
        glassformer.from_pretrained(parts[0])
    parts[1].write_bytes(kept[:-64])
    with pytest.raises(ValueError, match="-00002-of-00003.gguf is truncated or damaged"):
        glassformer.from_pretrained(parts[0])


@pytest.mark.slow
@pytest.mark.parametrize("huge", [2**31, 2**32 - 1])
def test_a_huge_count_is_refused_before_anything_is_built(
    huge: int, tmp_path: Path, write: Any, little_memory: None
) -> None:
    path = write(peer(), tmp_path / "model.gguf")
    data = path.read_bytes()
    names = ("block_count", "embedding_length", "feed_forward_length", "attention.head_count")
    for name in (*names, "attention.head_count_kv"):
        tag = struct.pack("<Q", len(f"llama.{name}")) + f"llama.{name}".encode() + struct.pack("<I", 4)
        head, _, rest = data.partition(tag)
        path.write_bytes(head + tag + struct.pack("<I", huge) + rest[4:])
        with pytest.raises(ValueError, match=str(path)) as error:
            glassformer.from_pretrained(path)
        assert "alloc" not in str(error.value)


Entries = list[tuple[bytes, list[int], int, int]]


def pack(entries: Entries, data: bytes, alignment: int = 32, metadata: bytes = b"", count: int = 0) -> bytes:
    """A file with these tensors: name, dimensions, type, offset."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(entries), count) + metadata
    for name, dimensions, type_, offset in entries:
        head += struct.pack("<Q", len(name)) + name + struct.pack("<I", len(dimensions))
        head += struct.pack(f"<{len(dimensions)}QIQ", *dimensions, type_, offset)
    return head + bytes(-len(head) % alignment) + data


def key(name: bytes, type_: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", type_) + value


VALUES = np.arange(16, dtype=np.float32).tobytes()  # 64 bytes: a and b, 8 values each
GOOD: Entries = [(b"a", [8], 0, 0), (b"b", [4, 2], 0, 32)]


def test_tensors_are_where_the_header_says(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(pack(GOOD, VALUES))
    file = GGUFFile(path)
    for share_mapping in (False, True):
        assert file.read("a", share_mapping=share_mapping).tolist() == list(range(8))
        assert file.read("b", share_mapping=share_mapping).tolist() == [[8, 9, 10, 11], [12, 13, 14, 15]]
    path.write_bytes(pack([(b"a", [4], 0, 0), (b"none", [0, 3], 0, 32)], VALUES[:16] + bytes(16)))
    assert GGUFFile(path).read("none").shape == (3, 0)
    path.write_bytes(
        pack(
            [(b"a", [4], 0, 0), (b"b", [4], 0, 64)],
            VALUES[:16] + bytes(48) + VALUES[:16],
            64,
            key(b"general.alignment", 4, struct.pack("<I", 64)),
            1,
        )
    )
    assert GGUFFile(path).read("b").tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (pack(GOOD, VALUES + b"x"), "1 byte after its last tensor"),
        (pack(GOOD, VALUES + VALUES), "64 bytes after its last tensor"),
        (pack([], b"", 1) + bytes(40), "40 bytes after its last tensor"),
        (pack([GOOD[0], (b"b", [8], 0, 0)], VALUES[:32]), "'b' begins at byte 96, expected one at byte 128"),
        (pack([GOOD[0], (b"b", [8], 0, 16)], VALUES), "the tensor 'b' begins at byte"),
        (pack([GOOD[0], (b"b", [8], 0, 64)], VALUES + VALUES), "the tensor 'b' begins at byte"),
        (pack([GOOD[1], GOOD[0]], VALUES), "the tensor 'b' begins at byte"),
        (pack([GOOD[0], (b"a", [8], 0, 32)], VALUES), "the tensor 'a' occurs twice"),
        (pack(GOOD, VALUES[:-1]), "truncated or damaged: tensor data has 64 bytes, but only 63 are left"),
        (pack([(b"a", [2**62, 2**62], 0, 0)], VALUES), "truncated or damaged: tensor data has"),
        (pack([(b"a", [2**32, 2**32], 0, 0)], b""), "truncated or damaged: tensor data has"),
        (pack([(b"a", [1] * 5, 0, 0)], VALUES), "the tensor 'a' has 5 dimensions"),
        (pack([(b"a", [2**31] * 9, 0, 0)], VALUES), "the tensor 'a' has 9 dimensions"),
        (pack([(b"a", [33], 8, 0)], VALUES), "rows of the tensor 'a' are no multiple of 32 values: .33,."),
        (pack([(b"a", [8], 99, 0)], VALUES), "a has the type 99, which is not implemented"),
        (pack([(b"\xff", [8], 0, 0)], VALUES), "a string in its header is not UTF-8"),
        (pack(GOOD, VALUES, 32, key(b"k", 8, struct.pack("<Q", 1) + b"\xff"), 1), "not UTF-8"),
        (pack(GOOD, VALUES, 32, key(b"k", 0, b"1") * 2, 2), "the key 'k' occurs twice"),
        (
            pack(GOOD, VALUES, 32, key(b"general.alignment", 4, struct.pack("<I", 24)), 1),
            "general.alignment must be a power of two, got 24",
        ),
        (
            pack(GOOD, VALUES, 32, key(b"general.alignment", 4, struct.pack("<I", 2**31)), 1),
            "the tensor 'b' begins at byte|truncated",
        ),
        (
            pack(GOOD, VALUES, 32, key(b"split.count", 8, struct.pack("<Q", 1) + b"3"), 1),
            "split.no and split.count must be ints, got 0, '3'",
        ),
        (
            pack(GOOD, VALUES, 32, key(b"split.count", 2, struct.pack("<H", 3)), 1),
            "is part 1 of 3 of a split",
        ),
    ],
)
def test_a_file_that_is_not_filled_by_its_tensors_is_an_error(
    content: bytes, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=problem) as error:
        open_gguf(path)
    assert str(path) in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "value",
    [
        lambda size: struct.pack("<IQ", 0, 10 * size) + bytes(10 * size),
        lambda size: struct.pack("<IQ", 8, size) + bytes(8 * size),
        lambda size: struct.pack("<IQ", 9, size) + struct.pack("<IQ", 0, 0) * size,
    ],
    ids=["bytes", "empty strings", "empty arrays"],
)
def test_arrays_are_read_in_linear_time(
    value: Callable[[int], bytes], tmp_path: Path, assert_linear_time: Any
) -> None:
    path = tmp_path / "model.gguf"

    def read(size: int) -> None:
        path.write_bytes(pack(GOOD, VALUES, 32, key(b"k", 9, value(size)), 1))
        assert len(GGUFFile(path).metadata["k"]) >= size

    assert_linear_time(read, 25_000)
