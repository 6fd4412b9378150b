"""The ``.tiktoken`` format: ranks, and the merges recovered from them."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from glassformer.tokenization import BPETokenizer, find_gpt2_ranks
from glassformer.tokenization.tiktoken_format import merges_from_ranks, read_ranks

BYTES = [bytes([i]) for i in range(256)]


def write(path: Path, tokens: list[bytes]) -> Path:
    path.write_text("".join(f"{base64.b64encode(token).decode()} {i}\n" for i, token in enumerate(tokens)))
    return path


def test_merges_are_recovered_from_ranks() -> None:
    tokens = [*BYTES, b"th", b"the", b" the", b"in", b"thin"]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    assert merges_from_ranks(ranks) == [
        (b"t", b"h"),
        (b"th", b"e"),
        (b" ", b"the"),
        (b"i", b"n"),
        (b"th", b"in"),
    ]


def test_a_token_that_is_not_a_merge_raises() -> None:
    with pytest.raises(ValueError, match=r"b'abc' of rank 256 is not a merge"):
        merges_from_ranks({token: rank for rank, token in enumerate([*BYTES, b"abc"])})


def test_a_file_with_an_empty_last_line_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tiktoken", [*BYTES, b"ab"])
    path.write_bytes(path.read_bytes() + b"\n")
    assert read_ranks(path)[b"ab"] == 256


@pytest.mark.parametrize("line", [b"YQ==", b"YQ== one", b"Y? 256", b"YQ== 256 1"])
def test_a_malformed_line_raises_with_its_number(tmp_path: Path, line: bytes) -> None:
    path = write(tmp_path / "x.tiktoken", BYTES)
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(ValueError, match=r"x\.tiktoken, line 257: expected '<base64> <rank>'"):
        read_ranks(path)


def test_a_long_token_raises_with_its_line(tmp_path: Path) -> None:
    doubled = [b"a" * 2**n for n in range(1, 15)]  # merging these would take minutes
    with pytest.raises(ValueError, match=r"x\.tiktoken, line 266: a token may have 512 bytes, got 1,024"):
        read_ranks(write(tmp_path / "x.tiktoken", [*BYTES, *doubled]))
    assert len(merges_from_ranks(read_ranks(write(tmp_path / "x.tiktoken", [*BYTES, *doubled[:9]])))) == 9


def test_a_token_that_is_not_a_merge_raises_with_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tiktoken", [*BYTES, b"abc"])
    with pytest.raises(ValueError, match=r"x\.tiktoken: token b'abc' of rank 256 is not a merge"):
        BPETokenizer.from_tiktoken(path)


def test_a_missing_byte_raises(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 single bytes have no rank, the first is 0x41"):
        read_ranks(write(tmp_path / "x.tiktoken", [byte for byte in BYTES if byte != b"A"]))


def test_missing_ranks_raise(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tiktoken", BYTES)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    with pytest.raises(ValueError, match="the ranks of its 255 tokens are not 0 to 254"):
        read_ranks(path)


@pytest.mark.parametrize("installed", [False, True])
def test_a_missing_package_raises_with_the_command_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, installed: bool
) -> None:
    if installed:  # without the file
        (tmp_path / "whisper").mkdir()
        (tmp_path / "whisper/__init__.py").touch()
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    with pytest.raises(FileNotFoundError, match="pip install --no-deps openai-whisper"):
        find_gpt2_ranks()
